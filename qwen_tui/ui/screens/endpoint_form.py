"""Asks for an endpoint: its name, base URL, model and key. The key is entered without being shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import N_, _
from qwen_tui.server.endpoints import Endpoint, checked_url
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

#: Field → its label.
_FIELDS: dict[str, str] = {"name": N_("Name"), "url": N_("Base URL"), "model": N_("Model"), "key": N_("API key")}
_HINTS: dict[str, str] = {
    "name": N_("what to call it"),
    "url": "https://example.org/v1",
    "model": N_("the first that it serves"),
    "key": N_("none"),
}


class EndpointForm(ModalScreen[str | None], inherit_bindings=False):
    """Adds an endpoint, or changes `edit`; dismissed with its name, or None."""

    CSS_PATH = "endpoint_form.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "keep", N_("keep it"), id="endpoint.keep", group=DO, priority=True),
        # With priority, so that what is typed right after it lands in the next field: a key may follow.
        Binding("enter", "advance", N_("next field, then keep"), id="endpoint.advance", group=MOVE, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="endpoint.cancel", group=DO),
        Binding("tab,down", "app.focus_next", N_("next field"), id="endpoint.next", group=MOVE),
        Binding(
            "shift+tab,up", "app.focus_previous", N_("previous field"), id="endpoint.previous", group=MOVE, show=False
        ),
    ]

    def __init__(self, edit: Endpoint | None = None) -> None:
        super().__init__()
        self._edit = edit
        self._keeping = False

    def compose(self) -> ComposeResult:
        edit = self._edit
        title = _("Edit {name}").format(name=one_line(edit.name)) if edit else _("New endpoint: a server elsewhere")
        first = {"name": edit.name, "url": edit.base_url, "model": edit.model} if edit else {}
        hints = {field: _(hint) for field, hint in _HINTS.items()}
        if edit is not None and edit.api_key:
            hints["key"] = _("as it is; a blank for none")
        with Vertical(id="endpoint"):
            yield Static(Content.styled(title, "bold"), id="title")
            for field, label in _FIELDS.items():
                with Horizontal(classes="row"):
                    yield Static(Content(_(label)), classes="label")
                    yield Input(
                        plain(first.get(field, "")),
                        placeholder=hints[field],
                        password=field == "key",
                        disabled=field == "name" and edit is not None,
                        id=f"field-{field}",
                        compact=True,
                        select_on_focus=False,
                    )
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        for field in self.query(Input):
            field.cursor_blink = False  # each blink would cross the SSH connection
        self.query_one("#field-url" if self._edit else "#field-name", Input).focus()
        self._look()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look()

    def action_advance(self) -> None:
        """Go on to the next field; after the last one keep what was entered."""
        if self.focused is self.query_one("#field-key"):
            self.action_keep()
        else:
            self.focus_next()

    def _value(self, field: str) -> str:
        return self.query_one(f"#field-{field}", Input).value

    def _look(self) -> None:
        """Warn of a key that anybody on the way could read."""
        has_key = bool(self._value("key").strip() or (self._edit and self._edit.api_key and not self._value("key")))
        try:
            url = checked_url(self._value("url"))
        except UsageError:
            self._say("")
            return
        in_clear = Endpoint("", url, "", "x" if has_key else None).sends_key_in_clear
        self._say(_("Its key crosses the network unencrypted: use https") if in_clear else "", "$text-warning")

    def _say(self, text: str, colour: str = "$text-error") -> None:
        self.query_one("#note", Prose).update(Content.styled(plain(text), colour))

    def action_keep(self) -> None:
        if not self._keeping:
            self._keeping = True
            self.run_worker(self._keep(), group="keep")

    async def _keep(self) -> None:
        endpoints = cast("QwenApp", self.app).services.endpoints
        url, model, key = self._value("url"), self._value("model"), self._value("key")
        try:
            if self._edit is not None:
                name = self._edit.name
                await endpoints.change(name, url, model, key or None)
            else:
                name = self._value("name").strip()
                await endpoints.add(name, url, model, key)
        except QwenTuiError as error:
            self._say("\n".join(part for part in (error.title, error.why, error.hint) if part))
        else:
            self.dismiss(name)
        finally:
            self._keeping = False

    def action_cancel(self) -> None:
        self.dismiss(None)
