"""A real terminal for the real program: a pty, with a screen that can be read, waited on and drawn as a picture."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Mapping, Sequence
from io import StringIO
from types import TracebackType

import pexpect
import pyte
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

#: What the keys send, as a common terminal sends it.
KEYS = {
    "enter": "\r", "esc": "\x1b", "tab": "\t", "backspace": "\x7f", "up": "\x1b[A", "down": "\x1b[B",
    "right": "\x1b[C", "left": "\x1b[D", "pageup": "\x1b[5~", "pagedown": "\x1b[6~", "home": "\x1b[H", "end": "\x1b[F",
}  # fmt: skip
_NAMED = {"brown": "yellow", "brightbrown": "bright_yellow", "default": None}


class Terminal:
    """A program running in a terminal of `columns` × `rows`."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], columns: int = 100, rows: int = 30) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.received = 0
        # Where tests run in several processes, these two are set, and would hide the terminal's own size.
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.child = pexpect.spawn(
            argv[0],
            list(argv[1:]),
            dimensions=(rows, columns),
            env={**inherited, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
            timeout=None,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.close(force=True)

    def read(self, seconds: float = 0.1) -> None:
        """Take in what the program has written, waiting for it `seconds` at the most."""
        try:
            data = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            return
        self.received += len(data)
        # pyte takes private mode reports such as CSI ? 2026 $ p for text; a terminal says nothing to them.
        self._stream.feed(re.sub(rb"\x1b\[\?[0-9;]*\$p|\x1b\[[<>=][0-9;]*[a-z]", b"", data))

    def settle(self, quiet: float = 0.3, seconds: float = 3.0) -> None:
        """Take in what the program writes until it has written nothing for `quiet` seconds: no screen half drawn."""
        deadline = time.monotonic() + seconds
        before = -1
        while before != self.received and time.monotonic() < deadline:
            before = self.received
            self.read(quiet)

    @property
    def text(self) -> str:
        """The screen as lines of text."""
        # Not screen.display: pyte fails there on a cell that holds nothing.
        rows = (self.screen.buffer[number] for number in range(self.screen.lines))
        return "\n".join("".join(row[n].data for n in range(self.screen.columns)).rstrip() for row in rows)

    def wait_for(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """Wait until the screen shows the regular expression; fails with the screen's text."""
        deadline = time.monotonic() + seconds
        while True:
            if match := re.search(pattern, self.text):
                return match
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s in vain for {pattern!r} on this screen:\n{self.text}")
            self.read()

    def wait_gone(self, pattern: str, seconds: float = 60.0) -> None:
        """Wait until the screen does not show the regular expression any more."""
        deadline = time.monotonic() + seconds
        while re.search(pattern, self.text):
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} stayed {seconds} s on this screen:\n{self.text}")
            self.read()

    def wait_end(self, seconds: float = 60.0) -> int:
        """Wait until the program ends; its exit status."""
        deadline = time.monotonic() + seconds
        while self.child.isalive():
            if time.monotonic() > deadline:
                raise AssertionError(f"the program did not end in {seconds} s:\n{self.text}")
            self.read()
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus)

    def press(self, *keys: str) -> None:
        """Press keys: names out of KEYS, 'ctrl+x', or single characters."""
        for key in keys:
            if key.startswith("ctrl+"):
                self.child.send(chr(ord(key[-1]) & 31))
            else:
                self.child.send(KEYS.get(key, key))
            if key == "esc":
                # Without a pause, what follows would be taken for one escape sequence with it.
                deadline = time.monotonic() + 0.25
                while time.monotonic() < deadline:
                    self.read(0.05)

    def type(self, text: str) -> None:
        """Type a text."""
        self.child.send(text)

    def svg(self, title: str) -> str:
        """A picture of the screen."""
        console = Console(
            record=True, width=self.screen.columns, height=self.screen.lines, file=StringIO(), force_terminal=True,
            color_system="truecolor", legacy_windows=False,
        )  # fmt: skip
        for number in range(self.screen.lines):
            line = Text(no_wrap=True)
            cells = [self.screen.buffer[number][column] for column in range(self.screen.columns)]
            # A run of letters that look alike is one piece: the picture is a tenth as large.
            for look, run in itertools.groupby(cells, key=lambda cell: cell[1:]):
                line.append("".join(cell.data for cell in run), _style(look))
            console.print(line, soft_wrap=True)
        return console.export_svg(title=title, theme=MONOKAI)


def _style(look: Sequence[object]) -> Style:
    """Rich's style for the look of a cell: foreground, background, bold, italics, underscore, strike, reverse, …"""
    foreground, background, bold, italic, underline, _strike, reverse, *_rest = look
    return Style(
        color=_color(str(foreground)), bgcolor=_color(str(background)), bold=bool(bold), italic=bool(italic),
        underline=bool(underline), reverse=bool(reverse),
    )  # fmt: skip


def _color(name: str) -> Color | None:
    """pyte's name of a colour as Rich's."""
    if re.fullmatch(r"[0-9a-fA-F]{6}", name):
        return Color.parse(f"#{name}")
    named = _NAMED.get(name, name)
    if named is None:
        return None
    return Color.parse(re.sub(r"^bright(?=[a-z])", "bright_", named))
