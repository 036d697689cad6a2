"""The Chat room against a fake server over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
from textual import events
from textual.pilot import Pilot

from qwen_tui import i18n
from qwen_tui.chat.conversation import ReplyState
from qwen_tui.server.spec import ServerSpec
from qwen_tui.server.status import ServerState
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.chat import ChatScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.prompt import Prompt
from qwen_tui.ui.widgets.transcript import Transcript
from tests.fakes.openai_server import DONE, HANG, RESET, FakeOpenAI, Step, finish, pieces, reasoning, tokens, usage
from tests.ui.conftest import ready, running, starting, wait_until, with_servers


class Room:
    """The pieces that the tests look at."""

    def __init__(self, app: QwenApp, pilot: Pilot[None], server: FakeOpenAI) -> None:
        self.app, self.pilot, self.server = app, pilot, server
        self.screen = cast(ChatScreen, app.screen)
        self.prompt = self.screen.query_one(Prompt)
        self.transcript = self.screen.query_one(Transcript)
        self.session = app.services.chat

    async def until(self, condition: object) -> None:
        assert callable(condition)
        await wait_until(self.pilot, condition)

    async def say(self, text: str) -> None:
        self.prompt.focus()
        self.prompt.text = text
        await self.pilot.press("enter")

    async def shown(self, text: str) -> None:
        await self.until(lambda: text in self.transcript.text)

    @property
    def notices(self) -> str:
        return "\n".join(f"{notice.title} {notice.message}" for notice in self.app._notifications)

    async def settled(self) -> None:
        await self.until(lambda: not self.session.is_streaming and not self.transcript.is_behind)


@asynccontextmanager
async def chatting(
    services: Services, *scripts: Sequence[Step], size: tuple[int, int] = (80, 24)
) -> AsyncIterator[Room]:
    async with FakeOpenAI(*scripts) as server:
        spec = ServerSpec("fake", "some/model", "fake-model", port=server.port)
        with_servers(services, ready("fake", spec=spec))
        async with running(services, "chat", size) as (app, pilot):
            yield Room(app, pilot, server)


PARIS: list[Step] = ["The capital is ", "**Paris**.", finish(), usage(20, 3), DONE]


async def test_send_stream_and_figures(services: Services) -> None:
    async with chatting(services, PARIS) as room:
        await room.say("Which city?")
        await room.shown("(+20 prompt) · stop")
        text = room.transcript.text
        assert "You\n   Which city?" in text
        assert "fake-model\n   The capital is Paris." in text
        assert "TTFT" in text
        assert room.prompt.text == ""
        await room.say("And then?")
        await room.until(lambda: len(room.server.requests) == 2)
        roles = [message["role"] for message in room.server.requests[1].body["messages"]]
        assert roles == ["user", "assistant", "user"]


async def test_reasoning_is_shown_apart(services: Services) -> None:
    async with chatting(services, [reasoning("Let me think.\n"), "Yes.", finish(), DONE]) as room:
        await room.say("?")
        await room.settled()
        assert "▸ Thought, 1 token · z unfolds\n\n   Yes." in room.transcript.text
        await room.pilot.press("escape", "z")
        assert "z folds\n   │ Let me think.\n\n   Yes." in room.transcript.text
        assert room.session.conversation.messages()[1].content == "Yes."


@pytest.mark.parametrize("keys", [["escape", "escape"], ["escape", "x"]])
async def test_stop_ends_the_servers_request_too(services: Services, keys: list[str]) -> None:
    async with chatting(services, [tokens(100_000, 200)]) as room:
        await room.say("talk")
        await room.shown("word word")
        await room.pilot.press(*keys)
        await asyncio.wait_for(room.server.requests[0].disconnected.wait(), 60)
        await room.shown("stopped")
        assert room.session.conversation.turns[-1].state is ReplyState.STOPPED
        assert "word word" in room.transcript.text


async def test_stop_while_nothing_has_come_yet(services: Services) -> None:
    async with chatting(services, [HANG]) as room:
        await room.say("talk")
        await room.shown("waiting for the first token")
        await room.until(lambda: room.server.requests)
        await room.pilot.press("escape", "escape")
        await asyncio.wait_for(room.server.requests[0].disconnected.wait(), 60)
        await room.shown("stopped")
        assert "waiting" not in room.transcript.text


async def test_a_break_keeps_what_came_and_one_key_asks_again(services: Services) -> None:
    async with chatting(services, ["half an ", "answer", 0.05, RESET], PARIS) as room:
        await room.say("Which city?")
        await room.shown("✗ ")
        assert "half an answer" in room.transcript.text
        assert "r asks again" in room.transcript.text
        await room.pilot.press("escape", "r")
        await room.shown("Paris")
        assert "half an answer" not in room.transcript.text
        assert room.server.requests[1].body["messages"] == [{"role": "user", "content": "Which city?"}]


async def test_enter_while_a_reply_streams_says_so_and_keeps_the_text(services: Services) -> None:
    async with chatting(services, [tokens(100_000, 100)]) as room:
        await room.say("one")
        await room.shown("word")
        await room.say("two")
        await room.until(lambda: "still streaming" in room.notices)
        assert room.prompt.text == "two"
        assert len(room.server.requests) == 1


async def test_without_a_ready_server_the_text_stays(services: Services) -> None:
    async with FakeOpenAI(PARIS) as server:
        fake = with_servers(services)
        async with running(services, "chat") as (app, pilot):
            room = Room(app, pilot, server)
            assert "no server" in str(room.screen.query_one("#empty").render())
            await room.say("hello")
            await room.until(lambda: "no server" in room.notices)
            fake.put(starting("fake"))
            await app.refresh_servers()
            await room.until(lambda: "is starting" in str(room.screen.query_one("#empty").render()))
            await room.say("hello")
            await room.until(lambda: "fake is starting" in room.notices)
            assert room.prompt.text == "hello"
            spec = ServerSpec("fake", "some/model", "fake-model", port=server.port)
            fake.put(ready("fake", spec=spec))
            await app.refresh_servers()
            await room.until(lambda: app.target is not None and app.target.state is ServerState.READY)
            await pilot.press("enter")
            await room.shown("Paris")


async def test_new_line_keys_and_growth(services: Services) -> None:
    async with chatting(services, PARIS) as room:
        await room.pilot.press("a", "ctrl+j", "b", "shift+enter", "c", "alt+enter", "d")
        assert room.prompt.text == "a\nb\nc\nd"
        await room.until(lambda: room.prompt.size.height == 4)
        room.prompt.text = "\n" * 30
        await room.until(lambda: room.prompt.outer_size.height == 10)
        room.prompt.text = ""
        await room.until(lambda: room.prompt.outer_size.height == 3)


async def test_history_steps_from_the_first_and_last_line(services: Services) -> None:
    async with chatting(services, PARIS) as room:
        for text in ("first", "second\nline"):
            await room.say(text)
            await room.settled()
        room.prompt.text = "draft"
        await room.pilot.press("up")
        assert room.prompt.text == "second\nline"
        await room.pilot.press("up")
        assert room.prompt.text == "first"
        await room.pilot.press("up")
        assert room.prompt.text == "first"
        await room.pilot.press("down")
        assert room.prompt.text == "second\nline"
        await room.pilot.press("down")
        assert room.prompt.text == "draft"


async def test_a_paste_is_text_whatever_is_in_it(services: Services) -> None:
    async with chatting(services, PARIS) as room:
        room.prompt.focus()
        room.prompt.post_message(events.Paste("a\r\nb\rc\x1b]52;c;eA==\x07"))
        await room.until(lambda: room.prompt.text)
        assert room.prompt.text == "a\nb\nc␛]52;c;eA==␇"
        assert not room.server.requests


LONG: list[Step] = [pieces([f"Paragraph {n}.\n\n" for n in range(20_000)], 100)]


async def test_scrolling_up_keeps_the_place_while_it_streams(services: Services) -> None:
    async with chatting(services, LONG) as room:
        await room.say("go")
        await room.shown("Paragraph 40.")
        assert room.transcript.at_end
        await room.pilot.press("escape", "pageup", "pageup")
        assert not room.transcript.at_end
        place = room.transcript.scroll_offset.y
        height = room.transcript.virtual_size.height
        await room.until(lambda: room.transcript.virtual_size.height > height + 40)
        assert room.transcript.scroll_offset.y == place
        await room.pilot.press("G")
        assert room.transcript.at_end
        height = room.transcript.virtual_size.height
        await room.until(lambda: room.transcript.virtual_size.height > height + 10)
        await room.pilot.press("x")
        await room.settled()
        assert room.transcript.scroll_offset.y == room.transcript.max_scroll_y
        await room.pilot.press("g")
        assert room.transcript.scroll_offset.y == 0


async def test_a_reply_goes_on_in_another_room(services: Services) -> None:
    async with chatting(services, [pieces([f"{n}\n\n" for n in range(100)], 300), finish(), DONE]) as room:
        await room.say("go")
        await room.shown("\n   3\n")
        room.app.action_room("servers")
        await room.until(lambda: room.app.screen is not room.screen and room.app.screen.query("ServerList"))
        await room.until(lambda: not room.session.is_streaming)
        room.app.action_room("chat")
        await room.shown("\n   99\n")


async def test_resizing_keeps_the_place(services: Services) -> None:
    words = " ".join(f"w{n}" for n in range(60)) + "\n\n"
    async with chatting(services, [words * 60, finish(), DONE], size=(120, 40)) as room:
        await room.say("go")
        await room.settled()
        await room.pilot.resize_terminal(80, 24)
        await room.until(lambda: room.transcript._blocks.next_unmeasured() is None)
        await room.until(lambda: room.transcript.scroll_offset.y == room.transcript.max_scroll_y)
        room.transcript.scroll_to(y=200, animate=False, immediate=True)
        await room.pilot.pause()
        block = room.transcript._place()[0]
        await room.pilot.resize_terminal(140, 40)
        await room.until(lambda: room.transcript._blocks.next_unmeasured() is None)
        assert room.transcript._place()[0] == block
        assert not room.transcript.at_end


async def test_a_new_conversation_asks_while_one_streams(services: Services) -> None:
    async with chatting(services, [tokens(100_000, 100)], PARIS) as room:
        await room.say("talk")
        await room.shown("word")
        await room.pilot.press("escape", "n")
        await room.until(lambda: room.app.screen is not room.screen)
        await room.pilot.press("y")
        await asyncio.wait_for(room.server.requests[0].disconnected.wait(), 60)
        await room.until(lambda: not room.session.conversation.turns and room.transcript.text == "")
        await room.say("Which city?")
        await room.shown("Paris")


async def test_copy_the_last_reply(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(services, PARIS) as room:
        await room.say("?")
        await room.settled()
        await room.pilot.press("escape", "y")
        assert room.app.clipboard == "The capital is **Paris**."


async def test_hostile_replies_reach_no_terminal(services: Services) -> None:
    evil = "\x1b]0;title\x07 \x1b[2J [bold]x[/] [/nope] \u202eabc &#27;[31m &#x202e; ```\n\x9b31m\n"
    async with chatting(services, [evil, finish("\x1b[31m[/x]"), DONE]) as room:
        await room.say("[red]\x1b[2J[/nope]")
        await room.settled()
        assert not set(map(chr, [*range(10), *range(11, 32), *range(127, 160), 0x202E])) & set(room.transcript.text)
        assert "[bold]x[/] [/nope]" in room.transcript.text


async def test_the_language_changes_while_it_is_shown(services: Services) -> None:
    async with chatting(services, PARIS) as room:
        await room.say("?")
        await room.settled()
        assert room.transcript.text.startswith(" You")
        translated = i18n._("You")
        room.app.use_language("zh_CN")
        await room.pilot.pause()
        assert room.transcript.text.startswith(" " + i18n._("You"))
        assert translated == "You"
