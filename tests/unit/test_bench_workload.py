"""Prompts of exact lengths, data sets, seeds; sweeps, the search for the capacity, prices, the ledger, comparisons."""

from __future__ import annotations

import json
import math
import random
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.bench.capacity import Search, wilson
from qwen_tui.bench.compare import caveats, rows
from qwen_tui.bench.datasets import read_items
from qwen_tui.bench.generator import ProcessHealth, Tick
from qwen_tui.bench.health import ClientHealth
from qwen_tui.bench.ledger import Ledger, Run, new_id
from qwen_tui.bench.load import Load
from qwen_tui.bench.price import HourlyPrice
from qwen_tui.bench.result import result_json
from qwen_tui.bench.run import Bench, Plan
from qwen_tui.bench.sentences import capacity_sentence, confidence_text
from qwen_tui.bench.statistics import Limits, figures_of
from qwen_tui.bench.sweep import Sweep, load_at
from qwen_tui.bench.target import BenchError, Target
from qwen_tui.bench.tokens import counter_for
from qwen_tui.bench.workload import Workload, make_items
from qwen_tui.errors import UsageError
from qwen_tui.headless import bench_target
from qwen_tui.paths import Paths
from qwen_tui.workers.bench_record import Record


class Letters:
    """Counts words of more than five letters as two tokens, and a first word with a “t” in it as one more."""

    name = "letters"

    def count(self, text: str) -> int:
        words = text.split()
        return sum(1 + (len(word) > 5) for word in words) + ("t" in words[0] and not text.startswith(" "))


def test_random_prompts_have_exactly_the_length_that_was_asked() -> None:
    items = make_items(Workload(input_len=37, output_len=5), 50, random.Random(1), Letters())
    assert {Letters().count(str(item.prompt)) for item in items} == {37}
    assert {item.output_tokens for item in items} == {5}
    assert len({item.prompt for item in items}) == 50


def tokenizer_file(folder: Path) -> Path:
    """A real tokenizer.json: a word after a blank is a token if it has less than six letters, else several."""
    tokenizers = pytest.importorskip("tokenizers")
    from qwen_tui.bench.vocabulary import WORDS

    words = [f"Ġ{word}" for word in WORDS if len(word) < 6]
    letters = [*"abcdefghijklmnopqrstuvwxyz", "Ġ"]
    merges = []
    known = dict.fromkeys(letters)
    for word in words:
        for length in range(2, len(word) + 1):
            if word[:length] not in known:
                known[word[:length]] = None
                merges.append((word[: length - 1], word[length - 1]))
    vocabulary = {text: number for number, text in enumerate(known)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def test_a_tokenizers_file_makes_prompts_of_exact_lengths(tmp_path: Path) -> None:
    counter = counter_for(Target("http://127.0.0.1:9/v1", "m"), tokenizer_file(tmp_path))
    assert counter is not None
    assert counter.name == "file"
    assert counter.count(" water xxx") == 1 + 4
    items = make_items(Workload(input_len=41, prefix_len=6, output_len=5), 20, random.Random(1), counter)
    assert {counter.count(item.text) for item in items} == {47}
    assert counter_for(Target("http://127.0.0.1:9/v1", "m"), tmp_path / "nothing.json") is None
    (tmp_path / "bad.json").write_text("{}")
    assert counter_for(Target("http://127.0.0.1:9/v1", "m"), tmp_path / "bad.json") is None
    with pytest.raises(UsageError):
        bench_target._tokenizer(tmp_path / "bad.json")
    assert bench_target._tokenizer(tmp_path) == tmp_path / "tokenizer.json"


def test_a_shared_prefix_comes_before_all_and_counts_besides() -> None:
    items = make_items(Workload(input_len=10, prefix_len=20), 5, random.Random(1), Letters())
    texts = [str(item.prompt) for item in items]
    assert {Letters().count(text) for text in texts} == {30}
    assert len({" ".join(text.split()[:20]) for text in texts}) == 1
    assert len({" ".join(text.split()[20:]) for text in texts}) == 5


def test_lengths_spread_evenly_around_what_was_asked() -> None:
    items = make_items(Workload(input_len=100, output_len=10, spread=0.5), 400, random.Random(1), None)
    lengths = [len(str(item.prompt).split()) for item in items]
    assert (min(lengths), max(lengths)) == (50, 150)
    assert sum(lengths) / 400 == pytest.approx(100, rel=0.05)
    assert {item.output_tokens for item in items} == set(range(5, 16))


def test_a_seed_makes_the_same_prompts_again() -> None:
    def texts(seed: int) -> list[Any]:
        return [item.prompt for item in make_items(Workload(), 3, random.Random(seed), None)]

    assert texts(1) == texts(1)
    assert not set(texts(1)) & set(texts(2))


def test_data_sets(tmp_path: Path) -> None:
    share = tmp_path / "share.json"
    turns = [
        {"from": "human", "value": "How do I boil an egg, please?"},
        {"from": "gpt", "value": "In water for six minutes."},
    ]
    share.write_text(json.dumps([{"conversations": turns}, {"conversations": turns[:1]}, {"conversations": "x"}]))
    (item,) = read_items(share, "sharegpt", Letters())
    assert item.prompt == turns[0]["value"]
    assert item.output_tokens == Letters().count(turns[1]["value"])
    lines = tmp_path / "prompts.jsonl"
    messages = [{"role": "user", "content": "Hi"}]
    lines.write_text('{"prompt": "a", "max_tokens": 7}\n\n"b"\n' + json.dumps({"body": {"messages": messages}}))
    assert [(one.prompt, one.output_tokens) for one in read_items(lines, "jsonl", None)] == [
        ("a", 7), ("b", 0), (messages, 0),
    ]  # fmt: skip
    work = Workload(kind="jsonl", path=str(lines), output_len=0)
    made = make_items(work, 7, random.Random(1), None)
    assert len(made) == 7
    assert {one.output_tokens for one in made} == {7, 128}
    lines.write_text('{"prompt": "a"}\n{"prompt": 5}\n')
    with pytest.raises(BenchError, match="line 2"):
        read_items(lines, "jsonl", None)


def test_bodies_of_both_endpoints() -> None:
    chat = json.loads(Target("http://h/v1", "m").body("Hi", 5, True))
    assert (chat["messages"], chat["max_completion_tokens"]) == ([{"role": "user", "content": "Hi"}], 5)
    plain = Target("https://h/v1", "m", api="completions", extra={"top_k": 1})
    assert json.loads(plain.body("Hi", 5, False))["prompt"] == "Hi"
    assert "ignore_eos" not in json.loads(plain.body("Hi", 5, False))
    assert json.loads(plain.body("Hi", 5, True))["repetition_penalty"] == 1.0
    assert not {"temperature", "repetition_penalty"} & {*json.loads(plain.body("Hi", 5, False)), *chat}
    assert json.loads(plain.body("Hi", 5, False))["top_k"] == 1
    assert (plain.path, plain.port, plain.root) == ("/v1/completions", 443, "https://h")
    with pytest.raises(UsageError):
        Target("ftp://h/v1", "m")


def make_run(level: int = 1, ttft: float = 0.1, tokens: int = 10, limits: Limits | None = None, **more: Any) -> Run:
    stamps = array("d", [ttft + 0.01 * number for number in range(tokens)])
    records = [Record(n, "ok", 0.0, 0.0, stamps[-1], stamps[0], 200, 5, tokens, stamps) for n in range(level)]
    figures = figures_of(records, limits)
    run = Run(
        new_id(), 1.8e9, "http://h/v1", "m", "chat", Workload(), Load(streams=level, count=level),
        limits or Limits(), 1, figures, ClientHealth((ProcessHealth(cpu=0.1, wall=1.0),)),
        about={"engine_version": "0.32.0"},
    )  # fmt: skip
    return replace(run, **more)


def test_the_ledger_finds_changes_and_deletes(paths: Paths) -> None:
    ledger = Ledger(paths)
    a, b = make_run(id="20270101-000000-aaaa"), make_run(id="20270102-000000-bbbb")
    for run in (a, b):
        ledger.save(run, [Record(0, "ok", 0.0, stamps=array("d", [1.5]))])
    assert [run.id for run in ledger.list()] == [b.id, a.id]
    assert ledger.get("aaaa") == ledger.get("20270101") == a
    assert ledger.get("last") == b
    assert list(ledger.records(a)[0].stamps) == [1.5]
    assert ledger.change(a, tags=["x"], note="n") == ledger.get("aaaa")
    for name in ("2027", "nothing", "", "../x"):
        with pytest.raises(UsageError):
            ledger.get(name)
    (ledger.folder / f"{b.id}.json").write_text("{")
    assert [run.id for run in ledger.list()] == [a.id]
    ledger.delete(a)
    with pytest.raises(BenchError):
        ledger.records(a)


def test_a_comparison_says_what_may_not_be_compared() -> None:
    a, b = make_run(4), make_run(8, ttft=0.2, workload=Workload(input_len=9), partial=True)
    by_key = {row.key: row for row in rows(a.figures, b.figures)}
    ttft = by_key["mean_ttft_ms"]
    assert (ttft.a, ttft.b, ttft.change) == (pytest.approx(100), pytest.approx(200), pytest.approx(1.0))
    assert ttft.is_better is False
    assert by_key["output_throughput"].is_better is True
    assert by_key["mean_itl_ms"].is_better in (None, True, False)
    assert len(caveats(a, b)) == 3
    assert caveats(a, a) == []


def test_the_result_has_vllms_names_and_no_infinity() -> None:
    run = make_run(2, load=Load(rate=math.inf, count=2, burstiness=math.inf))
    result = json.loads(json.dumps(result_json(run, []), allow_nan=False))
    assert (result["request_rate"], result["burstiness"], result["backend"]) == ("inf", "inf", "openai-chat")
    assert (result["completed"], result["total_output_tokens"]) == (2, 20)
    assert result["mean_ttft_ms"] == pytest.approx(100)
    assert result["engine_version"] == "0.32.0"


@pytest.mark.parametrize("text", ["2.49 USD", "USD 2.49", "2,49USD", "USD2.49/h"])
def test_prices(text: str) -> None:
    price = HourlyPrice.parse(text)
    assert price == HourlyPrice(2.49, "USD")
    assert price.per_million(1000) == pytest.approx(0.6917, abs=1e-4)
    assert price.per_million(0) is None
    assert price.show(0.69166) == "0.692 USD"


@pytest.mark.parametrize("text", ["much", "1 2 3", "-5", "5 USD EUR"])
def test_what_is_no_price(text: str) -> None:
    with pytest.raises(UsageError):
        HourlyPrice.parse(text)
    assert HourlyPrice.parse(" ") is None


def test_the_knee_is_where_tokens_stop_keeping_up() -> None:
    def at(rate: float) -> Run:
        run = make_run(1, limits=Limits(ttft=1))
        return replace(run, figures=replace(run.figures, output_throughput=rate, good_share=1.0 if rate < 350 else 0.5))

    found = Sweep("users", [1, 2, 4, 8], [at(100), at(190), at(340), at(360)])
    assert found.knee == 4
    assert found.highest_within(0.9) == 4
    assert Sweep("users", [1, 2], [at(100), at(200)]).knee is None


class PretendBench(Bench):
    """Runs nothing: a request is fast enough as long as no more than `bears` are under way."""

    def __init__(self, paths: Paths, bears: Callable[[int], float]) -> None:
        super().__init__(paths)
        self.bears = bears
        self.levels: list[float] = []

    async def run(self, plan: Plan, on_tick: Callable[[Tick], None] | None = None, *, keep: bool = True) -> Run:
        level = plan.load.streams or plan.load.rate
        self.levels.append(level)
        good = round(self.bears(len(self.levels)) >= level) * plan.load.count
        stamps = [array("d", [0.1 if number < good else 9.0]) for number in range(plan.load.count)]
        records = [Record(n, "ok", 0.0, 0.0, s[0], s[0], 200, 1, 1, s) for n, s in enumerate(stamps)]
        if on_tick:
            on_tick(Tick("running", records=records))
        return replace(make_run(), figures=figures_of(records, plan.limits), limits=plan.limits)


@pytest.mark.parametrize(("bears", "level"), [(0, 0), (1, 1), (2, 2), (11, 11), (37, 37), (500, 128)])
async def test_the_search_finds_the_highest_level(paths: Paths, bears: int, level: int) -> None:
    plan = Plan(Target("http://h/v1", "m"), Workload(), Load(streams=1, count=1), Limits(ttft=1))
    bench = PretendBench(paths, lambda _run: bears)
    found = await Search(bench, plan, 0.9, most=128, repeats=3).run()
    assert found.level == level
    assert found.is_most == (level == 128)
    assert len(bench.levels) < 20
    if level:
        assert bench.levels.count(level) == 4, "a short run and three full ones"
        assert found.share == 1.0
        assert found.low > 0.9
        assert (found.met, found.runs) == (3, 3)
        assert found.above == (None if level == 128 else level + 1)
        assert "3 of 3 full runs" in confidence_text(found)
        short, full = (
            [t.counted for t in found.trials if t.level == level and t.is_probe is kind] for kind in (True, False)
        )
        assert short[0] < full[0]
    assert not found.out_of_time
    assert ("Not even" in capacity_sentence(found, plan.limits)) == (level == 0)


async def test_a_level_that_does_not_hold_when_repeated_is_left(paths: Paths) -> None:
    plan = Plan(Target("http://h/v1", "m"), Workload(), Load(streams=1, count=1), Limits(ttft=1))
    bench = PretendBench(paths, lambda run: 16 if run <= 9 else 8)  # it was only fast in the beginning
    found = await Search(bench, plan, 0.9, most=64, repeats=3).run()
    assert 8 <= found.level < 16


async def test_a_server_that_is_slow_once_is_not_taken_at_its_word(paths: Paths) -> None:
    """On an H200 the first 16 requests at once took seconds to compile for, and 15 users were the answer."""
    plan = Plan(Target("http://h/v1", "m"), Workload(), Load(streams=1, count=1), Limits(ttft=1))
    found = await Search(PretendBench(paths, lambda run: 0 if run == 2 else 37), plan, 0.9, most=128).run()
    assert found.level == 37


async def test_a_search_keeps_to_its_time(paths: Paths) -> None:
    """A short run takes 10 s, a full one 15: of 60 s no more than one full run is too much."""
    now = [0.0]

    class Slow(PretendBench):
        async def run(self, plan: Plan, on_tick: Callable[[Tick], None] | None = None, *, keep: bool = True) -> Run:
            now[0] += 5.0 * plan.load.count / plan.load.streams
            etas.append(search.eta)
            return await super().run(plan, on_tick, keep=keep)

    plan = Plan(Target("http://h/v1", "m"), Workload(), Load(streams=1, count=1), Limits(ttft=1))
    etas: list[float | None] = []
    search = Search(Slow(paths, lambda _run: 200), plan, 0.9, repeats=3, budget=60, clock=lambda: now[0])
    found = await search.run()
    assert found.out_of_time
    assert 4 <= found.level <= 200
    assert found.runs >= 1
    assert now[0] <= 60 + 15 + 20  # a first full run at a low level has 4 requests of each stream
    assert etas[0] is None
    assert all(eta is not None and eta >= 0 for eta in etas[1:])


async def test_out_of_time_a_lower_level_is_confirmed_at_least_once(paths: Paths) -> None:
    plan = Plan(Target("http://h/v1", "m"), Workload(), Load(streams=1, count=1), Limits(ttft=1))
    bench = PretendBench(paths, lambda run: 16 if run <= 3 else 4)
    found = await Search(bench, plan, 0.9, budget=1e-9).run()
    assert (found.level, found.runs, found.met) == (4, 1, 1)
    assert found.out_of_time


async def test_rates_are_searched_too(paths: Paths) -> None:
    plan = Plan(Target("http://h/v1", "m"), Workload(), Load(rate=1.0, count=1), Limits(ttft=1))
    found = await Search(PretendBench(paths, lambda _run: 5.3), plan, 0.9, by="rate", most=64, repeats=1).run()
    assert 5.0 <= found.level <= 5.3


def test_confidence_narrows_with_more_requests() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(90, 100) == (pytest.approx(0.8256, abs=1e-3), pytest.approx(0.9448, abs=1e-3))
    assert wilson(900, 1000)[0] > wilson(90, 100)[0]


def test_a_level_has_requests_enough() -> None:
    assert load_at(Load(streams=1, count=1, warmup=2), 100, "users").count == 300
    assert load_at(Load(streams=1, count=1), 2, "users", 7) == Load(streams=2, count=7)
    assert load_at(Load(rate=1, burstiness=2, seconds=9), 5, "rate") == Load(rate=5, burstiness=2, seconds=9)
