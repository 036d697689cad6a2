"""Ask a vLLM server about tokens: how many a text has, what its chat template makes of messages, how likely each is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen_tui.chat import failures
from qwen_tui.chat.client import Timeouts, encoded, http_client, message_body
from qwen_tui.chat.events import Message, Target
from qwen_tui.chat.harmless import encodable
from qwen_tui.chat.logprobs import TokenChance, read_prompt_chances
from qwen_tui.errors import ChatError
from qwen_tui.i18n import _

#: How many alternatives are asked for where nobody says a number.
ALTERNATIVES = 5
_PATIENCE = Timeouts(silence=60.0)


@dataclass(frozen=True)
class Tokens:
    """A text as the model gets it. max_model_len: the most tokens of a request, None where the server does not say.

    strings: the tokens as the tokenizer's vocabulary has them; empty unless they were asked for.
    """

    ids: tuple[int, ...]
    max_model_len: int | None = None
    strings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


async def tokenize_text(target: Target, text: str, *, special: bool = True, strings: bool = False) -> Tokens:
    """The tokens of a text; special: with those that go before every prompt. Raises ChatError; status 404 if the
    server has no /tokenize."""
    body = {"prompt": encodable(text), "add_special_tokens": special, "return_token_strs": strings}
    return await _tokenize(target, body)


async def tokenize_chat(
    target: Target,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    strings: bool = False,
) -> Tokens:
    """What the server's chat template makes of messages, up to where the reply begins. Raises ChatError."""
    body: dict[str, Any] = {
        "messages": [message_body(message) for message in messages],
        "add_generation_prompt": True,
        "return_token_strs": strings,
    }
    if tools:
        body["tools"] = list(tools)
    return await _tokenize(target, body)


async def _tokenize(target: Target, body: dict[str, Any]) -> Tokens:
    answer = await _ask(target, "tokenize", {"model": target.model, **body})
    ids, limit, strings = answer.get("tokens"), answer.get("max_model_len"), answer.get("token_strs")
    if not isinstance(ids, list) or not all(type(part) is int for part in ids):
        raise failures.not_an_answer(json.dumps(answer)[:300])
    words = tuple(map(str, strings)) if isinstance(strings, list) and len(strings) == len(ids) else ()
    return Tokens(tuple(ids), limit if type(limit) is int and limit > 0 else None, words)


async def detokenize(target: Target, ids: Sequence[int]) -> str:
    """The text of tokens, with the special ones in it. Raises ChatError."""
    answer = await _ask(target, "detokenize", {"model": target.model, "tokens": list(ids)})
    text = answer.get("prompt")
    if not isinstance(text, str):
        raise failures.not_an_answer(json.dumps(answer)[:300])
    return encodable(text)


async def text_chances(
    target: Target, before: Sequence[int], text: str, *, alternatives: int = ALTERNATIVES
) -> list[TokenChance]:
    """How likely each token of `text` is after the tokens `before`; nothing is drawn anew.

    The server looks at the whole as a prompt. Raises ChatError, also where there is nothing to look at.
    """
    tokens = await tokenize_text(target, text, special=False, strings=True)
    if not tokens.ids:
        raise ChatError(_("There is no text to look at"))
    body = {
        "model": target.model,
        "prompt": [*before, *tokens.ids],
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": alternatives,
    }
    answer = await _ask(target, "v1/completions", body)
    try:
        return read_prompt_chances(answer["choices"][0]["prompt_logprobs"], tokens.ids, token_bytes(tokens, text))
    except (LookupError, TypeError, ValueError):
        raise ChatError(
            _("The server does not say how likely the tokens of a prompt are"),
            "",
            _("Ask anew with logprobs set in the sampling"),
        ) from None


async def reply_chances(
    target: Target,
    messages: Sequence[Message],
    text: str,
    *,
    reasoning: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
) -> list[TokenChance]:
    """How likely each token of a reply to `messages` is, after its thinking if it has any. Raises ChatError."""
    before = (await tokenize_chat(target, messages, tools=tools)).ids
    if reasoning:
        opened = (await detokenize(target, before[-8:])).rstrip().endswith("<think>")
        thought = f"{'' if opened else '<think>' + chr(10)}{reasoning}\n</think>\n\n"
        before += (await tokenize_text(target, thought, special=False)).ids
    return await text_chances(target, before, text)


def token_bytes(tokens: Tokens, text: str) -> list[bytes] | None:
    """The bytes of each token, where the vocabulary is one of bytes (as GPT-2's and Qwen's); else None."""
    table = _byte_table()
    try:
        found = [bytes(table[character] for character in string) for string in tokens.strings]
    except KeyError:
        return None
    return found if b"".join(found) == encodable(text).encode() and len(found) == len(tokens) else None


def _byte_table() -> dict[str, int]:
    """Character → byte: a printable one of Latin-1 stands for itself, the others follow from U+0100 on, in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


async def _ask(target: Target, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST to a path beside /v1; the JSON that comes. Raises ChatError."""
    import httpx

    root = target.base_url.rstrip("/").removesuffix("/v1")
    headers = {"content-type": "application/json"}
    if target.api_key:
        headers["authorization"] = f"Bearer {target.api_key}"
    try:
        async with http_client(target, _PATIENCE) as client:
            response = await client.post(f"{root}/{path}", content=encoded(body), headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
        raise failures.from_transport(error, target, False) from error
    if response.status_code in (404, 405) and "does not exist" not in response.text:
        raise ChatError(
            _("The server has no /{path}").format(path=path),
            _("It is asked for how texts become tokens; vLLM has it"),
            "",
            404,
        )
    if response.status_code != 200:
        raise failures.from_status(response.status_code, response.content, target)
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise failures.not_an_answer(failures.readable(response.content))
    return answer
