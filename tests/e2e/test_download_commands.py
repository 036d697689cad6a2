"""`qwen-tui download` and `verify` as a person runs them, and the demo's download."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pexpect
import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models.download import download_model
from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import DownloadStatus
from qwen_tui.paths import Paths
from qwen_tui.progress import Progress
from tests.e2e.downloading import PROGRAM, TOTAL, check, hub, paths, slow
from tests.fakes.hub import FakeHub

__all__ = ["hub", "paths"]  # fixtures


def test_the_command_downloads_verifies_and_says_what_it_did(hub: FakeHub, paths: Paths, tmp_path: Path) -> None:
    cache = str(tmp_path / "here")
    done = subprocess.run(
        [PROGRAM, "download", hub.model, "--cache-dir", cache, "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["done"] == answer["total"] == TOTAL
    check(Path(answer["folder"]))
    verify = [PROGRAM, "verify", answer["folder"], "--json"]
    assert json.loads(subprocess.run(verify, capture_output=True, text=True, check=True).stdout)["good"]
    (Path(answer["folder"]) / "config.json").unlink()
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 1


def test_the_command_pauses_at_ctrl_c_and_goes_on(hub: FakeHub, paths: Paths) -> None:
    slow(hub, 1_500_000)
    process = subprocess.Popen(
        [PROGRAM, "download", hub.model], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while hub.sent["model.safetensors"] < 1_000_000:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from here" in errors
    assert [state.status for state in Downloads(paths).list()] == [DownloadStatus.PAUSED]
    hub.faults.clear()
    done = subprocess.run([PROGRAM, "download", hub.model, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["fetched"] < TOTAL - 500_000


def test_the_command_asks_for_a_token_without_showing_it(hub: FakeHub, paths: Paths) -> None:
    hub.token = "SECRETSECRET"
    silent = subprocess.run([PROGRAM, "download", hub.model], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert silent.returncode == 1
    assert "--token-stdin" in silent.stderr
    child = pexpect.spawn(str(PROGRAM), ["download", hub.model], encoding="utf-8", timeout=60, dimensions=(24, 200))
    child.expect("Token .*: ")
    child.sendline(hub.token)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert hub.token not in (child.before or "")
    # It is kept: the next time nobody is asked.
    again = subprocess.run([PROGRAM, "verify", hub.model], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert again.returncode == 0, again.stderr


def test_a_detached_download_outlives_its_command_and_is_listed(hub: FakeHub, paths: Paths) -> None:
    slow(hub, 2_000_000)
    subprocess.run([PROGRAM, "download", hub.model, "--detach"], check=True, capture_output=True)
    words = [PROGRAM, "download", "--list", "--json"]
    deadline = time.monotonic() + 60
    seen = set()
    while "done" not in seen:
        assert time.monotonic() < deadline
        states = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        seen |= {state["status"] for state in states}
    assert "running" in seen


async def test_the_demo_sees_progress_that_only_grows_and_gets_the_folder(paths: Paths, hub: FakeHub) -> None:
    seen: list[Progress] = []
    check(await download_model(paths, hub.model, seen.append))
    counted = [progress for progress in seen if progress.unit == "bytes"]
    assert counted[-1].done == TOTAL
    assert [progress.done for progress in counted] == sorted(progress.done for progress in counted)
    assert not Downloads(paths).list()
    with pytest.raises(ModelError, match="owner/nothing"):
        await download_model(paths, "owner/nothing", seen.append)
