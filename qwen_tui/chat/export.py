"""Conversations as files: Markdown to read, OpenAI's JSON to send; and both back again, as they were."""

from __future__ import annotations

import json
import re
from typing import Any

from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.chat.events import ToolCall
from qwen_tui.chat.harmless import encodable, harmless_json
from qwen_tui.errors import UsageError
from qwen_tui.i18n import _

_MARK = re.compile(r"<!-- qwen-tui: (system|user|assistant|reasoning|tool_calls|tool|attachments) ?(.*?) -->")
_ESCAPED = re.compile(r"^(\\*<!-- qwen-tui:)", re.MULTILINE)
_UNESCAPED = re.compile(r"^\\(\\*<!-- qwen-tui:)", re.MULTILINE)
_HEADINGS = {
    "system": "System", "user": "User", "assistant": "Assistant", "reasoning": "Reasoning",
    "tool_calls": "Tool calls", "tool": "Tool", "attachments": "Attachments",
}  # fmt: skip


def to_markdown(conversation: Conversation) -> str:
    """The branch that is shown, with a heading per turn; comments that no reader sees mark where each begins."""
    parts = [f"# {' '.join(conversation.name.split())}"]
    if conversation.system:
        parts.append(_part("system", conversation.system))
    for turn in conversation.turns:
        model = " ".join(turn.model.split()).replace("--", "- -")
        if turn.reasoning:
            parts.append(_part("reasoning", turn.reasoning, model))
        if turn.attachments:
            parts.append(_part("attachments", "\n".join(f"- {item.path}" for item in turn.attachments)))
        if turn.tool_calls:
            calls = harmless_json([call.to_json() for call in turn.tool_calls], indent=2)
            parts.append(_part("tool_calls", f"```json\n{calls}\n```", model))
        if turn.role == "tool":
            parts.append(_part("tool", turn.text, " ".join(turn.tool_call_id.split()).replace("--", "- -")))
        elif turn.text or not (turn.reasoning or turn.tool_calls):
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
    calls: tuple[ToolCall, ...] = ()
    reasoning = model = ""
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        mark = _MARK.fullmatch(lines[start])
        assert mark is not None
        said = "\n".join(lines[start + 3 : end])
        said = _UNESCAPED.sub(lambda found: found.group(1), said.removesuffix("\n"))
        role, name = mark.groups()
        if (reasoning or calls) and (role not in ("assistant", "tool_calls") or (calls and role == "tool_calls")):
            _say(conversation, Turn("assistant", "", reasoning, model, tool_calls=calls))
            reasoning, calls = "", ()
        if role == "reasoning":
            reasoning, model = said, name
        elif role == "tool_calls":
            calls, model = _calls_in(_json_of(said)), name
        elif role == "assistant":
            _say(conversation, Turn("assistant", said, reasoning, name, tool_calls=calls))
            reasoning, calls = "", ()
        elif role == "tool":
            _say(conversation, Turn("tool", said, tool_call_id=name))
        elif role == "system":
            conversation.system = "\n\n".join(filter(None, (conversation.system, said)))
        elif role == "user":
            _say(conversation, Turn("user", said))
    if reasoning or calls:
        _say(conversation, Turn("assistant", "", reasoning, model, tool_calls=calls))
    return conversation


def _json_of(fenced: str) -> Any:
    """The JSON in a fence of three backticks; None if it is none."""
    try:
        return json.loads(fenced.strip().removeprefix("```json").removesuffix("```"))
    except (ValueError, RecursionError):
        return None


def _calls_in(found: Any) -> tuple[ToolCall, ...]:
    """The tool calls of a message; what is none of them is left out."""
    calls = []
    for entry in found if isinstance(found, list) else ():
        function = entry.get("function") if isinstance(entry, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            given = function.get("arguments")
            arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False) if given else ""
            calls.append(ToolCall(encodable(str(entry.get("id", ""))), encodable(function["name"]), arguments))
    return tuple(calls)


def to_openai(conversation: Conversation) -> dict[str, Any]:
    """The branch that is shown as a body for /v1/chat/completions, each turn a message of its own."""
    model = next((turn.model for turn in reversed(conversation.turns) if turn.model), "")
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": encodable(conversation.system)})
    for turn in conversation.turns:
        message: dict[str, Any] = {"role": turn.role, "content": _content(turn)}
        if turn.reasoning:
            message["reasoning_content"] = encodable(turn.reasoning)
        if turn.tool_calls:
            message["tool_calls"] = [call.to_json() for call in turn.tool_calls]
        if turn.role == "tool":
            message["tool_call_id"] = turn.tool_call_id
        messages.append(message)
    tools = {"tools": list(conversation.tools)} if conversation.tools else {}
    return {**({"model": model} if model else {}), "messages": messages, **tools}


def _content(turn: Turn) -> str | list[dict[str, Any]]:
    """What is sent of a turn: its files before its text, its images after; a file that is gone by its name."""
    texts, images = [], []
    for item in turn.attachments:
        try:
            if item.kind == "image":
                images.append(item.as_part())
            else:
                texts.append(item.as_text())
        except UsageError:
            texts.append(f"[{item.name}]")
    text = encodable("\n\n".join(filter(None, (*texts, turn.text))))
    return [*([{"type": "text", "text": text}] if text else []), *images] if images else text


def from_openai(data: Any) -> Conversation:
    """A conversation from OpenAI's messages: the list itself, or an object (a request, one line of training data).

    Raises UsageError naming the message that is wrong.
    """
    model = data.get("model") if isinstance(data, dict) else None
    messages = data.get("messages") if isinstance(data, dict) else data
    if not isinstance(messages, list) or not messages:
        raise UsageError(_("This JSON is no conversation"), _("“messages” must be a list with something in it"))
    title = data.get("title") if isinstance(data, dict) else None
    conversation = Conversation(title=encodable(title) if isinstance(title, str) else "")
    tools = data.get("tools") if isinstance(data, dict) else None
    conversation.tools = tuple(tool for tool in tools if isinstance(tool, dict)) if isinstance(tools, list) else ()
    for number, message in enumerate(messages, 1):
        _take_over(conversation, message, number, model if isinstance(model, str) else "")
    return conversation


def _take_over(conversation: Conversation, message: Any, number: int, model: str) -> None:
    """Add one of OpenAI's messages. Raises UsageError naming it by its number."""
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise UsageError(
            _("Message {number} can't be taken over").format(number=number),
            _("Its role is {role}; system, user, assistant and tool are known").format(role=harmless_json(role)[:40]),
        )
    text = _text_of(message.get("content"), number)
    if role in ("system", "developer"):
        conversation.system = "\n\n".join(filter(None, (conversation.system, text)))
    elif role == "tool":
        _say(conversation, Turn("tool", text, tool_call_id=encodable(str(message.get("tool_call_id") or ""))))
    elif role == "user":
        _say(conversation, Turn("user", text))
    else:
        thought = message.get("reasoning_content") or message.get("reasoning")
        reasoning = encodable(thought) if isinstance(thought, str) else ""
        calls = _calls_in(message.get("tool_calls"))
        _say(conversation, Turn("assistant", text, reasoning, encodable(model), tool_calls=calls))


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


def _say(conversation: Conversation, turn: Turn) -> None:
    """Add one turn after the last."""
    turn.parent = conversation.turns[-1].id if conversation.turns else ""
    conversation.turns.append(turn)


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
