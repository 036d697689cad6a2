"""How fast downloads are: `qwen-tui download` against curl and `modelscope download`, from the same hub, in one run.

    python tests/performance/download.py [--rounds 5] [--size 1500] [--folder /tmp]

The hub is nginx (it has to be on the PATH), so that the hub is not what is measured. Two models: one file of `size` MB,
and 1,000 files of 100 kB. Each round runs all of them, so that they meet the same machine; printed are the medians and
their ratios to curl's. curl does not hash; the others do. Then a download is killed (SIGKILL) half-way, and what the
hub has to send again is counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
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
SMALL_SIZE = 100_000

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
        self.models = {"owner/large": [("model.safetensors", size)], "owner/small": []}
        self.models["owner/small"] = [(f"part-{index:04}.bin", SMALL_SIZE) for index in range(SMALL_FILES)]
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

    def _timed(self, *words: str | Path) -> float:
        began = time.monotonic()
        subprocess.run(words, env=self.environment, check=True, stdout=self._log, stderr=self._log)
        return time.monotonic() - began

    def curl(self, model: str) -> float:
        out = self.fresh()
        lines = [
            f'url = "{self._hub.address(model, name)}"\noutput = "{out / name}"' for name, _ in self._hub.models[model]
        ]
        (out / "urls").write_text("\n".join(lines))
        return self._timed("curl", "-s", "-K", out / "urls")

    def modelscope(self, model: str) -> float:
        self.fresh()
        return self._timed(PROGRAMS / "modelscope", "download", "--model", model)

    def qwen_tui(self, model: str) -> tuple[float, float]:
        """Of the whole command; and of it the fetching and hashing."""
        self.fresh()
        began = time.monotonic()
        words = [PROGRAMS / "qwen-tui", "download", model, "--json"]
        done = subprocess.run(words, env=self.environment, check=True, stdout=subprocess.PIPE, stderr=self._log)
        return time.monotonic() - began, float(json.loads(done.stdout)["seconds"])

    def killed(self, model: str) -> float:
        """The share of the bytes that the hub sends again because of a SIGKILL half-way, by its own log."""
        self.fresh()
        before = self._hub.sent()
        self._run("download", model, "--detach")
        state = next((Path(self.environment["XDG_STATE_HOME"]) / "qwen-tui" / "downloads").glob("*/state.json"))
        while (now := json.loads(state.read_text())).get("done", 0) < now.get("total", 1 << 60) // 2:
            assert now["status"] in ("queued", "listing", "running")
            time.sleep(0.002)
        os.kill(now["pid"], signal.SIGKILL)
        self._run("download", model)
        return (self._hub.sent() - before) / now["total"] - 1

    def _run(self, *words: str) -> None:
        command = [PROGRAMS / "qwen-tui", *words]
        subprocess.run(command, env=self.environment, check=True, stdout=self._log, stderr=self._log)


def measure(runs: Runs, model: str, size: int, rounds: int) -> None:
    """Print the figures of one model of `size` bytes."""
    times: dict[str, list[float]] = {"curl": [], "modelscope": [], "qwen-tui": [], "of it fetching": []}
    for _round in range(rounds):
        times["curl"].append(runs.curl(model))
        times["modelscope"].append(runs.modelscope(model))
        whole, fetching = runs.qwen_tui(model)
        times["qwen-tui"].append(whole)
        times["of it fetching"].append(fetching)
    reference = statistics.median(times["curl"])
    print(f"{model}: {size / 1e6:,.0f} MB, {rounds} rounds")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        ratios = sorted(curl / own for curl, own in zip(times["curl"], seconds, strict=True))
        print(
            f"  {name:<15} {middle:6.2f} s  {size / middle / 1e6:6.0f} MB/s  {reference / middle:5.2f} x curl"
            f"  (by round {ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1500, help="of the large file, in MB")
    parser.add_argument("--folder", default=None, help="where to put everything (default: the system's)")
    options = parser.parse_args()
    if not shutil.which("nginx") or not shutil.which("curl"):
        raise SystemExit("nginx and curl have to be on the PATH (Debian: apt install nginx-light curl)")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        hub = Hub(folder, options.size * 1_000_000)
        try:
            runs = Runs(hub, folder)
            measure(runs, "owner/large", options.size * 1_000_000, options.rounds)
            measure(runs, "owner/small", SMALL_FILES * SMALL_SIZE, options.rounds)
            shares = [runs.killed("owner/large") for _round in range(options.rounds)]
            print(f"killed half-way: {', '.join(f'{share:.2%}' for share in shares)} of the bytes sent again")
        finally:
            hub.stop()


if __name__ == "__main__":
    main()
