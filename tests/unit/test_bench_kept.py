"""What was measured before: repeats and intervals, trends, exports that nobody's words break, imports, the commands."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from array import array
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.bench.compare import caveats, changed_since, search, side_rows, sides, trend
from qwen_tui.bench.confidence import change, paired_change, t_interval, t_quantile
from qwen_tui.bench.export import exported
from qwen_tui.bench.health import ClientHealth
from qwen_tui.bench.imported import import_file
from qwen_tui.bench.ledger import Ledger, Run, new_id
from qwen_tui.bench.load import Load
from qwen_tui.bench.run import plan_again
from qwen_tui.bench.series import Series
from qwen_tui.bench.statistics import Figures, Limits, figures_of
from qwen_tui.bench.svg import Line, bar_chart, line_chart, ticks
from qwen_tui.bench.target import BenchError, Target
from qwen_tui.bench.workload import Workload
from qwen_tui.cli import main
from qwen_tui.errors import UsageError
from qwen_tui.headless import bench_kept
from qwen_tui.headless.bench_lines import list_lines, run_lines
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings
from qwen_tui.workers.bench_record import Record

ARGV = ["/engine/bin/python", "-m", "server", "--model", "/m", "--port", "8000"]


def records(seconds: float, count: int = 4) -> list[Record]:
    return [
        Record(n, "ok", n * 0.1, n * 0.1, n * 0.1 + seconds, 0.1, 200, 10, 3,
               array("d", [n * 0.1 + seconds * part for part in (0.2, 0.6, 1.0)]))
        for n in range(count)
    ]  # fmt: skip


def keep(ledger: Ledger, at: float, seconds: float = 1.0, **more: Any) -> Run:
    """A run that began at `at` and whose requests took so long."""
    found = records(seconds)
    run = Run(
        new_id(at), at, "http://127.0.0.1:8000/v1", "m", "chat", Workload(), Load(streams=2, count=4),
        Limits(), 1, figures_of(found), ClientHealth(()), about={"argv": ARGV, "engine_version": "0.24"},
    )  # fmt: skip
    run = replace(run, **more)
    ledger.save(run, found, Series([0.0, 1.0], {"server.kv_usage": [0.1, 0.2], "gpu0.power": [300.0, None]}))
    return run


# -- how sure -------------------------------------------------------------------------------------------


def test_students_t_is_that_of_the_tables() -> None:
    for freedom, wanted in ((1, 12.7062), (4, 2.7764), (30, 2.0423)):
        assert t_quantile(freedom) == pytest.approx(wanted, abs=1e-4)
    mean, low, high = t_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), abs=1e-3)


def test_a_difference_is_clear_when_the_noise_is_smaller() -> None:
    clear = change([100, 101, 99], [110, 111, 109])
    assert clear is not None
    assert clear.is_clear
    assert clear.mean == pytest.approx(0.1, abs=0.001)
    assert clear.low < 0.1 < clear.high
    noise = change([100, 120, 80], [110, 90, 125])
    assert noise is not None
    assert not noise.is_clear
    assert change([100], [110, 111]) is None
    assert change([0.0, 1.0], [110, 111]) is None
    drifting = paired_change([100, 200, 400], [101, 202, 404])
    assert drifting is not None
    assert drifting.low == pytest.approx(0.01)


# -- side by side ---------------------------------------------------------------------------------------


def test_runs_that_repeat_a_run_stand_beside_it(paths: Paths) -> None:
    ledger = Ledger(paths)
    old = [keep(ledger, 1000.0 + n, 1.0 + n / 100) for n in range(3)]
    elsewhere = [*ARGV[:-1], "8001"]
    new = [keep(ledger, 2000.0 + n, 2.0 + n / 100, about={"argv": [*elsewhere, "--x"]}) for n in range(2)]
    keep(ledger, 3000.0, partial=True)
    a, b = sides([old[0], new[1]], ledger.list())
    assert {run.id for run in a.repeats} == {run.id for run in old}
    assert {run.id for run in b.repeats} == {run.id for run in new}
    row = next(row for row in side_rows(a, b) if row.key == "mean_e2el_ms")
    assert (row.a, row.b) == (pytest.approx(1010), pytest.approx(2005))
    assert row.interval is not None
    assert row.interval.is_clear
    assert row.is_better is False
    assert [len(side.repeats) for side in sides(old[:2], ledger.list())] == [1, 1], "they are each other's repeats"
    assert any("noise" in text for text in caveats(old[0], old[1]))
    other = keep(ledger, 4000.0, workload=Workload(input_len=65))
    assert any("same work" in text for text in caveats(old[0], other))


def test_a_trend_tells_what_changed(paths: Paths) -> None:
    ledger = Ledger(paths)
    first = keep(ledger, 1000.0)
    second = keep(ledger, 2000.0, about={"argv": [*ARGV, "--enforce-eager"], "engine_version": "0.32"})
    keep(ledger, 3000.0, load=Load(streams=3, count=4))
    assert [run.id for run in trend(first, ledger.list())] == [first.id, second.id]
    assert changed_since(first, second) == ["engine 0.24 → 0.32", "+ --enforce-eager"]


def test_a_run_without_a_server_has_no_latencies(paths: Paths) -> None:
    ledger = Ledger(paths)
    run = keep(ledger, 1000.0, kind="offline", base_url="", about={"backend": "hf"}, load=Load(rate=math.inf, count=4))
    run = replace(run, figures=Figures(duration=2.0, completed=4, request_throughput=2.0, output_throughput=9.0))
    text = "\n".join([*list_lines([run]), *run_lines(run)])
    assert "offline, hf" in text
    assert "TTFT   " not in text
    assert "ms  mean" not in text.replace("TTFT ms", "")
    ledger.save(run, [])
    other = keep(ledger, 2000.0)
    assert "offline, hf" in exported([run, other], ledger, "html")
    assert caveats(run, other)[0] == "They did not ask for the same work"
    with pytest.raises(UsageError):
        plan_again(run, Target("http://x/v1", "m"), {})


def test_searching(paths: Paths) -> None:
    ledger = Ledger(paths)
    run = keep(ledger, 1000.0, tags=("night",), note="new Driver")
    other = keep(ledger, 2000.0)
    assert search([run, other], "driver 0.24") == [run]
    assert search([run, other], tag="night") == [run]
    assert search([run, other], "0.24") == [run, other]


# -- exports --------------------------------------------------------------------------------------------

EVIL = '<script>alert("x")</script> | *b* =1+1 \x1b[31m ]]> &'


class Tags(HTMLParser):
    """The elements and the URLs of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [str(text) for name, text in attrs if name in ("src", "href", "xlink:href")]


def test_a_report_is_one_file_that_nobodys_words_break(paths: Paths) -> None:
    ledger = Ledger(paths)
    one = keep(ledger, 1000.0, model=EVIL, tags=(EVIL,), note=EVIL, about={"argv": ["x", EVIL], "gpus": [EVIL]})
    two = keep(ledger, 2000.0, 2.0)
    for runs in ([one], [one, two]):
        page = exported(runs, ledger, "html")
        tags = Tags(page)
        assert "script" not in tags.names
        assert "svg" in tags.names
        assert not tags.links, "nothing is fetched"
        assert "\x1b" not in page
        assert "prefers-color-scheme: dark" in page
        assert "default-src 'none'" in page
        drawing = exported(runs, ledger, "svg")
        assert len(list(ElementTree.fromstring(drawing))) > 4
    assert "+100.0%" in page or "-50.0%" in page


def test_the_charts_of_a_run_are_well_formed(paths: Paths) -> None:
    ledger = Ledger(paths)
    text = exported([keep(ledger, 1000.0)], ledger, "svg")
    titles = [element.text for element in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert "Output tokens per second" in titles
    assert "GPU: power" in titles
    assert not re.search(r"nan|inf", text.partition("</style>")[2])


def test_a_chart_has_round_ticks_and_breaks_where_nothing_was_told() -> None:
    assert ticks(0, 97) == [0, 20, 40, 60, 80]
    assert ticks(0, 0.31) == pytest.approx([0, 0.1, 0.2, 0.3])
    chart = line_chart("t", [Line("a", [0, 1, 2, 3], [1, math.nan, 1, 2])], "s", "")
    (path,) = re.findall(r'class="line c0" d="([^"]+)"', chart)
    assert path.count("M") == 2
    assert line_chart("t", [], "s", "") == ""
    assert line_chart("t", [Line("a", [1], [math.nan])], "s", "") == ""
    assert bar_chart("t", [("a", [1.0]), ("b", [math.nan])], [""], "").count("<rect") == 1
    assert "<path" in line_chart("t", [Line("a", [0.01, 0.5, 3.0], [1, 2, 3])], "ms", "%", log_x=True)


def test_csv_and_markdown_and_json(paths: Paths) -> None:
    ledger = Ledger(paths)
    one, two = keep(ledger, 1000.0, note="=1+1", model="a|b"), keep(ledger, 2000.0)
    rows = list(csv.DictReader(io.StringIO(exported([one, two], ledger, "csv"))))
    assert [row["run_id"] for row in rows] == [one.id, two.id]
    assert rows[0]["note"] == "'=1+1", "no formula"
    assert float(rows[0]["mean_ttft_ms"]) == pytest.approx(200)
    requests = list(csv.DictReader(io.StringIO(exported([one], ledger, "csv", detailed=True))))
    assert [row["outcome"] for row in requests] == ["ok"] * 4
    lines = exported([one, two], ledger, "markdown").splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}
    assert json.loads(exported([one], ledger, "json"))["run_id"] == one.id
    assert len(json.loads(exported([one, two], ledger, "json"))) == 2
    detailed = json.loads(exported([one], ledger, "json", detailed=True))
    assert detailed["series"]["values"]["server.kv_usage"] == [0.1, 0.2]
    assert len(detailed["itls"]) == 4


# -- imports --------------------------------------------------------------------------------------------

#: What 0.6 wrote: no rate of failures, every detail but when requests were sent, p99 only.
OLD = {
    "date": "20241105-101500", "backend": "vllm", "model_id": "m", "tokenizer_id": "m", "best_of": 1,
    "num_prompts": 3, "request_rate": 4.0, "burstiness": 1.0, "max_concurrency": None, "duration": 2.0,
    "completed": 2, "total_input_tokens": 20, "total_output_tokens": 5, "request_throughput": 1.0,
    "request_goodput:": 0.5, "output_throughput": 2.5, "total_token_throughput": 12.5, "input_lens": [10, 10, 10],
    "output_lens": [3, 2, 0], "ttfts": [0.1, 0.2, 0.0], "itls": [[0.1, 0.1], [0.3], []],
    "generated_texts": ["a", "b", ""], "errors": ["", "", "gone"], "mean_ttft_ms": 150.0, "median_ttft_ms": 150.0,
    "std_ttft_ms": 50.0, "p99_ttft_ms": 199.0, "mean_tpot_ms": 200.0, "median_tpot_ms": 200.0, "p99_tpot_ms": 299.0,
}  # fmt: skip
#: What 0.12 writes without --save-detailed.
NEW = {
    "date": "20260105-101500", "endpoint_type": "openai-chat", "backend": "openai-chat", "label": None,
    "model_id": "n", "tokenizer_id": "n", "num_prompts": 2, "request_rate": "inf", "burstiness": 1.0,
    "max_concurrency": 2, "duration": 2.0, "completed": 2, "failed": 0, "total_input_tokens": 20,
    "total_output_tokens": 6, "request_throughput": 1.0, "request_goodput": None, "output_throughput": 3.0,
    "total_token_throughput": 13.0, "max_output_tokens_per_s": 4.0, "max_concurrent_requests": 2,
    "mean_ttft_ms": 100.0, "median_ttft_ms": 100.0, "std_ttft_ms": 0.0, "p99_ttft_ms": 100.0,
}  # fmt: skip


def test_results_of_vllms_own_client_are_taken_over(paths: Paths, tmp_path: Path) -> None:
    ledger = Ledger(paths)
    file = tmp_path / "old.json"
    detailed = {**OLD, "date": "20260801-000000", "start_times": [50.0, 50.5, 51.0]}
    file.write_text("\n".join(json.dumps(one) for one in (OLD, NEW, detailed)))  # --append-result
    old, new, timed = import_file(file, ledger, ["before"]).runs
    assert (old.api, old.model, old.load.rate, old.figures.failed) == ("completions", "m", 4.0, 1)
    assert old.figures.ttft.p99 == pytest.approx(0.199), "the file's own word"
    assert old.figures.ttft.max == pytest.approx(0.2), "from the details"
    assert old.figures.e2el.mean == pytest.approx((0.3 + 0.5) / 2)
    assert old.figures.good_share == pytest.approx(1 / 3)
    assert ledger.records(old) == []
    assert (new.api, new.load.streams, new.figures.itl.count) == ("chat", 2, 0)
    assert [record.sent for record in ledger.records(timed)] == [0.0, 0.5, 1.0]
    assert ledger.get(new.id) == new
    assert (new.tags, new.about["imported_from"]) == (("before",), "old.json")
    assert import_file(file, ledger).known == 3
    assert any("imported" in text for text in caveats(old, new))
    assert not any(
        "imported_from" in run.about and run.id in (old.id,) for run in sides([new], ledger.list())[0].repeats
    )
    with pytest.raises(UsageError):
        plan_again(old, Target("http://x/v1", "m"), {})
    assert "n" in exported([old, new, timed], ledger, "html")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"duration": 1}', "[" * 50_000, json.dumps({**OLD, "duration": "x"}), "\x00\x01"]
)
def test_what_is_no_result_is_said_so(paths: Paths, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(BenchError):
        import_file(file, Ledger(paths))
    assert not Ledger(paths).list()


# -- the commands ---------------------------------------------------------------------------------------


def test_the_commands(paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(paths)
    a, b = keep(ledger, 1000.0), keep(ledger, 2000.0, 2.0, about={"argv": [*ARGV, "--x"]})

    def do(*words: str) -> str:
        parser = argparse.ArgumentParser()
        bench_kept.add_arguments(parser)
        assert bench_kept.run(parser.parse_args(words), paths, Settings()) == 0
        return capsys.readouterr().out

    assert a.id in do("runs")
    assert "#fast" in do("tag", a.id, "fast", "fast", "x")
    do("tag", a.id, "x", "--remove")
    assert ledger.get(a.id).tags == ("fast",)
    assert "why not" in do("note", a.id, "why", "not")
    assert b.id not in do("runs", "--search", "why")
    text = do("compare", a.id, b.id)
    assert "+100.0% worse" in text
    assert "run once" in text
    compared = json.loads(do("compare", a.id, b.id, "--json"))
    assert compared["compared"][0]["figures"][0]["confidence_95"] is None
    assert "+ --x" in do("trend")
    assert len(json.loads(do("trend", a.id, "--json", "--figure", "mean_ttft_ms"))) == 2
    with pytest.raises(UsageError):
        do("trend", "--figure", "beauty")
    with pytest.raises(UsageError):
        do("compare", a.id)
    with pytest.raises(UsageError):
        do("show", "nothing")
    do("export", a.id, b.id, "--output", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert do("export", "last").startswith("| | ")
    (tmp_path / "r.json").write_text(json.dumps(NEW))
    assert "imported" in do("import", str(tmp_path / "r.json"))
    do("delete", a.id, b.id)
    assert len(ledger.list()) == 1
    assert len(list(ledger.folder.iterdir())) == 2, "records and series went too"


def test_the_command_line_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert main(["bench", "runs"]) == 0
    assert "No run was kept yet" in capsys.readouterr().out
    assert main(["bench", "show", "x"]) == 2
    assert main(["bench", "rerun", "x"]) == 2
    assert "There is no run" in capsys.readouterr().err
