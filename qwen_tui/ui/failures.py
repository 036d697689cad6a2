"""Where an exception nobody expected goes: into a log file, with a notice that names it."""

from __future__ import annotations

import logging
from pathlib import Path

from qwen_tui.paths import private_folder

LOG_NAME = "qwen-tui.log"


def write_failure(state_folder: Path, error: BaseException) -> Path:
    """Append the traceback of `error` to the log in `state_folder`; the log's path."""
    file = private_folder(state_folder) / LOG_NAME
    handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    try:
        handler.handle(
            logging.LogRecord(
                "qwen_tui", logging.ERROR, __file__, 0, "unexpected", (), (type(error), error, error.__traceback__)
            )
        )
    finally:
        handler.close()
    return file
