"""What a worker says to its parent: JSON objects, one a line, on a descriptor of its own.

Standard library only: the worker's side runs under the engine's interpreter (a script imports this as
`import protocol`, since Python puts the script's folder on the path). The descriptor's number comes in the
environment variable QWEN_TUI_WORKER_FD; stdin, stdout and stderr carry no protocol.

Kinds: {"kind": "progress", "step", "done", "total", "unit", "detail"}, {"kind": "result", …},
{"kind": "error", "title", "why", "hint"}. The last object is a result or an error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

FD_VARIABLE = "QWEN_TUI_WORKER_FD"
PARENT_VARIABLE = "QWEN_TUI_WORKER_PARENT"
_PR_SET_PDEATHSIG = 1


def emit(kind: str, **fields: Any) -> None:
    """Send one object to the parent; without a parent (run by hand) print it."""
    line = json.dumps({"kind": kind, **fields}, ensure_ascii=False) + "\n"
    descriptor = os.environ.get(FD_VARIABLE)
    if descriptor is None:
        print(line, end="", flush=True)
        return
    data = line.encode("utf-8", "replace")
    while data:
        data = data[os.write(int(descriptor), data) :]


def end_with_parent() -> None:
    """Have the kernel end this process when its parent dies, even by SIGKILL: no worker is left working for nobody."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the line above
        raise SystemExit(1)


def run(main: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Run a worker: `main` gets the request (JSON in argv[1]) and returns the result; an exception becomes an error."""
    end_with_parent()
    request = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    try:
        result = main(request)
    except BaseException as error:  # noqa: BLE001 - whatever it was, the parent must hear of it
        traceback.print_exc()
        emit("error", title=type(error).__name__, why=str(error), hint="")
        raise SystemExit(1) from None
    emit("result", **result)
