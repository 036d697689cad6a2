"""Every way a chat request fails, as a ChatError that says what, why and what to do."""

from __future__ import annotations

import json
import math
import re
import time
from email.utils import parsedate_to_datetime
from html import unescape
from typing import Any

from qwen_tui.chat.events import Target
from qwen_tui.chat.harmless import harmless
from qwen_tui.errors import ChatError
from qwen_tui.i18n import _

#: The most characters of a server's own words that are shown.
_WHY_LIMIT = 600


class ReplyBroken(ChatError):
    """The reply began, or was about to begin, and did not come to its end."""


def message_in(body: Any) -> str:
    """The error text in a decoded JSON body: OpenAI's, older vLLM's, FastAPI's form; empty if it is none of them."""
    if not isinstance(body, dict):
        return ""
    inner = body.get("error")
    if isinstance(inner, dict):
        inner = inner.get("message") or inner.get("type") or json.dumps(inner)
    found = inner or (body.get("message") if body.get("object") == "error" else None) or body.get("detail")
    if isinstance(found, list):  # FastAPI's validation errors
        found = "; ".join(_validation_text(entry) for entry in found)
    if found is None and isinstance(body.get("message"), str):
        found = body["message"]
    return found if isinstance(found, str) else json.dumps(found) if found else ""


def _validation_text(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    place = ".".join(str(part) for part in entry.get("loc", ()) if part != "body")
    return f"{place}: {entry.get('msg', '')}" if place else str(entry.get("msg", entry))


def readable(body: bytes) -> str:
    """What a person can read of an error's body: its message, a web page's words, or its first characters."""
    text = body.decode("utf-8", "replace")
    try:
        found = message_in(json.loads(text))
    except (ValueError, RecursionError):
        found = ""
        if re.search(r"<html|<!doctype|<body|<h1", text[:2000], re.IGNORECASE):
            text = re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", text)
            text = unescape(re.sub(r"<[^>]*>", " ", text))
    return _shorten(found or text)


def _shorten(text: str) -> str:
    text = " ".join(harmless(text).split())
    return text if len(text) <= _WHY_LIMIT else text[: _WHY_LIMIT - 1] + "…"


def seconds_to_wait(header: str | None) -> int | None:
    """What a Retry-After header says, in whole seconds; None if it says nothing."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return int(header.strip()[:9])
    try:
        moment = parsedate_to_datetime(header)
        return max(0, math.ceil(moment.timestamp() - time.time()))
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def from_status(status: int, body: bytes, target: Target, retry_after: str | None = None) -> ChatError:
    """The error for an HTTP answer that is not 200. retry_after: the header of that name."""
    why = readable(body)
    if target.api_key and len(target.api_key) > 7:
        why = why.replace(target.api_key, "***")  # some servers quote the key that they refuse
    hint = ""
    if status in (401, 403):
        title = _("The server refused the API key") if target.api_key else _("The server wants an API key")
        hint = _("Give the key that the server was started with")
    elif status in (404, 405):
        title = _("The server has no model “{model}”, or no chat at this address").format(model=target.model)
        hint = _("Check the model's name, and that the URL ends in /v1: {url}").format(url=target.base_url)
    elif status in (400, 413, 422):
        title = _("The server did not accept the request")
        hint = _what_to_change(status, why)
    elif status == 429:
        title = _("The server has too many requests")
        wait = seconds_to_wait(retry_after)
        hint = _("Wait {seconds} s, then retry").format(seconds=wait) if wait else _("Wait a moment, then retry")
    elif status >= 500:
        title = _("The server failed with status {status}").format(status=status)
        wait = seconds_to_wait(retry_after)
        hint = _("Wait {seconds} s, then retry").format(seconds=wait) if wait else _("Its log says more; then retry")
    else:
        title = _("The server answered with status {status}").format(status=status)
    return ChatError(title, why, hint, status)


def _what_to_change(status: int, why: str) -> str:
    """What helps against a request that was refused, by the words that vLLM and others refuse it with."""
    if "max_tokens" in why and "max_model_len" in why:
        return _("Ask for fewer tokens: max_tokens is more than the model's whole context")
    if re.search(r"context length|maximum.{0,20}(tokens|length)|too long", why, re.IGNORECASE):
        return _("The conversation is longer than the model's context: begin a new one, or ask for fewer tokens")
    if "empty conversation" in why:
        return _("Write a message first")
    if "chat template" in why.lower():
        return _("Start the server with a chat template")
    if "multimodal" in why or re.search(r"image (input|content)|does not support images", why, re.IGNORECASE):
        return _("This model takes text only: send the message without images")
    if re.search(r"grammar|regex|schema", why, re.IGNORECASE):
        return _("Look at json_schema and regex in the sampling: this server can't follow them")
    if "enable-auto-tool-choice" in why or "tool-call-parser" in why:
        return _("Start the server with --enable-auto-tool-choice and --tool-call-parser, or send no tools")
    if "parameter=" in why:
        return _("Change that value in the sampling, then ask again")
    return _("The message is too large for the server, or for a program in between") if status == 413 else ""


def in_stream(body: Any) -> ChatError | None:
    """The error that one streamed JSON object carries, or None if it is an ordinary chunk."""
    if not isinstance(body, dict):
        return None
    # Some send the error in a chunk that has choices as well.
    if not body.get("error") and (
        "choices" in body or ("error" not in body and body.get("object") != "error" and "detail" not in body)
    ):
        return None
    status = body["error"].get("code") if isinstance(body.get("error"), dict) else body.get("code")
    if isinstance(status, int) and 400 <= status < 500:  # refused, after the server had said 200 already
        why = _shorten(message_in(body))
        return ChatError(_("The server did not accept the request"), why, _what_to_change(status, why), status)
    return ReplyBroken(
        _("The server broke off the reply"),
        _shorten(message_in(body)),
        _("What arrived is kept"),
        status if isinstance(status, int) and not isinstance(status, bool) else None,
    )


def from_transport(error: Exception, target: Target, began: bool) -> ChatError:
    """The error for a connection that could not be made, or that broke.

    began: whether a part of the reply had arrived.
    """
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return _unreachable(target, _("It did not accept the connection in time"))
    if isinstance(error, httpx.TimeoutException):
        return ReplyBroken(
            _("The server went silent"),
            _("Nothing came for longer than it may take"),
            _("Its log tells what it is doing"),
        )
    if isinstance(error, httpx.ConnectError):
        return _unreachable(target, _shorten(_cause(error)))
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return ChatError(
            _("“{url}” is not an address that can be asked").format(url=target.base_url),
            _shorten(str(error)),
            _("It looks like http://127.0.0.1:8000/v1"),
        )
    if isinstance(error, httpx.LocalProtocolError | UnicodeEncodeError):
        return ChatError(
            _("The request can't be sent"),
            _("The API key has characters that a key can't have"),
            _("Give the key that the server was started with"),
        )
    title = _("The connection broke in the middle of the reply") if began else _("The connection broke")
    return ReplyBroken(title, _shorten(_cause(error)), _("See whether the server still runs"))


def _unreachable(target: Target, why: str) -> ChatError:
    return ChatError(
        _("No server answers at {url}").format(url=target.base_url), why, _("Start one, or check the address")
    )


def _cause(error: BaseException) -> str:
    """The innermost text of a chain of exceptions; the outer ones repeat it or say less."""
    text = str(error)
    seen = 0
    while (inner := error.__cause__ or error.__context__) is not None and seen < 10:
        error = inner
        text = str(error) or text
        seen += 1
    return text or type(error).__name__


def ended_early() -> ChatError:
    """The stream ended properly as HTTP, but the reply in it did not."""
    return ReplyBroken(
        _("The reply broke off"),
        _("The server closed the stream without finishing it"),
        _("What arrived is kept"),
    )


def not_an_answer(why: str) -> ChatError:
    """Status 200, but what came is not a chat reply."""
    return ReplyBroken(
        _("What the server sent is not a chat reply"),
        _shorten(why),
        _("Check that the address is an OpenAI API, with no other program in between"),
    )


def too_long(limit: int) -> ChatError:
    """One event of the stream was larger than any real one."""
    return ReplyBroken(
        _("What the server sent is not a chat reply"),
        _("A single line of it is longer than {size} MB").format(size=limit // 1024 // 1024),
    )
