"""Prompts in, completions out: without a server through `vllm.LLM`, or through a running one; resumable."""
