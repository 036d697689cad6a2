"""What of a server is worth noting beside a measurement of it, and its own figures meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from qwen_tui.server.status import ServerStatus

#: Counters of MetricsSample whose difference over a run says something about the run, and figures of the moment.
_NAMES = (
    "prompt_tokens",
    "generation_tokens",
    "prefix_queries",
    "prefix_hits",
    "preemptions",
    "running",
    "waiting",
    "kv_usage",
)


def noted(status: ServerStatus) -> dict[str, Any]:
    """Engine version, name and exact command of one of this machine's servers; without any key."""
    argv = without_keys(status.spec.argv(status.engine_python))
    return {"engine_version": status.engine_version, "server_name": status.name, "argv": argv}


def without_keys(argv: Sequence[str]) -> list[str]:
    """The command, without what was written after --api-key."""
    found: list[str] = []
    for word in argv:
        if found and found[-1] == "--api-key":
            word = "…"
        elif word.startswith("--api-key="):
            word = "--api-key=…"
        found.append(word)
    return found


def counters_of(
    root: str, key: str | None, *, is_loopback: bool
) -> Callable[[], Awaitable[Mapping[str, float] | None]]:
    """A coroutine function that reads a server's own figures; None from a server that tells none.

    root: its URL without /v1. is_loopback: asked without the environment's proxies.
    """

    async def observe() -> Mapping[str, float] | None:
        import httpx

        from qwen_tui.server.metrics import parse_metrics

        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            # Without TLS no certificates are loaded, which would take 15 ms of each second of a run.
            tls = not root.startswith("http://")
            async with httpx.AsyncClient(timeout=5.0, trust_env=not is_loopback, verify=tls) as client:
                answer = await client.get(f"{root}/metrics", headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        sample = parse_metrics(answer.text) if answer.status_code == 200 else None
        if sample is None or sample.is_empty:
            return None
        found = {name: value for name in _NAMES if (value := getattr(sample, name)) is not None}
        if sample.queue is not None:
            found |= {"queue_seconds": sample.queue.total, "queue_count": sample.queue.count}
        return found

    return observe
