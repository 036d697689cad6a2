"""The Chat room's conversations, branches, sampling and requests as code, against a fake server over real sockets."""

from __future__ import annotations

import json
from collections.abc import Sequence

from textual.widgets import Input, OptionList, TextArea

from qwen_tui.chat.conversation import Conversation
from qwen_tui.chat.events import ReplyFigures
from qwen_tui.chat.sampling import Sampling
from qwen_tui.chat.sampling_presets import SamplingPresets
from qwen_tui.chat.store import ConversationStore, snapshot
from qwen_tui.chat.system_prompts import SystemPrompts
from qwen_tui.ui.screens.request_code import RequestCodeScreen
from qwen_tui.ui.screens.sampling_form import SamplingForm
from qwen_tui.ui.screens.system_prompt import SystemPromptForm
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.conversation_list import ConversationList, ConversationRows
from tests.fakes.openai_server import DONE, FakeOpenAI, Step, answer, finish, tokens
from tests.ui.test_chat_room import PARIS, Room, chatting

LYON: list[Step] = ["It is Lyon.", finish(), DONE]
RIVER: list[Step] = ["The Seine.", finish(), DONE]


def kept(services: Services, question: str, reply: str) -> Conversation:
    """A conversation of an earlier run."""
    conversation = Conversation()
    conversation.add_user(question)
    turn = conversation.begin_reply("m")
    turn.text = reply
    conversation.finish(turn, ReplyFigures(0.1, 0.5, 30.0, 5, 12, "stop", 12))
    store = ConversationStore(services.paths)
    store.save(snapshot(conversation))
    store.close()
    return conversation


def rows(room: Room) -> list[str]:
    found = room.screen.query_one(ConversationRows)
    return [str(found.get_option_at_index(index).prompt) for index in range(found.option_count)]


def bodies(server: FakeOpenAI) -> Sequence[Sequence[tuple[str, str]]]:
    """Who said what, in each request."""
    return [[(said["role"], said["content"]) for said in request.body["messages"]] for request in server.requests]


async def test_the_last_conversation_is_there_again_and_goes_on(services: Services) -> None:
    kept(services, "Which city?", "Paris.")
    async with chatting(services, PARIS) as room:
        await room.shown("Paris.")
        await room.say("Sure?")
        await room.settled()
        assert [text for _role, text in bodies(room.server)[0]] == ["Which city?", "Paris.", "Sure?"]
        conversation = room.session.conversation
        store = services.conversations
        await room.until(lambda: len(store.load(conversation.id).turns) == 4)
        assert not room.screen.query_one("#kept").display  # nothing but what is shown, and a narrow screen


async def test_find_open_rename_duplicate_delete_undo_export(services: Services) -> None:
    kept(services, "什么是北京烤鸭？", "一道菜")
    last = kept(services, "Which city?", "Paris.")
    async with chatting(services, PARIS, size=(110, 30)) as room:
        await room.until(lambda: len(rows(room)) == 2)
        assert rows(room) == ["● Which city?", "  什么是北京烤鸭？"]
        await room.pilot.press("escape", "slash", *"paris")
        await room.until(lambda: rows(room) == ["● Paris."])
        panel = room.screen.query_one(ConversationList)
        panel.query_one(Input).value = "烤鸭"
        await room.until(lambda: "北京烤鸭" in rows(room)[0])
        await room.pilot.press("enter", "enter")
        await room.shown("一道菜")
        await room.until(lambda: len(rows(room)) == 2 and rows(room)[1].startswith("●"))
        listed = room.screen.query_one(ConversationRows)
        listed.focus()
        listed.select(last.id)
        await room.pilot.press("e")
        room.app.screen.query_one(Input).value = "Cities"
        await room.pilot.press("enter")
        await room.until(lambda: any("Cities" in row for row in rows(room)))
        await room.pilot.press("plus")
        await room.until(lambda: any("Cities (copy)" in row for row in rows(room)))
        await room.pilot.press("d")
        await room.until(lambda: not any("(copy)" in row for row in rows(room)))
        assert "u brings it back" in room.notices
        await room.pilot.press("u")
        await room.until(lambda: any("(copy)" in row for row in rows(room)))
        await room.pilot.press("o")
        await room.until(lambda: "Written to" in room.notices)
        (file,) = (services.paths.data / "exports").glob("*.json")
        assert json.loads(file.read_text())["messages"][0]["content"] == "Which city?"


async def test_a_name_given_while_a_reply_streams_stays(services: Services) -> None:
    async with chatting(services, [tokens(100_000, 200)]) as room:
        await room.say("Which city?")
        await room.shown("word word")
        await room.until(lambda: services.conversations.last())
        await room.pilot.press("escape", "slash", "enter", "e")
        room.app.screen.query_one(Input).value = "Cities"
        await room.pilot.press("enter", "escape", "x")
        await room.settled()
        await services.keeper.close()
        assert [entry.name for entry in services.conversations.list()] == ["Cities"]


async def test_deleting_what_is_shown_begins_anew(services: Services) -> None:
    kept(services, "Which city?", "Paris.")
    async with chatting(services, PARIS) as room:
        await room.shown("Paris.")
        await room.pilot.press("escape", "slash", "enter", "d")
        await room.until(lambda: not room.session.conversation.turns)
        await room.until(lambda: not rows(room))
        await room.pilot.press("u")
        await room.until(lambda: rows(room) == ["  Which city?"])


async def test_a_search_that_finds_nothing_does_no_harm(services: Services) -> None:
    async with chatting(services, PARIS) as room:
        await room.pilot.press("escape", "slash", "x", "enter", "enter", "e", "d", "u", "o", "plus", "escape")
        assert not room.screen.has_class("-listing")
        await room.say("Which city?")
        await room.shown("Paris")


async def test_ask_again_edit_and_walk_through_the_versions(services: Services) -> None:
    async with chatting(services, PARIS, LYON, RIVER) as room:
        await room.say("Which city?")
        await room.shown("Paris")
        await room.settled()
        await room.pilot.press("escape", "r")
        await room.shown("Lyon")
        await room.settled()
        assert "reply 2 of 2" in str(room.prompt.border_subtitle)
        await room.pilot.press("e")
        assert room.prompt.text == "Which city?"
        room.prompt.text = "Which river?"
        await room.pilot.press("enter")
        await room.shown("Seine")
        await room.settled()
        assert bodies(room.server)[2] == [("user", "Which river?")]
        await room.pilot.press("escape", "left")
        await room.shown("Lyon")
        await room.pilot.press("left")
        await room.shown("Paris")
        await room.pilot.press("left", "right", "right")
        await room.shown("Seine")
        assert "question 2 of 2" in str(room.prompt.border_subtitle)


async def test_an_edit_can_be_left(services: Services) -> None:
    async with chatting(services, PARIS, LYON) as room:
        await room.say("Which city?")
        await room.shown("Paris")
        await room.settled()
        await room.pilot.press("escape", "e", "escape", "escape")
        assert room.prompt.text == ""
        await room.say("And then?")
        await room.shown("Lyon")
        assert len(bodies(room.server)[1]) == 3


async def test_sampling_is_entered_checked_and_sent(services: Services) -> None:
    SamplingPresets(services.paths).save("mine", Sampling(top_k=3))
    async with chatting(services, PARIS) as room:
        await room.pilot.press("escape", "comma")
        form = room.app.screen
        assert isinstance(form, SamplingForm)
        field = form.query_one("#field-temperature", Input)
        field.value = "9"
        await room.pilot.press("ctrl+s")
        await room.until(lambda: "0 to 2, not 9" in str(form.query_one("#note").render()))
        presets = form.query_one("#presets", OptionList)
        presets.focus()
        presets.highlighted = 0
        await room.pilot.press("enter")
        await room.until(lambda: form.query_one("#field-top_k", Input).value == "3")
        assert field.value == ""
        form.query_one("#field-stop", Input).value = '["a", "b"]'
        form.query_one("#field-json_schema", Input).value = '{"type": "object"}'
        await room.pilot.press("ctrl+k")
        room.app.screen.query_one(Input).value = "other"
        await room.pilot.press("enter")
        await room.until(lambda: room.app.screen is form)
        assert SamplingPresets(services.paths).get("other").stop == ("a", "b")
        await room.pilot.press("ctrl+s")
        await room.until(lambda: room.app.screen is room.screen)
        await room.say("Which city?")
        await room.shown("Paris")
        await room.settled()
        body = room.server.requests[0].body
        assert (body["top_k"], body["stop"]) == (3, ["a", "b"])
        assert body["response_format"]["type"] == "json_schema"
        await room.pilot.press("escape", "comma")
        assert room.app.screen.query_one("#field-stop", Input).value == '["a", "b"]'


async def test_a_system_prompt_from_the_library(services: Services) -> None:
    async with chatting(services, PARIS) as room:
        await room.pilot.press("escape", "S", *"Be brief", "ctrl+k")
        room.app.screen.query_one(Input).value = "brief"
        await room.pilot.press("enter")
        form = room.app.screen
        assert isinstance(form, SystemPromptForm)
        assert SystemPrompts(services.paths).all() == {"brief": "Be brief"}
        area = form.query_one(TextArea)
        area.text = "something else"
        await room.pilot.press("tab", "down", "enter")
        await room.until(lambda: area.text == "Be brief")
        await room.pilot.press("ctrl+s")
        await room.until(lambda: "with a system prompt" in str(room.prompt.border_title))
        await room.say("Which city?")
        await room.shown("Paris")
        assert bodies(room.server)[0] == [("system", "Be brief"), ("user", "Which city?")]
        await room.settled()
        await room.until(lambda: services.conversations.load(room.session.conversation.id).system == "Be brief")
        await room.pilot.press("escape", "S", "tab", "d")
        await room.until(lambda: SystemPrompts(services.paths).all() == {})
        await room.pilot.press("escape")
        assert room.session.conversation.system == "Be brief"


async def test_the_request_as_code_and_its_raw_answer(services: Services) -> None:
    async with chatting(services, PARIS, [answer(200, {"id": "c-9", "x": "\x1b]52;c;x"})]) as room:
        await room.say("Which city?")
        await room.shown("Paris")
        await room.settled()
        await room.pilot.press("escape", "o")
        screen = room.app.screen
        assert isinstance(screen, RequestCodeScreen)
        code = screen.query_one(TextArea)
        assert code.text.startswith("curl -sS")
        assert "Which city?" in code.text
        assert "Paris" not in code.text
        await room.pilot.press("y")
        assert room.app.clipboard == code.text
        await room.pilot.press("tab")
        assert "from openai import" in code.text
        await room.pilot.press("tab")
        assert "import httpx" in code.text
        assert len(room.server.requests) == 1
        await room.pilot.press("r")
        await room.until(lambda: '"c-9"' in code.text)
        assert "HTTP/1.1 200" in code.text
        assert "\x1b" not in code.text
        await room.pilot.press("escape")
        room.prompt.text = "And then?"
        await room.pilot.press("o")
        assert "And then?" in room.app.screen.query_one(TextArea).text
