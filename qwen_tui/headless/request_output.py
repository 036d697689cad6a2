"""An answer as it is printed: text as it comes and figures on stderr, or JSON."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen_tui.errors import ChatError, QwenTuiError
from qwen_tui.i18n import _

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from qwen_tui.chat.completions import TokenChance
    from qwen_tui.chat.events import ReplyFigures, ToolCall

INTERRUPTED = 130


@dataclass
class Reply:
    """What has come so far.

    as_json: print one object at the end. stream: with it, also one line per piece. several: more than one answer was
    asked for; they are printed when they are whole, as they come mixed. colours: show how likely each token was.
    """

    as_json: bool = False
    stream: bool = False
    several: bool = False
    model: str = ""
    colours: bool = False
    texts: dict[int, str] = field(default_factory=dict)
    reasoning: str = ""
    chances: dict[int, list[TokenChance]] = field(default_factory=dict)
    figures: ReplyFigures | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    shows_reasoning: bool = False
    _thinking_shown: bool = False

    @property
    def text(self) -> str:
        """The first answer."""
        return self.texts.get(0, "")

    def take_text(self, text: str, index: int = 0, at: float = 0.0, chances: Sequence[TokenChance] = ()) -> None:
        """A piece of an answer, and how likely its tokens were."""
        self.texts[index] = self.texts.get(index, "") + text
        if chances:
            self.chances.setdefault(index, []).extend(chances)
        if self.as_json:
            self._line(text=text, index=index, at=at)
        elif not self.several:
            self._end_thinking()
            sys.stdout.write(self._shown(text, chances))
            sys.stdout.flush()

    def _shown(self, text: str, chances: Sequence[TokenChance]) -> str:
        from qwen_tui.chat.harmless import harmless

        if not self.colours:
            return harmless(text)
        from qwen_tui.headless.token_colours import coloured

        return coloured(text, chances)

    def take_reasoning(self, text: str, index: int = 0, at: float = 0.0) -> None:
        """A piece of what the model thinks. It is no part of the answer: shown to whoever watches, not piped on."""
        from qwen_tui.chat.harmless import harmless

        if index == 0:
            self.reasoning += text
        if self.as_json:
            self._line(reasoning=text, index=index, at=at)
        elif not self.several and (self.shows_reasoning or sys.stderr.isatty()):
            self._thinking_shown = True
            sys.stderr.write(harmless(text))
            sys.stderr.flush()

    def _end_thinking(self) -> None:
        """What the model thought is not to run into what comes after it."""
        if self._thinking_shown:
            self._thinking_shown = False
            print("\n", file=sys.stderr, flush=True)

    def text_was_thinking(self, index: int = 0) -> None:
        """What came of an answer until now was thinking: its prompt had begun it. What is printed stays printed."""
        thought = self.texts.pop(index, "")
        if index == 0:
            self.reasoning += thought
        if self.as_json and self.stream:
            print(f'{{"thinking_ended": true, "index": {index}}}', flush=True)

    def _line(self, *, index: int, at: float, **piece: str) -> None:
        from qwen_tui.chat.harmless import harmless_json

        if self.stream:
            print(harmless_json({**piece, "index": index, "at": round(at, 6)}), flush=True)

    def end(self, stopped: bool = False, error: QwenTuiError | None = None) -> None:
        """Print what belongs after the text."""
        from qwen_tui.chat.figures import figures_line
        from qwen_tui.chat.harmless import harmless, harmless_json

        if self.as_json:
            print(harmless_json(self.to_json(stopped, error)), flush=True)
            return
        if self.several:
            for index, text in sorted(self.texts.items()):
                print(f"[{index + 1}]\n{self._shown(text, self.chances.get(index, ()))}\n", flush=True)
        elif self.text and not self.text.endswith("\n"):
            print(flush=True)
        self._end_thinking()
        for call in self.tool_calls:
            print(harmless_json(call.to_json()["function"]), flush=True)
        for index, chances in sorted(self.chances.items()):
            if self.several:
                print(f"[{index + 1}]", file=sys.stderr)
            for chance in chances:
                print(_chance_line(chance), file=sys.stderr)
        if self.figures is not None:
            print(harmless(figures_line(self.figures, stopped)), file=sys.stderr, flush=True)

    def to_json(self, stopped: bool, error: QwenTuiError | None) -> dict[str, Any]:
        """What --json prints."""
        figures = self.figures
        found: dict[str, Any] = {
            "model": self.model,
            "text": self.text,
            "reasoning": self.reasoning,
            "finish_reason": "stopped" if stopped else figures.finish_reason if figures else "",
            "figures": figures.to_json() if figures else None,
        }
        if self.tool_calls:
            found["tool_calls"] = [call.to_json() for call in self.tool_calls]
        if self.several:
            found["texts"] = [text for _index, text in sorted(self.texts.items())]
        if self.chances:
            found["logprobs"] = [
                [chance.to_json() for chance in chances] for _index, chances in sorted(self.chances.items())
            ]
        if error is not None:
            found["error"] = {"title": error.title, "why": error.why, "hint": error.hint}
        return found


def _chance_line(chance: TokenChance) -> str:
    """'  98.4%  "Paris"    1.2% "the"'."""
    from qwen_tui.chat.harmless import harmless_json

    def share(logprob: float | None) -> str:
        return f"{math.exp(min(logprob, 0.0)):>7.1%}" if logprob is not None else " " * 7

    others = [
        f"{share(logprob)} {harmless_json(token)}" for token, logprob in chance.alternatives if token != chance.token
    ]
    return "  ".join([f"{share(chance.logprob)}  {harmless_json(chance.token)}", *others])


def run_reply(reply: Reply, ask: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run `ask`, which feeds `reply`, and print its end; the exit status. Ctrl+C stops it and keeps what came.

    Raises what `ask` raises where nothing came before.
    """
    return asyncio.run(_run(reply, ask))


async def _run(reply: Reply, ask: Callable[[], Coroutine[Any, Any, None]]) -> int:
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError, RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await ask()
    except asyncio.CancelledError:
        reply.end(stopped=True)
        return INTERRUPTED
    except ChatError as error:
        if not reply.texts and not reply.reasoning and not reply.tool_calls:
            raise
        reply.end(error=error)
        if not reply.as_json:
            raise
        print(_("qwen-tui: {title}").format(title=str(error)), file=sys.stderr)
        return error.exit_code
    reply.end()
    return 0
