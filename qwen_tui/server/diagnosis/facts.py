"""What the head of a log tells about its run: the arguments it was given, and what the machine is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qwen_tui.server.spec import ServerSpec

_QUOTED = r"""'(?P<text>[^']*)'|"(?P<double>[^"]*)"|(?P<bare>[^\s,)}\]]+)"""


@dataclass(frozen=True)
class Facts:
    """arguments: those lines of the log that list the run's arguments. usage: argparse's usage text, if it was printed.
    version: of vLLM, or empty. is_cpu: whether the CPU backend ran. spec: what was started, where that is known.
    """

    arguments: str = ""
    usage: str = ""
    version: str = ""
    is_cpu: bool = False
    spec: ServerSpec | None = None

    def argument(self, name: str) -> str:
        """The value of an argument (its Python name, such as tensor_parallel_size), or empty."""
        if self.spec is not None:
            value = _from_spec(self.spec, name)
            if value:
                return value
        match = re.search(rf"\b{name}['\"]?\s*[=:]\s*(?:{_QUOTED})", self.arguments)
        if match is None:
            return ""
        value = match["text"] or match["double"] or match["bare"] or ""
        return "" if value == "None" else value


def _from_spec(spec: ServerSpec, name: str) -> str:
    flag = "--" + name.replace("_", "-")
    words = spec.argv("python")
    for position, word in enumerate(words):
        head, _equals, tail = word.partition("=")
        if head.replace("_", "-") == flag:
            return tail or (words[position + 1] if position + 1 < len(words) else "")
    return ""


def read_facts(texts: Sequence[str], spec: ServerSpec | None = None) -> Facts:
    """The facts out of the lines of a log (their text without prefix), those of the run that is looked at."""
    arguments: list[str] = []
    usage: list[str] = []
    version = ""
    is_cpu = False
    in_usage = False
    for text in texts:
        if text.startswith("usage: "):
            usage, in_usage = [text], True
            continue
        if in_usage and text.startswith(" "):
            usage.append(text)
            continue
        in_usage = False
        if "non-default args" in text or "args: Namespace" in text or "with config:" in text:
            arguments.append(text[:20000])
        match = re.search(r"version v?(\d+\.\d+\.\d\w*)|engine \(v(\d+\.\d+\.\d\w*)", text)
        if match:
            version = match[1] or match[2]
        is_cpu = is_cpu or "include CPU backend" in text or "cpu_worker.py" in text or "device_config=cpu" in text
    return Facts("\n".join(arguments[:6]), " ".join(usage), version, is_cpu, spec)
