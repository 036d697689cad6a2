"""Profiles on the screen: into the form and out of it, cloned, imported, deleted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static, TextArea

from qwen_tui.server.plan import Plan
from qwen_tui.server.profile_files import load_profile, save_profile
from qwen_tui.server.profiles import Profile
from qwen_tui.server.starters import STARTERS
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.keys import declared_bindings
from qwen_tui.ui.screens.dialogs import Confirm
from qwen_tui.ui.screens.profile_dialogs import AskName, ImportScreen
from qwen_tui.ui.screens.profile_form import ProfileForm
from qwen_tui.ui.screens.profiles import ProfilesScreen
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.server_form_view import FormSwitch
from qwen_tui.ui.services import Services

from .conftest import running, wait_until, with_servers

MINE = Profile("mine", "qwen/Qwen2", "[bold]my own", flags={"max-model-len": 2048, "seed": 7}, restart="on-failure")


@pytest.fixture(autouse=True)
def _well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", lambda spec, *_args, **_options: Plan(spec, (), 0.1))


def value_of(app: QwenApp, field: str) -> str:
    return app.screen.query_one(f"#field-{field}", Input).value


def details(app: QwenApp) -> str:
    return str(app.screen.query_one("#details", Static).content)


async def opened(pilot: Pilot[None], app: QwenApp, screen: type[object], ready: Callable[[], bool]) -> None:
    await wait_until(pilot, lambda: isinstance(app.screen, screen))
    await wait_until(pilot, ready)


async def open_profiles(app: QwenApp, pilot: Pilot[None]) -> ProfilesScreen:
    await pilot.press("o")
    await opened(pilot, app, ProfilesScreen, lambda: bool(details(app)))
    assert isinstance(app.screen, ProfilesScreen)
    return app.screen


@pytest.mark.parametrize("node", [ProfilesScreen, AskName, ImportScreen])
def test_every_key_has_an_id_and_does_one_thing(node: type[ProfilesScreen]) -> None:
    bindings = declared_bindings(node)
    assert [binding for binding in bindings if not binding.id or not binding.description] == []
    assert len({binding.key for binding in bindings}) == len(bindings)


async def test_every_starter_is_listed_and_one_fills_the_form(services: Services) -> None:
    async with running(services) as (app, pilot):
        screen = await open_profiles(app, pilot)
        for starter in STARTERS:
            assert screen.chosen is not None
            assert (screen.chosen.name, starter.model in details(app)) == (starter.name, True)
            if starter is not STARTERS[-1]:
                await pilot.press("down")
        await pilot.press("enter")
        await opened(pilot, app, ServerForm, lambda: bool(app.screen.query("#field-model")))
        assert value_of(app, "model") == "Qwen/Qwen2.5-0.5B-Instruct"
        assert value_of(app, "max_model_len") == "4096"
        assert value_of(app, "environment") == "VLLM_CPU_KVCACHE_SPACE=4"
        assert value_of(app, "port") == "8000"
        assert app.screen.query_one("#switch-modelscope", FormSwitch).value


async def test_a_profile_is_picked_in_the_form_changed_and_kept(services: Services) -> None:
    save_profile(services.paths, MINE)
    async with running(services) as (app, pilot):
        await pilot.press("n")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await pilot.press("ctrl+o")
        await opened(pilot, app, ProfilesScreen, lambda: "mine.toml" in details(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await wait_until(pilot, lambda: value_of(app, "extra_args") == "--seed 7")
        assert app.screen.query_one("#switch-restart", FormSwitch).value
        app.screen.query_one("#field-max_model_len", Input).value = "4096"
        await pilot.press("ctrl+r")
        await opened(pilot, app, AskName, lambda: "written over" in str(app.screen.query_one("#note", Static).content))
        await pilot.press("slash", "enter")
        await wait_until(pilot, lambda: "letters, digits" in str(app.screen.query_one("#note", Static).content))
        await pilot.press("backspace", *"mine", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        await wait_until(pilot, lambda: load_profile(services.paths, "mine").flags["max-model-len"] == 4096)
        assert load_profile(services.paths, "mine").restart == "on-failure"


async def test_a_profile_is_cloned_and_deleted_and_a_starter_stays(services: Services) -> None:
    save_profile(services.paths, MINE)
    async with running(services) as (app, pilot):
        screen = await open_profiles(app, pilot)
        await pilot.press("C")
        await wait_until(pilot, lambda: isinstance(app.screen, AskName))
        await pilot.press("enter")
        await opened(pilot, app, ProfilesScreen, lambda: "mine-2.toml" in details(app))
        assert load_profile(services.paths, "mine-2").flags == MINE.flags
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await opened(pilot, app, ProfilesScreen, lambda: "mine.toml" in details(app))
        await pilot.press("down", "d")
        await wait_until(pilot, lambda: any("stays" in notice.message for notice in app._notifications))
        assert screen.chosen is not None
        assert screen.chosen.is_starter


async def test_a_command_is_imported_and_copied(services: Services) -> None:
    with_servers(services)
    async with running(services) as (app, pilot):
        await open_profiles(app, pilot)
        await pilot.press("i")
        await wait_until(pilot, lambda: isinstance(app.screen, ImportScreen))
        app.screen.query_one(TextArea).text = "ls"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "no vLLM server" in str(app.screen.query_one("#note", Static).content))
        app.screen.query_one(TextArea).text = "VLLM_API_KEY=abc vllm serve qwen/Q \\\n --seed 7"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, AskName))
        await pilot.press("enter")
        await opened(pilot, app, ProfilesScreen, lambda: "Q.toml" in details(app))
        assert "abc" not in details(app)
        await pilot.press("y")
        await wait_until(pilot, lambda: "--seed 7" in app.clipboard)
        assert "abc" not in app.clipboard


async def test_a_broken_file_is_named_and_does_not_hide_the_others(services: Services) -> None:
    file = save_profile(services.paths, MINE)
    file.write_text("modle = 1")
    async with running(services) as (app, pilot):
        await open_profiles(app, pilot)
        await wait_until(pilot, lambda: "“modle”" in str(app.screen.query_one("#note", Static).content))
        assert str(file) in str(app.screen.query_one("#note", Static).content)


async def test_a_profile_is_edited_and_nothing_is_started(services: Services) -> None:
    save_profile(services.paths, MINE)
    fake = with_servers(services)
    async with running(services) as (app, pilot):
        screen = await open_profiles(app, pilot)
        await pilot.press("e")
        await opened(pilot, app, ProfileForm, lambda: bool(app.screen.query("#field-model")))
        assert "mine" in str(app.screen.query_one("#title", Static).content)
        assert value_of(app, "port") == ""
        app.screen.query_one("#field-max_model_len", Input).value = "no number"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "whole number" in str(app.screen.query_one("#error-max_model_len").content))  # type: ignore[attr-defined]
        app.screen.query_one("#field-max_model_len", Input).value = "1024"
        app.screen.query_one("#field-model", Input).value = ""
        await pilot.press("ctrl+s")
        await opened(pilot, app, ProfilesScreen, lambda: "1024" in details(app))
        kept = load_profile(services.paths, "mine")
        assert kept == dataclasses.replace(MINE, model="", flags={"max-model-len": 1024, "seed": 7})
        await pilot.press("down", "e")
        await opened(pilot, app, ProfileForm, lambda: bool(app.screen.query("#field-model")))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is screen)
    assert not [call for call in fake.calls if call[0] == "start"]
