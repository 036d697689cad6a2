"""Why a server failed, in one line; `diagnosis` has the whole of it."""

from __future__ import annotations

from qwen_tui.server.diagnosis import find_cause

__all__ = ["find_cause"]
