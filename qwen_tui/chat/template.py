"""What a server's chat template makes of messages: the text that the model really gets, special tokens and all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen_tui.chat.events import Message, Target
from qwen_tui.chat.tokenize import Tokens, detokenize, tokenize_chat


@dataclass(frozen=True)
class Rendered:
    """A prompt as text, and as the tokens that it is."""

    text: str
    tokens: Tokens


async def render_chat(target: Target, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Rendered:
    """The prompt that `messages` become, up to where the reply begins. Raises ChatError."""
    tokens = await tokenize_chat(target, messages, tools=tools)
    return Rendered(await detokenize(target, tokens.ids), tokens)
