"""What the app is given; nothing in the UI makes these for itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from qwen_tui.paths import Paths
from qwen_tui.server.service import Servers
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.batch.jobs import Batches
    from qwen_tui.chat.compare import Comparison
    from qwen_tui.chat.completions_kept import CompletionsKeeper
    from qwen_tui.chat.completions_session import CompletionsSession
    from qwen_tui.chat.session import ChatSession
    from qwen_tui.chat.store import ConversationStore
    from qwen_tui.chat.store_keeper import ConversationKeeper
    from qwen_tui.engine.find import Engine
    from qwen_tui.hardware.machine import Machine
    from qwen_tui.models.download_queue import Downloads
    from qwen_tui.server.endpoint_watch import EndpointWatch
    from qwen_tui.server.leftovers import Leftovers
    from qwen_tui.server.watch import Watch
    from qwen_tui.ui.bench_desk import BenchDesk
    from qwen_tui.ui.model_shelf import ModelShelf
    from qwen_tui.ui.throughput_desk import ThroughputDesk


# Imported when they are first asked for: the first paint waits for every import.


def _find_engine(paths: Paths, setting: str) -> Engine:
    from qwen_tui.engine.find import find_engine

    return find_engine(paths, setting)


def _free_port(host: str, first: int) -> int:
    from qwen_tui.server.launch import free_port

    return free_port(host, first)


@dataclass
class Services:
    """The domain services of one run of the program.

    find_engine: the engine to start servers with; blocking, so it is called in a thread.
    free_port: the first port from a number on that nobody listens on, at a host.
    clock: Unix time, seconds.
    """

    paths: Paths
    settings: Settings
    servers: Servers
    find_engine: Callable[[Paths, str], Engine] = _find_engine
    free_port: Callable[[str, int], int] = _free_port
    clock: Callable[[], float] = time.time

    @cached_property
    def chat(self) -> ChatSession:
        """The conversation of this run, whatever room is shown."""
        from qwen_tui.chat.session import ChatSession

        return ChatSession()

    @cached_property
    def conversations(self) -> ConversationStore:
        """What was said in earlier runs."""
        from qwen_tui.chat.store import ConversationStore

        return ConversationStore(self.paths)

    @cached_property
    def keeper(self) -> ConversationKeeper:
        """Keeps what is said in `chat`, from the first time it is asked for."""
        from qwen_tui.chat.store_keeper import ConversationKeeper

        return ConversationKeeper(self.chat, self.conversations)

    @cached_property
    def comparison(self) -> Comparison:
        """The two sides that one prompt goes to."""
        from qwen_tui.chat.compare import Comparison

        return Comparison(self.conversations)

    @cached_property
    def completions(self) -> CompletionsSession:
        """The text of the Completions room, whatever room is shown."""
        from qwen_tui.chat.completions_session import CompletionsSession

        return CompletionsSession()

    @cached_property
    def completions_keeper(self) -> CompletionsKeeper:
        """Keeps that text, from the first time it is asked for."""
        from qwen_tui.chat.completions_kept import CompletionsKeeper

        return CompletionsKeeper(self.completions, self.paths)

    @cached_property
    def bench(self) -> BenchDesk:
        """What is measured in this run, whatever room is shown."""
        from qwen_tui.ui.bench_desk import BenchDesk

        return BenchDesk(self.paths, lambda: self.machine)

    @cached_property
    def throughput(self) -> ThroughputDesk:
        """The offline speed test of this run."""
        from qwen_tui.ui.throughput_desk import ThroughputDesk

        return ThroughputDesk(self.paths)

    @cached_property
    def machine(self) -> Machine:
        """The GPUs and the host, read when somebody asks."""
        from qwen_tui.hardware.machine import Machine

        return Machine(self.paths.data)

    @cached_property
    def watch(self) -> Watch:
        """The live view of the server that the app is about."""
        from qwen_tui.server.watch import Watch

        return Watch(self.machine)

    @cached_property
    def endpoints(self) -> EndpointWatch:
        """The servers elsewhere, and which of them answer."""
        from qwen_tui.server.endpoint_watch import EndpointWatch

        return EndpointWatch(self.paths)

    @cached_property
    def leftovers(self) -> Leftovers:
        """What servers left behind on this machine."""
        from qwen_tui.server.leftovers import Leftovers

        return Leftovers(self.paths)

    @cached_property
    def batches(self) -> Batches:
        """The batches of this user, which go on without qwen-tui."""
        from pathlib import Path

        from qwen_tui.batch.jobs import Batches
        from qwen_tui.server import keeper
        from qwen_tui.server.plan_offline import why_it_failed

        return Batches(self.paths, Path(keeper.__file__), why_it_failed)

    @cached_property
    def downloads(self) -> Downloads:
        """The downloads of this user, which go on without qwen-tui."""
        from qwen_tui.models.download_queue import Downloads

        return Downloads(self.paths)

    @cached_property
    def shelf(self) -> ModelShelf:
        """The models of this machine, once somebody looked."""
        from qwen_tui.ui.model_shelf import make_shelf

        return make_shelf(self)

    async def close(self) -> None:
        """Close the connections that were opened."""
        if "bench" in vars(self):
            await self.bench.close()
        if "throughput" in vars(self):
            await self.throughput.close()
        await self.servers.close()
        if "watch" in vars(self):
            await self.watch.close()
        if "comparison" in vars(self):
            await self.comparison.close()
        if "completions" in vars(self):
            await self.completions.close()
        if "completions_keeper" in vars(self):
            await self.completions_keeper.close()
        if "chat" in vars(self):
            await self.chat.close()
        if "keeper" in vars(self):
            await self.keeper.close()
