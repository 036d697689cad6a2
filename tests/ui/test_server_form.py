"""The form of a server: what it draws, reads, refuses and starts."""

from __future__ import annotations

import dataclasses
import sys

import pytest
from textual.widgets import Button, Input

from qwen_tui.engine.find import Engine
from qwen_tui.errors import EngineNotFound, ServerError
from qwen_tui.paths import Paths
from qwen_tui.server.spec import ServerSpec
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.dialogs import Confirm
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.servers import ServersScreen
from qwen_tui.ui.services import Services

from .conftest import ENGINE, ready, running, stopped, wait_until, with_servers
from .looking import SMALL, WIDE, Snapshot, open_form, picture, plans, text_of

__all__ = ["plans"]  # a fixture of every test here


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "140x40"])
def test_form(services: Services, snap_compare: Snapshot, language: str, size: tuple[int, int]) -> None:
    def engine_found(app: QwenApp) -> bool:
        return isinstance(app.screen, ServerForm) and bool(text_of(app, "#verdict"))

    given = picture(services, language, (ready(),), "n", "q", "slash", "Q", until=engine_found)
    assert snap_compare(**given, terminal_size=size)


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


@pytest.mark.parametrize("python", [sys.executable, "/no/such/python"])
async def test_editing_keeps_the_engine_that_the_server_ran_with(services: Services, python: str) -> None:
    with_servers(services, stopped("a", engine_python=python))
    async with running(services) as (app, pilot):
        await open_form(app, pilot, "e")
        field = app.screen.query_one("#field-engine", Input)
        if python == sys.executable:
            await wait_until(pilot, lambda: field.value == python)
        assert field.value == (python if python == sys.executable else "")
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, ServerForm))


async def test_a_token_that_is_kept_is_not_shown_and_stays(services: Services) -> None:
    spec = ServerSpec("a", "qwen/A", env={"HF_TOKEN": "hf_secret", "OMP_NUM_THREADS": "2"})
    fake = with_servers(services, stopped("a", spec=spec))
    async with running(services) as (app, pilot):
        await open_form(app, pilot, "e")
        field = app.screen.query_one("#field-environment", Input)
        assert field.value == "HF_TOKEN='***' OMP_NUM_THREADS=2"
        field.value = "HF_TOKEN='***' OMP_NUM_THREADS=4"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
    (started,) = [call[1] for call in fake.calls if call[0] == "start"]
    assert isinstance(started, ServerSpec)
    assert started.env == {"HF_TOKEN": "hf_secret", "OMP_NUM_THREADS": "4"}


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
