"""What tokens cost on a box that is paid by the hour."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _

_CURRENCY = r"[^\d\s.,/+-]{0,8}"
_PRICE = re.compile(
    rf"\s*(?P<before>{_CURRENCY})\s*(?P<amount>\d+(?:[.,]\d+)?)\s*(?P<after>{_CURRENCY})\s*(?:/\s*h)?\s*"
)


@dataclass(frozen=True)
class HourlyPrice:
    """amount: of `currency`, whatever that is, for an hour of the box."""

    amount: float
    currency: str = ""

    @classmethod
    def parse(cls, text: str) -> HourlyPrice | None:
        """“2.49 USD”, “¥18”, “18.5”; None for an empty text. Raises UsageError for anything else."""
        if not text.strip():
            return None
        found = _PRICE.fullmatch(text)
        if found is None or (found["before"] and found["after"]):
            raise UsageError(_("Not a price: {text}").format(text=text), "", _("For example: 2.49 USD, or ¥18"))
        return cls(float(found["amount"].replace(",", ".")), found["before"] or found["after"])

    def per_million(self, tokens_per_second: float) -> float | None:
        """The price of a million tokens at that throughput; None at none."""
        return self.amount / 3600 / tokens_per_second * 1e6 if tokens_per_second > 0 else None

    def per_user(self, users: int) -> float | None:
        """The price of an hour for each of so many users."""
        return self.amount / users if users > 0 else None

    def show(self, amount: float) -> str:
        """An amount with the currency: “0.183 USD”, “¥0.183”."""
        if self.currency and not self.currency.isalpha():
            return f"{self.currency}{amount:.3g}"
        return f"{amount:.3g} {self.currency}".strip()
