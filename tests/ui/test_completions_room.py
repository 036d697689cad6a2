"""The Completions room, the token view and the context meter of Chat, against a fake server over real sockets."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from textual import events
from textual.pilot import Pilot
from textual.widgets import TextArea

from qwen_tui.chat.completions_session import Draft
from qwen_tui.chat.logprobs import TokenChance
from qwen_tui.chat.sampling import make_sampling
from qwen_tui.server.spec import ServerSpec
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.screens.chat import ChatScreen
from qwen_tui.ui.screens.completions import CompletionsScreen
from qwen_tui.ui.screens.completions_dialogs import CompletionOptions, TemplateForm
from qwen_tui.ui.screens.completions_tokens import TokenScreen
from qwen_tui.ui.services import Services
from qwen_tui.ui.widgets.prompt import Prompt
from qwen_tui.ui.widgets.token_text import TokenText
from qwen_tui.ui.widgets.transcript import Transcript
from tests.fakes.openai_server import DONE, HANG, FakeOpenAI, Step, answer, continuation, finish, usage
from tests.ui.conftest import notices, ready, running, wait_until, with_servers
from tests.ui.looking import Snapshot, shown


@asynccontextmanager
async def room_of(
    services: Services, *scripts: Sequence[Step], room: str = "completions", limit: int = 200
) -> AsyncIterator[tuple[QwenApp, Pilot[None], FakeOpenAI]]:
    async with FakeOpenAI(*scripts, max_model_len=limit) as server:
        spec = ServerSpec("fake", "some/model", "fake-model", port=server.port)
        with_servers(services, ready("fake", spec=spec))
        async with running(services, room) as (app, pilot):
            yield app, pilot, server


def said(*texts: str) -> list[Step]:
    end = continuation("", finish_reason="stop")
    return [*(continuation(text) for text in texts), end, usage(3, len(texts)), DONE]


async def test_a_text_is_written_continued_edited_and_taken_back(services: Services) -> None:
    scripts: list[list[Step]] = [said(" upon", "\x1b[2J a"), [continuation(" time"), HANG], said(" day")]
    async with room_of(services, *scripts) as (app, pilot, server):
        screen, session = cast(CompletionsScreen, app.screen), services.completions
        await wait_until(pilot, lambda: "Write the beginning" in shown(app))
        app.screen.query_one(TextArea).post_message(events.Paste("On\rce\x07"))
        await wait_until(pilot, lambda: screen.editor.text == "On\nce␇")
        await pilot.press("backspace", "left", "left", "backspace", "end")
        await wait_until(pilot, lambda: session.draft.text == "Once")
        await wait_until(pilot, lambda: "4 of 200 tokens" in shown(app))
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: screen.editor.text == "Once upon␛[2J a" and not screen.editor.read_only)
        assert screen.editor.draft.written == ((4, 15),)
        assert "(+3 prompt) · stop" in shown(app)
        await pilot.press("!", "escape")
        await wait_until(pilot, lambda: session.draft == Draft("Once upon␛[2J a!", ((4, 15),)))
        await pilot.press("enter")
        await wait_until(pilot, lambda: screen.editor.text.endswith("a! time"))
        screen.editor.focus()
        await pilot.press("s", "q", "enter")  # while it streams, letters go nowhere
        assert (app.screen, screen.editor.text) == (screen, "Once upon␛[2J a! time")
        await pilot.press("escape", "escape")
        await wait_until(pilot, lambda: "stopped" in shown(app) and not screen.editor.read_only)
        await pilot.press("r")
        await wait_until(pilot, lambda: screen.editor.text.endswith("a! day") and not session.is_streaming)
        await pilot.press("u", "u")
        await wait_until(pilot, lambda: screen.editor.text.endswith("a!"))
        assert [request.body["prompt"] for request in server.requests][1:] == ["Once upon␛[2J a!"] * 2
        await pilot.press("n")
        await wait_until(pilot, lambda: not screen.editor.text)
        await pilot.press("escape", "u")
        await wait_until(pilot, lambda: screen.editor.text.endswith("a!"))


async def test_options_template_and_the_tokens_of_a_text(services: Services) -> None:
    byte = {str(number): {"logprob": -0.5, "decoded_token": chr(number)} for number in range(128)}
    script = [answer(200, {"choices": [{"prompt_logprobs": [None] + [byte] * 200}]})]
    async with room_of(services, script) as (app, pilot, server):
        session = services.completions
        await pilot.press("escape", "O")
        await wait_until(pilot, lambda: isinstance(app.screen, CompletionOptions))
        await pilot.press("a", "\\", "n", "tab", "space", "ctrl+s")
        await wait_until(pilot, lambda: session.echo and isinstance(app.screen, CompletionsScreen))
        assert session.suffix == "a\n"
        await pilot.press("T")
        await wait_until(pilot, lambda: isinstance(app.screen, TemplateForm))
        await pilot.press("H", "i", "ctrl+s")
        await wait_until(pilot, lambda: isinstance(app.screen, CompletionsScreen) and bool(session.draft.text))
        assert session.draft.text == "<user>Hi</user><assistant>"
        assert session.special
        assert "26 tokens" in notices(app)
        await pilot.press("escape", "v")
        await wait_until(pilot, lambda: isinstance(app.screen, TokenScreen) and "without logprobs" in shown(app))
        await pilot.press("r")
        await wait_until(pilot, lambda: "26 tokens · perplexity 1.65" in shown(app))
        assert bytes(server.requests[0].body["prompt"]).decode() == session.draft.text
        await pilot.press("end")
        await wait_until(pilot, lambda: "token 26 of 26" in shown(app))
        assert "60.7 %" in shown(app)
        assert "n least certain" in shown(app)
        await pilot.press("y", "q")
        await wait_until(pilot, lambda: isinstance(app.screen, CompletionsScreen))


def reply(count: int) -> list[TokenChance]:
    levels = [0.99, 0.7, 0.3, 0.02]
    words = [" the", " 你好", "\n", " end", " \x1b[31m"]
    return [
        TokenChance(words[place % 5], math.log(levels[place % 4]), ((" other", math.log(0.2)), ("x", math.log(0.01))))
        for place in range(count)
    ]


async def test_many_tokens_are_walked_through_and_only_those_in_view_are_drawn(services: Services) -> None:
    async def never() -> Sequence[TokenChance]:
        raise AssertionError

    async with room_of(services, said()) as (app, pilot, _server):
        app.push_screen(TokenScreen(reply(32_000), never))
        await wait_until(pilot, lambda: "token 1 of 32,000" in shown(app))
        tokens = app.screen.query_one(TokenText)
        await pilot.press("n")
        await wait_until(pilot, lambda: tokens.cursor == 3)
        await pilot.press("n", "N", "down", "right", "up", "pagedown")
        assert tokens.cursor > 10
        await pilot.press("end")
        await wait_until(pilot, lambda: "token 32,000 of 32,000" in shown(app))
        assert "\x1b" not in shown(app)
        assert tokens.virtual_size.height == len(tokens.rows) > 5000


async def test_the_meter_warns_before_the_server_refuses_and_the_oldest_can_be_left_out(services: Services) -> None:
    logprobs = {"content": [{"token": "Yes", "logprob": -0.1, "bytes": [89, 101, 115], "top_logprobs": []}]}
    first = [continuation("", delta={"content": "Yes"}, logprobs=logprobs), finish(), usage(40, 1), DONE]
    async with room_of(services, first, room="chat") as (app, pilot, server):
        screen, session = cast(ChatScreen, app.screen), services.chat
        prompt, transcript = screen.query_one(Prompt), screen.query_one(Transcript)
        await pilot.press(*"one", "enter")
        await wait_until(pilot, lambda: "Yes" in transcript.text and not session.is_streaming)
        assert [chance.token for chance in session.conversation.turns[1].logprobs] == ["Yes"]
        await pilot.press(*"two", "enter")
        await wait_until(pilot, lambda: len(server.requests) == 2 and not session.is_streaming)
        session.sampling = make_sampling({"max_tokens": 120})
        prompt.text = "x"
        await wait_until(pilot, lambda: "max_tokens 120 does not fit, the server will refuse" in shown(app))
        assert "esc, then L leaves the oldest out: “one…”" in shown(app)
        await pilot.press("escape", "L")
        await wait_until(pilot, lambda: "You · not sent" in transcript.text)
        await wait_until(pilot, lambda: "67 of 200 tokens" in shown(app))
        assert "does not fit" not in shown(app)
        await pilot.press("v")
        await wait_until(pilot, lambda: isinstance(app.screen, TokenScreen) and "perplexity" in shown(app))
        await pilot.press("escape", "i", "enter")
        await wait_until(pilot, lambda: len(server.requests) == 3 and not session.is_streaming)
        asked = [message["content"] for message in server.requests[2].body["messages"]]
        assert asked == ["two", "Yes", "x"]
        await pilot.press("escape", "u")
        await wait_until(pilot, lambda: "not sent" not in transcript.text)


def test_picture_of_a_continued_text(snap_compare: Snapshot, services: Services) -> None:
    with_servers(services, ready("qwen"))
    text = "Once upon a time, 很久以前, there was a [b]kernel[/b]."
    services.completions.suffix = "The end."
    services.completions.edit(Draft(text, ((18, 22), (40, len(text)))))

    app = QwenApp(services, "completions")

    async def before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.looked and "kernel" in shown(app))

    assert snap_compare(app, run_before=before)


def test_picture_of_tokens(snap_compare: Snapshot, services: Services) -> None:
    async def never() -> Sequence[TokenChance]:
        raise AssertionError

    with_servers(services, ready("qwen"))
    app = QwenApp(services, "completions")

    async def before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.looked)
        app.push_screen(TokenScreen(reply(60), never))
        await wait_until(pilot, lambda: "token 1 of 60" in shown(app))
        await pilot.press("n")
        await wait_until(pilot, lambda: "token 4 of 60" in shown(app))

    arguments: dict[str, Any] = {"terminal_size": (120, 24)}
    assert snap_compare(app, run_before=before, **arguments)
