"""The Servers room: what it draws, in both languages, and what its keys do."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from qwen_tui.engine.find import Engine
from qwen_tui.errors import EngineNotFound, ServerError
from qwen_tui.paths import Paths
from qwen_tui.server import registry
from qwen_tui.server.plan import Change, Plan, PlanLine
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ExitRecord, ServerState, ServerStatus
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.dialogs import Choice, Confirm, ErrorDialog
from qwen_tui.ui.screens.help import HelpScreen
from qwen_tui.ui.screens.plan import PlanScreen
from qwen_tui.ui.screens.room import RoomScreen
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.servers import ServersScreen
from qwen_tui.ui.screens.stopping import StopScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.log_view import LogView
from qwen_tui.ui.widgets.phase_bar import PhaseBar, bar
from qwen_tui.ui.widgets.server_list import ServerList, row

from .conftest import ENGINE, NOW, failed, ready, running, starting, stopped, wait_until, with_servers

SMALL, WIDE = (80, 24), (140, 40)
Snapshot = Callable[..., bool]


@pytest.fixture(autouse=True)
def plans(monkeypatch: pytest.MonkeyPatch) -> list[ServerSpec]:
    """What was planned. Every plan is well unless the test puts lines in the place of `plan.make_plan`."""
    planned: list[ServerSpec] = []

    def well(spec: ServerSpec, *_args: object, **_options: object) -> Plan:
        planned.append(spec)
        return Plan(spec, (PlanLine("ok", "port", f"{spec.port} is free"),), 0.12)

    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", well)
    return planned


def shown(app: QwenApp) -> str:
    """Everything that the cells of the terminal say now."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def text_of(app: QwenApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


async def open_form(app: QwenApp, pilot: Pilot[None], key: str = "n") -> ServerForm:
    await pilot.press(key)
    await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
    await wait_until(pilot, lambda: "vLLM" in text_of(app, "#engine"))
    assert isinstance(app.screen, ServerForm)
    return app.screen


# Pictures


def screens() -> dict[str, tuple[ServerStatus, ...]]:
    return {
        "empty": (),
        "starting": (starting(), stopped("tiny")),
        "ready": (ready(), stopped("tiny"), failed("too-big")),
        "failed": (failed(), ready("tiny")),
    }


def picture(
    services: Services,
    language: str,
    statuses: tuple[ServerStatus, ...],
    *keys: str,
    until: Callable[[QwenApp], bool] = lambda app: True,
) -> dict[str, Any]:
    """Arguments for snap_compare: the app over `statuses` after `keys`, once `until` holds."""
    services.settings.language = language
    with_servers(services, *statuses)
    app = QwenApp(services)

    async def before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.looked)
        await pilot.pause()
        for key in keys:
            await pilot.press(key)
        await wait_until(pilot, lambda: until(app))
        await pilot.pause()

    return {"app": app, "run_before": before}


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "140x40"])
@pytest.mark.parametrize("screen", ["empty", "starting", "ready", "failed"])
def test_servers(services: Services, snap_compare: Snapshot, language: str, screen: str, size: tuple[int, int]) -> None:
    keys = ("home",) if screen in ("starting", "failed") else ()
    assert snap_compare(**picture(services, language, screens()[screen], *keys), terminal_size=size)


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "140x40"])
def test_form(services: Services, snap_compare: Snapshot, language: str, size: tuple[int, int]) -> None:
    def engine_found(app: QwenApp) -> bool:
        return isinstance(app.screen, ServerForm) and bool(text_of(app, "#verdict"))

    given = picture(services, language, (ready(),), "n", "q", "slash", "Q", until=engine_found)
    assert snap_compare(**given, terminal_size=size)


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
        assert chosen is not None
        assert chosen.name == "c"
        assert app.target is not None
        assert app.target.name == "c"


# The form


async def test_the_form_starts_what_was_typed(services: Services) -> None:
    fake = with_servers(services)
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        await pilot.press(*"qwen", "slash", *"Qwen2")
        await wait_until(pilot, lambda: "--model qwen/Qwen2 --host 127.0.0.1 --port 8000" in text_of(app, "#command"))
        app.screen.query_one("#field-extra_args", Input).value = "--enforce-eager --seed 7"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        assert app.target is not None
        assert app.target.name == "Qwen2"
    assert fake.calls[0] == ("start", ServerSpec("Qwen2", "qwen/Qwen2", extra_args=("--enforce-eager", "--seed", "7")))


async def test_enter_on_the_start_button_starts(services: Services) -> None:
    fake = with_servers(services)
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-model", Input).value = "qwen/Qwen2"
        app.screen.query_one(Button).focus()
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
    assert fake.calls[0][0] == "start"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("port", "99999", "from 1 to 65535"),
        ("port", "8000", "used by “busy”"),
        ("model", "/no/such/folder", "there is no /no/such/folder"),
        ("max_model_len", "many", "whole number"),
        ("chat_template", "./none.jinja", "there is no file"),
        ("extra_args", "--model x", "has a field of its own"),
        ("extra_args", "'open", "Extra arguments"),
        ("name", "a b", "letters, digits"),
        ("name", "busy", "runs already"),
        ("host", "a b", "a name or an address"),
    ],
)
async def test_a_wrong_field_says_so_under_itself_as_one_types(
    services: Services, field: str, value: str, words: str
) -> None:
    fake = with_servers(services, ready("busy"))
    async with running(services, size=WIDE) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-model", Input).value = "qwen/Qwen2"
        app.screen.query_one("#field-port", Input).value = "8001"
        await wait_until(pilot, lambda: not any(error.display for error in app.screen.query(".error")))
        app.screen.query_one(f"#field-{field}", Input).value = value
        await wait_until(pilot, lambda: words in text_of(app, f"#error-{field}"))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: app.focused is app.screen.query_one(f"#field-{field}"))
        assert fake.calls == []


async def test_a_fresh_form_does_not_complain_until_start_is_pressed(services: Services) -> None:
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        assert not app.screen.query_one("#error-model").display
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "Which model?" in text_of(app, "#error-model"))


async def test_a_host_that_is_not_loopback_is_warned_about(services: Services) -> None:
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-host", Input).value = "0.0.0.0"
        await wait_until(pilot, lambda: "an API key will be made" in text_of(app, "#warning"))


async def test_without_an_engine_the_form_shows_the_command_and_how_to_get_one(services: Services) -> None:
    def nothing(paths: Paths, setting: str) -> Engine:
        raise EngineNotFound("No engine", "", "run `qwen-tui setup`")

    services.find_engine = nothing
    fake = with_servers(services)
    async with running(services) as (app, pilot):
        await pilot.press("n")
        await wait_until(
            pilot, lambda: isinstance(app.screen, ServerForm) and "qwen-tui setup" in text_of(app, "#engine")
        )
        app.screen.query_one("#field-model", Input).value = "qwen/Qwen2"
        await wait_until(pilot, lambda: "python -m vllm" in text_of(app, "#command"))
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert isinstance(app.screen, ServerForm)
    assert not any(call[0] == "start" for call in fake.calls)


async def test_the_form_copies_the_command(services: Services) -> None:
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-model", Input).value = "qwen/Qwen2"
        await wait_until(pilot, lambda: "qwen/Qwen2" in text_of(app, "#command"))
        await pilot.press("ctrl+y")
        await wait_until(pilot, lambda: bool(app.clipboard))
        assert app.clipboard == ServerSpec("x", "qwen/Qwen2").shell_command(ENGINE.python)


async def test_a_start_that_is_refused_stays_in_the_form(services: Services) -> None:
    fake = with_servers(services)
    fake.start_error = ServerError("Port 8000 is taken", "pid 7 [bold]", "choose another")
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-model", Input).value = "qwen/Qwen2"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "pid 7 [bold]" in text_of(app, "#trouble"))
        assert isinstance(app.screen, ServerForm)


async def test_esc_closes_an_untouched_form_and_asks_about_a_typed_one(services: Services) -> None:
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        await open_form(app, pilot)
        await pilot.press("q", "escape")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        assert app.screen.query_one("#field-model", Input).value == "q"
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))


async def test_editing_a_running_server_asks_to_stop_it_first(services: Services) -> None:
    spec = ServerSpec("a", "qwen/A", port=8123, max_model_len=4096, env={"X": "1"}, restart="on-failure")
    fake = with_servers(services, ready("a", spec=spec))
    async with running(services) as (app, pilot):
        await open_form(app, pilot, "e")
        assert app.screen.query_one("#field-max_model_len", Input).value == "4096"
        assert app.screen.query_one("#field-port", Input).value == "8123"
        app.screen.query_one("#field-max_model_len", Input).value = "8192"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
    assert [name for name, _what in fake.calls] == ["stop", "start", "close"]
    assert fake.calls[1][1] == dataclasses.replace(spec, max_model_len=8192)


# The plan


def badly(spec: ServerSpec, *_args: object, **_options: object) -> Plan:
    """A plan that finds port 8000 taken, and warns about the rest."""
    lines = [PlanLine("ok", "weights", "whole: 15.2 GB in 4 files"), PlanLine("warn", "files", "up to 1,024 [bold]")]
    if spec.port == 8000:
        change = Change("port 8001", fields={"port": 8001})
        lines.append(PlanLine("stop", "port", "8000 is taken by 77 nginx", "Take another: 8001 is free", change))
    return Plan(spec, tuple(lines), 0.12)


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "140x40"])
def test_plan(
    services: Services, snap_compare: Snapshot, language: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", badly)
    given = picture(services, language, (stopped(),), "enter", until=lambda app: isinstance(app.screen, PlanScreen))
    assert snap_compare(**given, terminal_size=size)


async def test_a_digit_mends_the_plan_and_enter_starts(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", badly)
    fake = with_servers(services, stopped())
    async with running(services) as (app, pilot):
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await wait_until(pilot, lambda: "✗ stop" in shown(app) and "up to 1,024 [bold]" in shown(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        assert fake.calls == []
        await pilot.press("9", "1")
        await wait_until(pilot, lambda: "it can start, with 1 warning" in shown(app))
        assert "changed: port 8001" in shown(app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.statuses[0].state is ServerState.STARTING)
    assert fake.calls[0] == ("start", dataclasses.replace(stopped().spec, port=8001))


async def test_the_plan_leads_to_the_form_with_its_changes(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", badly)
    fake = with_servers(services, stopped())
    async with running(services) as (app, pilot):
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("1")
        await wait_until(pilot, lambda: "changed: port 8001" in shown(app))
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await wait_until(pilot, lambda: bool(app.screen.query("#field-port")))
        assert app.screen.query_one("#field-port", Input).value == "8001"
        assert fake.calls == []


async def test_the_form_says_beside_itself_what_the_plan_found_and_takes_its_changes(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", badly)
    fake = with_servers(services)
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-model", Input).value = "qwen/Qwen2"
        await wait_until(pilot, lambda: "would fail · Port: 8000 is taken" in text_of(app, "#verdict"))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("1")
        await wait_until(pilot, lambda: "changed: port 8001" in shown(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await wait_until(pilot, lambda: app.screen.query_one("#field-port", Input).value == "8001")
        assert fake.calls == []


# The failure card


def broken(folder: Path) -> ServerStatus:
    """A server that asked for more context than its KV cache holds, with its log."""
    log = folder / "server.log"
    log.write_text(
        "(APIServer pid=1) INFO 11-22 15:58:57 [api_utils.py:286] non-default args: {'model': 'm'}\n"
        + "(EngineCore pid=2) INFO 11-22 15:59:16 [core.py:133] loading\n" * 40
        + "(EngineCore pid=2) ERROR 11-22 15:59:26 [core.py:1] Traceback (most recent call last):\n"
        '(EngineCore pid=2) ERROR 11-22 15:59:26 [core.py:1]   File "kv_cache_utils.py", line 1, in check\n'
        "(EngineCore pid=2) ERROR 11-22 15:59:26 [core.py:1] ValueError: To serve at least one request with the "
        "models's max seq len (32768), (1.75 GiB KV cache is needed, which is larger than the available KV cache "
        "memory (0.06 GiB). Based on the available memory, the estimated maximum model length is 1040. Try "
        "increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    spec = ServerSpec("broken", "qwen/Qwen2", max_model_len=32768)
    return failed("broken", spec=spec, log=log, cause="")


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "140x40"])
def test_failure_card(
    services: Services, snap_compare: Snapshot, language: str, size: tuple[int, int], tmp_path: Path
) -> None:
    def diagnosed(app: QwenApp) -> bool:
        return "--max-model-len 32768 → 1040" in text_of(app, "#card")

    assert snap_compare(**picture(services, language, (broken(tmp_path),), until=diagnosed), terminal_size=size)


async def test_one_key_mends_a_failed_server(services: Services, tmp_path: Path) -> None:
    fake = with_servers(services, broken(tmp_path))
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "--max-model-len 32768 → 1040" in text_of(app, "#card"))
        await pilot.press("1")
        await wait_until(pilot, lambda: app.statuses[0].state is ServerState.STARTING)
    assert fake.calls[0] == ("start", dataclasses.replace(broken(tmp_path).spec, max_model_len=1040))


async def test_the_line_that_says_why_is_shown_in_the_log(services: Services, tmp_path: Path) -> None:
    with_servers(services, broken(tmp_path))
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "line 44" in text_of(app, "#card"))
        await pilot.press("v")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "logs")
        view = app.screen.query_one(LogView)
        await wait_until(pilot, lambda: view.page.current is not None and "1040" in view.page.current.text)


async def test_a_failure_without_a_correction_has_no_key_for_one(services: Services) -> None:
    fake = with_servers(services, failed())
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: "reading its log" not in text_of(app, "#card"))
        await pilot.press("1", "v")
        await wait_until(pilot, lambda: any("no correction" in notice.message for notice in app._notifications))
        assert fake.calls == []
        assert app.room is not None
        assert app.room.ROOM == "servers"


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
