"""Every argument of the engine's server: searched, explained, checked, and put into the form."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from qwen_tui.engine.arguments import Argument
from qwen_tui.engine.arguments_check import check, search_closely
from qwen_tui.errors import UsageError
from qwen_tui.i18n import N_, _, ngettext
from qwen_tui.server.profiles import FlagValue, flags_of, words_of
from qwen_tui.server.spec import FIELD_ARGUMENTS
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.server_form_engine import EngineOfForm
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar

#: Those with a field of their own in the form, and the one that would show a secret.
_ELSEWHERE = {*FIELD_ARGUMENTS, "--api-key"}


class SearchField(Input):
    """Says in the footer what enter does here."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", N_("set it"), id="flags.submit", group=DO),
    ]


class FlagsScreen(ModalScreen[list[str] | None], inherit_bindings=False):
    """Dismissed with the extra arguments as they are when it is left; None if nothing was changed."""

    CSS_PATH = "flags.tcss"
    AUTO_FOCUS = "#search"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", N_("set it"), id="flags.choose", group=DO),
        Binding("ctrl+x", "take_away", N_("take it away"), id="flags.take_away", group=DO, priority=True),
        Binding("escape", "back", N_("back"), id="flags.back", group=DO),
        Binding("down", "cursor(1)", N_("next one"), id="flags.down", group=MOVE, show=False),
        Binding("up", "cursor(-1)", N_("the one before"), id="flags.up", group=MOVE, show=False),
        Binding("pagedown", "scroll(1)", N_("scroll the help"), id="flags.page_down", group=MOVE),
        Binding("pageup", "scroll(-1)", N_("scroll it back"), id="flags.page_up", group=MOVE, show=False),
    ]

    def __init__(self, engine: EngineOfForm, words: Sequence[str]) -> None:
        super().__init__()
        self._engine = engine
        self._begun = list(words)
        self._words = list(words)
        #: What the rows of the list stand for; None for the heading of a group.
        self._rows: list[Argument | None] = []
        self._is_filled = False

    def compose(self) -> ComposeResult:
        with Vertical(id="flags"):
            yield Static(id="title")
            yield SearchField(placeholder=_("search: words of name, group or help"), id="search", compact=True)
            yield OptionList(id="arguments", markup=False, compact=True)
            with VerticalScroll(id="about", can_focus=False):
                yield Static(id="help")
            yield Input(id="value", compact=True)
            yield Static(id="problem")
            yield KeyBar()

    def on_mount(self) -> None:
        for field in self.query(Input):
            field.cursor_blink = False
        self.query_one("#arguments", OptionList).can_focus = False
        self._wait_for_arguments()

    def _wait_for_arguments(self) -> None:
        """Fill the list once the engine has told; until then say how far it is."""
        if not self.is_attached:
            return
        if self._engine.schema is not None:
            self._fill()
            return
        text = self._engine.trouble or self._engine.progress_line() or _("asking the engine…")
        self.query_one("#title", Static).update(Content(plain(text)))
        self.set_timer(0.2, self._wait_for_arguments)

    # Drawing

    def _fill(self) -> None:
        """Show the arguments that the search finds, by group; those that are set first."""
        schema = self._engine.schema
        assert schema is not None
        text = self.query_one("#search", Input).value
        hits, spelled = search_closely(schema, text)
        found = {argument.dest for argument in hits}
        given = self._given()
        groups = {
            group: [one for one in members if one.dest in found and not _ELSEWHERE & set(one.names)]
            for group, members in schema.groups().items()
        }
        every = [argument for members in groups.values() for argument in members]
        chosen = self._chosen
        self._rows = []
        options = []
        for group, members in [(_("set"), [one for one in every if one.dest in given]), *groups.items()]:
            if members:
                self._rows.append(None)
                options.append(Option(Content.styled(one_line(group), "bold $text-primary"), disabled=True))
            for argument in members:
                self._rows.append(argument)
                options.append(Option(self._row(argument, given)))
        listing = self.query_one("#arguments", OptionList)
        listing.clear_options()
        listing.add_options(options)
        count = ngettext("{count} argument of vLLM {version}", "{count} arguments of vLLM {version}", len(every))
        title = count.format(count=len(every), version=schema.version)
        hint = _("searched: “{text}”").format(text=spelled) if spelled else ""
        fields = [one.name for one in hits if FIELD_ARGUMENTS.keys() & set(one.names)] if text.strip() else []
        if fields:
            hint += (" · " if hint else "") + _("in the form itself: {names}").format(names=", ".join(fields))
        self.query_one("#title", Static).update(
            Content.assemble((title, "bold"), (f"  {plain(hint)}" if hint else "", "$text-warning"))
        )
        same = [place for place, row in enumerate(self._rows) if row is not None and row == chosen and self._is_filled]
        first = next((place for place, row in enumerate(self._rows) if row is not None), None)
        self._is_filled = True
        listing.highlighted = same[0] if same else first
        self._explain()

    def _row(self, argument: Argument, given: dict[str, list[str]]) -> Content:
        if argument.dest in given:
            return Content.assemble(("● ", "$text-success"), one_line(shlex.join(given[argument.dest])))
        return Content.assemble("  ", argument.name, (f"  {one_line(argument.type_words)}", "$foreground-muted"))

    @property
    def _chosen(self) -> Argument | None:
        """The argument under the cursor."""
        index = self.query_one("#arguments", OptionList).highlighted
        return self._rows[index] if index is not None and index < len(self._rows) else None

    def _given(self) -> dict[str, list[str]]:
        """dest → its words, of the arguments that are set."""
        schema = self._engine.schema
        names = schema.by_name if schema is not None else {}
        given = {}
        for name, value in self._flags().items():
            words = words_of(name, value)
            argument = names.get(words[0].split("=")[0].split(".")[0])
            if argument is not None:
                given[argument.dest] = words
        return given

    def _value_of(self, argument: Argument) -> str:
        """The value that it is set to, as it is typed here."""
        first, *values = self._given().get(argument.dest, [""])
        _name, equals, value = first.partition("=")
        values = [value, *values] if equals else values
        return shlex.join(values) if argument.takes_several else " ".join(values)

    def _flags(self) -> dict[str, FlagValue]:
        try:
            return dict(flags_of(self._words))
        except UsageError:
            return {}

    def _explain(self) -> None:
        """The argument under the cursor: names, type, choices, default, help; and the field for its value."""
        argument = self._chosen
        field = self.query_one("#value", Input)
        self._complain("")
        field.display = argument is not None and not argument.is_flag
        if argument is None:
            self.query_one("#help", Static).update(Content(""))
            return
        default = argument.default if isinstance(argument.default, str) else json.dumps(argument.default)
        parts = [Content.styled(", ".join(argument.names), "bold")]
        facts = [argument.type_words or _("stands alone"), _("default: {value}").format(value=default or "–")]
        if argument.suggestions:
            facts.append(_("such as {values}").format(values=", ".join(argument.suggestions)))
        parts.append(Content.styled(plain(" · ".join(facts)), "$text-accent"))
        parts.append(Content(plain(argument.help.strip())))
        self.query_one("#help", Static).update(Content("\n").join(parts))
        self.query_one("#about", VerticalScroll).scroll_home(animate=False)
        if field.display:
            field.placeholder = _("value of {name}: {type}").format(name=argument.name, type=argument.type_words)
            field.value = self._value_of(argument)

    def _complain(self, text: str) -> None:
        problem = self.query_one("#problem", Static)
        problem.display = bool(text)
        problem.update(Content.styled(plain(text), "$text-error"))

    # Keys

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._engine.schema is None:
            return
        if event.input.id == "search":
            self._fill()
        else:
            self._complain(self._problem_of(self._words_for(event.value)) if event.value else "")

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._explain()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_choose()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.input.id == "search":
            self.action_choose()
        else:
            self._set_value(event.value)

    def action_choose(self) -> None:
        argument = self._chosen
        if argument is None:
            return
        if not argument.is_flag:
            self.query_one("#value", Input).focus()
        elif argument.dest in self._given():
            self.action_take_away()
        else:
            off = next((name for name in argument.names if name.startswith("--no-")), "")
            self._put(argument, [off if argument.default is True and off else argument.name])

    def _words_for(self, value: str) -> list[str]:
        argument = self._chosen
        if argument is None:
            return []
        try:
            values = shlex.split(value) if argument.takes_several else [value]
        except ValueError:
            values = [value]
        if len(values) == 1 and values[0].startswith("-"):
            return [f"{argument.name}={values[0]}"]
        return [argument.name, *values]

    def _problem_of(self, words: list[str]) -> str:
        assert self._engine.schema is not None
        return "\n".join(str(problem) for problem in check(self._engine.schema, words) if problem.is_certain)

    def _set_value(self, value: str) -> None:
        argument = self._chosen
        if argument is None:
            return
        if not value.strip():
            self.action_take_away()
        elif problem := self._problem_of(self._words_for(value.strip())):
            self._complain(problem)
            return
        else:
            self._put(argument, self._words_for(value.strip()))
        self.query_one("#search", Input).focus()

    def action_take_away(self) -> None:
        if self._chosen is not None:
            self._put(self._chosen, [])

    def _put(self, argument: Argument, words: list[str]) -> None:
        """Give the argument these words, in place of what it has."""
        kept: list[str] = []
        flags = self._flags()
        if not flags:
            kept = list(self._words)
        for name, value in flags.items():
            own = words_of(name, value)
            if own[0].split("=")[0] not in argument.names:
                kept += own
        self._words = [*kept, *words]
        self._fill()

    def action_cursor(self, rows: int) -> None:
        if self.focused is self.query_one("#value", Input):
            self.query_one("#search", Input).focus()
        listing = self.query_one("#arguments", OptionList)
        if rows > 0:
            listing.action_cursor_down()
        else:
            listing.action_cursor_up()

    def action_scroll(self, pages: int) -> None:
        about = self.query_one("#about", VerticalScroll)
        about.scroll_relative(y=pages * max(1, about.size.height - 1), animate=False)

    def action_back(self) -> None:
        if self.focused is self.query_one("#value", Input):
            self._explain()
            self.query_one("#search", Input).focus()
            return
        self.dismiss(self._words if self._words != self._begun else None)
