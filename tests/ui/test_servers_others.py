"""Endpoints and left-over processes in the Servers room: shown, added, asked, used, removed, ended."""

from __future__ import annotations

import os
from typing import cast

import pytest
from textual.widgets import Input

from qwen_tui.server.endpoint_status import EndpointState
from qwen_tui.server.endpoints import Endpoints
from qwen_tui.server.orphans import Orphan
from qwen_tui.ui.keys import declared_bindings
from qwen_tui.ui.screens.dialogs import Choice, Confirm
from qwen_tui.ui.screens.endpoint_form import EndpointForm
from qwen_tui.ui.screens.servers import ServersScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.prompt import Prompt
from tests.fakes.openai_server import DONE, FakeOpenAI, finish

from .conftest import StillLeftovers, ready, running, wait_until, with_servers
from .looking import shown, text_of

KEY = "sk-5ecre7-5ecre7"


def test_every_key_of_the_form_has_an_id() -> None:
    assert [binding for binding in declared_bindings(EndpointForm) if not binding.id or not binding.description] == []


async def test_an_endpoint_is_added_asked_chatted_with_and_removed(services: Services) -> None:
    with_servers(services)
    async with FakeOpenAI(["Paris", finish(), DONE]) as server, running(services, size=(100, 30)) as (app, pilot):
        await pilot.press("E")
        await wait_until(pilot, lambda: isinstance(app.screen, EndpointForm))
        await pilot.press(*"there", "enter")
        app.screen.query_one("#field-url", Input).value = server.base_url
        await pilot.press("enter", "enter", *KEY)
        assert KEY not in shown(app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        await wait_until(pilot, lambda: "fake-model" in text_of(app, "#card"))
        assert app.endpoint is not None
        assert app.endpoint.state is EndpointState.REACHABLE
        assert "reachable" in shown(app)
        assert KEY not in shown(app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "chat")
        assert "there" in text_of(app, "#empty")
        assert "fake-model" in str(app.screen.query_one(Prompt).border_title)
        await pilot.press(*"hi", "enter")
        await wait_until(pilot, lambda: "Paris" in shown(app))
        assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
        await pilot.press("escape", "s", "d")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: "No servers yet" in shown(app))
        assert app.endpoint is None
    assert list(Endpoints(services.paths).list()) == []
    assert KEY not in (services.paths.config / "endpoint-keys.toml").read_text()


async def test_what_is_wrong_with_an_endpoint_is_said_in_its_form(services: Services) -> None:
    with_servers(services)
    async with running(services) as (app, pilot):
        await pilot.press("E")
        await wait_until(pilot, lambda: isinstance(app.screen, EndpointForm))
        app.screen.query_one("#field-url", Input).value = "http://192.0.2.1:8000"
        app.screen.query_one("#field-key", Input).value = KEY
        await wait_until(pilot, lambda: "unencrypted" in text_of(app, "#note"))
        app.screen.query_one("#field-name", Input).value = "[bold]"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "letters, digits" in text_of(app, "#note"))
        assert "[bold]" in text_of(app, "#note")
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
    assert list(Endpoints(services.paths).list()) == []


async def test_an_endpoint_that_is_gone_says_why_and_can_be_changed(services: Services, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    Endpoints(services.paths).add("gone", url, api_key=KEY)
    with_servers(services, ready())
    async with FakeOpenAI() as server, running(services, size=(120, 30)) as (app, pilot):
        await wait_until(pilot, lambda: "out of reach" in shown(app))
        await pilot.press("end")
        await wait_until(pilot, lambda: "does not answer" in text_of(app, "#card"))
        await pilot.press("w")
        await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "watch")
        assert "out of reach" in text_of(app, "#state")
        await pilot.press("s", "e")
        await wait_until(pilot, lambda: isinstance(app.screen, EndpointForm))
        app.screen.query_one("#field-url", Input).value = server.base_url
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "belongs to" in text_of(app, "#note"))
        app.screen.query_one("#field-key", Input).value = "another"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        await wait_until(pilot, lambda: "fake-model" in text_of(app, "#card"))
    assert Endpoints(services.paths).get("gone").api_key == "another"


async def test_the_arrows_of_watch_go_to_endpoints_too(services: Services) -> None:
    async with FakeOpenAI() as server:
        Endpoints(services.paths).add("there", server.base_url)
        with_servers(services, ready())
        async with running(services) as (app, pilot):
            await wait_until(pilot, lambda: bool(app.services.endpoints.statuses))
            await pilot.press("w")
            await wait_until(pilot, lambda: app.room is not None and app.room.ROOM == "watch")
            await pilot.press("right")
            assert app.endpoint is not None
            await wait_until(pilot, lambda: "there" in text_of(app, "#state"))
            await pilot.press("right")
            assert app.endpoint is None


async def test_a_file_of_endpoints_that_cannot_be_read_is_named(services: Services) -> None:
    services.paths.config.mkdir(parents=True)
    (services.paths.config / "endpoints.toml").write_text("[bold]\nno url = 1")
    with_servers(services, ready())
    async with running(services) as (app, pilot):
        await wait_until(pilot, lambda: any("endpoints.toml" in notice.title for notice in app._notifications))


# Left over


def left(pid: int, *, ours: bool = True, uid: int | None = None, command: str = "VLLM::EngineCore") -> Orphan:
    memory = (3 * 10**9, 133 * 10**9)
    return Orphan(pid, 7, command, os.geteuid() if uid is None else uid, 4000.0, *memory, (0,), ours)


def leave(services: Services, *orphans: Orphan) -> StillLeftovers:
    fake = cast(StillLeftovers, services.leftovers)
    fake.orphans = orphans
    return fake


async def test_what_qwen_tui_left_over_is_shown_with_what_it_holds_and_ended(services: Services) -> None:
    fake = leave(services, left(4242), left(4243, command="VLLM::Worker [bold]"), left(77, ours=False))
    async with running(services) as (app, pilot):
        assert "4242 VLLM" in shown(app)
        await wait_until(pilot, lambda: "133 GB on GPU0" in text_of(app, "#card"))
        await pilot.press("x")
        await wait_until(pilot, lambda: fake.ended == [4242, 4243])
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        await wait_until(pilot, lambda: "77" in text_of(app, "#card"))
        assert any("have ended" in notice.message for notice in app._notifications)


@pytest.mark.parametrize(("answer", "ended"), [("escape", []), ("y", [77]), ("a", [77, 78])])
async def test_what_others_left_over_is_ended_only_after_a_question(
    services: Services, answer: str, ended: list[int]
) -> None:
    fake = leave(services, left(77, ours=False), left(78, ours=False), left(4242))
    async with running(services) as (app, pilot):
        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, Choice))
        assert "did not start it" in shown(app)
        await pilot.press(answer)
        await wait_until(pilot, lambda: isinstance(app.screen, ServersScreen))
        await wait_until(pilot, lambda: fake.ended == ended)


async def test_what_another_user_left_over_is_never_ended(services: Services) -> None:
    fake = leave(services, left(77, ours=False, uid=os.geteuid() + 1))
    async with running(services) as (app, pilot):
        await pilot.press("x")
        await wait_until(pilot, lambda: any("another user" in notice.message for notice in app._notifications))
        assert isinstance(app.screen, ServersScreen)
    assert fake.ended == []
