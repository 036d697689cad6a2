"""qwen-tui: the cockpit for running vLLM on a GPU box, in the terminal, over SSH."""

__version__ = "0.1.0"
