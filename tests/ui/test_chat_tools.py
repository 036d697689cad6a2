"""Thinking and calls of tools in the Chat room: as they stream, folded, and answered."""

from __future__ import annotations

from qwen_tui.chat.tools import read_tools
from qwen_tui.ui.services import Services
from tests.fakes.openai_server import DONE, HANG, Step, finish, reasoning
from tests.ui.test_chat_room import chatting
from tests.unit.test_chat_reply import WEATHER, call

WONDER = "".join(f"Idea {n}.\n" for n in range(200))


async def test_thinking_is_open_while_it_streams_and_folded_when_the_answer_begins(services: Services) -> None:
    second: list[Step] = ["<thi", "nk>", *(f"Thought {n}.\n" for n in range(90)), HANG]
    async with chatting(services, [reasoning(WONDER), "Yes.", finish(), DONE], second) as room:
        await room.say("?")
        await room.settled()
        assert "Idea" not in room.transcript.text
        assert room.transcript.virtual_size.height < 12
        await room.pilot.press("escape", "g", "z")
        await room.until(lambda: "│ Idea 0." in room.transcript.text and "│ Idea 199." in room.transcript.text)
        assert room.transcript.virtual_size.height > 200
        await room.pilot.press("z")
        assert room.transcript.virtual_size.height < 12
        await room.say("??")
        await room.shown("│ Thought 89.")
        assert "▾ Thinking…" in room.transcript.text
        await room.pilot.press("escape", "z")
        assert "Thought 40" not in room.transcript.text
        await room.pilot.press("x")
        await room.shown("stopped")
        assert "▸ Thought" in room.transcript.text  # as it was put by hand


async def test_calls_are_shown_as_they_come(services: Services) -> None:
    asks: list[Step] = [call(0, "c1", "weather", '{"city": "Pa'), 0.3, call(0, arguments='ris"}'), HANG]
    broken: list[Step] = [call(0, "c1", "weather", '{"city": "Pa'), finish("tool_calls"), DONE]
    async with chatting(services, asks, broken) as room:
        room.session.equip(read_tools(str(WEATHER).replace("'", '"')), "")
        await room.say("?")
        await room.shown('→ calls weather\n   {"city": "Paris"}')
        await room.pilot.press("escape", "x")
        await room.shown('→ calls weather\n    {\n      "city": "Paris"\n    }')
        await room.pilot.press("r")
        await room.shown("✗ The arguments are no valid JSON")
