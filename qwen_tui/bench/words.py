"""What the names in a result are called where people read them; translated when drawn."""

from __future__ import annotations

from collections.abc import Mapping

from qwen_tui.i18n import N_

#: bench_record.KINDS → what happened to such a request.
KIND_WORDS: Mapping[str, str] = {
    "ok": N_("answered"),
    "cancelled": N_("stopped before it was answered"),
    "connect": N_("no connection"),
    "broken": N_("the answer broke off"),
    "malformed": N_("the answer can't be understood"),
    "timeout": N_("no sign for too long"),
    "empty": N_("an empty answer"),
    "status": N_("refused by the server"),
    "rate_limited": N_("refused: too many requests (429)"),
    "too_long": N_("the prompt does not fit the model's context"),
    "error_event": N_("the server reported an error"),
    "not_streamed": N_("the answer was not streamed"),
}
