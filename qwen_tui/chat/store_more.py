"""What a conversation and a turn have beside their text, as one JSON column each; empty is NULL."""

from __future__ import annotations

import json
from typing import Any

from qwen_tui.chat.attachments import attachment_from
from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.chat.events import ToolCall
from qwen_tui.chat.logprobs import from_compact, to_compact


def turn_more(turn: Turn) -> dict[str, Any]:
    """The column of a turn, for `dumped`. Quick: what is long is not looked at."""
    return {
        "tool_calls": [[call.id, call.name, call.arguments] for call in turn.tool_calls],
        "tool_call_id": turn.tool_call_id,
        "attachments": turn.attachments,
        "logprobs": tuple(turn.logprobs),  # for `dumped`: written in another thread
        "reasoning_tokens": turn.reasoning_tokens,
        "reasoning_s": turn.reasoning_s,
        "left_out": turn.left_out,
    }


def set_turn_more(turn: Turn, column: str | None) -> None:
    """Give a turn back what `turn_more` wrote."""
    if not column:
        return
    more = json.loads(column)
    turn.tool_calls = tuple(ToolCall(*call) for call in more.get("tool_calls", ()))
    turn.tool_call_id = more.get("tool_call_id", "")
    turn.attachments = tuple(attachment_from(item) for item in more.get("attachments", ()))
    turn.reasoning_tokens = more.get("reasoning_tokens")
    turn.reasoning_s = more.get("reasoning_s")
    turn.left_out = more.get("left_out", False)
    turn.logprobs = from_compact(more.get("logprobs"))


def conversation_more(conversation: Conversation) -> dict[str, Any]:
    """The column of a conversation, for `dumped`."""
    return {"tools": list(conversation.tools), "tool_choice": conversation.tool_choice}


def set_conversation_more(conversation: Conversation, column: str | None) -> None:
    """Give a conversation back what `conversation_more` wrote."""
    more = json.loads(column) if column else {}
    conversation.tools = tuple(more.get("tools", ()))
    conversation.tool_choice = more.get("tool_choice", "")


def dumped(more: dict[str, Any]) -> str | None:
    """The column as it is written. Escaped to ASCII: a half character in it does no harm."""
    chosen = {name: value for name, value in more.items() if value not in (None, "", [], (), False)}
    if "logprobs" in chosen:
        chosen["logprobs"] = to_compact(chosen["logprobs"])
    return json.dumps(chosen, default=lambda value: value.to_json()) if chosen else None
