"""Results of `vllm bench serve --save-result`, of any version, with details or without: as runs of the ledger."""

from __future__ import annotations

import hashlib
import json
import math
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qwen_tui.bench.health import ClientHealth
from qwen_tui.bench.ledger import Ledger, Run, new_id
from qwen_tui.bench.load import Load
from qwen_tui.bench.statistics import LATENCIES, Distribution, Figures, Limits, figures_of
from qwen_tui.bench.target import BenchError
from qwen_tui.bench.workload import Workload
from qwen_tui.i18n import _
from qwen_tui.workers.bench_record import Record

_LARGEST = 512 * 2**20
#: What a result has to have, whatever the version.
_NEEDED = ("duration", "completed", "total_input_tokens", "total_output_tokens", "request_throughput")
_STATISTICS = ("mean", "median", "std", "p90", "p95", "p99", "max")


@dataclass(frozen=True)
class Imported:
    """runs: those that are new in the ledger. known: how many of the file were there already."""

    runs: Sequence[Run]
    known: int = 0


def import_file(file: Path, ledger: Ledger, tags: Sequence[str] = ()) -> Imported:
    """Take over every result in `file`, as long as it is not in the ledger. Blocks. Raises BenchError."""
    seen = {run.about.get("imported_hash") for run in ledger.list()} - {None}
    ids = {run.id for run in ledger.list()}
    taken, known = [], 0
    for data in _read(file):
        mark = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
        if mark in seen or data.get("run_id") in ids:
            known += 1
            continue
        seen.add(mark)
        try:
            run, records = run_of(data)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BenchError(_("{file} is no result of a benchmark").format(file=file), str(error)) from None
        about = {**run.about, "imported_from": file.name, "imported_hash": mark}
        run = replace(run, tags=tuple(tags), about=about)
        ledger.save(run, records)
        taken.append(run)
    return Imported(taken, known)


def _read(file: Path) -> list[dict[str, Any]]:
    """The results in a file: one object, a list of them, or one after another (`--append-result`)."""
    try:
        if file.stat().st_size > _LARGEST:
            raise BenchError(_("{file} is too large for a result").format(file=file))
        text = file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(_("Can't read {file}").format(file=file), str(error)) from None
    found: list[Any] = []
    decoder = json.JSONDecoder()
    at = 0
    try:
        while at < len(text):
            data, at = decoder.raw_decode(text, at)
            found += data if isinstance(data, list) else [data]
            while at < len(text) and text[at] in " \t\r\n,":
                at += 1
    except (ValueError, RecursionError) as error:
        raise BenchError(_("{file} is not JSON").format(file=file), str(error)) from None
    for data in found:
        missing = [name for name in _NEEDED if name not in data] if isinstance(data, dict) else list(_NEEDED)
        if missing:
            raise BenchError(
                _("{file} is no result of `vllm bench serve`").format(file=file),
                _("It does not have: {names}").format(names=", ".join(missing)),
            )
    if not found:
        raise BenchError(_("{file} is empty").format(file=file))
    return found


def run_of(data: Mapping[str, Any]) -> tuple[Run, list[Record]]:
    """The run that a result tells of; its records where it says when each request was sent.

    Raises KeyError, TypeError, ValueError, OverflowError for what is no result.
    """
    figures = _figures(data)
    created = _created(str(data.get("date", "")))
    backend = str(data.get("backend") or data.get("endpoint_type") or "")
    count = max(1, figures.completed)
    answers = figures.total_output_tokens // count
    run = Run(
        id=new_id(created),
        created=created,
        base_url=str(data.get("base_url") or ""),
        model=str(data.get("model_id") or "?"),
        api="chat" if "chat" in backend else "completions",
        workload=Workload("imported", figures.total_input_tokens // count, answers),
        load=_load(data, figures),
        limits=Limits(),
        seed=0,
        figures=figures,
        health=ClientHealth(()),
        about={
            name: data[name]
            for name in ("tokenizer_id", "label", "backend", "engine_version", "gpus", "driver")
            if data.get(name) not in (None, "")
        },
    )
    return run, _records(data) if data.get("start_times") else []


def _created(date: str) -> float:
    """Unix time of “20260315-103000”; now, where the file does not say."""
    try:
        return time.mktime(time.strptime(date, "%Y%m%d-%H%M%S"))
    except (ValueError, OverflowError):
        return time.time()


def _load(data: Mapping[str, Any], figures: Figures) -> Load:
    told = data.get("request_rate", "inf")
    rate = math.inf if told in ("inf", None) else float(told)
    most = int(data.get("max_concurrency") or 0)
    count = int(data.get("num_prompts") or figures.completed + figures.failed) or 1
    if math.isinf(rate):
        return Load(streams=most or count, count=count)
    burstiness = float(data.get("burstiness") or 1.0)
    return Load(rate=rate, burstiness=burstiness, most_at_once=most, count=count)


def _figures(data: Mapping[str, Any]) -> Figures:
    """What the file says, and what it does not say worked out of its details where there are any."""
    completed = int(data["completed"])
    details = figures_of(_records(data)) if data.get("ttfts") and data.get("itls") else Figures()
    input_tokens, output_tokens = int(data["total_input_tokens"]), int(data["total_output_tokens"])
    duration = _number(data["duration"])
    asked = int(data.get("num_prompts") or completed)
    goodput = data.get("request_goodput", data.get("request_goodput:"))  # so called until 0.8
    failed = int(data.get("failed", max(0, asked - completed)))
    per_second = 1 / duration if duration > 0 else 0.0
    latencies: dict[str, Any] = {
        name: _distribution(data, name, getattr(details, name), completed) for name in LATENCIES
    }
    return Figures(
        duration=duration,
        completed=completed,
        failed=failed,
        failures={"broken": failed} if failed else {},
        total_input_tokens=input_tokens,
        total_output_tokens=output_tokens,
        request_throughput=_number(data["request_throughput"]),
        output_throughput=_number(data.get("output_throughput", output_tokens * per_second)),
        total_token_throughput=_number(data.get("total_token_throughput", (input_tokens + output_tokens) * per_second)),
        goodput=None if goodput is None else _number(goodput),
        good_share=None if goodput is None or not completed else _number(goodput) * duration / (completed + failed),
        max_output_tokens_per_s=_number(data.get("max_output_tokens_per_s") or 0.0),
        max_concurrent_requests=int(data.get("max_concurrent_requests") or 0),
        **latencies,
    )


def _distribution(data: Mapping[str, Any], name: str, details: Distribution, completed: int) -> Distribution:
    """In seconds. A statistic that neither the file nor its details tell is 0."""
    told = {key: data.get(f"{key}_{name}_ms") for key in _STATISTICS}
    values = {key: _number(value) / 1e3 if value is not None else getattr(details, key) for key, value in told.items()}
    count = details.count or (completed if any(values.values()) else 0)
    return Distribution(count, **values)


def _records(data: Mapping[str, Any]) -> list[Record]:
    """One for each request; times after the first was sent, or all sent at 0 where the file does not say when."""
    ttfts, itls = data["ttfts"], data["itls"]
    count = len(ttfts)
    errors = data.get("errors") or [""] * count
    starts = data.get("start_times") or [0.0] * count
    inputs, outputs = data.get("input_lens") or [-1] * count, data.get("output_lens") or [-1] * count
    zero = min(map(_number, starts), default=0.0)
    found = []
    for index, row in enumerate(zip(ttfts, itls, errors, starts, inputs, outputs, strict=True)):
        ttft, gaps, error, start, prompt, answer = row
        sent = _number(start) - zero
        if error or not answer or _number(ttft) <= 0:
            found.append(Record(index, "broken", sent, sent, sent, message=str(error or "")[:1000]))
            continue
        at = sent + _number(ttft)
        stamps = array("d", [at])
        for gap in gaps:
            at += _number(gap)
            stamps.append(at)
        found.append(Record(index, "ok", sent, sent, at, stamps[0], 200, int(prompt), int(answer), stamps))
    return found


def _number(value: Any) -> float:
    """A finite number. Raises TypeError, ValueError."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"not a number: {value}")
    return number
