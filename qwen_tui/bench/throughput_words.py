"""An offline speed test in words and rows: the same for every front end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from qwen_tui.bench.throughput import Outcome, Work, difference
from qwen_tui.bench.throughput_backends import Step
from qwen_tui.bench.throughput_run import PHASE_WORDS
from qwen_tui.i18n import _, ngettext
from qwen_tui.progress import Progress, RateMeter, format_seconds

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def as_progress(step: Step, now: float | None = None) -> Progress:
    """A step in the shape that every long job reports in. now: monotonic, for tests."""
    elapsed = max(0.0, (time.monotonic() if now is None else now) - step.began)
    if step.phase in ("prompts", "download"):
        name = _(PHASE_WORDS[step.phase])
    else:
        name = f"{step.backend}: {_(PHASE_WORDS.get(step.phase, step.phase))}"
    if step.phase != "round":
        return Progress(name, elapsed, None, "seconds")
    name += f" ({step.round + 1})" if step.round else ""
    counts_tokens = bool(step.tokens and step.wanted)
    done, total = (step.tokens, step.wanted) if counts_tokens else (step.done, step.total)
    rate = done / elapsed if elapsed > 0.5 and done else None
    prompts = _("{done} of {total} prompts").format(done=step.done, total=step.total)
    detail = _("tokens, {prompts}").format(prompts=prompts) if counts_tokens else ""
    return Progress(name, done, total, "items", rate, RateMeter.eta(done, total, rate), detail)


def table_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """A head, a row for each backend that has figures, and how far they are apart in percent of the slower.

    With several rounds there is a column more for the spread (the standard deviation of tokens/s).
    """
    measured = [one for one in outcomes if one.rounds]
    spread = any(len(one.rounds) > 1 for one in measured)
    rows = [(_("framework"), "requests/s", "tokens/s", *(["±"] if spread else []))]
    for one in measured:
        rows.append(
            (one.backend, f"{one.requests.mean:.2f}", f"{one.tokens.mean:.2f}",
             *([f"{one.tokens.std:.2f}"] if spread else []))
        )  # fmt: skip
    apart = difference(measured)
    if apart is not None:
        rows.append(("diff", f"{apart.requests:.2%}", f"{apart.tokens:.2%}", *([""] if spread else [])))
    return rows


def bars(outcomes: Sequence[Outcome], width: int) -> list[tuple[str, str, str]]:
    """For each backend with figures: its name, a bar of at most `width` cells as long as its tokens/s, the figure."""
    measured = [one for one in outcomes if one.rounds]
    most = max((one.tokens.mean for one in measured), default=0.0)
    rows: list[tuple[str, str, str]] = []
    for one in measured:
        eighths = round(one.tokens.mean / most * width * 8) if most else 0
        bar = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
        rows.append((one.backend, bar, f"{one.tokens.mean:,.1f} tokens/s"))
    return rows


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Who is faster, and by how much; empty where there is nothing to compare."""
    apart = difference(outcomes)
    if apart is None:
        return ""
    return _("{faster} is {share:.0%} faster than {slower}").format(
        faster=apart.faster, share=apart.tokens, slower=apart.slower
    )


def work_text(work: Work) -> str:
    """What was asked of each: '25 prompts × (64 in, 128 out), seed 2024; warm-up: 1 prompt'."""
    if work.dataset:
        lengths = _("{file}, {length} out").format(file=work.dataset, length=work.output_len or _("its own lengths"))
    else:
        lengths = _("{input} in, {output} out").format(input=work.input_len, output=work.output_len)
    count = ngettext("{n} prompt", "{n} prompts", work.num_prompts).format(n=work.num_prompts)
    parts = [f"{count} × ({lengths})", _("seed {seed}").format(seed=work.seed)]
    if work.n > 1:
        parts.append(_("{n} answers each").format(n=work.n))
    if work.repeat > 1:
        parts.append(ngettext("{n} round", "{n} rounds", work.repeat).format(n=work.repeat))
    ahead = work.warmup_prompts
    warm = ngettext("warm-up: {n} prompt", "warm-up: {n} prompts", ahead).format(n=ahead)
    return ", ".join(parts) + "; " + (warm if ahead else _("no warm-up"))


def outcome_text(outcome: Outcome) -> str:
    """What a backend's figures were made on: 'vllm · vLLM 0.32.0 · bfloat16 · cpu · loaded in 29 s'."""
    about = outcome.about
    versions = {
        "vllm": [("vLLM", "vllm_version"), ("torch", "torch_version")],
        "hf": [("transformers", "transformers_version"), ("torch", "torch_version")],
        "mii": [("MII", "mii_version")],
        "server": [("vLLM", "engine_version")],
    }[outcome.backend]
    parts = [outcome.backend, *(f"{name} {about[key]}" for name, key in versions if about.get(key))]
    parts += [str(about[key]) for key in ("dtype", "device_name", "base_url") if about.get(key)]
    if outcome.backend == "hf" and about.get("max_batch_size"):
        parts.append(_("batches of {n}").format(n=about["max_batch_size"]))
    if about.get("prompts_repeat") and outcome.backend in ("vllm", "server"):
        is_off = about.get("prefix_caching") is False
        parts.append(_("prompts repeat, no prefix cache") if is_off else _("prompts repeat, with a prefix cache"))
    if outcome.load_seconds is not None:
        parts.append(_("loaded in {time}").format(time=format_seconds(outcome.load_seconds)))
    return " · ".join(parts)
