"""The Python environment that holds vLLM: find it, install it, check it."""
