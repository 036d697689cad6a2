"""The cursor on turns, and what acts on the turn under it."""

from __future__ import annotations

import os
import signal

import pytest

from qwen_tui.chat.history import PromptHistory
from qwen_tui.ui.run import hung_up
from qwen_tui.ui.services import Services
from tests.fakes.openai_server import DONE, Step, finish
from tests.ui.test_chat_room import chatting

SAID: list[list[Step]] = [[f"Answer {n}.", finish(), DONE] for n in range(1, 5)]


async def test_what_is_done_is_done_to_the_turn_under_the_cursor(services: Services) -> None:
    async with chatting(services, *SAID) as room:
        for number, question in enumerate(("one", "two", "three"), 1):
            await room.say(question)
            await room.shown(f"Answer {number}.")
            await room.settled()
        transcript, turns = room.transcript, room.session.conversation.turns
        assert transcript.chosen is None
        assert transcript.selected is turns[5]
        await room.pilot.press("escape", *["left_square_bracket"] * 9)
        assert transcript.selected is turns[0]
        assert transcript.scroll_offset.y == 0
        marks = [row for row in range(transcript.size.height) if transcript.render_line(row).text.startswith("▌")]
        assert "one" in "".join(transcript.render_line(row).text for row in marks)
        assert marks == [0, 1]
        await room.pilot.press("right_square_bracket", "y")
        assert room.app.clipboard == "Answer 1."
        await room.pilot.press("right_square_bracket", "e")
        assert room.prompt.text == "two"
        await room.pilot.press("escape", "escape", "right_square_bracket", "r")  # the reply to two
        await room.shown("Answer 4.")
        await room.settled()
        assert [turn.text for turn in room.session.conversation.turns] == ["one", "Answer 1.", "two", "Answer 4."]
        assert [message["content"] for message in room.server.requests[3].body["messages"]][-1] == "two"
        await room.pilot.press("left_square_bracket", "left")
        await room.shown("Answer 3.")
        assert transcript.chosen is not None
        assert transcript.chosen.text == "Answer 2."
        assert "reply 1 of 2" in str(room.prompt.border_subtitle)
        await room.pilot.press("escape")
        assert transcript.chosen is None


async def test_what_was_typed_is_never_lost(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chatting(services, *SAID) as room:
        await room.say("one")
        await room.settled()
        room.prompt.text = "a draft"
        await room.pilot.press("escape", "e")
        room.prompt.text = "one, and more"
        await room.pilot.press("escape", "escape")
        assert room.prompt.text == ""
        await room.pilot.press("i", "up")
        assert room.prompt.text == "one, and more"
        await room.pilot.press("up")
        assert room.prompt.text == "a draft"
        room.prompt.text = "the connection broke"
        ended: list[tuple[int, int]] = []
        monkeypatch.setattr(os, "kill", lambda *arguments: ended.append(arguments))
        hung_up(room.app)
        assert ended == [(os.getpid(), signal.SIGHUP)]
        assert PromptHistory(services.paths).entries[-1] == "the connection broke"
        room.prompt.text = "not sent"
    assert PromptHistory(services.paths).entries[-1] == "not sent"
