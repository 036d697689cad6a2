"""The arguments that say what `bench` and `capacity` ask and how; turned into a workload and a load."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _

if TYPE_CHECKING:
    from qwen_tui.bench.load import Load
    from qwen_tui.bench.statistics import Limits
    from qwen_tui.bench.workload import Workload

_PROMPTS = 100


def add_workload_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked."""
    parser.add_argument("--preset", metavar="NAME", help=_("work and load that belong together; `list` shows them"))
    parser.add_argument(
        "--dataset",
        choices=("random", "sharegpt", "jsonl", "conversation"),
        help=_("random words, ShareGPT's JSON, JSON lines with prompts or messages, one conversation again and again"),
    )
    parser.add_argument("--dataset-path", metavar="FILE", help=_("the file of any of these but the first"))
    parser.add_argument(
        "--input-len", type=_count, metavar="N", help=_("tokens of a prompt, without the chat template")
    )
    parser.add_argument("--output-len", type=_count, metavar="N", help=_("tokens of an answer"))
    parser.add_argument(
        "--range-ratio", type=_number, metavar="SHARE", help=_("how far lengths go up and down: 0.5 is half")
    )
    parser.add_argument("--prefix-len", type=_count, metavar="N", help=_("tokens before, the same for all prompts"))
    parser.add_argument(
        "--ignore-eos", action=argparse.BooleanOptionalAction, help=_("answer exactly as long as asked (random: yes)")
    )
    parser.add_argument("--seed", type=_count, metavar="N", help=_("make the same prompts again"))


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """How it is asked."""
    parser.add_argument("--num-prompts", type=_count, metavar="N", help=_("how many requests (default: 100)"))
    parser.add_argument("--duration", type=_number, metavar="SECONDS", help=_("send for so long instead"))
    parser.add_argument(
        "--concurrency", type=_count, metavar="N", help=_("so many streams, each asks when it has its answer")
    )
    parser.add_argument(
        "--request-rate",
        "--rate",
        type=_number,
        metavar="R",
        help=_("requests per second, whatever is answered; `inf`: all at once"),
    )
    parser.add_argument(
        "--burstiness", type=_number, metavar="B", help=_("1: by chance (Poisson), below: in bursts, `inf`: evenly")
    )
    parser.add_argument(
        "--max-concurrency", type=_count, metavar="N", help=_("with --request-rate: never more at once")
    )
    parser.add_argument("--ramp-up", choices=("linear", "exponential"), help=_("get to the rate over the whole run"))
    parser.add_argument("--ramp-from", type=_number, metavar="R", help=_("the rate that a ramp begins with"))
    parser.add_argument("--warmup", type=_count, metavar="N", help=_("requests before, which count nowhere"))


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(_("not a whole number: {text}").format(text=text))
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(_("not a number of 0 or more: {text}").format(text=text))
    return value


def levels(text: str) -> list[float]:
    """“1,2,4” as numbers above 0."""
    found = [_number(word) for word in text.split(",") if word.strip()]
    if not found or not all(0 < level < math.inf for level in found):
        raise argparse.ArgumentTypeError(_("not numbers above 0: {text}").format(text=text))
    return found


def workload_of(arguments: argparse.Namespace) -> Workload:
    """The work that the arguments ask for, on top of the preset's. Raises UsageError, BenchError."""
    from dataclasses import asdict

    from qwen_tui.bench.workload import Workload

    preset = _preset(arguments)
    base = preset.workload if preset is not None else Workload()
    kind = arguments.dataset or ("jsonl" if arguments.dataset_path and base.kind == "random" else base.kind)
    fields: dict[str, Any] = asdict(base) | {"kind": kind, "messages": base.messages}
    if kind != "random":
        fields["output_len"] = 0
    given = {
        "input_len": arguments.input_len,
        "output_len": arguments.output_len,
        "spread": arguments.range_ratio,
        "prefix_len": arguments.prefix_len,
        "path": arguments.dataset_path,
        "ignore_eos": arguments.ignore_eos,
    }
    fields |= {name: value for name, value in given.items() if value is not None}
    if kind == "conversation":
        fields |= {"messages": _conversation(arguments.dataset_path), "path": ""}
    elif fields["path"]:
        fields["path"] = str(Path(fields["path"]).absolute())
    return Workload(**fields)


def _conversation(path: str | None) -> tuple[dict[str, Any], ...]:
    """The messages in a JSON file: a list of them, or an object that holds it."""
    if not path:
        raise UsageError(_("--dataset conversation needs --dataset-path FILE"))
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(_("Can't read {file}").format(file=path), str(error)) from None
    messages = data.get("messages") if isinstance(data, dict) else data
    if not isinstance(messages, list) or not all(
        isinstance(entry, dict) and "role" in entry and "content" in entry for entry in messages
    ):
        raise UsageError(_("{file} holds no list of messages").format(file=path))
    # Only what a request takes: a kept conversation has more in each message.
    return tuple({"role": str(entry["role"]), "content": entry["content"]} for entry in messages)


def load_of(arguments: argparse.Namespace) -> Load:
    """The load that the arguments ask for, on top of the preset's. Raises UsageError."""
    from qwen_tui.bench.load import Load

    if arguments.concurrency is not None and arguments.request_rate is not None:
        raise UsageError(_("Give --concurrency or --request-rate, not both"), "", _("--max-concurrency caps a rate"))
    if arguments.num_prompts is not None and arguments.duration is not None:
        raise UsageError(_("Give --num-prompts or --duration, not both"))
    preset = _preset(arguments)
    base = preset.load if preset is not None else None
    if arguments.concurrency is not None:
        streams, rate = arguments.concurrency, 0.0
    elif arguments.request_rate is not None or base is None:
        streams, rate = 0, math.inf if arguments.request_rate is None else arguments.request_rate
    else:
        streams, rate = base.streams, base.rate
    if arguments.duration is not None:
        count, seconds = 0, arguments.duration
    else:
        count, seconds = arguments.num_prompts or (base.count if base is not None else _PROMPTS), 0.0
    if not (streams or rate) or not (count or seconds):
        raise UsageError(_("A load's numbers are above 0"))
    return Load(
        streams=streams,
        rate=rate,
        burstiness=1.0 if arguments.burstiness is None else arguments.burstiness,
        most_at_once=arguments.max_concurrency or 0,
        ramp=arguments.ramp_up or "",
        ramp_from=arguments.ramp_from or 0.0,
        count=count,
        seconds=seconds,
        warmup=arguments.warmup if arguments.warmup is not None else (base.warmup if base is not None else 0),
    )


def _preset(arguments: argparse.Namespace) -> Any:
    from qwen_tui.bench.presets import PRESETS

    if not arguments.preset:
        return None
    if arguments.preset not in PRESETS:
        raise UsageError(
            _("There is no preset “{name}”").format(name=arguments.preset),
            "",
            _("Known are: {names}").format(names=", ".join(PRESETS)),
        )
    return PRESETS[arguments.preset]


def limits_of(words: list[str]) -> Limits:
    """“ttft:500 tpot:50” in ms, as `vllm bench serve --goodput` takes it. Raises UsageError."""
    from qwen_tui.bench.statistics import Limits

    found: dict[str, float] = {}
    for word in words:
        name, _colon, value = word.partition(":")
        try:
            found[name] = float(value) / 1e3
        except ValueError:
            found[name] = math.nan
        if name not in ("ttft", "tpot", "e2el") or not found[name] > 0:
            raise UsageError(
                _("Not a limit: {text}").format(text=word), "", _("For example: ttft:500 tpot:50 e2el:10000")
            )
    return Limits(**found)
