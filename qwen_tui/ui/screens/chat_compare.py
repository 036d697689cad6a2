"""What the Chat room offers beside the talk itself: comparing two targets, importing files, exporting what is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _
from qwen_tui.ui.screens.chat_kept import KeptConversations
from qwen_tui.ui.text import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen_tui.chat.compare import Place, Side
    from qwen_tui.chat.conversation import Conversation
    from qwen_tui.ui.app import QwenApp


class ComparesAndImports(KeptConversations):
    """The part of the Chat room that leads to other screens and files."""

    def action_compare(self) -> None:
        try:
            open_comparison(self.qwen)
        except QwenTuiError as error:
            self.notify(plain(error.hint), title=plain(error.title), severity="warning", timeout=4, markup=False)

    def action_import_file(self) -> None:
        """Ask for a file, keep every conversation in it, and show the last one."""
        from qwen_tui.ui.screens.import_path import ImportPath

        def entered(path: str | None) -> None:
            if path:
                self.run_worker(self._import_kept(Path(path).expanduser()), group="conversations")

        self.app.push_screen(ImportPath(), entered)

    async def _import_kept(self, file: Path) -> None:
        from qwen_tui.chat.import_files import import_file

        store = self.qwen.services.conversations
        try:
            taken = await asyncio.to_thread(import_file, file, store)
        except QwenTuiError as error:
            self.qwen.report(error)
            return
        if not self.session.is_streaming:
            await self._open(taken[-1].id)
        await self._read()
        names = ", ".join(one_line(conversation.name) or _("(nothing said)") for conversation in taken[-3:])
        self.notify(_("Imported: {names}").format(names=names), markup=False)

    def action_export_shown(self) -> None:
        if self.session.conversation.turns:
            self.run_worker(self._export_kept(self.session.conversation.id), group="conversations")


def open_comparison(app: QwenApp) -> None:
    """Compare two targets from what the Chat room shows on. Raises UsageError while a reply streams there."""
    from qwen_tui.ui.screens.compare import CompareScreen

    services = app.services
    if services.chat.is_streaming:
        raise UsageError(_("A reply is still streaming"), "", _("Press esc twice to stop it, or wait"))
    comparison = services.comparison
    one, other = comparison.sides
    if one.place is None and other.place is None:
        one.sampling = other.sampling = services.chat.sampling
        one.place, other.place = _first_two(app)
    else:
        _look_again(app, comparison.sides)
    comparison.begin(services.chat.conversation)

    def leave(conversation: Conversation, side: Side) -> None:
        services.chat.open(conversation)
        if side.place is not None:
            app.choose(side.place.name, side.place.kind)
            services.chat.sampling = side.sampling
            _tell_of_another_model(app, side.place)

    app.push_screen(CompareScreen(leave))


def _tell_of_another_model(app: QwenApp, place: Place) -> None:
    """The Chat room asks one model of each server; say so where the comparison had asked another."""
    there = app.endpoint or app.target
    if there is not None and there.name == place.name and there.model_name != place.target.model:
        text = _("The conversation goes on with {model}: that is what Chat asks at {name}")
        app.notify(text.format(model=one_line(there.model_name), name=one_line(there.name)), markup=False)


def _first_two(app: QwenApp) -> tuple[Place | None, Place | None]:
    """Where the app is, and another place; where there is no other, the same one twice."""
    from qwen_tui.ui.screens.compare_target import known_places

    places = known_places(app)
    if not places:
        return None, None
    return places[0], places[1] if len(places) > 1 else places[0]


def _look_again(app: QwenApp, sides: Sequence[Side]) -> None:
    """A server that was started again may have another port or key."""
    from qwen_tui.ui.screens.compare_target import known_places

    known = {(place.kind, place.name, place.target.model): place for place in known_places(app)}
    for side in sides:
        if side.place is not None:
            place = side.place
            side.place = known.get((place.kind, place.name, place.target.model), place)
