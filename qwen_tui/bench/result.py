"""A run as the JSON that `vllm bench serve --save-result` writes: its names where the meaning is the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from qwen_tui.bench.ledger import Run
from qwen_tui.bench.statistics import LATENCIES, Distribution, gaps, output_tokens
from qwen_tui.workers.bench_record import Record

_BACKENDS = {"chat": "openai-chat", "completions": "openai"}


def result_json(run: Run, records: Sequence[Record] | None = None) -> dict[str, Any]:
    """records: with them the detail of each request goes in too (input_lens, ttfts, itls, …), in seconds."""
    figures = run.figures
    result: dict[str, Any] = {
        "date": time.strftime("%Y%m%d-%H%M%S", time.localtime(run.created)),
        "run_id": run.id,
        "kind": run.kind,
        "backend": _BACKENDS[run.api],
        "base_url": run.base_url,
        "model_id": run.model,
        "tokenizer_id": run.about.get("tokenizer_id", run.model),
        "num_prompts": figures.completed + figures.failed + figures.cancelled,
        "request_rate": run.load.to_json()["rate"] if run.load.is_open_loop else "inf",
        "burstiness": run.load.to_json()["burstiness"],
        "max_concurrency": run.load.slots or None,
        "duration": figures.duration,
        "completed": figures.completed,
        "failed": figures.failed,
        "total_input_tokens": figures.total_input_tokens,
        "total_output_tokens": figures.total_output_tokens,
        "request_throughput": figures.request_throughput,
        "request_goodput": figures.goodput,
        "output_throughput": figures.output_throughput,
        "total_token_throughput": figures.total_token_throughput,
        "max_output_tokens_per_s": figures.max_output_tokens_per_s,
        "max_concurrent_requests": figures.max_concurrent_requests,
    }
    for name in LATENCIES:
        result |= _in_ms(name, getattr(figures, name))
    result |= _in_ms("ttft_text", figures.ttft_text)
    result |= {
        "partial": run.partial,
        "cancelled": figures.cancelled,
        "failures": dict(figures.failures),
        "failure_messages": dict(figures.messages),
        "good_share": figures.good_share,
        "limits": run.limits.to_json(),
        "tokens_from": figures.tokens_from,
        "tokens_per_chunk": figures.tokens_per_chunk,
        "prompt_lengths_from": run.tokenizer or "estimate",
        "prompts_repeat": run.repeats,
        "seed": run.seed,
        "workload": run.workload.to_json(),
        "load": run.load.to_json(),
        "tags": list(run.tags),
        "note": run.note,
        "client": {**run.health.to_json(), "doubts": run.health.doubts()},
        "server": run.server,
        "around": run.around,
        **run.about,
    }
    return result | (_detail(records) if records is not None else {})


def _in_ms(name: str, values: Distribution) -> dict[str, float]:
    keys = ("mean", "median", "std", "p90", "p95", "p99", "max")
    return {f"{key}_{name}_ms": getattr(values, key) * 1e3 for key in keys}


def _detail(records: Sequence[Record]) -> dict[str, Any]:
    """One entry for each request, in the order of the workload, failed ones included."""
    ordered = sorted(records, key=lambda record: record.index)
    return {
        "input_lens": [max(0, record.prompt_tokens) for record in ordered],
        "output_lens": [output_tokens(record) if record.is_ok else 0 for record in ordered],
        "ttfts": [record.ttft if record.is_ok else 0.0 for record in ordered],
        "itls": [gaps(record) if record.is_ok else [] for record in ordered],
        "start_times": [record.sent if record.sent == record.sent else record.due for record in ordered],
        "errors": ["" if record.is_ok else record.message or record.kind for record in ordered],
    }
