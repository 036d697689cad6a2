"""Comparing two targets on the screen, against two fake servers over real sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

from textual.widgets import Input, OptionList, Static

from qwen_tui.server.spec import ServerSpec
from qwen_tui.ui.screens.compare import CompareScreen
from qwen_tui.ui.screens.compare_target import CompareTarget
from qwen_tui.ui.screens.import_path import ImportPath
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.prompt import Prompt
from qwen_tui.ui.widgets.transcript import Transcript
from tests.fakes.openai_server import DONE, FakeOpenAI, Step, finish, tokens, usage
from tests.ui.conftest import ready, running, wait_until, with_servers
from tests.ui.test_chat_room import PARIS, chatting

LYON: list[Step] = ["It is Lyon.", finish(), usage(20, 4), DONE]


async def test_one_prompt_to_two_servers_and_on_with_one(services: Services) -> None:
    async with FakeOpenAI(PARIS) as left, FakeOpenAI(LYON, [tokens(100_000, 100)]) as right:
        servers = [("one", left), ("two", right)]
        specs = [ServerSpec(name, "some/model", f"model-{name}", port=server.port) for name, server in servers]
        with_servers(services, *(ready(spec.name, spec=spec) for spec in specs))
        async with running(services, "chat", (120, 30)) as (app, pilot):
            await pilot.press("escape", "=")
            await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen) and app.screen.query(Prompt))
            screen = cast(CompareScreen, app.screen)
            one, two = screen.query_one("#left", Transcript), screen.query_one("#right", Transcript)
            assert one.region.y == two.region.y
            assert "model-one · one" in str(one.border_title)
            assert "model-two · two" in str(two.border_title)
            screen.query_one(Prompt).text = "Which city?"
            await pilot.press("enter")
            await wait_until(pilot, lambda: "Paris" in one.text and "Lyon" in two.text)
            await wait_until(pilot, lambda: "tokens" in str(two.border_subtitle) and "stop" in str(two.border_subtitle))
            screen.query_one(Prompt).text = "not sent"
            await pilot.press("escape", "right", "y")
            await wait_until(pilot, lambda: app.clipboard == "It is Lyon.")
            await pilot.press("r")
            await wait_until(pilot, lambda: "word" in two.text)
            await pilot.press("escape")  # stops it
            await asyncio.wait_for(right.requests[1].disconnected.wait(), 60)
            await pilot.press("e")
            await wait_until(pilot, lambda: isinstance(app.screen, CompareTarget))
            await wait_until(pilot, lambda: app.screen.query_one(OptionList).option_count == 4)  # and what is served
            await pilot.press("escape")
            await pilot.resize_terminal(80, 24)
            await wait_until(pilot, lambda: one.region.y < two.region.y)
            await pilot.press("backslash", "left", "o")
            await wait_until(pilot, lambda: app.screen is not screen)
            await wait_until(pilot, lambda: app.target is not None and app.target.name == "two")
            conversation = services.chat.conversation
            await wait_until(pilot, lambda: "word" in app.screen.query_one(Transcript).text)
            versions = [turn.text[:4] for turn in services.chat.conversation.siblings(conversation.turns[1])]
            assert versions == ["The ", "It i", "word"]
            assert app.screen.query_one(Prompt).text == "not sent"


async def test_a_file_comes_in_and_goes_out(services: Services, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text(json.dumps([{"role": "user", "content": "old question"}, {"role": "assistant", "content": "old"}]))
    async with chatting(services, PARIS) as room:

        async def press(key: str) -> None:
            while isinstance(room.app.focused, Prompt):
                await room.pilot.press("escape")
            await room.pilot.press(key)

        async def enter(path: str) -> Input:
            await press("I")
            await room.until(lambda: isinstance(room.app.screen, ImportPath))
            field = room.app.screen.query_one(Input)
            field.value = path
            await room.pilot.press("tab", "enter")
            return field

        field = await enter(str(tmp_path / "nothing"))
        assert "no such file" in str(room.app.screen.query_one("#note", Static).render())
        await room.pilot.press("escape")
        field = await enter(str(tmp_path / "ta"))  # tab completes it
        assert field.value == str(file)
        await room.shown("old question")
        await press("O")
        await room.until(lambda: list((services.paths.data / "exports").glob("*.json")))
        file.write_text("{")
        await enter(str(file))
        await room.until(lambda: "no JSON" in room.notices)
