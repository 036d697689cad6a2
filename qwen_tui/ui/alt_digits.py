"""alt+1, alt+2, … as most terminals send them.

Textual reads ESC followed by a digit as the symbol that a Mac's option key types (alt+3 arrives as "£"), so that
bindings of alt and a digit only work in terminals with the Kitty protocol. Without these entries its parser takes
ESC and a digit for what it is everywhere else. Somebody who types "£" sends it as a character and still gets it.
"""

from __future__ import annotations

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS


def read_alt_digits() -> None:
    """Let Textual's parser report ESC and a digit as alt and that digit, from now on."""
    for digit in "123456789":
        ANSI_SEQUENCES_KEYS.pop(f"\x1b{digit}", None)  # type: ignore[attr-defined]
