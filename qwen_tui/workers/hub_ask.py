"""Ask the hub what a model consists of, in a child that the hub's client may fill with what it likes.

Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
    from qwen_tui.workers.hub_files import Failure
else:
    import protocol
    from hub_files import Failure


def ask_hub(
    request: dict[str, Any], stop: threading.Event, on_wait: Callable[[float], None], patience: float
) -> dict[str, Any]:
    """The answer of hub_list to `request`; {} if `stop` was set meanwhile.

    on_wait: told, ten times a second, for how many seconds it has waited. patience: seconds after which the hub is held
    to be silent. Raises Failure.
    """
    read_end, write_end = os.pipe()
    script = Path(__file__).with_name("hub_list.py")
    child = subprocess.Popen(
        [sys.executable, str(script), json.dumps(request)],
        stdin=subprocess.DEVNULL,
        pass_fds=(write_end,),
        env={**os.environ, protocol.FD_VARIABLE: str(write_end), protocol.PARENT_VARIABLE: str(os.getpid())},
    )
    os.close(write_end)
    began = time.monotonic()
    data: list[bytes] = []
    with os.fdopen(read_end, "rb") as pipe:
        reader = threading.Thread(target=lambda: data.append(pipe.read()), daemon=True)
        reader.start()
        while reader.is_alive() and not stop.is_set() and time.monotonic() - began < patience:
            reader.join(0.1)
            on_wait(time.monotonic() - began)
        is_silent = reader.is_alive()
        if is_silent:
            child.kill()
        reader.join()
    child.wait()
    if stop.is_set():
        return {}
    if is_silent:
        raise Failure("listing", title="Timeout", why="no answer")
    try:
        message = json.loads(data[0].splitlines()[-1])
    except (IndexError, ValueError):
        raise Failure("listing", title="", why=f"status {child.returncode}") from None
    if message.pop("kind") == "error":
        raise Failure("listing", title=message["title"], why=message["why"][:2000])
    return dict(message)
