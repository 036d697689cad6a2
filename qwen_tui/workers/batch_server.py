"""A batch through a running server or endpoint: so many requests at once, each tried again while that can help.

Under qwen-tui's own interpreter. The key comes in the environment (VLLM_API_KEY), never in the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from qwen_tui.workers import batch_job
    from qwen_tui.workers.batch_job import Job, JobError
    from qwen_tui.workers.batch_rows import Row
else:
    import batch_job
    from batch_job import Job, JobError

#: Statuses of an answer that another try may mend.
_PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
#: Statuses that every other row would get, too.
_FOR_ALL = frozenset((401, 403, 404, 405))
_DELAY_FIRST, _DELAY_MOST = 0.5, 30.0
_TOO_LONG = ("maximum context length", "max_model_len", "maximum model length", "longer than the maximum")


class ServerBatch:
    """One run against one server. order["server"]: base_url, concurrency, retries, patience (seconds without any
    answer after which the server counts as gone)."""

    def __init__(self, job: Job, client: httpx.AsyncClient) -> None:
        self.job = job
        self.client = client
        self.server: dict[str, Any] = job.order["server"]
        self.rows: Iterator[Row] = job.rows()
        self.running = 0
        #: Since when nobody answers; None while somebody does. An answer may take long, that is no silence.
        self.silent_since: float | None = None

    async def run(self) -> None:
        """Until the input is at its end or a stop is asked for. Raises JobError, OutputError."""
        tasks = {asyncio.create_task(self._lane()) for _lane in range(int(self.server["concurrency"]))}
        try:
            while tasks:
                done, tasks = await asyncio.wait(tasks, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                self.job.tick(self.running)
                if self.job.stop:
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _lane(self) -> None:
        while not self.job.stop and (row := next(self.rows, None)) is not None:
            self.running += 1
            try:
                await self._ask(row)
            finally:
                self.running -= 1

    async def _ask(self, row: Row) -> None:
        is_chat = row.messages is not None
        url = f"{self.server['base_url'].rstrip('/')}/{'chat/completions' if is_chat else 'completions'}"
        asked: dict[str, Any] = {"messages": row.messages} if is_chat else {"prompt": row.prompt}
        body = {"model": self.job.order["model"], **asked, **self._sampling(is_chat), **row.parameters}
        tries, delay = 0, _DELAY_FIRST
        while True:
            began, sent_at = time.monotonic(), time.time()
            try:
                answer = await self.client.post(url, json=body)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                # Nobody answers: that is no fault of this row's.
                self.silent_since = self.silent_since or time.monotonic()
                if time.monotonic() - self.silent_since > float(self.server["patience"]):
                    raise JobError("unreachable", f"{url}: {type(error).__name__} {error}".strip()) from None
                wait, why = delay, str(error)
            except ValueError as error:
                self.job.add_bad(row, "bad_parameter", str(error))  # JSON has no NaN
                return
            else:
                self.silent_since = None
                if answer.status_code not in _PASSING:
                    self._take(row, answer, sent_at, time.monotonic() - began)
                    return
                tries += 1
                wait, why = max(delay, _retry_after(answer)), f"HTTP {answer.status_code}: {_said(answer)}"
            if tries > int(self.server["retries"]):
                self.job.add_bad(row, "failed", why, is_passing=True)
                return
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))
            delay = min(_DELAY_MOST, delay * 2)

    def _sampling(self, is_chat: bool) -> dict[str, Any]:
        """The batch's own fields; the two APIs ask for logprobs in different ways."""
        values = dict(self.job.order["sampling"])
        if is_chat and type(values.get("logprobs")) is int:
            values["top_logprobs"], values["logprobs"] = values["logprobs"], True
        return values

    def _take(self, row: Row, answer: httpx.Response, sent_at: float, seconds: float) -> None:
        """Note a final answer. Raises JobError for one that all the others would get, too."""
        if answer.status_code in _FOR_ALL:
            raise JobError("http", f"HTTP {answer.status_code}: {_said(answer)}")
        if answer.status_code != 200:
            said = _said(answer)
            code = "too_long" if any(words in said for words in _TOO_LONG) else "refused"
            self.job.add_bad(row, code, f"HTTP {answer.status_code}: {said}")
            return
        try:
            body = answer.json()
            choices = [_choice(one) for one in body["choices"]]
            usage = body.get("usage") or {}
            first = choices[0]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            self.job.add_bad(row, "no_answer", answer.text[:300], is_passing=True)
            return
        record = {
            **first,
            "prompt_tokens": int(usage.get("prompt_tokens") or 0),
            "output_tokens": int(usage.get("completion_tokens") or 0),
            "started_at": round(sent_at, 3),
            "seconds": round(seconds, 4),
        }
        if len(choices) > 1:
            record["choices"] = choices
        self.job.add(row, record, body)


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice["text"]
    found = {
        "text": text or "",
        "finish_reason": choice.get("finish_reason"),
        "stop_reason": choice.get("stop_reason"),
    }
    if isinstance(message, dict):
        for name in ("reasoning", "reasoning_content", "tool_calls"):
            if message.get(name):
                found[name] = message[name]
    if choice.get("logprobs"):
        found["logprobs"] = choice["logprobs"]
    return found


def _said(answer: httpx.Response) -> str:
    """The server's own words for what was wrong."""
    try:
        data = answer.json()
        error = data.get("error", data)
        return str(error.get("message") if isinstance(error, dict) else error)[:1000]
    except (ValueError, AttributeError):
        return answer.text[:300]


def _retry_after(answer: httpx.Response) -> float:
    """Seconds that the server asks to be left alone, 0 where it does not say; a minute at most."""
    with contextlib.suppress(ValueError):
        return min(60.0, max(0.0, float(answer.headers.get("retry-after", "0"))))
    return 0.0


async def _serve(job: Job) -> None:
    concurrency = int(job.order["server"]["concurrency"])
    key = os.environ.get("VLLM_API_KEY", "")
    host = httpx.URL(job.order["server"]["base_url"]).host
    async with httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=15.0),
        limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        headers={"authorization": f"Bearer {key}"} if key else {},
        trust_env=host not in ("127.0.0.1", "localhost", "::1"),
    ) as client:
        job.begin()
        await ServerBatch(job, client).run()


def _work(job: Job) -> None:
    asyncio.run(_serve(job))


if __name__ == "__main__":
    sys.exit(batch_job.main(_work))
