"""Runs that have a name: a workload with the load that goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qwen_tui.bench.load import Load
from qwen_tui.bench.workload import Workload
from qwen_tui.i18n import N_


@dataclass(frozen=True)
class Preset:
    """about: one line, translated when it is shown."""

    about: str
    workload: Workload
    load: Load


PRESETS: Mapping[str, Preset] = {
    "tutorial": Preset(
        N_("25 requests at once, 64 tokens in, 128 out"),
        Workload(input_len=64, output_len=128),
        Load(streams=25, count=25),
    ),
    "chat": Preset(
        N_("people chatting: some 250 tokens in, 250 out, 8 at a time"),
        Workload(input_len=250, output_len=250, spread=0.5),
        Load(streams=8, count=80, warmup=8),
    ),
    "rag": Preset(
        N_("questions about documents: 3000 tokens in behind a shared 300, 150 out, 4 at a time"),
        Workload(input_len=3000, output_len=150, spread=0.3, prefix_len=300),
        Load(streams=4, count=40, warmup=4),
    ),
    "long": Preset(
        N_("long answers: 100 tokens in, 2000 out, 4 at a time"),
        Workload(input_len=100, output_len=2000),
        Load(streams=4, count=16),
    ),
}
