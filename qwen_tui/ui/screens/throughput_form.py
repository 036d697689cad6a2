"""Asks what an offline speed test is to compare: the usual comparison's values first, and the command they make."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, Static

from qwen_tui.bench.throughput import BACKENDS, BackendName, Work
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import N_, _
from qwen_tui.ui.rooms import DO, MOVE
from qwen_tui.ui.screens.server_form_view import FormSwitch
from qwen_tui.ui.text import plain
from qwen_tui.ui.widgets.key_bar import KeyBar
from qwen_tui.ui.widgets.model_part import QuietInput
from qwen_tui.ui.widgets.prose import Prose

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp

#: Field → its label; the order of the form.
LABELS: Mapping[str, str] = {
    "model": N_("Model"),
    "input_len": N_("Input tokens"),
    "output_len": N_("Output tokens"),
    "num_prompts": N_("Prompts"),
    "seed": N_("Seed"),
    "dtype": N_("dtype"),
    "max_model_len": N_("Max model len"),
    "hf_max_batch_size": N_("HF batch size"),
    "repeat": N_("Rounds"),
    "dataset": N_("Data set"),
    "base_url": N_("Server's URL"),
    "extra": N_("More for vLLM"),
}
HINTS: Mapping[str, str] = {
    "model": N_("a model folder or a hub id"),
    "dtype": N_("auto, half, float16, bfloat16, float, float32"),
    "hf_max_batch_size": N_("prompts of a batch of transformers'"),
    "repeat": N_("how often, with the model loaded once"),
    "dataset": N_("ShareGPT's JSON or JSON lines; empty: random prompts"),
    "base_url": N_("for “server”: http://127.0.0.1:8000/v1"),
    "extra": N_("such as --enforce-eager --gpu-memory-utilization 0.8"),
}
#: What the form begins with: the tutorial's comparison.
FIRST: Mapping[str, str] = {
    "input_len": "64", "output_len": "128", "num_prompts": "25", "seed": "2024", "dtype": "float16",
    "max_model_len": "512", "hf_max_batch_size": "25", "repeat": "1", "backends": "vllm hf",
}  # fmt: skip


def work_of(values: Mapping[str, str]) -> Work:
    """The work that the fields ask for. Raises UsageError."""
    dataset = values.get("dataset", "").strip()
    try:
        extra = tuple(shlex.split(values.get("extra", "")))
    except ValueError as error:
        raise UsageError(_("Extra arguments: {error}").format(error=error)) from None
    model = values.get("model", "").strip()
    folder = Path(model).expanduser()
    work = Work(
        model=str(folder.resolve()) if model and folder.exists() else model,
        backends=cast("tuple[BackendName, ...]", tuple(values.get("backends", "").split())),
        input_len=_number(values, "input_len"),
        output_len=_number(values, "output_len", empty=0 if dataset else None),
        num_prompts=_number(values, "num_prompts"),
        seed=_number(values, "seed"),
        dtype=values.get("dtype", "").strip() or "auto",
        max_model_len=_number(values, "max_model_len") if values.get("max_model_len", "").strip() else None,
        hf_max_batch_size=_number(values, "hf_max_batch_size"),
        dataset=str(Path(dataset).expanduser()) if dataset else "",
        repeat=_number(values, "repeat"),
        engine_arguments=extra,
    )
    work.check()
    if "server" in work.backends and not values.get("base_url", "").strip():
        raise UsageError(_("The backend “server” needs a server's URL"))
    return work


def _number(values: Mapping[str, str], name: str, *, empty: int | None = None) -> int:
    text = values.get(name, "").strip()
    if not text and empty is not None:
        return empty
    if not text.isdecimal() or len(text) > 9:
        raise UsageError(_("{field}: “{value}” is not a whole number").format(field=_(LABELS[name]), value=text))
    return int(text)


class ThroughputForm(ModalScreen[Work | None], inherit_bindings=False):
    """Dismissed with the work, or None; `values` has what was filled in."""

    CSS_PATH = "throughput.tcss"
    AUTO_FOCUS = "#field-model"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", N_("measure"), id="throughput_form.start", group=DO, priority=True),
        Binding("ctrl+y", "copy", N_("copy the command"), id="throughput_form.copy", group=DO, priority=True),
        Binding("escape", "cancel", N_("cancel"), id="throughput_form.cancel", group=DO),
        Binding("tab,down", "app.focus_next", N_("next field"), id="throughput_form.next", group=MOVE, show=False),
        Binding(
            "shift+tab,up", "app.focus_previous", N_("previous field"), id="throughput_form.previous", group=MOVE,
            show=False,
        ),
    ]  # fmt: skip

    def __init__(self, values: Mapping[str, str], engine: str) -> None:
        """values: what the fields begin with. engine: what is known of it, one line."""
        super().__init__()
        self.values = {**FIRST, **values}
        self._engine = engine

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content.styled(_("Speed test: vLLM against transformers"), "bold"), id="title")
            with VerticalScroll(id="fields", can_focus=False):
                with Horizontal(classes="row"):
                    yield Static(Content(_("Backends")), classes="label")
                    for name in BACKENDS:
                        chosen = name in self.values["backends"].split()
                        yield FormSwitch(Content(name), chosen, id=f"backend-{name}", compact=True)
                for field, label in LABELS.items():
                    with Horizontal(classes="row", id=f"row-{field}"):
                        yield Static(Content(_(label)), classes="label")
                        hint = HINTS.get(field, "")
                        yield QuietInput(
                            plain(self.values.get(field, "")),
                            placeholder=_(hint) if hint else "",
                            id=f"field-{field}",
                            compact=True,
                            select_on_focus=False,
                        )
            yield Prose(id="note")
            yield Prose(id="command")
            yield KeyBar()

    def on_mount(self) -> None:
        self._look()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look()

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        event.stop()
        self._look()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes on to the next field; after the last one it measures."""
        event.stop()
        if event.input is self.query(Input).last():
            self.action_start()
        else:
            self.focus_next()

    def _read(self) -> None:
        for field in LABELS:
            self.values[field] = self.query_one(f"#field-{field}", Input).value
        chosen = [name for name in BACKENDS if self.query_one(f"#backend-{name}", Checkbox).value]
        self.values["backends"] = " ".join(chosen)

    def _look(self) -> Work | None:
        """Show the command, or what is wrong; the work, if it makes sense."""
        self._read()
        self.query_one("#row-base_url").display = "server" in self.values["backends"].split()
        note, command = self.query_one("#note", Prose), self.query_one("#command", Prose)
        try:
            work = work_of(self.values)
        except QwenTuiError as error:
            note.update(Content.styled(plain(str(error)), "$text-error"))
            command.update("")
            return None
        note.update(self._remark())
        command.update(Content.styled("$ " + plain(work.command(self.values["base_url"].strip())), "$text-muted"))
        return work

    def _remark(self) -> Content:
        """What the figures depend on besides: the engine, and servers that take their share."""
        qwen = cast("QwenApp", self.app)
        living = [status.name for status in qwen.statuses if status.state.is_alive]
        if living and self.values["backends"] != "server":
            text = _("{names} runs: it takes memory that this test needs, and its work is in the figures")
            return Content.styled("! " + plain(text.format(names=", ".join(living))), "$text-warning")
        return Content.styled(plain(self._engine), "$text-muted")

    def action_start(self) -> None:
        work = self._look()
        if work is not None:
            self.dismiss(work)

    def action_copy(self) -> None:
        work = self._look()
        if work is not None:
            self.app.copy_to_clipboard(work.command(self.values["base_url"].strip()))
            self.notify(_("The command is copied"), markup=False)

    def action_cancel(self) -> None:
        self._read()
        self.dismiss(None)
