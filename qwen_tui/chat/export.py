"""Conversations as files: Markdown to read, OpenAI's JSON to send; and both back again, as they were."""

from __future__ import annotations

import json
import re
from typing import Any

from qwen_tui.chat.conversation import Conversation, ReplyState, Turn
from qwen_tui.chat.harmless import encodable, harmless_json
from qwen_tui.errors import UsageError
from qwen_tui.i18n import _

_MARK = re.compile(r"<!-- qwen-tui: (system|user|assistant|reasoning) ?(.*?) -->")
_ESCAPED = re.compile(r"^(\\*<!-- qwen-tui:)", re.MULTILINE)
_UNESCAPED = re.compile(r"^\\(\\*<!-- qwen-tui:)", re.MULTILINE)
_HEADINGS = {"system": "System", "user": "User", "assistant": "Assistant", "reasoning": "Reasoning"}


def to_markdown(conversation: Conversation) -> str:
    """The branch that is shown, with a heading per turn; comments that no reader sees mark where each begins."""
    parts = [f"# {' '.join(conversation.name.split())}"]
    if conversation.system:
        parts.append(_part("system", conversation.system))
    for turn in conversation.turns:
        model = " ".join(turn.model.split()).replace("--", "- -")
        if turn.reasoning:
            parts.append(_part("reasoning", turn.reasoning, model))
        if turn.text or not turn.reasoning:
            parts.append(_part(turn.role, turn.text, model))
    return encodable("\n\n".join(parts) + "\n")


def _part(role: str, text: str, model: str = "") -> str:
    heading = f"## {_HEADINGS.get(role, role)}" + (f" ({model})" if model else "")
    mark = f"<!-- qwen-tui: {role}{' ' + model if model else ''} -->"
    return f"{mark}\n{heading}\n\n{_ESCAPED.sub(lambda found: chr(92) + found.group(1), text)}"


def from_markdown(text: str) -> Conversation:
    """What `to_markdown` wrote, as it was. Raises UsageError if it is nothing of the kind."""
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if _MARK.fullmatch(line)]
    if not starts:
        raise UsageError(
            _("This Markdown is no conversation"),
            _("None of its lines marks who speaks"),
            _("Import what was exported"),
        )
    conversation = Conversation()
    if lines[0].startswith("# "):
        conversation.title = lines[0][2:].strip()
    pending = ""
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        mark = _MARK.fullmatch(lines[start])
        assert mark is not None
        said = "\n".join(lines[start + 3 : end])
        said = _UNESCAPED.sub(lambda found: found.group(1), said.removesuffix("\n"))
        role, model = mark.groups()
        if role == "reasoning":
            pending = said
        else:
            _say(conversation, role, said, pending, model)
            pending = ""
    if pending:
        _say(conversation, "assistant", "", pending, "")
    return conversation


def to_openai(conversation: Conversation) -> dict[str, Any]:
    """The branch that is shown as a body for /v1/chat/completions, each turn a message of its own."""
    model = next((turn.model for turn in reversed(conversation.turns) if turn.model), "")
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": encodable(conversation.system)})
    for turn in conversation.turns:
        message = {"role": turn.role, "content": encodable(turn.text)}
        if turn.reasoning:
            message["reasoning_content"] = encodable(turn.reasoning)
        messages.append(message)
    return {**({"model": model} if model else {}), "messages": messages}


def from_openai(data: Any) -> Conversation:
    """A conversation from OpenAI's messages: the list itself, or an object (a request, one line of training data).

    Raises UsageError naming the message that is wrong.
    """
    model = data.get("model") if isinstance(data, dict) else None
    messages = data.get("messages") if isinstance(data, dict) else data
    if not isinstance(messages, list) or not messages:
        raise UsageError(_("This JSON is no conversation"), _("“messages” must be a list with something in it"))
    conversation = Conversation(title=data.get("title", "") if isinstance(data, dict) else "")
    for number, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, dict) else None
        if role == "developer":
            role = "system"
        if role not in ("system", "user", "assistant"):
            raise UsageError(
                _("Message {number} can't be taken over").format(number=number),
                _("Its role is {role}; system, user and assistant are known").format(role=harmless_json(role)[:40]),
            )
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        text = _text_of(message.get("content"), number)
        _say(
            conversation,
            role,
            text,
            reasoning if isinstance(reasoning, str) else "",
            model if isinstance(model, str) else "",
        )
    return conversation


def _text_of(content: Any, number: int) -> str:
    """A message's text; of a list of parts, the texts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return encodable(content)
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return encodable("\n\n".join(text for text in texts if isinstance(text, str)))
    raise UsageError(
        _("Message {number} can't be taken over").format(number=number), _("Its content is neither text nor a list")
    )


def _say(conversation: Conversation, role: str, text: str, reasoning: str, model: str) -> None:
    """Add one message as it is."""
    if role == "system":
        conversation.system = "\n\n".join(filter(None, (conversation.system, text)))
    else:
        parent = conversation.turns[-1].id if conversation.turns else ""
        is_reply = role == "assistant"
        conversation.turns.append(
            Turn(
                "assistant" if is_reply else "user",
                text,
                reasoning,
                model if is_reply else "",
                ReplyState.DONE,
                parent=parent,
            )
        )


def read_conversation(content: bytes) -> Conversation:
    """A file's conversation, JSON or Markdown, whichever it is. Raises UsageError."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(_("The file is not UTF-8 text"), str(error)) from None
    if text.lstrip()[:1] in ("{", "["):
        try:
            return from_openai(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UsageError(_("The file is no JSON"), str(error)) from None
    return from_markdown(text)
