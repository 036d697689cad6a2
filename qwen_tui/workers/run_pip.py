"""Run pip with the arguments in argv, under the interpreter it should install into; end when the parent ends.

Standard library only. pip's own output goes to stdout and stderr, as if it had been called by hand.
"""

from __future__ import annotations

import runpy
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

if __name__ == "__main__":
    protocol.end_with_parent()
    # pip must not find this folder's modules before its own.
    del sys.path[0]
    sys.argv = ["pip", *sys.argv[1:]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
