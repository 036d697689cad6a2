"""What the Chat room does with the turn under the cursor, or with the last: ask again, edit, versions, copy, code."""

from __future__ import annotations

from qwen_tui.chat.conversation import Turn
from qwen_tui.errors import QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.ui.screens.chat_asking import AsksServer
from qwen_tui.ui.widgets.prompt import Prompt


class ChatTurns(AsksServer):
    """The part of the Chat room that acts on turns. `transcript.chosen` is the one under the cursor, if any."""

    def _last_with_versions(self) -> Turn | None:
        """The chosen turn, or the last in whose place something else was said too."""
        conversation, chosen = self.session.conversation, self.transcript.chosen
        if chosen is not None:
            return chosen if len(conversation.siblings(chosen)) > 1 else None
        turns = reversed(conversation.turns) if conversation.others else ()
        return next((turn for turn in turns if len(conversation.siblings(turn)) > 1), None)

    def _version_text(self) -> str:
        turn = self._last_with_versions()
        if turn is None:
            return ""
        siblings = self.session.conversation.siblings(turn)
        text = _("reply {place} of {count}  ← →") if turn.is_reply else _("question {place} of {count}  ← →")
        return text.format(place=siblings.index(turn) + 1, count=len(siblings))

    def action_retry(self) -> None:
        """Ask again for the last reply, or from the chosen turn on."""
        if not self.session.conversation.turns:
            return
        try:
            self.session.retry(self._target(), self.transcript.chosen)
        except QwenTuiError as error:
            self._refuse(error)
        else:
            self.transcript.choose(None)

    def action_edit(self) -> None:
        """Take the chosen turn into the prompt, or the last question, to say it otherwise; again: the one before.

        A reply that was edited is gone on with.
        """
        questions = [turn for turn in self.session.conversation.turns if turn.is_question]
        chosen = self.transcript.chosen
        if chosen is not None and chosen.role == "tool":
            chosen = None
        if self.session.is_streaming or not (questions or chosen):
            return
        place = questions.index(self._edited) if self._edited in questions else 0
        self._edited = chosen if chosen is not None and self._edited is not chosen else questions[place - 1]
        self._attached = self._edited.attachments
        prompt = self.query_one(Prompt)
        prompt.write(self._edited.text)
        prompt.focus()
        self.show_state()

    def give_up_editing(self) -> None:
        """What was said stays; what was changed in it can be recalled, and so can what stood in the field before."""
        prompt = self.query_one(Prompt)
        if self._edited is not None and prompt.text == self._edited.text:
            prompt.text = ""
        else:
            prompt.take()
        self._edited, self._attached = None, ()
        self.show_state()

    def action_step(self, direction: int) -> None:
        """To the branch before or after: of the last turn that has any there, so that all can be walked through."""
        conversation, chosen = self.session.conversation, self.transcript.chosen
        turns = conversation.turns if chosen is None else [chosen]
        try:
            for turn in reversed(turns if conversation.others else ()):
                if (shown := self.session.step(turn, direction)) is not None:
                    if chosen is not None:
                        self.transcript.choose(shown)
                    return
        except QwenTuiError as error:
            self._refuse(error)

    def action_request_code(self) -> None:
        from qwen_tui.chat.request_code import chat_request
        from qwen_tui.chat.tools import request_fields
        from qwen_tui.ui.screens.request_code import RequestCodeScreen

        try:
            messages = self.session.asked(self.query_one(Prompt).text, self.transcript.chosen, self._attached)
            target = self._target()
        except QwenTuiError as error:
            self._refuse(error)
            return
        if not messages:
            return
        request = chat_request(target, messages, self.session.sampling, more=request_fields(self.session.conversation))
        self.app.push_screen(RequestCodeScreen(request, target.api_key))
