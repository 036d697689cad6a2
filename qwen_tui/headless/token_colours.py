"""A text with each token in the colour of its probability, for a terminal; never by colour alone."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # what type checkers take for true; importing typing's would make --help slower
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen_tui.chat.logprobs import TokenChance

#: From which probability on: green; cyan and underlined; yellow, bold and underlined; red, bold and reversed.
_STYLES: tuple[tuple[float, str], ...] = ((0.9, "32"), (0.5, "36;4"), (0.1, "33;1;4"), (0.0, "31;1;7"))


def colours_wanted(choice: str) -> bool:
    """choice: "always", "never", or "auto": where a terminal shows it, and NO_COLOR is not set."""
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"


def coloured(text: str, chances: Sequence[TokenChance]) -> str:
    """`text` with its tokens coloured; as it is where the tokens do not make it up. Nothing harmful is in it."""
    from qwen_tui.chat.harmless import harmless
    from qwen_tui.chat.logprobs import token_texts

    texts = token_texts(chances)
    if not chances or "".join(texts) != text:
        return harmless(text)
    return "".join(
        _painted(harmless(token), chance.share) for token, chance in zip(texts, chances, strict=True) if token
    )


def _painted(text: str, share: float | None) -> str:
    if share is None:
        return text
    style = next(style for least, style in _STYLES if share >= least)
    # A colour that goes on over the end of a line would fill the rest of it in some terminals.
    return "\n".join(f"\x1b[{style}m{part}\x1b[0m" if part else "" for part in text.split("\n"))
