"""A request as code that runs as it is printed: curl, Python with the openai package, Python with httpx.

A key is never in the text: the code reads it from an environment variable.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from qwen_tui.chat.client import chat_body
from qwen_tui.chat.completions import Completion, completion_body
from qwen_tui.chat.events import Message, Sampling, Target
from qwen_tui.chat.harmless import harmless_json

Kind = Literal["chat", "completion", "models"]
#: What the code reads the key from unless told otherwise: the variable that vLLM itself reads it from.
KEY_VARIABLE = "VLLM_API_KEY"
_PATHS: Mapping[Kind, str] = {"chat": "chat/completions", "completion": "completions", "models": "models"}
#: What openai's create() takes by name; anything else has to go through its extra_body.
_COMMON = frozenset(
    ("model", "temperature", "top_p", "max_tokens", "stop", "presence_penalty", "frequency_penalty", "seed", "n",
     "logprobs", "stream", "stream_options")
)  # fmt: skip
_OPENAI_NAMES: Mapping[Kind, frozenset[str]] = {
    "chat": _COMMON | {"messages", "top_logprobs", "response_format", "tools", "tool_choice"},
    "completion": _COMMON | {"prompt", "echo", "suffix"},
}
_SECONDS = 600


@dataclass(frozen=True)
class Request:
    """One request to an OpenAI-compatible server.

    base_url: without a trailing slash. body: None for a GET. key_variable: the environment variable that holds the
    key; empty where none is needed. bypass_proxy: whether a proxy of the environment would stand in the way.
    """

    kind: Kind
    base_url: str
    body: Mapping[str, Any] | None = None
    key_variable: str = ""
    bypass_proxy: bool = False

    @property
    def url(self) -> str:
        return f"{self.base_url}/{_PATHS[self.kind]}"

    @property
    def streams(self) -> bool:
        return bool(self.body and self.body.get("stream"))


def chat_request(
    target: Target,
    messages: Sequence[Message],
    sampling: Sampling | None = None,
    *,
    stream: bool = False,
    more: Mapping[str, Any] | None = None,
) -> Request:
    """The request that a chat sends. stream: answered piece by piece. more: other fields, such as `tools`."""
    return _request("chat", target, chat_body(target, messages, sampling or Sampling(), stream=stream, more=more))


def completion_request(target: Target, completion: Completion, *, stream: bool = False) -> Request:
    """The request that a completion sends."""
    return _request("completion", target, completion_body(target, completion, stream=stream))


def models_request(target: Target) -> Request:
    """The request for the models that a server serves."""
    return _request("models", target, None)


def _request(kind: Kind, target: Target, body: Mapping[str, Any] | None) -> Request:
    key = KEY_VARIABLE if target.api_key else ""
    return Request(kind, target.base_url.rstrip("/"), body, key, _proxy_in_the_way(target.base_url))


def _proxy_in_the_way(url: str) -> bool:
    """Whether curl and Python would ask a proxy for an address of this machine, which it can't reach."""
    from urllib.request import getproxies, proxy_bypass

    try:
        address = urlsplit(url)
        host = address.hostname or ""
    except ValueError:
        return False
    if host not in ("127.0.0.1", "localhost", "::1"):
        return False
    proxies = getproxies()
    return bool(proxies.get(address.scheme) or proxies.get("all")) and not proxy_bypass(host)


# curl


def as_curl(request: Request) -> str:
    """A command for sh, bash and zsh; it prints the server's JSON."""
    options = ["curl", "-sS"]
    if request.streams:
        options.append("-N")
    if request.bypass_proxy:
        options.append("--noproxy '*'")
    lines = [" ".join([*options, shlex.quote(request.url)])]
    if request.key_variable:
        lines.append(f'-H "Authorization: Bearer ${request.key_variable}"')
    if request.body is None:
        return " \\\n  ".join(lines) + "\n"
    lines += ["-H 'Content-Type: application/json'", "--data-binary @- <<'JSON'"]
    # From standard input: an argument of more than 128 kB can't be given.
    return " \\\n  ".join(lines) + f"\n{harmless_json(request.body, indent=2)}\nJSON\n"


# Python


def as_openai(request: Request) -> str:
    """A script that needs the openai package; it prints the answer's text."""
    imports = ["import os", ""] if request.key_variable else []
    imports += ["import httpx"] if request.bypass_proxy else []
    key = f'os.environ["{request.key_variable}"]' if request.key_variable else '"none"'
    client = f"base_url={request.base_url!r}, api_key={key}"
    if request.bypass_proxy:
        client += f", http_client=httpx.Client(trust_env=False, timeout={_SECONDS})"
    head = [*imports, "from openai import OpenAI", "", f"client = OpenAI({client})"]
    if request.body is None:
        return "\n".join([*head, "for model in client.models.list():", "    print(model.id)"]) + "\n"
    call = "client.chat.completions.create" if request.kind == "chat" else "client.completions.create"
    lines = [*head, f"answer = {call}("]
    names = _OPENAI_NAMES[request.kind]
    lines += [f"    {name}={_literal(value, 4)}," for name, value in request.body.items() if name in names]
    extra = {name: value for name, value in request.body.items() if name not in names}
    if extra:
        lines.append(f"    extra_body={_literal(extra, 4)},")
    lines.append(")")
    if request.streams:
        text = "choice.delta.content" if request.kind == "chat" else "choice.text"
        lines += ["for chunk in answer:", "    for choice in chunk.choices:"]
        lines += [f'        print({text} or "", end="", flush=True)', "print()"]
    else:
        text = "choice.message.content" if request.kind == "chat" else "choice.text"
        lines += ["for choice in answer.choices:", f"    print({text})"]
    return "\n".join(lines) + "\n"


def as_httpx(request: Request) -> str:
    """A script that needs httpx only; it prints the answer's text."""
    lines = ["import json"] if request.streams else []
    lines += ["import os"] if request.key_variable else []
    lines += [""] if lines else []
    lines += ["import httpx", ""]
    options = [repr(request.url)]
    if request.key_variable:
        lines.append(f'headers = {{"Authorization": f"Bearer {{os.environ[\'{request.key_variable}\']}}"}}')
        options.append("headers=headers")
    if request.body is not None:
        lines.append(f"body = {_literal(request.body, 0)}")
        options.append("json=body")
    options.append(f"timeout={_SECONDS}")
    if request.bypass_proxy:
        options.append("trust_env=False")
    if request.streams:
        return "\n".join([*lines, *_httpx_stream(request, ", ".join(options))]) + "\n"
    method = "get" if request.body is None else "post"
    lines += [f"answer = httpx.{method}({', '.join(options)})", "if answer.is_error:"]
    lines.append("    raise SystemExit(answer.text)")
    if request.body is None:
        return "\n".join([*lines, 'for model in answer.json()["data"]:', '    print(model["id"])']) + "\n"
    text = 'choice["message"]["content"]' if request.kind == "chat" else 'choice["text"]'
    return "\n".join([*lines, 'for choice in answer.json()["choices"]:', f"    print({text})"]) + "\n"


def _httpx_stream(request: Request, options: str) -> list[str]:
    text = 'choice["delta"].get("content")' if request.kind == "chat" else 'choice["text"]'
    return [
        f'with httpx.stream("POST", {options}) as answer:',
        "    if answer.is_error:",
        "        raise SystemExit(answer.read().decode())",
        '    rest = b""',
        "    for part in answer.iter_bytes():",
        # Not iter_lines(): it also breaks at characters that may stand inside of the JSON.
        '        *lines, rest = (rest + part).split(b"\\n")',
        "        for line in lines:",
        '            if line.startswith(b"data: {"):',
        '                for choice in json.loads(line[6:])["choices"]:',
        f'                    print({text} or "", end="", flush=True)',
        "print()",
    ]


def _literal(value: Any, indent: int) -> str:
    """A JSON value as Python, over several lines where it is nested."""
    inner, outer = " " * (indent + 4), " " * indent
    if isinstance(value, Mapping) and value:
        rows = [f"{inner}{key!r}: {_literal(part, indent + 4)}," for key, part in value.items()]
        return "\n".join(["{", *rows, outer + "}"])
    if isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        return "\n".join(["[", *(f"{inner}{_literal(part, indent + 4)}," for part in value), outer + "]"])
    return repr(value)
