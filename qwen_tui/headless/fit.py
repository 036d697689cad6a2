"""`qwen-tui fit MODEL [MODEL]`: does it fit this machine, with which flags, and which of two fits better."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING

from qwen_tui.errors import EngineError, ModelError, UsageError
from qwen_tui.i18n import N_, _
from qwen_tui.logs.plain_text import harmless
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.models.fit_box import Box, ModelFit
    from qwen_tui.models.fit_propose import Proposal
    from qwen_tui.models.local_model import LocalModel

_MARKS = {"ok": "✓", "tight": "!", "no": "✗", "unknown": "?"}
_COLOURS = {"ok": "green", "tight": "yellow", "no": "red", "unknown": "cyan"}
_WORDS = {"ok": N_("fits"), "tight": N_("fits, but tight"), "no": N_("does not fit"), "unknown": N_("can't be said")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui fit`."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help=_("id, name or path; two are shown side by side"))
    parser.add_argument(
        "--max-model-len", type=int, metavar="N", help=_("the context to reckon with (default: its own)")
    )
    parser.add_argument("--tensor-parallel-size", type=int, metavar="N", help=_("how many GPUs (default: the fewest)"))
    parser.add_argument("--engine", default="", metavar="PATH", help=_("the environment with vLLM to reckon for"))
    parser.add_argument("--folder", action="append", default=[], metavar="DIR",
                        help=_("look into this folder too; can be repeated"))  # fmt: skip
    parser.add_argument("--json", action="store_true", help=_("print JSON"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Print how the models fit; 1 if one does not. Raises UsageError, ModelError."""
    from qwen_tui.models.fit_box import fit_model
    from qwen_tui.server.model_records import read_model_records

    context, tensor = arguments.max_model_len, arguments.tensor_parallel_size
    for value, name in ((context, "--max-model-len"), (tensor, "--tensor-parallel-size")):
        if value is not None and value < 1:
            raise UsageError(_("{name} must be at least 1").format(name=name))
    records = read_model_records(paths)
    catalogue = records.catalogue(paths, [*settings.model_folders, *arguments.folder])
    models = [catalogue.find(name) for name in arguments.models]
    box = _box(paths, settings, arguments.engine)
    if tensor is not None and not box.is_cpu and tensor > len(box.gpus):
        raise UsageError(_("There are only {count} GPUs").format(count=len(box.gpus)))
    if len(models) > 1 and context is None:
        # Side by side only figures for one context say anything.
        context = min((model.config.default_length for model in models if model.config), default=None)
    tensor = None if box.is_cpu else tensor
    fits = [
        fit_model(model, box, context=context, tensor=tensor, measured=records.measured_for(model)) for model in models
    ]
    pairs = list(zip(models, fits, strict=True))
    if arguments.json:
        _print_json(pairs)
    elif len(pairs) == 1:
        _print_one(*pairs[0])
    else:
        _print_compared(pairs)
    return 1 if any(fit.light == "no" for fit in fits) else 0


def _box(paths: Paths, settings: Settings, engine: str) -> Box:
    """This machine, with the engine's defaults where there is one."""
    from qwen_tui.engine.find import find_engine
    from qwen_tui.models.fit_box import Box

    try:
        found = find_engine(paths, settings.engine, engine)
    except EngineError:
        if engine:
            raise
        return Box.read()
    return Box.read(found.platform, found.version)


def _proposal(model: LocalModel, fit: ModelFit) -> Proposal | None:
    from qwen_tui.models.fit_propose import propose

    try:
        return propose(model, fit)
    except ModelError:
        return None


def _command(proposal: Proposal) -> str:
    """The command that starts the proposed server."""
    fields = proposal.fields()
    words = ["qwen-tui", "serve", proposal.model, "--served-model-name", proposal.served_model_name]
    if fields["max_model_len"]:
        words += ["--max-model-len", fields["max_model_len"]]
    for name, value in proposal.environment.items():
        words += ["--env", f"{name}={value}"]
    if proposal.flags:
        words += ["--", *proposal.flags]
    return shlex.join(words)


def _print_json(pairs: list[tuple[LocalModel, ModelFit]]) -> None:
    results = []
    for model, fit in pairs:
        proposal = _proposal(model, fit)
        command = _command(proposal) if proposal is not None else None
        results.append({**fit.to_json(), "path": str(model.path), "command": command})
    print(json.dumps(results if len(results) > 1 else results[0], ensure_ascii=False))


def _print_one(model: LocalModel, fit: ModelFit) -> None:
    from rich.console import Console
    from rich.text import Text

    from qwen_tui.headless.table import table

    console = Console(soft_wrap=True, highlight=False)
    verdict = Text(f"{_MARKS[fit.light]} {model.id}: {_(_WORDS[fit.light])}. ", style=_COLOURS[fit.light])
    console.print(verdict.append(harmless(fit.why), style="default"))
    if fit.account is not None:
        for line in table(_rows(model, fit)):
            console.print(Text(f"  {line}"))
    for note in fit.notes:
        console.print(Text(f"  · {harmless(note)}", style="dim"))
    proposal = _proposal(model, fit) if fit.light != "no" else None
    if proposal is not None:
        for line in proposal.why:
            console.print(Text(f"  → {line}"))
        console.print(Text(harmless(_command(proposal)), style="dim"))


def _rows(model: LocalModel, fit: ModelFit) -> list[tuple[str, str]]:
    from qwen_tui.models.fit import GIB
    from qwen_tui.models.fit_propose import runs_on
    from qwen_tui.progress import format_bytes

    def gib(count: float) -> str:
        return f"{count / GIB:.2f} GiB" if count >= GIB else format_bytes(count)

    rows = [
        (_("Weights"), f"{gib(fit.weights)} ({fit.dtype}, {model.quantization or model.dtype or '–'})"),
        (_("Runs on"), runs_on(fit)),
        (_("KV cache of a token"), format_bytes(fit.bytes_per_token)),
        (_("KV cache of a request"), _("{size} with {context:,} tokens").format(size=gib(fit.request),
                                                                               context=fit.context)),
        (_("KV cache holds (tokens)"), f"{fit.tokens:,}"),
        (_("Requests at once"), f"{fit.concurrency:,.1f}"),
        (_("Longest context that fits"), _("{count:,} of {all:,}").format(count=fit.longest, all=fit.model_context)),
    ]  # fmt: skip
    if fit.measured is not None:
        import time

        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(fit.measured.at))
        words = _("the start of {time}: {tokens:,} tokens").format(time=day, tokens=fit.measured.tokens)
        rows.append((_("Measured by"), words))
    return rows


def _print_compared(pairs: list[tuple[LocalModel, ModelFit]]) -> None:
    from qwen_tui.headless.table import table
    from qwen_tui.models.fit_propose import compare

    rows = [("", *(f"{_MARKS[fit.light]} {model.id}" for model, fit in pairs))]
    for row in compare(pairs):
        values = (f"{value} *" if place == row.best else value for place, value in enumerate(row.values))
        rows.append((row.label, *map(harmless, values)))
    print("\n".join(table(rows)))
