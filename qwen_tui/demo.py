"""The demo: from nothing to a server that answers. Engine, model, server, each only as far as it is not there yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwen_tui.engine.find import Engine, find_engine
from qwen_tui.engine.install import default_request, install
from qwen_tui.errors import EngineNotFound, ModelError
from qwen_tui.i18n import _
from qwen_tui.models import demo_model
from qwen_tui.models.download import download_model, is_hub_id
from qwen_tui.paths import Paths
from qwen_tui.progress import OnProgress, Progress
from qwen_tui.server.launch import free_port
from qwen_tui.server.quiet import quieted
from qwen_tui.server.service import Servers
from qwen_tui.server.spec import ServerSpec, name_for
from qwen_tui.server.status import ServerStatus, StartProgress
from qwen_tui.settings import Settings

#: Tokens of context of the demo model's server: plenty for a chat, and little memory.
MAX_MODEL_LEN = 2048


@dataclass(frozen=True)
class DemoOptions:
    """What was asked for.

    model: a hub id or a folder; empty means the small demo model. engine: --engine. cpu: which engine to install if
    there is none; None looks at the machine. index_url: for pip; empty leaves it to pip. port: None takes 8000 or
    the next free one.
    """

    model: str = ""
    engine: str = ""
    cpu: bool | None = None
    index_url: str = ""
    port: int | None = None


@dataclass(frozen=True)
class Prepared:
    """server: answers. started: whether this call started it, so that it may stop it. engine: what it runs on."""

    server: ServerStatus
    started: bool
    engine: Engine


async def prepare_demo(
    paths: Paths,
    settings: Settings,
    servers: Servers,
    options: DemoOptions,
    on_progress: OnProgress,
    on_start: Callable[[StartProgress], None],
) -> Prepared:
    """Bring up everything up to a server that answers.

    on_start: hears of the server's start; on_progress of all steps before it. Interrupted anywhere, a second call
    goes on; a server that was started by then is stopped again. Raises QwenTuiError.
    """
    engine = await ensure_engine(paths, settings, options, on_progress)
    model, served_name = await ensure_model(paths, options, engine, on_progress)
    running = running_server(servers, model)
    if running is not None:
        return Prepared(await servers.wait_ready(running.name, on_start), False, engine)
    spec = demo_spec(servers, engine, model, served_name, options.port)
    spec = await asyncio.to_thread(quieted, spec, engine, paths)
    on_progress(Progress(_("Starting the server on port {port}").format(port=spec.port)))
    launched = asyncio.ensure_future(servers.start(spec, engine))
    try:
        # Shielded: a start that is cut off in the middle could leave a server that nobody stops.
        await asyncio.shield(launched)
        status = await servers.wait_ready(spec.name, on_start)
    except BaseException:
        with contextlib.suppress(Exception):
            await launched
            await asyncio.shield(servers.stop(spec.name, grace=2.0))
        raise
    return Prepared(status, True, engine)


async def ensure_engine(paths: Paths, settings: Settings, options: DemoOptions, on_progress: OnProgress) -> Engine:
    """The engine that is there, else one installed now. Raises EngineError."""
    on_progress(Progress(_("Looking for an engine")))
    try:
        return await asyncio.to_thread(find_engine, paths, settings.engine, options.engine)
    except EngineNotFound:
        request = await asyncio.to_thread(
            default_request, paths.managed_engine, cpu=options.cpu, index_url=options.index_url
        )
        return (await install(paths, request, on_progress)).engine


async def ensure_model(paths: Paths, options: DemoOptions, engine: Engine, on_progress: OnProgress) -> tuple[Path, str]:
    """The model's folder and the name to serve it by. Raises ModelError or EngineError."""
    if not options.model:
        folder = await demo_model.prepare_demo_model(paths, engine, on_progress, options.index_url)
        return folder, demo_model.NAME
    local = _local_folder(options.model)
    if local is not None:
        return local, name_for(str(local))
    if options.model.startswith(("/", "~", "./", "../")) or not is_hub_id(options.model):
        raise ModelError(
            _("There is no model at {path}").format(path=options.model),
            "",
            _("Give a folder, or a hub id such as qwen/Qwen2-7B-Instruct"),
        )
    return await download_model(paths, options.model, on_progress), name_for(options.model)


def _local_folder(model: str) -> Path | None:
    folder = Path(model).expanduser()
    return folder.resolve() if folder.is_dir() else None


def running_server(servers: Servers, model: Path) -> ServerStatus | None:
    """A server of this model that lives."""
    for status in servers.list():
        if status.state.is_alive and status.state.value != "stopping" and Path(status.spec.model) == model:
            return status
    return None


def demo_spec(servers: Servers, engine: Engine, model: Path, served_name: str, port: int | None) -> ServerSpec:
    """How to serve `model`: as vLLM does by default, except that the small demo model takes little and starts fast."""
    is_small = model.name == demo_model.NAME
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    if engine.platform == "cpu":
        arguments = ("--enforce-eager",)
        # GiB. vLLM's own default is a share of the whole memory.
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1" if is_small else "4"}
    elif is_small:
        # 0.9 of the GPU, vLLM's default, would be for nothing; --enforce-eager saves the compilation.
        arguments = ("--enforce-eager", "--gpu-memory-utilization", "0.3")
    taken = [status.name for status in servers.list() if status.state.is_alive]
    return ServerSpec(
        name=name_for(str(model), served_name, taken),
        model=str(model),
        served_model_name=served_name,
        port=port if port is not None else free_port(),
        max_model_len=MAX_MODEL_LEN if is_small else None,
        extra_args=arguments,
        env=environment,
    )
