"""`python -m qwen_tui` is the same as the `qwen-tui` command."""

from qwen_tui.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
