"""What one choice of a chat's chunk carries, in any of the shapes that servers send."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qwen_tui.chat.events import Event, ReasoningDelta, TextDelta, ThinkingEnded, TokensDelta, ToolCallDelta
from qwen_tui.chat.harmless import encodable
from qwen_tui.chat.logprobs import read_chat_chances
from qwen_tui.chat.thinking import Part, ThinkingSplitter


def choice_index(choice: dict[str, Any]) -> int:
    """Of which answer a choice is; 0 where the server does not say."""
    return _whole(choice.get("index"), 0)


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def _text(value: Any) -> str:
    return encodable(value) if isinstance(value, str) else ""


def read_delta(choice: dict[str, Any], at: float) -> list[Event]:
    """The events in one choice that came `at` seconds after the request."""
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    index = choice_index(choice)
    found: list[Event] = []
    # vLLM's name was `reasoning_content`, newer ones say `reasoning`; some servers send both.
    if thought := _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")):
        found.append(ReasoningDelta(thought, at, index))
    if text := _text(delta.get("content")):
        found.append(TextDelta(text, at, index))
    calls = delta.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            found.append(_call(call, place, at, index))
    if chances := read_chat_chances(choice.get("logprobs")):
        found.append(TokensDelta(chances, at, index))
    return found


def _call(call: dict[str, Any], place: int, at: float, index: int) -> ToolCallDelta:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments")
    if isinstance(arguments, dict | list):  # whole, and not as text: some servers do so
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCallDelta(
        _whole(call.get("index"), place),
        _text(call.get("id")),
        _text(function.get("name")),
        _text(arguments),
        at,
        index,
    )


class Thinking:
    """Tells thinking apart that stands in the text; where a server sends it by itself, nothing is looked for."""

    def __init__(self) -> None:
        self._splitters: dict[int, ThinkingSplitter | None] = {}
        self._last: dict[int, TextDelta] = {}

    def told_apart(self, event: Event) -> Sequence[Event]:
        """The events to hand on for this one."""
        if isinstance(event, ReasoningDelta):
            self._splitters[event.index] = None
        elif isinstance(event, TextDelta):
            splitter = self._splitters.setdefault(event.index, ThinkingSplitter())
            if splitter is not None:
                self._last[event.index] = event
                return [_event(part, event) for part in splitter.feed(event.text)]
        return (event,)

    def rest(self) -> Sequence[Event]:
        """What was held back, now that nothing more comes."""
        return [
            _event(part, self._last[index])
            for index, splitter in self._splitters.items()
            if splitter is not None
            for part in splitter.finish()
        ]


def _event(part: Part, event: TextDelta) -> Event:
    if part.kind == "text":
        return replace(event, text=part.text)
    if part.kind == "thinking":
        return ReasoningDelta(part.text, event.at, event.index)
    return ThinkingEnded(event.at, event.index)
