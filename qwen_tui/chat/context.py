"""How much of the model's context a request takes, and what to leave out of it when it no longer fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qwen_tui.chat.conversation import Conversation, Turn
from qwen_tui.i18n import N_, _

#: Below this share of the context, what is left is said to be little.
_LITTLE = 0.1
#: Characters that are about one token each; of the others, about four make one.
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True)
class Room:
    """used: tokens of the request. limit: the most the server takes for request and reply, None if it is unknown.

    wanted: the most tokens of the reply that are asked for (max_tokens); None asks for what is left.
    estimated: whether `used` is a guess.
    """

    used: int
    limit: int | None = None
    wanted: int | None = None
    estimated: bool = False

    @property
    def left(self) -> int | None:
        """Tokens for the reply; negative if the request alone is too long."""
        return None if self.limit is None else self.limit - self.used

    @property
    def state(self) -> str:
        """ "ok", "tight" (little is left for the reply), or "full" (the server will refuse)."""
        left = self.left
        if left is None or self.limit is None:
            return "ok"
        if left < 1 or (self.wanted is not None and self.wanted > left):
            return "full"
        return "tight" if left < self.limit * _LITTLE else "ok"


_STATE_WORDS = {
    "tight": N_("only {left} left for the reply"),
    "too long": N_("too long, the server will refuse"),
    "max_tokens": N_("max_tokens {wanted} does not fit, the server will refuse"),
}


def room_words(room: Room) -> tuple[str, str]:
    """'312 of 1,024 tokens' and, if need be, a warning; and the colour to say it in."""
    about = "~" if room.estimated else ""
    if room.limit is None:
        return _("{count} tokens").format(count=f"{about}{room.used:,}"), "$text-muted"
    text = _("{used} of {limit} tokens").format(used=f"{about}{room.used:,}", limit=f"{room.limit:,}")
    left = room.left or 0
    if room.state == "ok":
        return text, "$text-muted"
    name = "tight" if room.state == "tight" else "too long" if left < 1 else "max_tokens"
    more = _(_STATE_WORDS[name]).format(left=f"{left:,}", wanted=f"{room.wanted or 0:,}")
    return f"{'!' if name == 'tight' else '✗'} {text} · {more}", "$text-warning" if name == "tight" else "$text-error"


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, without asking anybody."""
    wide = len(_WIDE.findall(text))
    return wide + (len(text) - wide + 3) // 4


def oldest_sent(conversation: Conversation, drafted: bool = False) -> Sequence[Turn]:
    """The oldest exchange that is still sent: a question and what came of it.

    drafted: whether another question is about to be sent. Empty if nothing but the last question is left.
    """
    sent = [turn for turn in conversation.turns if not turn.left_out]
    questions = [place for place, turn in enumerate(sent) if turn.role == "user"]
    if len(questions) > 1:
        return sent[: questions[1]]
    return sent if drafted else []
