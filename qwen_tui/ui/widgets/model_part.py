"""One of the three parts of the Models room: a title, a list under it, and what is known of the entry in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from qwen_tui.i18n import _
from qwen_tui.ui.widgets.keyed_list import KeyedList

if TYPE_CHECKING:
    from textual.binding import Binding

    from qwen_tui.ui.app import QwenApp


class PartTitle(Static):
    """Names a part; a click unfolds it."""

    class Clicked(Message):
        """The part is to be gone to."""

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(self.Clicked())


class QuietInput(Input):
    """A text field whose cursor does not blink: each blink would cross the SSH connection."""

    def on_mount(self) -> None:
        self.cursor_blink = False


class Part(Vertical):
    """Its bindings hold while the focus is in it.

    TITLE: a msgid. FIELD_HINT: the msgid that stands in its empty text field; without one it has no field.
    """

    TITLE: ClassVar[str] = ""
    FIELD_HINT: ClassVar[str] = ""
    DEFAULT_CSS = """
    Part { height: auto; }
    Part PartTitle { height: 1; background: $surface; color: $foreground-muted; }
    Part.-active PartTitle { background: $primary-muted; color: $text-primary; text-style: bold; }
    Part KeyedList { border: none; padding: 0; background: transparent; scrollbar-size-vertical: 1; }
    Part Input { display: none; }
    """

    class Changed(Message):
        """What is known of the entry under the cursor has changed, or another one is."""

    def compose(self) -> ComposeResult:
        yield PartTitle(Content(""), classes="title")
        if self.FIELD_HINT:
            yield QuietInput(placeholder=_(self.FIELD_HINT), compact=True, select_on_focus=False)
        yield KeyedList()

    @property
    def qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    @property
    def listing(self) -> KeyedList:
        return self.query_one(KeyedList)

    @property
    def field(self) -> Input | None:
        return next(iter(self.query(Input)), None)

    # For the room

    def unfold(self, *, is_active: bool, is_shown: bool) -> None:
        """is_active: the keys go here. is_shown: its list can be seen."""
        self.set_class(is_active, "-active")
        self.set_class(is_shown, "-shown")
        self.listing.display = is_shown
        field = self.field
        if field is not None:
            field.display = is_shown and (is_active or bool(field.value)) and self.wants_field
        self.draw_title()

    @property
    def wants_field(self) -> bool:
        """Whether the text field is to be seen while the part is."""
        return True

    def arrive(self) -> None:
        """Called when the room goes to this part."""

    def summary(self) -> str:
        """What the title says beside the name."""
        return ""

    def detail(self, width: int, height: int) -> Content:
        """What is known of the entry under the cursor; or what to press where there is none."""
        return Content("")

    def binding_text(self, binding: Binding) -> str:
        """What the footer says for `binding`; empty leaves it out while it means nothing."""
        return binding.description

    def draw(self) -> None:
        """Draw the list anew."""

    def retranslate(self) -> None:
        field = self.field
        if field is not None:
            field.placeholder = _(self.FIELD_HINT)
        self.draw()
        self.draw_title()

    # For the parts

    def changed(self) -> None:
        """Have the room draw what is known anew."""
        self.draw_title()
        self.post_message(self.Changed())

    def draw_title(self) -> None:
        sign = "▾" if self.listing.display else "▸"
        text = f"{sign} {_(self.TITLE)}"
        summary = self.summary()
        content = Content(f"{text}  {summary}" if summary else text)
        title = self.query_one(PartTitle)
        if not (isinstance(title.content, Content) and title.content.is_same(content)):
            title.update(content)

    def on_keyed_list_moved(self, event: KeyedList.Moved) -> None:
        event.stop()
        self.changed()

    def on_part_title_clicked(self, event: PartTitle.Clicked) -> None:
        event.stop()
        self.listing.display = True
        self.listing.focus()

    @staticmethod
    def show_field(field: Widget) -> None:
        """Show a text field and give it the focus."""
        field.display = True
        field.focus()
