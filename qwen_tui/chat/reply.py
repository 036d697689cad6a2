"""Puts a reply together out of what streams in: text, thinking, tool calls, and several answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qwen_tui.chat.conversation import Conversation, ReplyState, Turn
from qwen_tui.chat.events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ThinkingEnded,
    TokensDelta,
    ToolCall,
    ToolCallDelta,
)
from qwen_tui.chat.meter import ReplyMeter

#: Calls in one reply; what comes beyond is no model's doing.
_MOST_CALLS = 200


class ReplyBuilder:
    """Feed it the events of one request. Of several answers, the first is `reply`; the others are versions of it."""

    def __init__(self, conversation: Conversation, reply: Turn, meter: ReplyMeter) -> None:
        self._conversation = conversation
        self._reply = reply
        self._meter = meter
        self._turns: dict[int, Turn] = {0: reply}
        self._began: dict[int, float] = {}  # when an answer's thinking began
        self._calls: dict[int, list[tuple[int, str]]] = {}  # per answer: each call's number and id, as they came

    @property
    def turns(self) -> Sequence[Turn]:
        """The answers, `reply` first."""
        return list(self._turns.values())

    def take(self, event: Event) -> None:
        """Add what came."""
        if isinstance(event, Finished):
            self._finish(event)
            return
        turn = self._turns.get(event.index) or self._another(event.index)
        turn.state = ReplyState.STREAMING
        if isinstance(event, TextDelta):
            turn.text += event.text
        elif isinstance(event, ReasoningDelta):
            began = self._began.setdefault(event.index, event.at)
            turn.reasoning += event.text
            turn.reasoning_tokens = (turn.reasoning_tokens or 0) + 1
            turn.reasoning_s = event.at - began
        elif isinstance(event, ThinkingEnded):
            self._was_thinking(turn, event)
        elif isinstance(event, ToolCallDelta):
            self._take_call(turn, event)
        elif isinstance(event, TokensDelta):
            turn.logprobs.extend(event.chances)

    def _another(self, index: int) -> Turn:
        reply = self._reply
        turn = Turn("assistant", model=reply.model, state=ReplyState.WAITING, parent=reply.parent)
        self._turns[index] = turn
        self._conversation.others.append(turn)
        return turn

    def _was_thinking(self, turn: Turn, event: ThinkingEnded) -> None:
        turn.reasoning, turn.text = turn.reasoning + turn.text, ""
        turn.revision += 1
        turn.reasoning = turn.reasoning.strip("\n")
        turn.reasoning_tokens = self._meter.chunks_of(event.index)
        turn.reasoning_s = event.at - (self._meter.first_at or 0.0)
        self._began[event.index] = self._meter.first_at or 0.0

    def _take_call(self, turn: Turn, event: ToolCallDelta) -> None:
        known = self._calls.setdefault(event.index, [])
        place = next((place for place, (number, _id) in enumerate(known) if number == event.call), None)
        if place is not None and event.id and known[place][1] and event.id != known[place][1]:
            # Some servers give every call the same number, and each an id of its own.
            place = next((place for place, (_number, id) in enumerate(known) if id == event.id), None)
        calls = list(turn.tool_calls)
        if place is None and len(known) >= _MOST_CALLS:
            return
        if place is None:
            known.append((event.call, event.id))
            calls.append(ToolCall(event.id or f"call_{turn.id[:8]}_{len(calls)}", event.name, event.arguments))
        else:
            call = calls[place]
            calls[place] = replace(call, name=call.name or event.name, arguments=call.arguments + event.arguments)
        turn.tool_calls = tuple(calls)

    def _finish(self, event: Finished) -> None:
        figures, several = event.figures, len(self._turns) > 1
        for index, turn in self._turns.items():
            self._conversation.finish(turn, self._meter.figures_of(index) if several else figures)
            if several or not turn.reasoning_tokens or index not in self._began:
                continue
            if figures.reasoning_tokens:
                turn.reasoning_tokens = figures.reasoning_tokens
            elif not figures.estimated and figures.chunks:
                # A chunk may hold several tokens.
                turn.reasoning_tokens = round(turn.reasoning_tokens * figures.completion_tokens / figures.chunks)
