"""Conversations with a model over the OpenAI API."""
