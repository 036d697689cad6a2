"""What the Chat room has beside the text: tools and their results, files, going on with a reply, details, copying."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from qwen_tui.chat.attachments import Attachment
from qwen_tui.chat.conversation import Turn
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import _, ngettext
from qwen_tui.ui.copying import copy_and_tell
from qwen_tui.ui.screens.chat_turns import ChatTurns
from qwen_tui.ui.screens.dialogs import Dialog
from qwen_tui.ui.text import one_line, plain
from qwen_tui.ui.widgets.prompt import Prompt


class ReplyDetails(Dialog):
    """How one reply came, in figures."""

    CLOSING_KEYS = ("escape", "enter", "q", "D")

    def cancel_text(self) -> str:
        return _("close")


class ChatBeside(ChatTurns):
    """The part of the Chat room with dialogs of its own; all act on the turn under the cursor, or on the last."""

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[str, Sequence[str]] = {}  # a reply's id → results of its calls, typed and not yet sent

    def beside_text(self) -> str:
        """For the prompt's title: what goes with the next message."""
        parts = []
        if self._attached:
            count = len(self._attached)
            parts.append(ngettext("with {count} file", "with {count} files", count).format(count=count))
        if tools := self.session.conversation.tools:
            parts.append(ngettext("{count} tool", "{count} tools", len(tools)).format(count=len(tools)))
        return "".join(f" · {part}" for part in parts)

    # Tools

    def action_tools(self) -> None:
        from qwen_tui.ui.screens.tools_form import ToolsForm

        def entered(chosen: tuple[Sequence[dict[str, Any]], str] | None) -> None:
            if chosen is not None:
                self.session.equip(*chosen)

        conversation = self.session.conversation
        self.app.push_screen(ToolsForm(conversation.tools, conversation.tool_choice), entered)

    def action_answer_calls(self) -> None:
        """Give the results of the calls of the chosen reply, or of the last."""
        from qwen_tui.ui.screens.tools_form import AnswerForm

        conversation, chosen = self.session.conversation, self.transcript.chosen
        turn = chosen if chosen is not None and chosen.tool_calls else conversation.calls_to_answer
        if turn is None or turn.state.is_open:
            self._refuse(
                UsageError(_("No call waits for its result"), "", _("A model calls tools only where it has some: T"))
            )
            return
        answered = {said.tool_call_id: said.text for said in conversation.turns if said.tool_call_id}

        def entered(results: Sequence[str] | None) -> None:
            self._results[turn.id] = form.typed if results is None else results
            if results is None:
                return
            try:
                self.session.answer_calls(self._target(), turn, results)
            except QwenTuiError as error:
                self._refuse(error)
            else:
                del self._results[turn.id]
                self._follow_end()

        typed = self._results.get(turn.id) or [answered.get(call.id, "") for call in turn.tool_calls]
        form = AnswerForm(turn.tool_calls, typed)
        self.app.push_screen(form, entered)

    # Files

    def action_attach(self) -> None:
        from qwen_tui.ui.screens.attach_form import AttachForm

        def entered(attached: Sequence[Attachment] | None) -> None:
            if attached is not None:
                self._attached = attached
                self.show_state()
                self.query_one(Prompt).focus()

        self.app.push_screen(AttachForm(self._attached), entered)

    def take_attached(self) -> None:
        """The message is sent."""
        self._attached = ()

    # Going on

    def action_go_on(self) -> None:
        """Have the model write on where the chosen reply ended, or the last."""
        turns = self.session.conversation.turns
        turn = self.transcript.chosen or (turns[-1] if turns else None)
        if turn is None:
            return
        try:
            self.session.go_on(self._target(), turn)
        except QwenTuiError as error:
            self._refuse(error)
        else:
            self._follow_end()

    def _follow_end(self) -> None:
        self.transcript.choose(None)
        self.transcript.scroll_to_end()

    # What is known of a reply

    def action_details(self) -> None:
        from qwen_tui.chat.figures import details

        turn = self._reply_here()
        if turn is None:
            return
        rows = details(turn)
        if turn.figures is None:
            rows = [*rows, (_("No figures: it brought nothing"), "")]
        body = "\n".join(f"{one_line(name)}: {one_line(value)}" if value else one_line(name) for name, value in rows)
        self.app.push_screen(ReplyDetails(_("This reply"), body, ()))

    def _reply_here(self) -> Turn | None:
        chosen = self.transcript.chosen
        if chosen is not None:
            return chosen if chosen.is_reply else None
        return next((turn for turn in reversed(self.session.conversation.turns) if turn.is_reply), None)

    # Copying

    def action_copy_reply(self) -> None:
        turn = self.transcript.selected
        if turn is None or not turn.text:
            self.notify(_("There is no reply to copy"), severity="warning", markup=False)
            return
        self.run_worker(copy_and_tell(self.app, turn.text), group="copy")

    def action_copy_choose(self) -> None:
        """Ask what is to be copied: the turn, a code block, the conversation; and whether to a file."""
        from qwen_tui.ui.screens.copy_form import Copied, CopyForm, offered

        turns = self.session.conversation.turns
        if not turns:
            return

        def chosen(choice: tuple[Copied, bool] | None) -> None:
            if choice is None:
                return
            what, to_file = choice
            if to_file:
                self._write(what.text, what.ending)
            else:
                self.run_worker(copy_and_tell(self.app, what.text), group="copy")

        self.app.push_screen(
            CopyForm(offered(self.session.conversation, self.transcript.selected or turns[-1])), chosen
        )

    def _write(self, text: str, ending: str) -> None:
        from qwen_tui.chat.harmless import encodable
        from qwen_tui.paths import write_private

        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = self.qwen.services.paths.data / "exports"
        file = folder / f"{stamp}.{ending}"
        number = 1
        while file.exists():
            number += 1
            file = folder / f"{stamp}-{number}.{ending}"
        try:
            write_private(file, encodable(text))
        except OSError as error:
            self._refuse(UsageError(_("Can't write {file}").format(file=file), str(error)))
            return
        self.notify(_("Written to {file}").format(file=plain(str(file))), timeout=12, markup=False)
