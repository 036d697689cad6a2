"""Thinking and calls of tools in the Chat room: as they stream, folded, and answered."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input, OptionList, TextArea

from qwen_tui.chat.tools import read_tools
from qwen_tui.ui.screens.attach_form import AttachForm
from qwen_tui.ui.screens.chat_beside import ReplyDetails
from qwen_tui.ui.screens.copy_form import CopyForm
from qwen_tui.ui.screens.tools_form import AnswerForm, ToolsForm
from qwen_tui.ui.services import Services
from tests.fakes.openai_server import DONE, HANG, Step, finish, reasoning
from tests.ui.test_chat_room import chatting
from tests.unit.test_chat_reply import WEATHER, call

WONDER = "".join(f"Idea {n}.\n" for n in range(200))


async def test_thinking_is_open_while_it_streams_and_folded_when_the_answer_begins(services: Services) -> None:
    second: list[Step] = ["<thi", "nk>", *(f"Thought {n}.\n" for n in range(90)), HANG]
    async with chatting(services, [reasoning(WONDER), "Yes.", finish(), DONE], second) as room:
        await room.say("?")
        await room.shown("Yes.")
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


async def test_tools_are_given_called_and_answered(services: Services) -> None:
    asks: list[Step] = [call(0, "c1", "weather", "{}"), finish("tool_calls"), DONE]
    async with chatting(services, asks, ["Sunny.", finish(), DONE]) as room:
        app, pilot = room.app, room.pilot
        await pilot.press("escape", "T")
        await room.until(lambda: isinstance(app.screen, ToolsForm))
        area = app.screen.query_one(TextArea)
        area.text = '{"name": "weat'
        await room.until(lambda: "no JSON" in str(app.screen.query_one("#note").render()))
        await pilot.press("ctrl+s")
        assert isinstance(app.screen, ToolsForm)
        area.text = '{"name": "weather"}'
        app.screen.query_one(Input).value = "required"
        await room.until(lambda: "1 tool: weather" in str(app.screen.query_one("#note").render()))
        await pilot.press("ctrl+s")
        await room.until(lambda: not isinstance(app.screen, ToolsForm))
        assert "1 tool" in str(room.prompt.border_title)
        await room.say("?")
        await room.shown("→ calls weather")
        await room.settled()
        assert room.server.requests[0].body["tool_choice"] == "required"
        await pilot.press("escape", "A")
        await room.until(lambda: isinstance(app.screen, AnswerForm))
        await pilot.press("ctrl+s")  # nothing was entered yet
        assert isinstance(app.screen, AnswerForm)
        await pilot.press(*"18 ", "escape", "A")  # what was typed is there again
        await room.until(lambda: isinstance(app.screen, AnswerForm))
        await pilot.press("C", "ctrl+s")
        await room.shown("Sunny.")
        await room.settled()
        assert "Result of weather\n   18 C" in room.transcript.text
        assert room.server.requests[1].body["messages"][-1] == {"role": "tool", "content": "18 C", "tool_call_id": "c1"}


async def test_files_going_on_details_and_copies(services: Services, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("milk")
    cut: list[Step] = ["Buy\n```sh\nmilk\n```\n", finish("length"), DONE]
    async with chatting(services, cut, ["And bread.", finish(), DONE]) as room:
        app, pilot = room.app, room.pilot
        await pilot.press("escape", "f")
        await room.until(lambda: isinstance(app.screen, AttachForm))
        form = app.screen
        form.query_one(Input).value = f"{tmp_path}/no"
        await room.until(lambda: form.query_one("#found", OptionList).option_count == 1)
        await pilot.press("tab", "enter")
        await room.until(lambda: "notes.txt · 4 B" in str(form.query_one("#attached").render()))
        form.query_one(Input).value = f"{tmp_path}/none"
        await pilot.press("enter")
        await room.until(lambda: "There is no file" in str(form.query_one("#note").render()))
        form.query_one(Input).value = ""
        await pilot.press("enter")
        await room.until(lambda: app.screen is room.screen)
        assert "with 1 file" in str(room.prompt.border_title)
        await room.say("?")
        await room.shown("length (cut")
        await room.settled()
        assert room.server.requests[0].body["messages"][0]["content"] == "notes.txt:\n```\nmilk\n```\n\n?"
        assert "≡ notes.txt · 4 B" in room.transcript.text
        assert "with 1 file" not in str(room.prompt.border_title)
        await pilot.press("escape", "Y")
        await room.until(lambda: isinstance(app.screen, CopyForm))
        await pilot.press("down", "enter")
        await room.until(lambda: app.clipboard == "milk\n")
        await pilot.press("Y", "down", "o")
        await room.until(lambda: "Written to" in room.notices)
        (file,) = (services.paths.data / "exports").glob("*.sh")
        assert (file.read_text(), file.stat().st_mode & 0o777) == ("milk\n", 0o600)
        await pilot.press("greater_than_sign")
        await room.shown("And bread.")
        await room.settled()
        assert len(room.session.conversation.turns) == 2
        await pilot.press("D")
        await room.until(lambda: isinstance(app.screen, ReplyDetails))
        assert "finish reason: stop" in str(app.screen.query_one("#body Prose").render())
        await pilot.press("escape", "left_square_bracket", "e")  # the reply itself
        assert room.prompt.text == room.session.conversation.turns[1].text
        room.prompt.text = "Buy tea."
        await pilot.press("enter")
        await room.shown("Buy tea.And bread.")
        await room.settled()
        assert "reply 2 of 2" in str(room.prompt.border_subtitle)
