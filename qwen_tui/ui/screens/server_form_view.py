"""What the form of a server looks like: its rows, and the warnings under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Checkbox, Input, Static

from qwen_tui.i18n import _
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.screens.server_form_fields import FIELDS, PLACEHOLDERS, SWITCHES, FormState, Reading
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.prose import Prose


class FormSwitch(Checkbox):
    """A check box whose state can be told without its colour."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802 - Textual's name
        return "X" if self.value else " "


def rows(first: FormState) -> Iterator[Widget]:
    """A row for each field, with what is wrong with it below, one for the switches, and what is known besides."""
    for field, label in FIELDS.items():
        entry = Input(
            plain(first.fields.get(field, "")),
            placeholder=_(PLACEHOLDERS.get(field, "")),
            id=f"field-{field}",
            compact=True,
            select_on_focus=False,
        )
        yield Horizontal(Static(Content(_(label)), classes="label"), entry, classes="row")
        yield Prose(id=f"error-{field}", classes="error")
    switches = [
        FormSwitch(Content(_(label)), switch in first.switches, id=f"switch-{switch}", compact=True)
        for switch, label in SWITCHES.items()
    ]
    yield Horizontal(Static(Content(""), classes="label"), *switches, classes="row")
    yield Prose(id="warning")
    yield Prose(id="engine")
    yield Static(id="differs")
    yield Static(id="command")


def warnings(reading: Reading, edit: ServerStatus | None, statuses: Sequence[ServerStatus]) -> Content:
    """What a person should know before starting what is in the fields. edit: the server that is being changed."""
    spec, known = reading.spec, reading.known
    lines: list[str] = []
    if "host" in known and not spec.is_loopback:
        lines.append(
            _("{host} can be reached from other machines: an API key will be made, and asked of every client").format(
                host=one_line(spec.host)
            )
        )
    dead = {status.name for status in statuses if not status.state.is_alive}
    if edit is None and "name" in known and spec.name in dead:
        lines.append(_("“{name}” is known and does not run: it is replaced").format(name=spec.name))
    if edit is not None and edit.state.is_alive:
        lines.append(_("It runs: starting it with these values stops it first"))
    return Content.styled("\n".join(lines), "$text-warning")
