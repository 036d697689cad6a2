"""How likely each token of a reply was: read from the servers' shapes, put together again, counted, and kept."""

from __future__ import annotations

import codecs
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwen_tui.chat.harmless import encodable

#: What vLLM sends for a probability of nothing.
_NOTHING = -9999.0


@dataclass(frozen=True)
class TokenChance:
    """One token, and how likely it was. logprob: natural logarithm; None for the first of a prompt.

    alternatives: (token, logprob), the likeliest first; the token itself may be among them.
    data: its bytes where the server says them: half a character has some, and no text.
    """

    token: str
    logprob: float | None
    alternatives: tuple[tuple[str, float], ...] = ()
    data: bytes | None = None

    @property
    def share(self) -> float | None:
        """The probability, 0 to 1."""
        return None if self.logprob is None else share(self.logprob)

    def to_json(self) -> dict[str, Any]:
        others = [{"token": token, "logprob": logprob} for token, logprob in self.alternatives]
        found: dict[str, Any] = {"token": self.token, "logprob": self.logprob, "alternatives": others}
        if self.data is not None:
            found["bytes"] = list(self.data)
        return found


def share(logprob: float) -> float:
    """The probability that a logarithm stands for, 0 to 1."""
    return math.exp(min(logprob, 0.0))


# Reading what servers send


def read_chances(logprobs: Any) -> tuple[TokenChance, ...]:
    """The tokens in a completion's `logprobs` (the lists `tokens`, `token_logprobs`, `top_logprobs`)."""
    if not isinstance(logprobs, dict) or not isinstance(logprobs.get("tokens"), list):
        return ()
    tokens, chances, others = (logprobs.get(key) or [] for key in ("tokens", "token_logprobs", "top_logprobs"))
    found = []
    for number, token in enumerate(tokens):
        if not isinstance(token, str):
            continue
        chance = chances[number] if isinstance(chances, list) and number < len(chances) else None
        more = others[number] if isinstance(others, list) and number < len(others) else None
        pairs = more.items() if isinstance(more, dict) else ()
        found.append(TokenChance(encodable(token), _number(chance), _sorted(pairs)))
    return tuple(found)


def read_chat_chances(logprobs: Any) -> tuple[TokenChance, ...]:
    """The tokens in a chat choice's `logprobs` (the list `content`)."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    found = []
    for entry in content if isinstance(content, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
            continue
        top = entry.get("top_logprobs")
        pairs = [
            (other.get("token"), other.get("logprob"))
            for other in (top if isinstance(top, list) else ())
            if isinstance(other, dict)
        ]
        token = encodable(entry["token"])
        found.append(TokenChance(token, _number(entry.get("logprob")), _sorted(pairs), _bytes(entry.get("bytes"))))
    return tuple(found)


def read_prompt_chances(chances: Any, ids: Sequence[int], data: Sequence[bytes] | None = None) -> list[TokenChance]:
    """The tokens `ids` in vLLM's `prompt_logprobs` (per token: id → logprob, decoded_token), which are its last ones.

    data: the bytes of each. Raises ValueError if the answer has another shape.
    """
    if not isinstance(chances, list) or len(chances) < len(ids):
        raise ValueError("prompt_logprobs")
    found = []
    for number, (id, entry) in enumerate(zip(ids, chances[len(chances) - len(ids) :], strict=True)):
        raw = data[number] if data is not None else None
        if not isinstance(entry, dict):  # the very first token of a prompt
            found.append(TokenChance("", None, (), raw))
            continue
        own = entry.get(str(id))
        if not isinstance(own, dict):
            raise ValueError("prompt_logprobs")
        pairs = [(other.get("decoded_token"), other.get("logprob")) for other in entry.values()
                 if isinstance(other, dict)]  # fmt: skip
        token = own.get("decoded_token")
        text = encodable(token) if isinstance(token, str) else ""
        found.append(TokenChance(text, _number(own.get("logprob")), _sorted(pairs), raw))
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return max(float(value), _NOTHING)


def _sorted(pairs: Any) -> tuple[tuple[str, float], ...]:
    numbers = [(encodable(token), _number(value)) for token, value in pairs if isinstance(token, str)]
    found = [(token, value) for token, value in numbers if value is not None]
    return tuple(sorted(found, key=lambda pair: -pair[1]))


def _bytes(value: Any) -> bytes | None:
    if not isinstance(value, list) or not all(type(part) is int and 0 <= part < 256 for part in value):
        return None
    return bytes(value)


# What they say together


def token_texts(chances: Sequence[TokenChance]) -> list[str]:
    """The text that each token adds: a character in several tokens comes with the last of them, "" before."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts = []
    for chance in chances:
        if chance.data is None or (not chance.data and chance.token):
            texts.append(decoder.decode(b"", True) + chance.token)
            decoder.reset()
        else:
            texts.append(decoder.decode(chance.data))
    if texts and (rest := decoder.decode(b"", True)):
        texts[-1] += rest
    return texts


def perplexity(chances: Sequence[TokenChance]) -> float | None:
    """exp(-mean logprob): among how many equally likely tokens it chose, as it were. None if nothing is known."""
    known = [chance.logprob for chance in chances if chance.logprob is not None]
    return math.exp(min(-sum(known) / len(known), 700.0)) if known else None


def least_certain(chances: Sequence[TokenChance]) -> list[int]:
    """The places of the tokens with a known probability, the least likely first."""
    known = [(chance.logprob, place) for place, chance in enumerate(chances) if chance.logprob is not None]
    return [place for _logprob, place in sorted(known)]


# Keeping them


def to_compact(chances: Sequence[TokenChance]) -> list[list[Any]]:
    """For a file: [token, logprob, [token, logprob, …]], and the bytes as hexadecimal digits where they are known."""
    found: list[list[Any]] = []
    for chance in chances:
        row: list[Any] = [
            chance.token,
            None if chance.logprob is None else round(chance.logprob, 4),
            [part for token, logprob in chance.alternatives for part in (token, round(logprob, 4))],
        ]
        if chance.data is not None and chance.data != chance.token.encode("utf-8", "replace"):
            row.append(chance.data.hex())
        found.append(row)
    return found


def from_compact(rows: Any) -> list[TokenChance]:
    """What `to_compact` made; a row that is none is left out."""
    found = []
    for row in rows if isinstance(rows, list) else ():
        try:
            token, logprob, others = row[0], row[1], row[2]
            pairs = tuple((str(others[place]), float(others[place + 1])) for place in range(0, len(others), 2))
            data = bytes.fromhex(row[3]) if len(row) > 3 else None
            found.append(TokenChance(str(token), _number(logprob), pairs, data))
        except (LookupError, TypeError, ValueError):
            continue
    return found
