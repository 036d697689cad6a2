"""The Servers room: what it draws, in both languages, and what its keys do."""

from __future__ import annotations

import asyncio
import dataclasses
import sys

import pytest

from qwen_tui.engine.find import Engine
from qwen_tui.errors import EngineNotFound
from qwen_tui.paths import Paths
from qwen_tui.server import registry
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ExitRecord, Phase, ServerState, ServerStatus, StartProgress
from qwen_tui.ui.screens.dialogs import Choice, Confirm, ErrorDialog
from qwen_tui.ui.screens.help import HelpScreen
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.screens.servers import ServersScreen
from qwen_tui.ui.screens.stopping import StopScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.phase_bar import PhaseBar, bar
from qwen_tui.ui.widgets.server_list import ServerList, row

from .conftest import ENGINE, NOW, failed, ready, running, starting, stopped, wait_until, with_servers
from .looking import SMALL, WIDE, Snapshot, picture, plans, shown, text_of

__all__ = ["plans"]  # a fixture of every test here


def screens() -> dict[str, tuple[ServerStatus, ...]]:
    return {
        "empty": (),
        "starting": (starting(), stopped("tiny")),
        "ready": (ready(), stopped("tiny"), failed("too-big")),
        "failed": (failed(), ready("tiny")),
    }


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "140x40"])
@pytest.mark.parametrize("screen", ["empty", "starting", "ready", "failed"])
def test_servers(services: Services, snap_compare: Snapshot, language: str, screen: str, size: tuple[int, int]) -> None:
    keys = ("home",) if screen in ("starting", "failed") else ()
    assert snap_compare(**picture(services, language, screens()[screen], *keys), terminal_size=size)


def test_help(services: Services, snap_compare: Snapshot, language: str) -> None:
    given = picture(
        services, language, (ready(),), "question_mark", until=lambda app: isinstance(app.screen, HelpScreen)
    )
    assert snap_compare(**given, terminal_size=SMALL)


def test_quit_question(services: Services, snap_compare: Snapshot, language: str) -> None:
    given = picture(services, language, (ready(), starting("b")), "q", until=lambda app: isinstance(app.screen, Choice))
    assert snap_compare(**given, terminal_size=SMALL)


# What is drawn


async def test_an_empty_room_says_what_to_press(services: Services) -> None:
    async with running(services) as (app, _pilot):
        text = shown(app)
        assert "No servers yet" in text
        assert "qwen-tui demo" in text
        assert "n new" in text


async def test_a_start_shows_phases_count_elapsed_and_eta(services: Services) -> None:
    fake = with_servers(services, starting())
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "loading weights 2/4" in shown(app))
        text = shown(app)
        assert "40 s so far" in text
        assert "about 22 s to go" in text
        assert "✓ starting the engine" in text
        fake.put(ready())
        await app.refresh_servers()
        await wait_until(pilot, lambda: "1 h 05 min" in shown(app))
        assert not app.screen.query_one(PhaseBar).display


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (ExitRecord(1, None, NOW, False), "exit status 1"),
        (ExitRecord(None, 9, NOW, False), "SIGKILL"),
        (ExitRecord(None, None, NOW, False), "has ended"),
    ],
)
async def test_a_failure_says_how_why_and_what_to_press(services: Services, end: ExitRecord, sentence: str) -> None:
    with_servers(services, failed(exit=end))
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "CUDA out of memory" in shown(app))
        text = shown(app)
        assert sentence in text
        for line in ("enter  start it again", "l      read its log", "e      change it"):
            assert line in text


async def test_hostile_text_is_drawn_as_it_is_and_harmlessly(services: Services) -> None:
    spec = ServerSpec(name="evil", model="/m/[bold red]x[/]\x1b[2J\x1b]52;c;AAAA\x07")
    with_servers(services, failed("evil", spec=spec, cause="[/bold] ValueError: \x1b[31m你好\r\n\x9b2J"))
    async with running(services, size=(200, 50)) as (app, pilot):
        await wait_until(pilot, lambda: "ValueError" in shown(app))
        text = shown(app)
        assert "[/bold] ValueError: �[31m你好" in text
        assert "[bold" in text
        assert "x[/]" in text
        assert not set(text) & set("\x1b\x07\x9b\r")


@pytest.mark.parametrize("width", [30, 45, 60, 78, 120])
def test_a_row_fills_its_width_exactly(width: int) -> None:
    long = ready("Qwen3-235B-A22B-Instruct-2507-FP8-on-the-second-box", spec=None)
    for status in (long, starting("b"), failed("c"), ready("模型")) if width > 30 else (long,):
        if status.name == "模型":
            status = dataclasses.replace(
                status, spec=ServerSpec(name="ok", model="/模型/千问-很长的名字很长的名字很长的名字")
            )
        drawn = row(status, width, NOW)
        assert drawn.cell_length == width, drawn.plain
        assert status.state.value in drawn.plain


@pytest.mark.parametrize(("fraction", "full"), [(0.0, 0), (0.5, 5), (1.0, 10), (7.0, 10), (-1.0, 0)])
def test_the_bar_keeps_its_width(fraction: float, full: int) -> None:
    filled, rest = bar(fraction, 10)
    assert len(filled + rest) == 10
    assert filled.count("█") == full


# What the keys do


async def test_enter_starts_a_stopped_server_again(services: Services) -> None:
    fake = with_servers(services, stopped())
    async with running(services) as (app, pilot):
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.statuses[0].state is ServerState.STARTING)
    assert fake.calls[0] == ("start", stopped().spec)


async def test_enter_on_a_ready_server_opens_the_chat_and_l_its_log(services: Services) -> None:
    with_servers(services, ready("a"), ready("b"))
    async with running(services) as (app, pilot):
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "chat")
        assert app.target is not None
        assert app.target.name == "b"
        await pilot.press("escape", "l")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "logs")


async def test_starting_without_an_engine_says_what_to_do(services: Services) -> None:
    def nothing(paths: Paths, setting: str) -> Engine:
        raise EngineNotFound("No engine", "looked everywhere", "`qwen-tui setup` installs one")

    services.find_engine = nothing
    with_servers(services, stopped())
    async with running(services) as (app, pilot):
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        await wait_until(pilot, lambda: "qwen-tui setup" in shown(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, RoomScreen))


async def test_stop_asks_and_shows_its_steps(services: Services) -> None:
    fake = with_servers(services, ready())
    fake.stop_gate = asyncio.Event()
    async with running(services) as (app, pilot):
        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        assert fake.calls == []
        await pilot.press("y")
        await wait_until(pilot, lambda: isinstance(app.screen, StopScreen) and "SIGTERM" in text_of(app, "#steps"))
        fake.stop_gate.set()
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        assert app.statuses[0].state is ServerState.STOPPED


async def test_a_stop_goes_on_when_its_picture_is_put_away(services: Services) -> None:
    fake = with_servers(services, ready())
    fake.stop_gate = asyncio.Event()
    async with running(services) as (app, pilot):
        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: isinstance(app.screen, StopScreen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        assert app.statuses[0].state is ServerState.READY
        fake.stop_gate.set()
        await wait_until(pilot, lambda: app.statuses[0].state is ServerState.STOPPED)


@pytest.mark.parametrize("key", ["enter", "n", "escape"])
async def test_stop_and_delete_do_nothing_unless_told_yes(services: Services, key: str) -> None:
    fake = with_servers(services, ready("a"), stopped("b"))
    async with running(services) as (app, pilot):
        for move, ask in (("home", "x"), ("end", "d")):
            await pilot.press(move, ask)
            await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.press(key)
            await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        assert fake.calls == []


async def test_delete_names_what_is_lost_and_forgets(services: Services) -> None:
    fake = with_servers(services, stopped("old"))
    async with running(services) as (app, pilot):
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await wait_until(pilot, lambda: "/home/ann/.local/state/qwen-tui/servers/old" in shown(app))
        await pilot.press("y")
        await wait_until(pilot, lambda: app.statuses == ())
        assert fake.calls == [("forget", "old")]
        await wait_until(pilot, lambda: "No servers yet" in shown(app))


async def test_delete_of_a_running_server_is_refused(services: Services) -> None:
    fake = with_servers(services, ready())
    async with running(services) as (app, pilot):
        await pilot.press("d")
        await wait_until(pilot, lambda: any("stop it first" in notice.message for notice in app._notifications))
        assert fake.calls == []


async def test_copy_gives_the_exact_command(services: Services) -> None:
    with_servers(services, ready())
    async with running(services) as (app, pilot):
        await pilot.press("y")
        await wait_until(pilot, lambda: bool(app.clipboard))
        assert app.clipboard == ready().spec.shell_command(ready().engine_python)


async def test_the_cursor_stays_on_its_server_while_the_list_changes(services: Services) -> None:
    fake = with_servers(services, ready("b"), ready("c"))
    async with running(services) as (app, pilot):
        await pilot.press("end")
        fake.put(ready("a"))
        await app.refresh_servers()
        await pilot.pause()
        chosen = app.screen.query_one(ServerList).chosen
        assert isinstance(chosen, ServerStatus)
        assert chosen.name == "c"
        assert app.target is not None
        assert app.target.name == "c"


async def test_esc_does_not_take_the_list_its_keys(services: Services) -> None:
    with_servers(services, ready("a"), ready("b"))
    async with running(services) as (app, pilot):
        await pilot.press("home", "escape", "j")
        await wait_until(pilot, lambda: app.target is not None and app.target.name == "b")


async def test_the_cursor_stays_where_it_is_when_its_server_goes(services: Services) -> None:
    fake = with_servers(services, ready("a"), ready("b"), ready("c"))
    async with running(services) as (app, pilot):
        for gone, chosen in (("b", "c"), ("c", "a")):
            app.screen.query_one(ServerList).select(("server", gone))
            del fake.statuses[gone]
            await app.refresh_servers()
            await wait_until(pilot, lambda: len(app.statuses) == len(fake.statuses))
            entry = app.screen.query_one(ServerList).chosen
            assert isinstance(entry, ServerStatus)
            assert entry.name == chosen


# What a server that is ready tells


async def test_it_tells_the_way_from_elsewhere_and_what_its_start_took_and_copies_the_key(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.9 50000 10.0.0.1 2222")
    spec = ServerSpec("tiny", "qwen/tiny", host="0.0.0.0", port=8001)
    start = StartProgress(Phase.READY, elapsed=62.0, eta=0.0, phases=((Phase.SPAWN, 20.0), (Phase.WEIGHTS, 42.0)))
    with_servers(services, ready("tiny", spec=spec, api_key="k-secret", start=start))
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "-L 8001:127.0.0.1:8001" in text_of(app, "#facts"))
        facts = text_of(app, "#facts")
        assert "was ready after 1 min 02 s" in facts
        assert "loading weights 42 s" in facts
        assert "k-secret" not in shown(app)
        await pilot.press("Y")
        assert app.clipboard.startswith("ssh -N -p 2222 -L 8001:127.0.0.1:8001 ")
        await pilot.press("K")
        assert app.clipboard == "k-secret"


# What worked last


async def test_what_worked_last_is_one_key_away(services: Services) -> None:
    fake = with_servers(services)
    async with running(services) as (app, pilot):
        await pilot.press("a")
        await wait_until(pilot, lambda: any("No server has been" in notice.message for notice in app._notifications))
        spec = ready("old").spec
        launch = {"id": "1", "spec": spec.to_json(), "engine": {"python": "/no/such/python"}}
        registry.mark_ready(registry.Record(services.paths.servers / "old", launch, {}, kept=True))
        await pilot.press("a")
        await wait_until(pilot, lambda: [status.name for status in app.statuses] == ["old"])
        await pilot.press("a")
        await wait_until(pilot, lambda: any("runs already" in notice.message for notice in app._notifications))
    assert [call for call in fake.calls if call[0] == "start"] == [("start", spec)]


# Between two tries, and how it ended


async def test_between_two_tries_it_says_when_which_and_why(services: Services) -> None:
    waiting = failed(state=ServerState.STARTING, next_try=12.0, failures=2, failures_most=10)
    fake = with_servers(services, waiting)
    async with running(services) as (app, pilot):
        assert "again in 12 s" in shown(app)
        card = text_of(app, "#card")
        assert "exit status 1" in card
        assert "CUDA out of memory" in card
        assert "attempt 3 of 10" in card
        assert not app.screen.query_one(PhaseBar).display
        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: app.statuses[0].state is ServerState.STOPPED)
    assert ("stop", waiting.name) in fake.calls


async def test_an_end_by_idleness_is_told(services: Services) -> None:
    spec = ServerSpec("tiny", "qwen/tiny", idle_minutes=30)
    with_servers(services, stopped("tiny", spec=spec, exit=ExitRecord(0, None, NOW, True, "idle")))
    async with running(services) as (app, _pilot):
        assert "nobody had used it for 30 minutes" in text_of(app, "#card")


async def test_an_end_that_nobody_saw_is_told_as_such(services: Services) -> None:
    with_servers(services, failed("tiny", exit=ExitRecord(None, None, NOW, False), cause=""))
    async with running(services) as (app, _pilot):
        assert "nobody saw how" in text_of(app, "#card")


@pytest.mark.parametrize("python", [sys.executable, "/no/such/python"])
async def test_a_server_starts_again_with_the_engine_that_it_ran_with(services: Services, python: str) -> None:
    asked: list[str] = []

    def find(_paths: Paths, setting: str) -> Engine:
        asked.append(setting)
        return ENGINE

    services.find_engine = find
    services.settings.engine = "/of/the/settings"
    with_servers(services, stopped(engine_python=python))
    async with running(services) as (app, pilot):
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.statuses[0].state is ServerState.STARTING)
        gone = any("ran with is gone" in notice.message for notice in app._notifications)
    assert (asked[0], gone) == ((python, False) if python == sys.executable else ("/of/the/settings", True))
