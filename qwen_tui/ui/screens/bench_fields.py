"""The fields of the benchmark's form: labels, examples, and what their texts amount to."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from qwen_tui.bench.load import Load
from qwen_tui.bench.presets import Preset
from qwen_tui.bench.price import HourlyPrice
from qwen_tui.bench.run import Plan
from qwen_tui.bench.statistics import Limits
from qwen_tui.bench.sweep import By
from qwen_tui.bench.target import Api
from qwen_tui.bench.workload import Workload
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import N_, _
from qwen_tui.ui.bench_desk import Kind, Order
from qwen_tui.ui.bench_places import Place

#: Field → its label.
LABELS: Mapping[str, str] = {
    "kind": N_("Measure"),
    "target": N_("Server"),
    "api": N_("Endpoint"),
    "dataset": N_("Prompts"),
    "path": N_("File"),
    "input_len": N_("Tokens in"),
    "output_len": N_("Tokens out"),
    "spread": N_("Lengths ±"),
    "prefix_len": N_("Shared prefix"),
    "by": N_("Load by"),
    "streams": N_("Streams at once"),
    "rate": N_("Requests/s"),
    "burstiness": N_("Burstiness"),
    "most_at_once": N_("At most at once"),
    "ramp": N_("Ramp"),
    "ramp_from": N_("Ramp from"),
    "levels": N_("Loads"),
    "percent": N_("Percent within"),
    "most": N_("Highest load"),
    "repeats": N_("Runs at the end"),
    "budget": N_("Seconds in all"),
    "count": N_("Requests"),
    "seconds": N_("or seconds"),
    "warmup": N_("Warm-up"),
    "ttft": N_("TTFT limit"),
    "tpot": N_("TPOT limit"),
    "e2el": N_("E2EL limit"),
    "seed": N_("Seed"),
    "tags": N_("Tags"),
    "note": N_("Note"),
    "price": N_("Price of an hour"),
}
#: Field → what stands in it while it is empty.
HINTS: Mapping[str, str] = {
    "path": N_("the file of the data set; a conversation: empty takes the one in Chat"),
    "input_len": N_("tokens of a prompt, without the chat template"),
    "output_len": N_("tokens of an answer; of a data set: empty takes its own"),
    "spread": N_("0 to below 1: 0.5 is half as long to half as long again"),
    "prefix_len": N_("tokens that all prompts begin with"),
    "streams": N_("each asks again when it has its answer"),
    "rate": N_("whatever is answered; inf: all at once"),
    "burstiness": N_("1: by chance (Poisson), below: in bursts, inf: evenly"),
    "most_at_once": N_("empty: as many as come"),
    "ramp_from": N_("requests per second at the beginning"),
    "levels": N_("such as 1 2 4 8 16 32"),
    "percent": N_("of the requests must be within the limits"),
    "most": N_("where the search ends"),
    "repeats": N_("at the load that was found, for certainty"),
    "budget": N_("how long to search; a run under way is finished"),
    "count": N_("empty in a ladder or a search: as many as it takes"),
    "seconds": N_("send for so long, instead of a number of requests"),
    "warmup": N_("requests before, which count nowhere"),
    "ttft": N_("ms to the first token, for goodput"),
    "tpot": N_("ms for each further token"),
    "e2el": N_("ms for the whole answer"),
    "seed": N_("a number makes the same prompts again; empty: new ones"),
    "tags": N_("words to find it by"),
    "price": N_("such as 2.49 USD or ¥18: results then tell the price of tokens"),
}
#: Field → what can be chosen there, and in which words. "target" has the places.
CHOICES: Mapping[str, Mapping[str, str]] = {
    "kind": {"run": N_("one run"), "sweep": N_("a ladder of loads"), "capacity": N_("how many users it bears")},
    "api": {"chat": N_("chat"), "completions": N_("completions")},
    "dataset": {
        "random": N_("random words"),
        "sharegpt": "ShareGPT",
        "jsonl": N_("JSON lines"),
        "conversation": N_("one conversation"),
    },
    "by": {"users": N_("streams at once"), "rate": N_("requests per second")},
    "ramp": {"": N_("none"), "linear": N_("linear"), "exponential": N_("exponential")},
}
_OF_RUN = ("streams", "rate", "burstiness", "most_at_once", "ramp", "ramp_from")
_OF_LADDER = ("levels",)
_OF_SEARCH = ("percent", "most", "repeats", "budget")


def is_shown(name: str, values: Mapping[str, str]) -> bool:
    """Whether this field means anything for what is chosen in the others."""
    kind, by, dataset = values.get("kind", "run"), values.get("by", "users"), values.get("dataset", "random")
    if name in ("input_len", "spread", "prefix_len"):
        return dataset == "random"
    if name == "path":
        return dataset != "random"
    if name in _OF_LADDER:
        return kind == "sweep"
    if name in _OF_SEARCH:
        return kind == "capacity"
    if name == "streams":
        return kind == "run" and by == "users"
    if name in _OF_RUN:
        open_loop = by == "rate" and kind == "run"
        return open_loop and (name != "ramp_from" or bool(values.get("ramp")))
    return not (name in ("seconds", "warmup", "tags", "note") and kind == "capacity")


def values_of(preset: Preset) -> dict[str, str]:
    """The texts that a preset puts into the form; the rest of the form stays as it is."""
    work, load = preset.workload, preset.load
    return {
        "dataset": work.kind, "input_len": str(work.input_len), "output_len": str(work.output_len),
        "spread": f"{work.spread:g}" if work.spread else "", "prefix_len": str(work.prefix_len or ""),
        "by": "rate" if load.is_open_loop else "users", "streams": str(load.streams or ""),
        "rate": f"{load.rate:g}" if load.rate else "", "count": str(load.count or ""),
        "seconds": f"{load.seconds:g}" if load.seconds else "", "warmup": str(load.warmup or ""),
        "burstiness": "", "most_at_once": "", "ramp": "", "ramp_from": "",
    }  # fmt: skip


#: What stands in the form at first besides a preset's values.
FIRST: Mapping[str, str] = {
    "kind": "run", "api": "chat", "levels": "1 2 4 8 16 32",
    "percent": "90", "most": "1024", "repeats": "3", "budget": "120",
}  # fmt: skip


@dataclass
class Reading:
    """What the texts amount to. errors: field → what is wrong, "" for all together. order: None with errors."""

    errors: dict[str, str] = field(default_factory=dict)
    order: Order | None = None
    command: str = ""
    price: str = ""


class _Reader:
    """Reads texts one by one and notes what is wrong."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.errors: dict[str, str] = {}
        self._values = values

    def text(self, name: str) -> str:
        return self._values.get(name, "").strip() if is_shown(name, self._values) else ""

    def whole(self, name: str, least: int = 0, otherwise: int = 0) -> int:
        text = self.text(name)
        if not text:
            return otherwise
        if not text.isdecimal() or len(text) > 12 or int(text) < least:
            self.errors[name] = _("a whole number from {least} on").format(least=least)
            return otherwise
        return int(text)

    def number(self, name: str, above: float = 0.0, below: float = math.inf, otherwise: float = 0.0) -> float:
        """More than `above`, at most `below`."""
        text = self.text(name)
        if not text:
            return otherwise
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not above < value <= below:
            self.errors[name] = (
                _("a number above {above:g}").format(above=above)
                if math.isinf(below)
                else _("a number above {above:g}, at most {below:g}").format(above=above, below=below)
            )
            return otherwise
        return value

    def seed(self) -> int | None:
        return self.whole("seed") if self.text("seed") else None

    def levels(self, by: By) -> list[float]:
        found = []
        for word in self.text("levels").replace(",", " ").split():
            try:
                level = float(word)
            except ValueError:
                level = math.nan
            if not 0 < level < math.inf or (by == "users" and level != int(level)):
                self.errors["levels"] = _("“{word}” is no load").format(word=word)
                return []
            found.append(level)
        if not found and is_shown("levels", self._values):
            self.errors["levels"] = _("at least one load, such as 1 2 4 8")
        return sorted(set(found))


def read(
    values: Mapping[str, str], known: Sequence[Place], conversation: Callable[[], tuple[Path, Sequence[Any]] | None]
) -> Reading:
    """Read every field. conversation: the file that Chat's conversation is put into and its messages; None: empty."""
    reader = _Reader(values)
    place = next((place for place in known if place.key == values.get("target")), None)
    if place is None:
        reader.errors["target"] = _("no server is ready: start one in Servers, or add an endpoint there")
    kind, by = cast(Kind, values.get("kind", "run")), cast(By, values.get("by", "users"))
    api = cast(Api, values.get("api", "chat"))
    workload, work_words = _workload(reader, values, conversation)
    load = _load(reader, kind, by)
    limits = Limits(**{name: reader.number(name) / 1e3 or None for name in ("ttft", "tpot", "e2el")})
    if kind == "capacity" and not limits and not any(name in reader.errors for name in ("ttft", "tpot", "e2el")):
        reader.errors["ttft"] = _("say what is fast enough: one of the three limits at least")
    levels, seed = reader.levels(by) if kind == "sweep" else [], reader.seed()
    share = reader.number("percent", 0, 100, 90) / 100
    most, repeats = reader.number("most", 0, otherwise=1024), reader.whole("repeats", 1, 3)
    budget = reader.number("budget", otherwise=120)
    tags = tuple(reader.text("tags").replace(",", " ").split())
    note, price = reader.text("note"), values.get("price", "").strip()
    try:
        HourlyPrice.parse(price)
    except QwenTuiError as error:
        reader.errors["price"] = error.title
    if reader.errors or place is None or workload is None or load is None:
        return Reading(reader.errors, price=price)
    try:
        target = place.target(api)
    except QwenTuiError as error:
        return Reading({"target": error.title}, price=price)
    plan = Plan(target, workload, load, limits, seed, tokenizer_file=place.tokenizer_file, tags=tags, note=note,
                about=place.about)  # fmt: skip
    count = 0 if kind == "run" else reader.whole("count", 1)
    order = Order(kind, plan, "", by, levels, share, most, repeats, count, budget)
    words = [*place.words, *(["--api", api] if api != "chat" else []), *work_words]
    command = command_of(order, words)
    return Reading({}, replace(order, command=command), command, price)


def _workload(
    reader: _Reader, values: Mapping[str, str], conversation: Callable[[], tuple[Path, Sequence[Any]] | None]
) -> tuple[Workload | None, list[str]]:
    """The work, and how a command line says it."""
    kind = cast(Any, values.get("dataset", "random"))
    input_len, output_len = reader.whole("input_len", 1, 64), reader.whole("output_len", 1, 0)
    if kind == "random":
        output_len = output_len or 128
    spread, prefix = reader.number("spread", -1e-9, 0.99), reader.whole("prefix_len")
    path, messages = reader.text("path"), ()
    if kind == "conversation":
        path, messages = _messages(reader, path, conversation)
    elif kind != "random" and not Path(path).expanduser().is_file():
        reader.errors["path"] = _("there is no such file") if path else _("the file with the prompts")
    path = str(Path(path).expanduser().absolute()) if path else ""
    if reader.errors:
        return None, []
    try:
        work = Workload(kind, input_len, output_len, spread, prefix, "" if kind == "conversation" else path, messages)
    except QwenTuiError as error:
        reader.errors[""] = error.title
        return None, []
    return work, work_words(work, path)


def work_words(work: Workload, path: str = "") -> list[str]:
    """How a command line says what is asked. path: the file of a conversation."""
    words = ["--dataset", work.kind]
    if work.kind == "random":
        words += ["--input-len", str(work.input_len), "--output-len", str(work.output_len)]
        words += ["--range-ratio", f"{work.spread:g}", "--prefix-len", str(work.prefix_len)]
    else:
        words += ["--dataset-path", work.path or path or "CONVERSATION.json"]
        words += ["--output-len", str(work.output_len)] if work.output_len else []
    if work.ignore_eos is not None:
        words.append("--ignore-eos" if work.ignore_eos else "--no-ignore-eos")
    return words


def _messages(
    reader: _Reader, path: str, conversation: Callable[[], tuple[Path, Sequence[Any]] | None]
) -> tuple[str, tuple[Any, ...]]:
    """The file of a conversation and the messages in it."""
    if not path:
        found = conversation()
        if found is None:
            reader.errors["path"] = _("nothing was said in Chat yet: name a JSON file with messages")
            return "", ()
        return str(found[0]), tuple(found[1])
    try:
        data = json.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reader.errors["path"] = str(getattr(error, "strerror", None) or error)
        return path, ()
    messages = data.get("messages") if isinstance(data, dict) else data
    if not isinstance(messages, list) or not all(
        isinstance(entry, dict) and "role" in entry and "content" in entry for entry in messages
    ):
        reader.errors["path"] = _("it holds no list of messages")
        return path, ()
    return path, tuple({"role": str(entry["role"]), "content": entry["content"]} for entry in messages)


def _load(reader: _Reader, kind: Kind, by: By) -> Load | None:
    warmup = reader.whole("warmup")
    if kind == "capacity":
        return Load(streams=1, count=1, warmup=2) if by == "users" else Load(rate=1.0, count=1, warmup=2)
    count, seconds = reader.whole("count", 1), reader.number("seconds")
    if count and seconds:
        reader.errors["seconds"] = _("give a number of requests or seconds, not both")
    if kind == "sweep":
        base = Load(streams=1, count=0 if seconds else 100, seconds=seconds, warmup=warmup)
        return base if not reader.errors else None
    if not count and not seconds:
        reader.errors.setdefault("count", _("how many requests, or below for how long"))
    streams, rate = (reader.whole("streams", 1), 0.0) if by == "users" else (0, reader.number("rate"))
    if not streams and not rate:
        reader.errors.setdefault("streams" if by == "users" else "rate", _("a number above 0"))
    burstiness, most = reader.number("burstiness", otherwise=1.0), reader.whole("most_at_once", 1)
    ramp, ramp_from = reader.text("ramp"), reader.number("ramp_from")
    if reader.errors:
        return None
    try:
        return Load(streams, rate, burstiness, most, ramp, ramp_from, count, seconds, warmup)
    except QwenTuiError as error:
        reader.errors[""] = error.title
        return None


def command_of(order: Order, words: Sequence[str]) -> str:
    """The command that does `order`; words: what names the server and the work."""
    plan, load = order.plan, order.plan.load
    limits = {name: value * 1e3 for name, value in plan.limits.to_json().items() if value is not None}
    if order.kind == "capacity":
        parts = ["qwen-tui", "capacity", *words]
        for name, value in limits.items():
            parts += [f"--{name}", f"{value:g}"]
        parts += ["--percent", f"{order.share * 100:g}", "--most", f"{order.most:g}", "--repeats", str(order.repeats)]
        parts += ["--budget", f"{order.budget:g}"]
        parts += ["--by-rate"] if order.by == "rate" else []
        parts += ["--num-prompts", str(order.count)] if order.count else []
        return shlex.join([*parts, *_seed(plan)])
    parts = ["qwen-tui", "bench", *words]
    if order.kind == "sweep":
        levels = ",".join(f"{level:g}" for level in order.levels)
        parts += ["--sweep-rate" if order.by == "rate" else "--sweep", levels]
        parts += ["--num-prompts", str(order.count)] if order.count else []
    else:
        parts += _load_words(load)
        parts += ["--num-prompts", str(load.count)] if load.count else []
    parts += ["--duration", f"{load.seconds:g}"] if load.seconds else []
    parts += ["--warmup", str(load.warmup)] if load.warmup else []
    parts += ["--goodput", *(f"{name}:{value:g}" for name, value in limits.items())] if limits else []
    for tag in plan.tags:
        parts += ["--tag", tag]
    parts += ["--note", plan.note] if plan.note else []
    return shlex.join([*parts, *_seed(plan)])


def _load_words(load: Load) -> list[str]:
    if load.streams:
        return ["--concurrency", str(load.streams)]
    words = ["--request-rate", f"{load.rate:g}"]
    words += ["--burstiness", f"{load.burstiness:g}"] if load.burstiness != 1 else []
    words += ["--max-concurrency", str(load.most_at_once)] if load.most_at_once else []
    return words + (["--ramp-up", load.ramp, "--ramp-from", f"{load.ramp_from:g}"] if load.ramp else [])


def _seed(plan: Plan) -> list[str]:
    return ["--seed", str(plan.seed)] if plan.seed is not None else []
