"""Asks for a batch: the model, the prompts (a file, or typed), where the results go, and how answers are drawn."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Checkbox, Input, Static, TextArea

from qwen_tui.batch.order import BatchOrder, ServerTarget, read_input
from qwen_tui.batch.preview import Preview, preview
from qwen_tui.batch.state import BatchState
from qwen_tui.batch.words import row_words
from qwen_tui.chat.sampling import BY_NAME, make_sampling
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import N_, _
from qwen_tui.server.plan_offline import offline_problems
from qwen_tui.server.profiles import MODELSCOPE
from qwen_tui.server.status import ServerState
from qwen_tui.state_files import read_json
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.server_form_view import FormSwitch
from qwen_tui.ui.text import cut_middle, one_line, plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.model_part import QuietInput
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

#: Field → its label and what stands in it while it is empty.
_FIELDS: dict[str, tuple[str, str]] = {
    "model": (N_("Model"), N_("a model folder or a hub id")),
    "server": (N_("Server"), N_("empty: an engine of its own; or the name of one that is ready")),
    "input": (N_("Input"), N_("a file of prompts: .txt, .jsonl, .csv; or type some below")),
    "column": (N_("Column"), N_("of a CSV file")),
    "prompts": (N_("Prompts"), ""),
    "output": (N_("Output"), N_("results.jsonl, beside the input")),
    "sampling": (N_("Sampling"), N_("temperature=0.8 top_p=0.95 max_tokens=512")),
    "arguments": (N_("Engine"), N_("--max-model-len 2048 --trust-remote-code")),
}
#: Seconds that nobody types before the input is looked into.
_PAUSE = 0.4


class BatchForm(ModalScreen[str | None], inherit_bindings=False):
    """Dismissed with the id of the batch that was started, or None.

    before: one whose model it begins with; as_it_was: with everything else of it, too.
    """

    CSS_PATH = "batch.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", N_("start"), id="batch_form.start", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="batch_form.cancel", group=DO),
        Binding("tab", "app.focus_next", N_("next field"), id="batch_form.next", group=MOVE, priority=True),
        Binding(
            "shift+tab", "app.focus_previous", N_("previous field"), id="batch_form.previous", group=MOVE,
            show=False, priority=True,
        ),
    ]  # fmt: skip

    def __init__(self, before: BatchState | None = None, *, as_it_was: bool = False) -> None:
        super().__init__()
        self._before = before
        self._is_edit = as_it_was and before is not None
        self._pause: Timer | None = None
        self._starting = False
        #: The order that was refused last, for what the plan says of it.
        self._told: BatchOrder | None = None

    @property
    def _qwen(self) -> QwenApp:
        return cast("QwenApp", self.app)

    def compose(self) -> ComposeResult:
        first = self._as_it_was() if self._is_edit else {"model": self._first_model()}
        is_chat = self._is_edit and self._before is not None and bool(self._before.order.get("chat"))
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("New batch"), "bold"), id="title")
            with VerticalScroll(id="fields", can_focus=False):
                for field, (label, hint) in _FIELDS.items():
                    is_text = field == "prompts"
                    with Horizontal(classes="row prompts" if is_text else "row"):
                        yield Static(Content(_(label)), classes="label")
                        if is_text:
                            yield TextArea(id="field-prompts", tab_behavior="focus", compact=True)
                        else:
                            yield QuietInput(
                                plain(first.get(field, "")), placeholder=_(hint) if hint else "", id=f"field-{field}",
                                compact=True, select_on_focus=False,
                            )  # fmt: skip
                with Horizontal(classes="row"):
                    yield Static(Content(""), classes="label")
                    yield FormSwitch(Content(_("through the chat template")), is_chat, id="chat", compact=True)
                    yield FormSwitch(
                        Content(_("from ModelScope")), self._is_modelscope(), id="modelscope", compact=True
                    )
            yield Prose(id="note")
            yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(TextArea).cursor_blink = False
        self._say(_("One prompt in each line. Tab goes on to the next field."), "$foreground-muted")
        self.query_one("#field-model" if not self._value("model") else "#field-input", Input).focus()

    def _first_model(self) -> str:
        if self._before is not None and not self._before.order.get("server"):
            return self._before.model
        target = self._qwen.target
        return target.spec.model if target is not None else ""

    def _is_modelscope(self) -> bool:
        launch = read_json(self._before.folder / "launch.json") if self._before is not None else {}
        return MODELSCOPE in (launch.get("env") or {})

    def _as_it_was(self) -> dict[str, str]:
        """The fields of the batch that is edited."""
        assert self._before is not None
        order = self._before.order
        server = order.get("server") or {}
        names = {status.spec.base_url: status.name for status in self._qwen.statuses}
        known = {name: value for name, value in order["sampling"].items() if name in BY_NAME}
        if extra := {name: value for name, value in order["sampling"].items() if name not in BY_NAME}:
            known["extra_body"] = extra
        sampling = (f"{name}={_written(value)}" for name, value in known.items())
        return {
            "model": "" if server else order["model"],
            "server": names.get(server.get("base_url", ""), ""),
            "input": order["input"]["path"],
            "column": order["input"]["column"],
            "output": order["output"],
            "sampling": shlex.join(sampling),
            # Of an adapter's argument the order itself takes care.
            "arguments": shlex.join(
                word for word in order["arguments"][2:] if not (order.get("lora") and word == "--enable-lora")
            ),
        }

    def _value(self, field: str) -> str:
        return self.query_one(f"#field-{field}", Input).value.strip()

    @property
    def _typed(self) -> list[str]:
        return [line for line in self.query_one(TextArea).text.splitlines() if line.strip()]

    def _say(self, text: str, colour: str = "$text-error") -> None:
        if self.is_attached:
            self.query_one("#note", Prose).update(Content.styled(plain(text), colour))

    # The preview

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.id in ("field-input", "field-column"):
            if self._pause is not None:
                self._pause.stop()
            self._pause = self.set_timer(_PAUSE, self._look_soon)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.focus_next()

    def _look_soon(self) -> None:
        self.run_worker(self._look(), group="look", exclusive=True)

    async def _look(self) -> None:
        path = self._value("input")
        if not path or self._starting:
            return
        try:
            found = await asyncio.to_thread(preview, path, self._value("column"))
        except QwenTuiError as error:
            self._say(str(error))
            return
        if self.is_attached and path == self._value("input"):
            self.query_one("#note", Prose).update(_preview_words(found))

    # Starting

    def action_start(self) -> None:
        if not self._starting:
            self._starting = True
            self.run_worker(self._start(), group="start")

    async def _start(self) -> None:
        self._say(_("checking…"), "$foreground-muted")
        services = self._qwen.services
        try:
            server = self._server()
            order = await asyncio.to_thread(self._order, server)
            engine = None
            if server is None:
                engine = await asyncio.to_thread(services.find_engine, services.paths, services.settings.engine)
                problems = await asyncio.to_thread(
                    offline_problems, order.model, order.arguments, order.env, engine, services.paths
                )
                # The same order once more, after what is against it was told, is meant.
                if problems and order != self._told:
                    self._told = order
                    hint = "\n".join(filter(None, (problems[0].remedy, _("Start it once more, and it is tried"))))
                    raise UsageError(_("It would fail: {text}").format(text=problems[0].text), "", hint)
            state = await services.batches.start(order, engine)
        except QwenTuiError as error:
            self._say(str(error))
        else:
            self.dismiss(state.id)
        finally:
            self._starting = False

    def _server(self) -> tuple[ServerTarget, str] | None:
        """The server that was named, and its model's name there. Raises UsageError."""
        name = self._value("server")
        if not name:
            return None
        for status in self._qwen.statuses:
            if status.name == name and status.state is ServerState.READY:
                return ServerTarget(status.spec.base_url, status.api_key), status.model_name
        ready = ", ".join(status.name for status in self._qwen.statuses if status.state is ServerState.READY)
        raise UsageError(
            _("No server “{name}” is ready").format(name=name), _("Ready are: {names}").format(names=ready or "–")
        )

    def _order(self, server: tuple[ServerTarget, str] | None) -> BatchOrder:
        """What the fields ask for. Raises UsageError."""
        model = server[1] if server is not None else _model(self._value("model"))
        path, batches = self._value("input"), self._qwen.services.batches
        kept = self._before.order if self._is_edit and self._before is not None else {}
        kind = kept["input"]["kind"] if kept and path == kept["input"]["path"] else ""
        given = read_input(Path(path), kind, self._value("column")) if path else batches.typed_input(self._typed)
        output = self._value("output")
        if not output:
            folder = given.path.parent
            output = str(folder / f"{given.path.stem}.results.jsonl")
        sampling = _sampling(self._value("sampling"))
        try:
            words = tuple(shlex.split(self._value("arguments")))
        except ValueError as error:
            raise UsageError(_("Extra arguments: {error}").format(error=error)) from None
        return BatchOrder(
            model=model,
            input=given,
            output=Path(output),
            sampling=_fields(sampling, is_server=server is not None),
            # What the form has no field for stays as it was.
            format=kept.get("format", "rows"),
            system=kept.get("system", ""),
            chat_template=kept.get("chat_template", ""),
            lora=kept.get("lora", "") if server is None else "",
            chat=self.query_one("#chat", Checkbox).value,
            arguments=() if server is not None else words,
            env={MODELSCOPE: "True"} if server is None and self.query_one("#modelscope", Checkbox).value else {},
            server=server[0] if server is not None else None,
        )

    def action_cancel(self) -> None:
        self.dismiss(None)


def _model(text: str) -> str:
    if not text:
        raise UsageError(_("Which model? Give a folder or a hub id, such as qwen/Qwen2-7B-Instruct"))
    path = Path(text).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if text.startswith(("/", "~", "./", "../")):
        raise UsageError(_("Model: there is no {path}").format(path=text))
    return text


def _written(value: Any) -> str:
    """A parameter's value as its reader takes it."""
    if isinstance(value, list) and all(isinstance(part, int) for part in value):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sampling(text: str) -> dict[str, Any]:
    """name=value, with blanks between them. Raises UsageError."""
    values: dict[str, Any] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(_("Sampling: {error}").format(error=error)) from None
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(_("Sampling: write name=value, not “{word}”").format(word=word))
        name = name.strip().lstrip("-").replace("-", "_")
        values[name] = BY_NAME[name].parse(value) if name in BY_NAME else value
    return values


def _fields(values: dict[str, Any], *, is_server: bool) -> dict[str, Any]:
    """As the engine, or the server, takes them; checked."""
    sampling = make_sampling(values)
    if is_server:
        return sampling.to_json("completions")
    chosen = sampling.chosen()
    return {**chosen, **chosen.pop("extra_body", {})}


def _preview_words(found: Preview) -> Content:
    """How many rows there are, how many are none, and the first prompts."""
    count = f"{found.looked_at:,}" if found.is_whole else _("more than {n}").format(n=f"{found.looked_at:,}")
    lines = [Content.styled(_("Rows: {n}").format(n=count), "bold")]
    for code, number in found.bad.items():
        words = _("{n} × {reason}, the first in line {line}")
        text = words.format(n=f"{number:,}", reason=row_words(code), line=found.first_bad[code])
        lines.append(Content.styled(text, "$text-warning"))
    # Last: on a small screen it is these that there is no room for.
    lines += [
        Content.styled("  " + cut_middle(one_line(prompt[:300]), 70), "$foreground-muted") for prompt in found.first
    ]
    return Content("\n").join(lines)
