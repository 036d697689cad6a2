"""The functions that a model may call: read from JSON and checked, and what of them goes into a request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _

if TYPE_CHECKING:
    from qwen_tui.chat.conversation import Conversation

#: What tool_choice may be beside a function's name.
CHOICES = ("auto", "none", "required")
#: Bytes. A file of tools that is larger is none.
_FILE_LIMIT = 4 * 1024 * 1024


def read_tools(text: str) -> Sequence[dict[str, Any]]:
    """Tools as the API has them, out of JSON: a list of tools, of bare functions, one of either, or {"tools": […]}.

    Nothing but spaces is none. Raises UsageError naming what is wrong, and where.
    """
    if not text.strip():
        return ()
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            _("The tools are no JSON"),
            _("Line {line}, column {column}: {problem}").format(
                line=error.lineno, column=error.colno, problem=error.msg
            ),
        ) from None
    except RecursionError:
        raise UsageError(_("The tools are no JSON")) from None
    if isinstance(found, dict):
        found = found["tools"] if isinstance(found.get("tools"), list) else [found]
    if not isinstance(found, list):
        raise UsageError(_("The tools must be a JSON list"))
    tools = [_tool(entry, number) for number, entry in enumerate(found, 1)]
    names = tool_names(tools)
    if len(set(names)) < len(names):
        raise UsageError(_("Two tools have the same name"))
    return tools


def read_tools_file(file: Path) -> Sequence[dict[str, Any]]:
    """The tools in a JSON file. Blocks. Raises UsageError."""
    try:
        file = file.expanduser()
        if file.stat().st_size > _FILE_LIMIT:
            raise UsageError(_("{file} is too large").format(file=file))
        return read_tools(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(_("Can't read {file}").format(file=file), str(error)) from None


def _tool(entry: Any, number: int) -> dict[str, Any]:
    function = entry.get("function", entry) if isinstance(entry, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
        raise UsageError(_("Tool {number} has no function with a name").format(number=number), "", _EXAMPLE)
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise UsageError(_("The parameters of “{name}” must be a JSON schema, an object").format(name=name))
    return entry if "function" in entry else {"type": "function", "function": function}


_EXAMPLE = '{"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}'


def tool_names(tools: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """The names of the functions."""
    return [str(tool.get("function", {}).get("name", "")) for tool in tools]


def read_choice(text: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """tool_choice as a person writes it. Raises UsageError if it is none of the words and no tool's name."""
    text = text.strip()
    if text and text not in (*CHOICES, *tool_names(tools)):
        raise UsageError(
            _("tool_choice can't be “{choice}”").format(choice=text),
            _("It is one of: {choices}").format(choices=", ".join((*CHOICES, *tool_names(tools)))),
        )
    return text


def choice_field(choice: str) -> Any:
    """tool_choice as the API has it."""
    return choice if choice in CHOICES else {"type": "function", "function": {"name": choice}}


def request_fields(conversation: Conversation, *, going_on: bool = False) -> dict[str, Any]:
    """What a request has beside messages and sampling. going_on: for more of the last message, as vLLM has it."""
    fields: dict[str, Any] = {}
    if conversation.tools:
        fields["tools"] = list(conversation.tools)
        if conversation.tool_choice:
            fields["tool_choice"] = choice_field(conversation.tool_choice)
    if going_on:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
        fields.pop("tool_choice", None)  # a call begins a message; nothing to be forced in the middle of one
    return fields


def pretty_arguments(arguments: str) -> str | None:
    """A call's arguments with their indentation; None if they are no JSON."""
    try:
        return json.dumps(json.loads(arguments or "{}"), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return None


def arguments_problem(arguments: str) -> str:
    """What is wrong with a call's arguments, in words; empty if nothing is."""
    try:
        return "" if isinstance(json.loads(arguments or "{}"), dict) else _("The arguments are no JSON object")
    except (ValueError, RecursionError):
        return _("The arguments are no valid JSON")
