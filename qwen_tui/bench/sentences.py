"""What a run, a ladder of loads and a search amount to, in translated words: the same for every front end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen_tui.bench.series import throttle_texts
from qwen_tui.bench.words import KIND_WORDS
from qwen_tui.i18n import _, ngettext

if TYPE_CHECKING:
    from qwen_tui.bench.capacity import Capacity
    from qwen_tui.bench.ledger import Run
    from qwen_tui.bench.statistics import Figures, Limits
    from qwen_tui.bench.sweep import By, Sweep


def load_text(run: Run) -> str:
    """The work and the load in one line: 'random 64 in, 128 out · 25 requests · 25 streams · seed 7'."""
    load, work = run.load, run.workload
    lengths = _("{input} in, {output} out").format(input=work.input_len, output=work.output_len)
    parts = [f"{work.kind} {lengths}" if work.kind in ("random", "imported") else work.kind]
    count = run.figures.completed + run.figures.failed + run.figures.cancelled
    parts.append(ngettext("{n} request", "{n} requests", count).format(n=count))
    if load.is_open_loop:
        parts.append(_("{rate} requests/s").format(rate=f"{load.rate:g}"))
        if load.most_at_once:
            parts.append(_("at most {n} at once").format(n=load.most_at_once))
    else:
        parts.append(ngettext("{n} stream", "{n} streams", load.streams).format(n=load.streams))
    return " · ".join([*parts, _("seed {seed}").format(seed=run.seed)])


def failure_texts(figures: Figures) -> list[str]:
    """What failed, by kind, and what was stopped."""
    parts = [f"{count} × {_(KIND_WORDS.get(kind, kind))}" for kind, count in figures.failures.items()]
    if figures.cancelled:
        parts.append(_("{n} stopped").format(n=figures.cancelled))
    return parts


def tokens_source(figures: Figures) -> str:
    """Where the output tokens come from, in brackets; empty where the server told them."""
    if figures.tokens_from == "usage":
        return ""
    if figures.tokens_from == "tokenizer":
        return _("(counted with the tokenizer: the server does not tell)")
    return _("(chunks, for the server does not tell tokens)")


def doubts(run: Run) -> list[str]:
    """What qualifies a run's figures, each a sentence."""
    figures = run.figures
    found = list(run.health.doubts())
    if run.partial:
        found.append(_("It was stopped before its end: the figures are those of what was answered"))
    if figures.tokens_per_chunk > 1.05:
        found.append(
            _("{n:.1f} tokens came in a chunk: ITL is the time between chunks, TPOT that of a token").format(
                n=figures.tokens_per_chunk
            )
        )
    if run.repeats:
        found.append(_("Prompts were repeated: the server's prefix cache may have helped"))
    if run.workload.kind == "random" and not run.tokenizer:
        found.append(_("Nothing could count the prompts' tokens: their lengths are words, the totals the server's"))
    return found


def server_texts(run: Run) -> list[str]:
    """What the server's own figures and the GPUs tell of a run."""
    texts = []
    if queries := run.server.get("prefix_queries", 0):
        share = run.server.get("prefix_hits", 0) / queries
        texts.append(_("Of the prompts' tokens {share:.0%} came from the prefix cache").format(share=share))
    if run.server.get("preemptions"):
        texts.append(_("The server preempted {n:.0f} times: its KV cache was full").format(n=run.server["preemptions"]))
    texts += throttle_texts(run.around)
    busy = [figures["mean"] for name, figures in run.around.items() if name.endswith(".utilization")]
    power = [figures["mean"] for name, figures in run.around.items() if name.endswith(".power")]
    if busy:
        texts.append(
            _("GPU: {busy:.0%} busy, {power:.0f} W on average").format(busy=sum(busy) / len(busy), power=sum(power))
        )
    if "server.kv_usage" in run.around:
        texts.append(_("KV cache in use: at most {share:.0%}").format(share=run.around["server.kv_usage"]["max"]))
    return texts


def level_text(level: float, by: By) -> str:
    """“8 at once”, “2.5 requests/s”."""
    if by == "users":
        return _("{n} at once").format(n=int(level))
    return _("{rate} requests/s").format(rate=f"{level:g}")


def sweep_texts(found: Sweep, share: float) -> list[str]:
    """The knee; and with limits, the highest load that met them for `share` (0..1) of the requests."""
    if found.knee is None:
        lines = [_("Throughput grew with the load all the way: the knee is beyond it")]
    else:
        lines = [
            _("The knee is at {load}: beyond it, more load hardly gets more tokens").format(
                load=level_text(found.knee, found.by)
            )
        ]
    if found.runs and found.runs[0].limits:
        highest = found.highest_within(share)
        lines.append(
            _("The highest load within the limits for {share:.0%} of the requests: {load}").format(
                share=share, load=level_text(highest, found.by)
            )
            if highest is not None
            else _("No load met the limits for {share:.0%} of the requests").format(share=share)
        )
    return lines


def capacity_sentence(found: Capacity, limits: Limits) -> str:
    """“40 users at once: first token under 500 ms and 20 tokens/s for 90 % of requests”."""
    parts = []
    if limits.ttft is not None:
        parts.append(_("first token under {ms:.0f} ms").format(ms=limits.ttft * 1e3))
    if limits.tpot is not None:
        parts.append(_("{n:.3g} tokens/s").format(n=1 / limits.tpot))
    if limits.e2el is not None:
        parts.append(_("the whole answer under {ms:.0f} ms").format(ms=limits.e2el * 1e3))
    what = parts[0] if len(parts) == 1 else _("{first} and {last}").format(first=", ".join(parts[:-1]), last=parts[-1])
    if not found.level and found.stopped:
        return _("Stopped before any load had shown that it meets the limits")
    if not found.level:
        return _("Not even one at a time: {what} for {share:.0%} of requests").format(what=what, share=found.wanted)
    text = (
        _("{load}: {what} for {share:.0%} of requests")
        if found.by == "rate"
        else _("{n} users at once: {what} for {share:.0%} of requests")
    )
    return text.format(n=f"{found.level:g}", load=level_text(found.level, found.by), what=what, share=found.wanted)


def confidence_text(found: Capacity) -> str:
    """“3 of 3 full runs met the limits; 44 at once did not”."""
    if not found.runs:
        return _("Only short runs met the limits: there was no full one")
    text = ngettext("{met} of {n} full run met the limits", "{met} of {n} full runs met the limits", found.runs).format(
        met=found.met, n=found.runs
    )
    if found.above is None:
        return text
    return _("{text}; {load} did not").format(text=text, load=level_text(found.above, found.by))
