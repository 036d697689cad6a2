"""Thinking that a model writes into its answer, between <think> and </think>, told apart while it streams."""

from __future__ import annotations

from typing import Literal, NamedTuple

OPEN, CLOSE = "<think>", "</think>"


class Part(NamedTuple):
    """A piece of an answer. "ended": what was handed out as text before was thinking, as the prompt had opened it."""

    kind: Literal["text", "thinking", "ended"]
    text: str = ""


class ThinkingSplitter:
    """Feed it an answer's text as it comes; a mark may be cut anywhere between two pieces.

    Thinking is marked only at the beginning: <think> as the first word opens it, and the first </think> ends it, also
    without an opening mark. In code, and beside quotes, </think> is talked about.
    """

    def __init__(self) -> None:
        self._state: Literal["start", "thinking", "text", "over"] = "start"
        self._held = ""  # may be the beginning of a mark
        self._said: list[str] = []  # as text, as long as it may turn out to be thinking
        self._gap = False  # the line breaks between thinking and answer are to be dropped

    def feed(self, text: str) -> list[Part]:
        """The parts that are certain now."""
        if self._state == "over" and not self._gap:
            return [Part("text", text)]
        parts: list[Part] = []
        rest = self._held + text
        self._held = ""
        while rest:
            rest = self._advance(rest, parts)
        return parts

    def finish(self) -> list[Part]:
        """Nothing more comes."""
        rest, self._held = self._held, ""
        return [Part("thinking" if self._state == "thinking" else "text", rest)] if rest else []

    def _advance(self, rest: str, parts: list[Part]) -> str:
        if self._state == "start":
            begin = rest.lstrip()
            if not begin or (len(begin) < len(OPEN) and OPEN.startswith(begin)):
                self._held = rest
                return ""
            if begin.startswith(OPEN):
                self._state, self._gap = "thinking", True
                return begin[len(OPEN) :]
            self._state = "text"
        if self._state == "over" or (self._state == "thinking" and self._gap):
            if self._gap:
                rest = rest.lstrip("\n" if self._state == "thinking" else "\r\n ")
                if not rest:
                    return ""
                self._gap = False
            if self._state == "over":
                parts.append(Part("text", rest))
                return ""
        return self._until_close(rest, parts)

    def _until_close(self, rest: str, parts: list[Part]) -> str:
        kind: Literal["text", "thinking"] = "thinking" if self._state == "thinking" else "text"
        place = rest.find(CLOSE)
        if place < 0:
            keep = next((size for size in range(len(CLOSE) - 1, 0, -1) if rest.endswith(CLOSE[:size])), 0)
            if kind == "thinking":  # the line breaks before the mark belong to it
                keep = len(rest) - len(rest[: len(rest) - keep].rstrip("\n"))
            self._held = rest[len(rest) - keep :] if keep else ""
            self._out(kind, rest[: len(rest) - keep], parts)
            return ""
        before, after = rest[:place], rest[place + len(CLOSE) :]
        if kind == "text" and self._is_talk(before):
            self._out(kind, before + CLOSE, parts)
            self._state = "over"
            self._said.clear()
            return after
        self._out(kind, before.rstrip("\n") if kind == "thinking" else before, parts)
        if kind == "text":
            parts.append(Part("ended"))
        self._state, self._gap = "over", True
        self._said.clear()
        return after

    def _out(self, kind: Literal["text", "thinking"], text: str, parts: list[Part]) -> None:
        if text:
            parts.append(Part(kind, text))
            if kind == "text":
                self._said.append(text)

    def _is_talk(self, before: str) -> bool:
        """Whether the mark stands in code, or between quotes."""
        said = "".join(self._said) + before
        return said.count("```") % 2 == 1 or said[-1:] in ("`", '"', "'", "“", "「")
