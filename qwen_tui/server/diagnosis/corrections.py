"""Corrected arguments, computed from the figures in an error; and putting them into a server's specification."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import socket
from collections.abc import Sequence

from qwen_tui.server.diagnosis.model import Finding, Relaunch
from qwen_tui.server.spec import FIELD_ARGUMENTS, ServerSpec

#: Short forms of flags, and other names for the same thing.
_SAME = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-q": "--quantization",
    "-O": "--optimization-level",
}
#: Utilization is rounded down, and this much is left for what comes and goes on the card.
_SPARE = 0.005
_PORTS_TRIED = 200


def apply_relaunch(spec: ServerSpec, relaunch: Relaunch) -> ServerSpec:
    """The specification with the changes made: fields where a flag has one, extra arguments otherwise.

    Raises ValueError where a field can't hold its value.
    """
    words = list(spec.extra_args)
    for wrong, right in relaunch.rename.items():
        words = _renamed(words, wrong, right)
    for flag in (*relaunch.remove, *relaunch.set):
        words = _without(words, flag)
    fields: dict[str, object] = {}
    for flag, value in relaunch.set.items():
        if flag in FIELD_ARGUMENTS:
            fields[FIELD_ARGUMENTS[flag]] = _typed(FIELD_ARGUMENTS[flag], value)
        else:
            words += [flag, value] if value else [flag]
    for flag in relaunch.remove:
        if flag == "--max-model-len":
            fields["max_model_len"] = None
        elif flag in ("--chat-template", "--served-model-name"):
            fields[FIELD_ARGUMENTS[flag]] = ""
    words, moved = _into_fields(words)
    return dataclasses.replace(
        spec,
        extra_args=tuple(words),
        env={**spec.env, **relaunch.env},
        **{**moved, **fields},  # type: ignore[arg-type]
    )


def _typed(field: str, value: str) -> object:
    return int(value) if field in ("port", "max_model_len") else value


def _canonical(word: str) -> str:
    flag = word.split("=", 1)[0]
    return _SAME.get(flag, flag.replace("_", "-"))


def _span(words: Sequence[str], position: int) -> int:
    """How many words the flag at `position` takes with its values."""
    if "=" in words[position]:
        return 1
    end = position + 1
    while end < len(words) and not re.match(r"-{1,2}[A-Za-z]", words[end]):
        end += 1
    return end - position


def _without(words: list[str], flag: str) -> list[str]:
    position = 0
    while position < len(words):
        if words[position].startswith("-") and _canonical(words[position]) == _canonical(flag):
            del words[position : position + _span(words, position)]
        else:
            position += 1
    return words


def _renamed(words: list[str], wrong: str, right: str) -> list[str]:
    return [right + word[len(wrong) :] if word == wrong or word.startswith(wrong + "=") else word for word in words]


def _into_fields(words: list[str]) -> tuple[list[str], dict[str, object]]:
    """Arguments that have a field of their own, moved there; one whose value the field can't hold stays."""
    moved: dict[str, object] = {}
    left: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        span = _span(words, position) if word.startswith("-") else 1
        flag = _canonical(word)
        values = [word.split("=", 1)[1]] if "=" in word else words[position + 1 : position + span]
        try:
            if flag not in FIELD_ARGUMENTS or len(values) != 1:
                raise ValueError
            moved[FIELD_ARGUMENTS[flag]] = _typed(FIELD_ARGUMENTS[flag], values[0])
        except ValueError:
            left += words[position : position + span]
        position += span
    return left, moved


# -- builders, for the rules ----------------------------------------------------------------------------


def set_to(flag: str, group: str) -> object:
    """A builder that sets `flag` to the whole number in the group."""

    def build(finding: Finding) -> Relaunch | None:
        number = finding.number(group)
        return Relaunch({flag: str(int(number))}) if number is not None and number >= 1 else None

    return build


def smaller_utilization(finding: Finding) -> Relaunch | None:
    """What is free, as a part of the card, rounded down."""
    free, total = finding.number("free"), finding.number("total")
    if free is None or not total or free <= 0:
        return None
    part = math.floor((free / total - _SPARE) * 100) / 100
    return Relaunch({"--gpu-memory-utilization": f"{part:.2f}"}) if 0.02 <= part < 1 else None


def lower_utilization(finding: Finding) -> Relaunch | None:
    """A tenth less than was asked for: the card's memory was spent before the graphs or the sampler had theirs."""
    asked = _asked_utilization(finding)
    return Relaunch({"--gpu-memory-utilization": f"{max(0.1, asked - 0.1):.2f}"}) if asked > 0.15 else None


def higher_utilization(finding: Finding) -> Relaunch | None:
    """More of the card, if there is more."""
    asked = _asked_utilization(finding)
    return Relaunch({"--gpu-memory-utilization": f"{min(0.95, asked + 0.1):.2f}"}) if asked < 0.945 else None


def _asked_utilization(finding: Finding) -> float:
    try:
        return float(finding.facts.argument("gpu_memory_utilization") or 0.9)
    except ValueError:
        return 0.9


def fitting_tensor_parallel(finding: Finding) -> Relaunch | None:
    """Fewer GPUs than asked, so that they divide the heads: the largest power of two, else the largest number."""
    heads, asked = finding.number("heads"), finding.number("size")
    if not heads or not asked:
        return None
    fitting = [size for size in range(1, int(min(asked, 1024))) if heads % size == 0]
    powers = [size for size in fitting if size > 1 and size & (size - 1) == 0]
    return Relaunch({"--tensor-parallel-size": str((powers or fitting)[-1])}) if fitting else None


def fewer_gpus(finding: Finding) -> Relaunch | None:
    """As many GPUs as there are, all of them for tensor parallelism."""
    gpus = finding.number("gpus")
    if not gpus or gpus < 1:
        return None
    remove = ("--pipeline-parallel-size",) if finding.facts.argument("pipeline_parallel_size") not in ("", "1") else ()
    return Relaunch({"--tensor-parallel-size": str(int(gpus))}, remove=remove)


def next_free_port(finding: Finding) -> Relaunch | None:
    """The first port above the taken one that can be bound now."""
    taken = finding.number("port") or _number(finding.facts.argument("port")) or 8000
    port = free_port_after(int(taken))
    return Relaunch({"--port": str(port)}) if port else None


def _number(text: str) -> float | None:
    return float(text) if text.isdecimal() else None


def free_port_after(port: int) -> int | None:
    """The first port above `port` that nobody listens on, on any address of this machine."""
    for candidate in range(port + 1, min(port + 1 + _PORTS_TRIED, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", candidate))
            except OSError:
                continue
            return candidate
    return None


_FLAG = re.compile(r"--[A-Za-z][\w.-]*")


def near_flag(finding: Finding, flag: str) -> str:
    """The flag of the usage text (or of the well-known ones, where it was not printed) that `flag` may have meant."""
    known = set(_FLAG.findall(finding.facts.usage)) or set(_COMMON_FLAGS)
    near = difflib.get_close_matches(flag.replace("_", "-"), sorted(known), 1, 0.75)
    return near[0] if near else ""


def right_flag(finding: Finding) -> Relaunch | None:
    """The nearest known name for each flag that is unknown, those left out that vLLM has dropped.

    None where one is neither.
    """
    rename, remove = {}, []
    for flag in _FLAG.findall(finding.group("words")):
        if flag.replace("_", "-") in DROPPED_FLAGS:
            remove.append(flag)
            continue
        near = near_flag(finding, flag)
        if not near:
            return None
        rename[flag] = near
    return Relaunch(rename=rename, remove=tuple(remove)) if rename or remove else None


def near_choice(finding: Finding) -> str:
    """The choice of the list in the message that the given value may have meant."""
    choices = re.findall(r"[\w.+/-]+", finding.group("choices"))
    near = difflib.get_close_matches(finding.group("value"), choices, 1, 0.75)
    return near[0] if near else ""


def right_choice(finding: Finding) -> Relaunch | None:
    """The nearest valid choice, where there is one close by."""
    near, flags = near_choice(finding), _FLAG.findall(finding.group("flag"))
    return Relaunch({flags[-1]: near}) if near and flags else None


#: Flags that vLLM had once, without a successor that takes the same value; it does what they asked for, or nothing.
DROPPED_FLAGS = frozenset({
    "--use-v2-block-manager", "--num-scheduler-steps", "--multi-step-stream-outputs", "--enable-reasoning",
    "--disable-log-requests", "--max-seq-len-to-capture", "--num-lookahead-slots", "--preemption-mode",
    "--scheduler-delay-factor", "--disable-async-output-proc", "--engine-use-ray", "--device", "--swap-space",
    "--enable-prompt-adapter", "--max-prompt-adapters", "--long-lora-scaling-factors", "--lora-extra-vocab-size",
    "--disable-frontend-multiprocessing", "--guided-decoding-backend", "--override-neuron-config",
})  # fmt: skip

#: For a log without a usage text.
_COMMON_FLAGS = (
    "--model", "--tokenizer", "--served-model-name", "--host", "--port", "--max-model-len", "--chat-template",
    "--dtype", "--quantization", "--gpu-memory-utilization", "--tensor-parallel-size",
    "--pipeline-parallel-size", "--data-parallel-size", "--trust-remote-code", "--enforce-eager",
    "--max-num-seqs", "--max-num-batched-tokens", "--enable-prefix-caching", "--enable-chunked-prefill",
    "--kv-cache-dtype", "--enable-lora", "--lora-modules", "--enable-auto-tool-choice", "--tool-call-parser",
    "--reasoning-parser", "--api-key", "--load-format", "--swap-space", "--seed",
    "--distributed-executor-backend", "--limit-mm-per-prompt", "--speculative-config", "--block-size",
    "--revision", "--download-dir",
)  # fmt: skip
