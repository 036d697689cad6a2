"""Text from a model made safe for a terminal, without hiding that something was there.

The mapping is character by character, so a sequence that is cut between two pieces of a stream is caught as well.
"""

from __future__ import annotations

import json
import re
from typing import Any

_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks, overrides and isolates
    "\u2028\u2029"  # separators that some terminals take for a line end
    "\ud800-\udfff\ufffe\uffff"  # half surrogates can't be written as UTF-8 at all
    "\U000e0000-\U000e007f]"  # tag characters: invisible text
)
#: Marks that only hint at the direction of their neighbours; dropped, as they reorder nothing by themselves.
_DROPPED = "\r\u061c\u200e\u200f"


def _replacement(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _DROPPED:
        return ""
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in "\u2028\u2029":
        return "\n"
    if 0x202A <= code <= 0x2069:
        return f"\u2039U+{code:04X}\u203a"
    if code >= 0xE0000:
        return ""
    return "\ufffd"


def harmless(text: str) -> str:
    """`text` with control characters as visible symbols (ESC becomes ␛), bidirectional overrides named (‹U+202E›),
    carriage returns dropped, half surrogates replaced; tab and newline stay."""
    return _HARMFUL.sub(_replacement, text)


def pasted(text: str) -> str:
    """What came out of a clipboard, harmless, with its line ends as newlines: a terminal sends them as returns."""
    return harmless(text.replace("\r\n", "\n").replace("\r", "\n"))


def encodable(text: str) -> str:
    """`text` with half surrogates replaced, so that it can be sent and stored as UTF-8; else as it is."""
    return text.encode("utf-8", "replace").decode("utf-8")


def harmless_json(value: Any, indent: int | None = None) -> str:
    """JSON that keeps its characters readable, but none that a terminal would obey or that UTF-8 can't hold.

    What is escaped means the same to whoever reads it as JSON.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(
        "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
        lambda found: f"\\u{ord(found.group()):04x}",
        text,
    )
