"""A batch of 1,000,000 rows with an engine that has no model: memory against one of 100,000, and a kill half-way.

    python tests/performance/batch_scale.py [ROWS]

Prints the worker's own memory (the most it ever had resident) for a tenth of the rows and for all of them, rows per
second, and what a kill -9 half-way and a second run come to: every row there, none twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ROOT / "qwen_tui" / "workers"
sys.path.insert(0, str(WORKERS))
import batch_rows  # type: ignore[import-not-found]  # noqa: E402

PEAK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
import batch_engine, batch_job
code = batch_job.main(batch_engine._work)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
sys.exit(code)
"""


def prepare(folder: Path, rows: int) -> Path:
    """An input with ids of its own, and the order of its batch; the batch's folder."""
    source = folder / f"{rows}.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(
                json.dumps({"custom_id": f"row-{number}", "body": {"prompt": f"this is number {number}"}}) + "\n"
            )
    job = folder / f"job{rows}"
    job.mkdir()
    order = {
        "input": {"path": str(source), "kind": "jsonl", **batch_rows.survey(str(source), "jsonl")},
        "output": str(job / "out.jsonl"), "errors": str(job / "errors.jsonl"), "format": "rows",
        "sampling": {"max_tokens": 8}, "arguments": ["--model", "x", "--max-num-seqs", "256"], "model": "x",
    }  # fmt: skip
    (job / "order.json").write_text(json.dumps(order), encoding="utf-8")
    return job


def start(job: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "fakes" / "batch_engine")}
    words = [sys.executable, "-c", PEAK, str(job), str(WORKERS)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def finished(job: Path) -> int:
    output = job / "out.jsonl"
    return sum(1 for _line in output.open("rb")) if output.exists() else 0


def main() -> int:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peaks = []
        for count in (rows // 10, rows):
            job = prepare(folder, count)
            began = time.perf_counter()
            process = start(job)
            said, _nothing = process.communicate()
            took = time.perf_counter() - began
            assert process.returncode == 0
            assert finished(job) == count
            peaks.append(int(said.split()[-1]) / 1024)
            print(f"{count:>9,} rows: {peaks[-1]:.0f} MB at most, {count / took:,.0f} rows/s", flush=True)
        print(f"memory for ten times the rows: {peaks[1] / peaks[0]:.2f} times as much")
        (folder / f"job{rows}" / "out.jsonl").unlink()
        process = start(job)
        while finished(job) < rows // 2:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = finished(job)
        began = time.perf_counter()
        start(job).communicate()
        lines = [json.loads(line)["line"] for line in (job / "out.jsonl").open("rb")]
        print(
            f"killed at {kept:,} rows, run again for {time.perf_counter() - began:.0f} s: {len(lines):,} rows,"
            f" {len(set(lines)):,} different ones of {rows:,}"
        )
        return 0 if len(lines) == len(set(lines)) == rows else 1


if __name__ == "__main__":
    sys.exit(main())
