"""What the Servers room does with entries that are no servers: endpoints, and processes that were left over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen_tui.errors import QwenTuiError, ServerError
from qwen_tui.i18n import _, ngettext
from qwen_tui.server.endpoint_status import EndpointStatus
from qwen_tui.server.leftovers import step_words
from qwen_tui.server.orphans import Orphan
from qwen_tui.ui.screens.dialogs import Answer, Choice, Confirm
from qwen_tui.ui.screens.stopping import StepsScreen, step_line
from qwen_tui.ui.text import one_line

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp


class EndScreen(StepsScreen):
    """Ends processes that were left over."""

    def __init__(self, qwen: QwenApp, orphans: Sequence[Orphan]) -> None:
        super().__init__(qwen, _("Ending {pids}").format(pids=_pids(orphans)))
        self._orphans = orphans

    async def work(self) -> str:
        began = time.monotonic()
        remaining = await self._qwen.services.leftovers.end(
            self._orphans, lambda code, pids: self.add(step_line(time.monotonic() - began, step_words(code, pids)))
        )
        if remaining:
            pids = ", ".join(map(str, remaining))
            self.fail(
                ServerError(
                    _("These can't be ended: {pids}").format(pids=pids),
                    _("They sit in a system call, usually in the GPU driver"),
                )
            )
        count = len(self._orphans)
        return ngettext("{pids} has ended", "{pids} have ended", count).format(pids=_pids(self._orphans))


def _pids(orphans: Sequence[Orphan]) -> str:
    return ", ".join(str(orphan.pid) for orphan in orphans)


async def end_left_over(qwen: QwenApp, orphan: Orphan) -> None:
    """End this process and what else qwen-tui left over; one that it did not start only after a question."""
    mine = [other for other in qwen.services.leftovers.orphans if other.is_this_users]
    if not orphan.is_this_users:
        qwen.warn(_("It runs as another user: ask them to end it, kill {pid}").format(pid=orphan.pid))
        return
    chosen: Sequence[Orphan] = [other for other in mine if other.ours]
    if not orphan.ours:
        chosen = await _ask(qwen, orphan, [other for other in mine if not other.ours])
    if chosen:
        await qwen.push_screen_wait(EndScreen(qwen, chosen))


async def _ask(qwen: QwenApp, orphan: Orphan, strangers: Sequence[Orphan]) -> Sequence[Orphan]:
    """Which of the processes that qwen-tui did not start are to be ended."""
    title = _("End {pid}?").format(pid=orphan.pid)
    text = _("qwen-tui did not start it. Its server is gone, as far as can be seen from here.")
    text += "\n\n" + "\n".join(f"{other.pid} {one_line(other.command[:60])}" for other in strangers)
    answers = [Answer(("y",), "one", _("end it"))]
    if len(strangers) > 1:
        answers.append(Answer(("a",), "all", _("end all of these")))
    answer = await qwen.push_screen_wait(Choice(title, text, answers))
    return {"one": [orphan], "all": strangers}.get(answer or "", [])


async def remove_endpoint(qwen: QwenApp, status: EndpointStatus) -> None:
    """Ask, then forget the endpoint and its key."""
    question = Confirm(
        _("Remove {name}?").format(name=one_line(status.name)),
        _("Lost are its address and its key. The server itself is left alone.\n{url}").format(
            url=one_line(status.endpoint.base_url)
        ),
        _("remove it"),
    )
    if await qwen.push_screen_wait(question) != "yes":
        return
    try:
        await qwen.services.endpoints.remove(status.name)
    except QwenTuiError as error:
        qwen.report(error)
    qwen.aim()
