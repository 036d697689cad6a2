"""The first line: is my server up, where, which engine, and how loaded are its GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from qwen_tui import i18n
from qwen_tui.i18n import _
from qwen_tui.server.endpoint_status import ENDPOINT_WORDS, EndpointStatus
from qwen_tui.server.status import ServerStatus
from qwen_tui.ui.text import cut_middle, one_line
from qwen_tui.ui.theme import ENDPOINT_LOOK, STATE_LOOK
from qwen_tui.ui.widgets.server_list import state_words

if TYPE_CHECKING:
    from qwen_tui.hardware.gpus import Gpu

#: Cells that the server is left at least; where GPUs would take them, they are not shown.
_LEAST_LEFT = 34


def gpu_summary(gpus: Sequence[Gpu]) -> str:
    """One GPU, or several as one: mean utilization, memory in all, the highest temperature; empty without any."""
    if not gpus:
        return ""
    name = f"GPU{gpus[0].index}" if len(gpus) == 1 else f"{len(gpus)} GPU"
    busy = [gpu.utilization for gpu in gpus if gpu.utilization is not None]
    heat = [gpu.temperature for gpu in gpus if gpu.temperature is not None]
    used, total = sum(gpu.memory_used for gpu in gpus), sum(gpu.memory_total for gpu in gpus)
    parts = [name, f"{sum(busy) / len(busy):.0f}%" if busy else "", f"{used / 1e9:.1f}/{total / 1e9:.1f} GB"]
    parts += [f"{max(heat)}°C"] if heat else []
    return " ".join(part for part in parts if part)


class StatusHeader(Widget):
    """Draws the server the app is about; redraws only when what it says changes."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    StatusHeader { height: 1; padding: 0 1; background: $panel; color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._status: ServerStatus | EndpointStatus | None = None
        self._others = 0
        self._gpus: Sequence[Gpu] = ()
        self._drawn: Content | None = None

    def show(self, status: ServerStatus | EndpointStatus | None, others: int = 0, gpus: Sequence[Gpu] = ()) -> None:
        """Draw `status`; `others` is how many more servers live, `gpus` the machine's: its own are shown."""
        self._status, self._others = status, others
        if gpus:
            from qwen_tui.hardware.gpus import visible

            devices = status.spec.env.get("CUDA_VISIBLE_DEVICES") if isinstance(status, ServerStatus) else None
            gpus = visible(gpus, devices)
        self._gpus = gpus
        if self._drawn is None or not self._content(self.content_size.width).is_same(self._drawn):
            self.refresh()

    def retranslate(self) -> None:
        self.refresh()

    def render(self) -> Content:
        self._drawn = self._content(self.content_size.width)
        return self._drawn

    def _content(self, width: int) -> Content:
        languages = Content.assemble(
            ("zh", "bold" if i18n.language() == "zh_CN" else "$foreground-muted"),
            ("/", "$foreground-muted"),
            ("en", "bold" if i18n.language() == "en" else "$foreground-muted"),
        )
        right = Content(f"{gpu}   ") + languages if (gpu := gpu_summary(self._gpus)) else languages
        if width - right.cell_length < _LEAST_LEFT:
            right = languages
        left = self._server(width - right.cell_length - 1)
        return left + Content(" " * max(1, width - left.cell_length - right.cell_length)) + right

    def _server(self, width: int) -> Content:
        """What fits into `width` cells, the name and the state before everything else."""
        parts: list[Content] = [Content.styled("qwen-tui", "bold")]
        status = self._status
        if status is None:
            return Content("   ").join([*parts, Content.styled(_("no server"), "$foreground-muted")])
        if isinstance(status, EndpointStatus):
            symbol, colour = ENDPOINT_LOOK[status.state]
            state, version = f"  {_(ENDPOINT_WORDS[status.state])}", ""
            address = status.endpoint.base_url.partition("://")[2].removesuffix("/v1")
        else:
            symbol, colour = STATE_LOOK[status.state]
            state = f"  {state_words(status)}"
            address = f"{status.spec.host}:{status.spec.port}" if status.state.is_alive else ""
            version = f"vLLM {status.engine_version}" if status.engine_version else ""
        others = _("+{count} more").format(count=self._others) if self._others else ""
        extras = [one_line(extra) for extra in (address, version, others) if extra]
        name = one_line(status.name)
        room = width - len("qwen-tui   ") - 2 - cell_len(state)
        while extras and min(cell_len(name), 24) + sum(cell_len(extra) + 3 for extra in extras) > room:
            extras.pop()
        name = cut_middle(name, room - sum(cell_len(extra) + 3 for extra in extras))
        parts.append(Content.assemble((f"{symbol} ", colour), (name, "bold"), (state, colour)))
        parts += [Content(extra) for extra in extras]
        return Content("   ").join(parts)
