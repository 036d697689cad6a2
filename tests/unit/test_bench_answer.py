"""The reading of a streamed answer: fast where it can be, the same whatever way the bytes are cut."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_tui.workers.bench_answer import Answer, MalformedError

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def event(body: Any, spaced: bool = False) -> bytes:
    separators = None if spaced else (",", ":")
    return b"data: " + json.dumps(body, separators=separators, ensure_ascii=False).encode() + b"\n\n"


def choice(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


def framed(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


USAGE = {"id": "x", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
TEXTS = ["Hello", ' "choices":[{ ', "data: x\n\n", "你好", ""]


def whole(spaced: bool = False) -> bytes:
    events = [event(choice(text), spaced) for text in TEXTS]
    return HEAD + framed(*events, event(USAGE, spaced), DONE) + END


def read(answer: Answer, pieces: list[bytes]) -> Answer:
    """As the generator does: what can be taken is taken, the rest is fed. Read number n comes at second n."""
    for number, piece in enumerate(pieces):
        rest = answer.take(piece, float(number)) if answer.fast or answer.carry else piece
        if rest:
            answer.feed(rest, float(number))
    answer.finish()
    return answer


@pytest.mark.parametrize("spaced", [False, True])
def test_one_event_a_read_is_taken_without_decoding(spaced: bool) -> None:
    answer = Answer()
    answer.feed(HEAD, 0.0)
    answer.feed(framed(event(choice("a"), spaced)), 1.0)
    assert answer.fast
    for number in range(2, 5):
        piece = framed(event(choice("b"), spaced))
        assert answer.take(piece, float(number)) == b""
    assert list(answer.stamps) == [1.0, 2.0, 3.0, 4.0]
    rest = framed(event(USAGE, spaced), DONE) + END
    assert answer.take(rest, 5.0) == rest
    answer.feed(rest, 5.0)
    assert answer.outcome == ("ok", "")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.keeps_alive) == (9, 5, True)


def test_several_chunks_and_several_events_in_one_read_count_one_by_one() -> None:
    answer = Answer()
    answer.feed(HEAD + framed(event(choice("a"))), 1.0)
    two_in_one = event(choice("b")) + event(choice("c"))
    piece = framed(event(choice("d")), two_in_one)
    assert answer.take(piece, 2.0) == b""
    assert list(answer.stamps) == [1.0, 2.0, 2.0, 2.0]


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, len(whole(True)) - 1), max_size=12), spaced=st.booleans())
def test_however_it_is_cut_it_says_the_same(cuts: list[int], spaced: bool) -> None:
    data = whole(spaced)
    edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    answer = read(Answer(), [data[a:b] for a, b in itertools.pairwise(edges)])
    assert answer.outcome == ("ok", "")
    assert len(answer.stamps) == len(TEXTS)
    assert list(answer.stamps) == sorted(answer.stamps)
    assert answer.completion_tokens == 5
    assert answer.is_whole


def test_a_fast_stream_cut_anywhere_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = read(Answer(), [HEAD, framed(event(choice("a")))])
    monkeypatch.setattr(Answer, "feed", lambda *_: pytest.fail("decoded"))
    data = framed(*[event(choice(f"word {number}")) for number in range(200)])
    for start in range(0, len(data), 1000):
        assert answer.take(data[start : start + 1000], 2.0 + start) == b""
    assert len(answer.stamps) == 201
    assert list(answer.stamps) == sorted(answer.stamps)


def test_first_text_is_not_the_first_chunk() -> None:
    role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm"}}]}
    answer = read(Answer(), [HEAD, framed(event(role)), framed(event(thought)), framed(event(choice("x")))])
    assert answer.stamps[0] == 1.0
    assert answer.first_text == 2.0


def test_usage_beside_the_last_choice_is_found() -> None:
    last = framed(event(choice("b", usage={"prompt_tokens": 3, "completion_tokens": 2})))
    answer = read(Answer(), [HEAD, framed(event(choice("a"))), last, framed(DONE) + END])
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)
    assert answer.outcome == ("ok", "")


def test_a_text_is_kept_only_if_asked() -> None:
    pieces = [HEAD, framed(event(choice("a"))), framed(event(choice("b")))]
    assert read(Answer(), pieces).text is None
    assert read(Answer(keep_text=True), pieces).text == ["a", "b"]


def plain(status: str, body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (plain("429 Too Many", b'{"error":{"message":"slow down"}}'), "rate_limited", "slow down"),
        (plain("404 Not Found", b'{"message":"no such model"}'), "status", "no such model"),
        (plain("500 Oops", b"<html>"), "status", "<html>"),
        (plain("400 Bad", b'{"error":{"message":"the maximum context length is 8"}}'), "too_long", "maximum context"),
        (plain("200 OK", b'{"choices":[]}'), "not_streamed", "choices"),
        (HEAD + framed(event({"error": {"message": "KV cache full"}}), DONE) + END, "error_event", "KV cache full"),
        (HEAD + framed(event(choice("a"))), "broken", ""),
        (HEAD + framed(DONE) + END, "empty", ""),
        (HEAD + framed(event({**USAGE, "usage": {"completion_tokens": 0}}), DONE) + END, "empty", ""),
    ],
)
def test_what_goes_wrong_has_a_kind(data: bytes, kind: str, said: str) -> None:
    answer = read(Answer(), [data])
    answer.closed()
    assert answer.outcome[0] == kind
    assert said in answer.outcome[1]


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        HEAD + b"nonsense\r\n",
        HEAD + b"3\r\nabcdef\r\n",
        HEAD + framed(b"data: {half\n\n"),
        HEAD + framed(b"data: 5\n\n"),
        HEAD + b"-5\r\n",
    ],
)
def test_nonsense_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Answer().feed(data, 0.0)


def test_an_answer_that_ends_with_its_connection() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event(choice("a")) + DONE, 1.0)
    assert not answer.is_whole
    answer.closed()
    assert answer.outcome == ("ok", "")
    assert not answer.keeps_alive


def test_comments_and_crlf_are_no_chunks() -> None:
    answer = read(Answer(), [HEAD, framed(b": ping\n\n"), framed(event(choice("a")).replace(b"\n", b"\r\n"))])
    assert len(answer.stamps) == 1
    assert not math.isnan(answer.first_text)
