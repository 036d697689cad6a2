"""Scripts that run as child processes, and the protocol they speak.

A worker script imports the standard library, vllm, transformers, modelscope, and `protocol` from beside it:
nothing else of qwen_tui, because it may run under another interpreter.
"""
