"""How fast downloads are: `qwen-tui download` against curl and `modelscope download`, from the same hub, in one run.

    python tests/performance/download.py [--rounds 5] [--kills 10] [--size 1500] [--folder /tmp]

The hub is nginx (it has to be on the PATH), so that the hub is not what is measured. Three models: one file of `size`
MB, 1,000 files of 100 kB, and 1,000 of 1 MB. Each round runs all of the ways one after the other, so that they meet the
same machine; printed are the medians, and the median of each round's ratio to curl. curl does not hash; the others do.
CPU is that of a way's own processes. Then a download is killed (SIGKILL) at random moments, and what the hub has to
send again is counted, by its own log: a little more than what was on its way, as it logs what it gave to its kernel.
Last, how long the disk takes to have what a finished download wrote (which `qwen-tui` does after it has said so).
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
SMALL_FILES = 1000
SMALL_SIZES = {"owner/small": 100_000, "owner/middle": 1_000_000}
_SET_CHILD_SUBREAPER = 36

CONFIGURATION = """
daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;
{user}
events {{ worker_connections 512; }}
http {{
  log_format bytes '$uri $body_bytes_sent'; access_log {folder}/access.log bytes;
  sendfile on; tcp_nopush on; keepalive_requests 100000; default_type application/octet-stream;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port}; root {folder}/www;
    location ~ ^/api/v1/models/([^/]+/[^/]+)/repo/files$ {{
      default_type application/json; alias {folder}/www/listing/$1.json;
    }}
    location ~ ^/api/v1/models/([^/]+/[^/]+)/repo$ {{ set $model $1; rewrite ^ /files/$model/$arg_FilePath last; }}
    location ~ ^/api/v1/models/([^/]+/[^/]+)$ {{
      default_type application/json; return 200 '{{"Code":200,"Data":{{"Name":"x"}},"Success":true}}';
    }}
    location /files/ {{ }}
  }}
}}
"""


class Hub:
    """nginx with two models that speaks ModelScope's protocol."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self.models = {"owner/large": [("model.safetensors", size)]}
        for model, small in SMALL_SIZES.items():
            self.models[model] = [(f"part-{index:04}.bin", small) for index in range(SMALL_FILES)]
        for model, files in self.models.items():
            self._make(model, files)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=self.port, user=user))
        self._process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"])
        while subprocess.run(["curl", "-s", "-o", os.devnull, self.url], check=False).returncode:
            assert self._process.poll() is None
            time.sleep(0.05)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def address(self, model: str, name: str) -> str:
        return f"{self.url}/api/v1/models/{model}/repo?Revision=master&FilePath={name}"

    def size(self, model: str) -> int:
        return sum(size for _name, size in self.models[model])

    def sent(self) -> int:
        """Bytes of files that it has sent, as far as it knows; those of a broken connection, too."""
        time.sleep(0.2)  # it logs when it notices the end
        lines = (self._folder / "access.log").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("/files/"))

    def _make(self, model: str, files: list[tuple[str, int]]) -> None:
        place = self._folder / "www" / "files" / model
        place.mkdir(parents=True)
        entries = []
        for name, size in files:
            digest = hashlib.sha256()
            with (place / name).open("wb") as file:
                for start in range(0, size, 1 << 24):
                    block = os.urandom(min(1 << 24, size - start))
                    file.write(block)
                    digest.update(block)
            entries.append({"Path": name, "Name": name, "Size": size, "Sha256": digest.hexdigest(), "Type": "blob"})
        listing = self._folder / "www" / "listing" / f"{model}.json"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text(json.dumps({"Code": 200, "Data": {"Files": entries}, "Success": True}))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class Runs:
    """The ways to download, each into an empty folder. Every method gives seconds."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self._hub = hub
        self._out = folder / "out"
        self._log = (folder / "log").open("ab")
        names = {f"XDG_{kind}_HOME": str(folder / kind) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        self.environment = {
            **os.environ,
            **names,
            "MODELSCOPE_ENDPOINT": hub.url,
            "MODELSCOPE_HOME": str(folder / "home"),
            "MODELSCOPE_CACHE": str(folder / "out" / "cache"),
            "TQDM_DISABLE": "1",
        }

    def fresh(self) -> Path:
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir()
        os.sync()  # what the run before left to be written is not this one's
        return self._out

    def _timed(self, *words: str | Path) -> tuple[float, float]:
        """Seconds, and seconds of CPU of all that it started (this process inherits what outlives its parent)."""
        _reap()
        before = _cpu()
        began = time.monotonic()
        subprocess.run(words, env=self.environment, check=True, stdout=self._log, stderr=self._log)
        seconds = time.monotonic() - began
        _reap()
        return seconds, _cpu() - before

    def curl(self, model: str) -> tuple[float, float]:
        out = self.fresh()
        lines = [
            f'url = "{self._hub.address(model, name)}"\noutput = "{out / name}"' for name, _ in self._hub.models[model]
        ]
        (out / "urls").write_text("\n".join(lines))
        return self._timed("curl", "-s", "-K", out / "urls")

    def modelscope(self, model: str) -> tuple[float, float]:
        self.fresh()
        return self._timed(PROGRAMS / "modelscope", "download", "--model", model)

    def qwen_tui(self, model: str) -> tuple[float, float]:
        self.fresh()
        return self._timed(PROGRAMS / "qwen-tui", "download", model)

    def fetching(self, model: str) -> tuple[float, float]:
        """Of a download, the seconds of fetching and hashing; and those of having it on the disk."""
        out = self.fresh()
        words: list[str | Path] = [PROGRAMS / "qwen-tui", "download", model, "--json"]
        done = subprocess.run(words, env=self.environment, check=True, stdout=subprocess.PIPE, stderr=self._log)
        began = time.monotonic()
        subprocess.run(["sync", "-f", out], check=True)
        return float(json.loads(done.stdout)["seconds"]), time.monotonic() - began

    def killed(self, model: str) -> float:
        """The share of the bytes that the hub sends again because of a SIGKILL at a random moment."""
        out = self.fresh()
        before, moment = self._hub.sent(), random.uniform(0.05, 0.95)
        self._run("download", model, "--detach")
        file = next((Path(self.environment["XDG_STATE_HOME"]) / "qwen-tui" / "downloads").glob("*/state.json"))
        while (state := json.loads(file.read_text()))["status"] in ("queued", "listing", "running"):
            # The state is written four times a second: for small files, those that are there tell more.
            whole = sum(not entry.name.endswith(".incomplete") for entry in out.rglob("*.*"))
            if max(state["done"] / state["total"], whole / len(self._hub.models[model])) > moment:
                time.sleep(random.uniform(0.0, 0.1))
                os.kill(state["pid"], signal.SIGKILL)
                break
            time.sleep(0.002)
        self._run("download", model)
        return (self._hub.sent() - before) / self._hub.size(model) - 1

    def _run(self, *words: str) -> None:
        command: list[str | Path] = [PROGRAMS / "qwen-tui", *words]
        subprocess.run(command, env=self.environment, check=True, stdout=self._log, stderr=self._log)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    """Wait for all children but nginx, which was started first."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while len(pids := children.read_text().split()) > 1:
        os.waitpid(int(pids[-1]), 0)


def measure(hub: Hub, runs: Runs, model: str, rounds: int) -> None:
    """Print the figures of one model."""
    ways = {"curl": runs.curl, "modelscope": runs.modelscope, "qwen-tui": runs.qwen_tui}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    fetching = []
    for _round in range(rounds):
        for name, way in ways.items():
            times[name].append(way(model))
        fetching.append(runs.fetching(model))
    size = hub.size(model)
    print(f"{model}: {size / 1e6:,.0f} MB in {len(hub.models[model]):,}, {rounds} rounds")
    for name, found in times.items():
        middle = statistics.median(seconds for seconds, _cpu_seconds in found)
        ratios = sorted(curl[0] / own[0] for curl, own in zip(times["curl"], found, strict=True))
        print(
            f"  {name:<11} {middle:6.2f} s  {size / middle / 1e6:6.0f} MB/s  {statistics.median(ratios):5.2f} x curl"
            f"  (by round {ratios[0]:.2f} to {ratios[-1]:.2f})  CPU {statistics.median(cpu for _s, cpu in found):.2f} s"
        )
    alone = statistics.median(seconds for seconds, _synced in fetching)
    synced = statistics.median(seconds for _alone, seconds in fetching)
    print(f"  of qwen-tui, fetching and hashing: {alone:.2f} s; afterwards, until it is on the disk: {synced:.2f} s")


def kill(runs: Runs, model: str, kills: int) -> None:
    """Print what kills cost."""
    shares = [runs.killed(model) for _kill in range(kills)]
    each = " ".join(f"{share:.2%}" for share in shares)
    print(
        f"{model}, killed {kills} times: {statistics.mean(shares):.2%} sent again, at worst {max(shares):.2%} ({each})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--models", nargs="*", default=["large", "small", "middle"], help="of large, small, middle")
    parser.add_argument("--size", type=int, default=1500, help="of the large file, in MB")
    parser.add_argument("--folder", default=None, help="where to put everything (default: the system's)")
    options = parser.parse_args()
    if not shutil.which("nginx") or not shutil.which("curl"):
        raise SystemExit("nginx and curl have to be on the PATH (Debian: apt install nginx-light curl)")
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        hub = Hub(folder, options.size * 1_000_000)
        try:
            runs = Runs(hub, folder)
            for model in (f"owner/{name}" for name in options.models):
                measure(hub, runs, model, options.rounds)
                if options.kills and model != "owner/middle":
                    kill(runs, model, options.kills)
        finally:
            hub.stop()


if __name__ == "__main__":
    main()
