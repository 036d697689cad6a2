"""The decoder of server-sent events."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.chat.sse import SseDecoder, SseEvent


def decode(*chunks: bytes, limit: int = 1 << 20) -> list[SseEvent]:
    decoder = SseDecoder(limit)
    return [*(event for chunk in chunks for event in decoder.feed(chunk)), *decoder.end()]


def test_line_ends_comments_names_and_multi_line_data() -> None:
    stream = b"\xef\xbb\xbf: ping\r\ndata: a\r\ndata:b\r\n\r\nevent: x\rid: 7\rdata:  c\r\rdata: d\n\n:\n\n"
    assert decode(stream) == [SseEvent("", "a\nb"), SseEvent("x", " c"), SseEvent("", "d")]


def test_a_character_cut_in_half_is_whole_again() -> None:
    raw = "data: 你好\n\n".encode()
    assert decode(*(raw[i : i + 1] for i in range(len(raw)))) == [SseEvent("", "你好")]


def test_the_last_event_counts_without_its_blank_line() -> None:
    assert decode(b"data: a\n\ndata: b") == [SseEvent("", "a"), SseEvent("", "b")]


def test_an_endless_line_is_bounded_and_what_came_before_is_kept() -> None:
    decoder = SseDecoder(limit=1000)
    events = decoder.feed(b"data: a\n\n" + b"x" * 2000)
    assert events == [SseEvent("", "a")]
    assert decoder.overflowed
    assert decoder.feed(b"\n\ndata: b\n\n") == []
    assert decoder.end() == []


def test_endless_data_of_short_lines_is_bounded() -> None:
    decoder = SseDecoder(limit=1000)
    for _ in range(200):
        decoder.feed(b"data: 0123456789\n")
    assert decoder.overflowed


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b":c", b"data", b"data:", b"data: ", b"event: e", b"\xef\xbb\xbfdata: q", b"retry: 1"]),
        st.text(max_size=20).map(lambda text: b"data: " + text.encode("utf-8", "replace")),
        st.binary(max_size=30),
    ),
    max_size=20,
)


@given(LINES, st.data())
@settings(max_examples=300, deadline=None)
def test_any_split_gives_the_same_events(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])) for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    limit = data.draw(st.sampled_from([16, 64, 1 << 20]))
    assert decode(*chunks, limit=limit) == decode(stream, limit=limit)


@given(st.lists(st.text(), max_size=10))
@settings(deadline=None)
def test_what_is_sent_is_what_arrives(texts: list[str]) -> None:
    stream = b"".join(b"data: " + json.dumps(text).encode() + b"\n\n" for text in texts)
    assert [json.loads(event.data) for event in decode(stream)] == texts
