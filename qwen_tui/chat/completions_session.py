"""The text of the Completions room: what a person wrote, what the model went on with, and the task that streams it.

It belongs to the app, not to a screen: a continuation goes on streaming while another room is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from qwen_tui.chat.completions import Completion, CompletionDelta, stream_completion
from qwen_tui.chat.conversation import ReplyState
from qwen_tui.chat.events import ReplyFigures, Sampling, Target
from qwen_tui.chat.harmless import harmless
from qwen_tui.chat.logprobs import TokenChance
from qwen_tui.chat.meter import ReplyMeter
from qwen_tui.errors import ChatError, UsageError
from qwen_tui.i18n import _
from qwen_tui.listened import Listened

#: How many states of the text can be gone back to.
_UNDO = 50


@dataclass
class Continuation:
    """One of the answers. chances: of each token, where logprobs were asked for; with echo, the prompt's come first."""

    text: str = ""
    chances: list[TokenChance] = field(default_factory=list)


@dataclass
class Attempt:
    """One request: the text it went on from, and what came. shown: which answer stands in the text."""

    prompt: str
    model: str
    answers: list[Continuation] = field(default_factory=lambda: [Continuation()])
    shown: int = 0
    state: ReplyState = ReplyState.WAITING
    figures: ReplyFigures | None = None
    error: ChatError | None = None

    @property
    def answer(self) -> Continuation:
        return self.answers[self.shown]


@dataclass(frozen=True)
class Draft:
    """A text, and which parts of it the model wrote: (start, end) in characters, in order, without overlap."""

    text: str = ""
    written: tuple[tuple[int, int], ...] = ()


class CompletionsSession(Listened):
    """Continue, stop, retry, undo; listeners are told that something changed, for every piece that arrives.

    suffix, echo, special, sampling: what goes with the next request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.suffix = ""
        self.echo = False
        self.special = True
        # OpenAI's API, and vLLM with it, ends a completion after 16 tokens unless told otherwise.
        self.sampling = Sampling(max_tokens=200)
        self.attempt: Attempt | None = None
        self.meter: ReplyMeter | None = None
        self._draft = Draft()
        self._before: list[Draft] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def is_streaming(self) -> bool:
        return self.attempt is not None and self.attempt.state.is_open

    @property
    def draft(self) -> Draft:
        """The text as it stands, with what has come of a continuation."""
        attempt = self.attempt
        if attempt is None or not attempt.state.is_open:
            return self._draft
        return _continued(self._draft, attempt)

    @property
    def continued(self) -> Continuation | None:
        """The answer that the text ends with; None once the text was changed."""
        attempt = self.attempt
        if attempt is None or (not attempt.state.is_open and self._draft.text != attempt.prompt + attempt.answer.text):
            return None
        return attempt.answer

    def edit(self, draft: Draft) -> None:
        """A person changed the text. Raises UsageError while a continuation streams."""
        self._check_idle()
        if draft != self._draft:
            self._draft = draft
            self._changed()

    def replace(self, draft: Draft) -> None:
        """Another text comes in; `undo` brings the one before back. Raises UsageError while one streams."""
        self._check_idle()
        self._remember()
        self._draft = draft
        self.attempt = None
        self._changed()

    def proceed(self, target: Target) -> None:
        """Continue the text. Raises UsageError if there is none, or while a continuation streams."""
        self._check_idle()
        if not self._draft.text:
            raise UsageError(_("There is nothing to continue"), "", _("Write the beginning of a text"))
        self._remember()
        self._ask(target)

    def retry(self, target: Target) -> None:
        """Take the last continuation out, and ask for another. Raises UsageError if there is none."""
        self._check_idle()
        attempt = self.attempt
        if attempt is None or self.continued is None:
            raise UsageError(_("There is no continuation to ask for again"), "", _("Continue the text first"))
        self._remember()
        self._draft = _without(self._draft, attempt)
        self._ask(target)

    def undo(self) -> bool:
        """Back to the text before the last continuation, or before another came in; False if there is none."""
        self._check_idle()
        while self._before:
            before = self._before.pop()
            if before != self._draft:
                self._draft = before
                self.attempt = None
                self._changed()
                return True
        return False

    def step(self, direction: int) -> bool:
        """Show the answer before (-1) or after (1), where several were asked for; False if there is none."""
        attempt = self.attempt
        if attempt is None or self.continued is None:
            return False
        place = attempt.shown + direction
        if not 0 <= place < len(attempt.answers):
            return False
        base = self._draft if attempt.state.is_open else _without(self._draft, attempt)
        attempt.shown = place
        self._draft = base if attempt.state.is_open else _continued(base, attempt)
        self._changed()
        return True

    def stop(self) -> None:
        """Stop what streams; what came stays, and its connection is closed at once."""
        if self.attempt is not None and self.attempt.state.is_open and self._task is not None:
            self._end(self.attempt, ReplyState.STOPPED)
            self._task.cancel()
            self._changed()

    async def close(self) -> None:
        """Stop what streams and wait until its connection is closed."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def completion(self) -> Completion:
        """The request that continuing would send."""
        return Completion(self._draft.text, self.sampling, self.echo, self.suffix, self.special)

    # Asking

    def _check_idle(self) -> None:
        if self.is_streaming:
            raise UsageError(_("A continuation is still streaming"), "", _("Press esc to stop it, or wait"))

    def _remember(self) -> None:
        if self._before[-1:] != [self._draft]:
            self._before.append(self._draft)
            del self._before[:-_UNDO]

    def _ask(self, target: Target) -> None:
        self.meter = ReplyMeter()
        attempt = self.attempt = Attempt(self._draft.text, target.model)
        self._task = asyncio.get_running_loop().create_task(
            self._run(target, self.completion(), attempt, self.meter), name="completion"
        )
        self._changed()

    async def _run(self, target: Target, completion: Completion, attempt: Attempt, meter: ReplyMeter) -> None:
        try:
            async with contextlib.aclosing(stream_completion(target, completion, meter=meter)) as events:
                async for event in events:
                    if not attempt.state.is_open:
                        return
                    if isinstance(event, CompletionDelta):
                        _take(attempt, event, completion.echo)
                    else:
                        self._end(attempt, ReplyState.DONE)
                    self._changed()
        except ChatError as error:
            self._end(attempt, ReplyState.FAILED, error)
        except Exception as error:  # noqa: BLE001 - a fault of this program must be seen, not look like a stop
            title = _("Something went wrong in qwen-tui")
            self._end(attempt, ReplyState.FAILED, ChatError(title, f"{type(error).__name__}: {error}"))
        finally:
            self._end(attempt, ReplyState.STOPPED)  # cancelled from outside: the program ends
            self._changed()

    def _end(self, attempt: Attempt, state: ReplyState, error: ChatError | None = None) -> None:
        """The attempt is over, if it was not: what came becomes a part of the text."""
        if not attempt.state.is_open:
            return
        attempt.state, attempt.error = state, error
        if self.meter is not None and (state is ReplyState.DONE or self.meter.answered):
            attempt.figures = self.meter.figures()
        self._draft = _continued(self._draft, attempt)


def _take(attempt: Attempt, piece: CompletionDelta, echo: bool) -> None:
    """Add a piece to the answer it belongs to. What is echoed stands in the text already."""
    while len(attempt.answers) <= min(piece.index, 127):
        attempt.answers.append(Continuation())
    answer = attempt.answers[min(piece.index, 127)]
    text = harmless(piece.text)
    if echo and not answer.text and not answer.chances:
        text = text.removeprefix(attempt.prompt)
    answer.text += text
    answer.chances.extend(piece.chances)
    attempt.state = ReplyState.STREAMING


def _continued(draft: Draft, attempt: Attempt) -> Draft:
    start, text = len(draft.text), attempt.answer.text
    if not text:
        return draft
    return Draft(draft.text + text, joined((*draft.written, (start, start + len(text)))))


def _without(draft: Draft, attempt: Attempt) -> Draft:
    """The text before the answer that it ends with."""
    length = len(attempt.prompt)
    kept = [(start, min(end, length)) for start, end in draft.written if start < length]
    return Draft(attempt.prompt, tuple(kept))


def shifted(spans: Sequence[tuple[int, int]], old: str, new: str) -> tuple[tuple[int, int], ...]:
    """Where the spans of `old` are in `new`, after one change somewhere; what came in belongs to none of them."""
    start = _common(old, new, min(len(old), len(new)))
    most = min(len(old), len(new)) - start
    tail = _common_end(old, new, most)
    end, growth = len(old) - tail, len(new) - len(old)
    found: list[tuple[int, int]] = []
    for first, last in spans:
        found.append((first, min(last, start)))
        found.append((max(first, end) + growth, last + growth))
    return joined([(first, last) for first, last in found if first < last])


def _common(old: str, new: str, most: int) -> int:
    """How many characters at the beginning are the same, by halving: comparing slices is quick."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_end(old: str, new: str, most: int) -> int:
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if old[len(old) - middle : len(old) - low] == new[len(new) - middle : len(new) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The spans in order; those that touch or overlap made one, empty ones left out."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)
