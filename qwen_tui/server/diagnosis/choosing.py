"""Which of a log's errors ended the run: the worker's before the engine core's before the API server's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qwen_tui.server.diagnosis.tracebacks import Complaint, Parsed, Raised

#: Errors that only report another one.
HOLLOW = re.compile(
    r"[Ss]ee (?:the )?(?:root cause|stack trace)|check the (?:stack trace|logs)|Engine core initialization failed"
    r"|Engine ?Dead ?Error"
    r"|WorkerProc initialization failed|Engine process failed to start|Executor failed\."
    r"|Background loop (?:has errored|is not running)"
    r"|Engine loop (?:is not running|has died)|died unexpectedly|died with exit code|MQEngineDeadError"
    r"|^(?:\w+\.)*(?:BrokenPipeError|EOFError|ExceptionGroup|BaseExceptionGroup|IncompleteReadError)\b"
    r"|process did not respond"
    r"|^ray\.exceptions\.(?:RayTaskError|ActorDiedError|RayActorError)|Task finished unexpectedly"
    r"|^RuntimeError: Ray workers have not|^(?:\w+\.)*ChildProcessError: worker died"
    r"|DPSupervisor exited|Frontend process failed|Input socket thread died|^RuntimeError: Worker \d+ failed to init"
)
#: Somebody ended it: no failure by itself.
ENDED = re.compile(r"^(?:\w+\.)*(?:KeyboardInterrupt|SystemExit|CancelledError|GeneratorExit)\b")
#: What the others say when one process is gone.
SECONDARY = re.compile(
    r"[Cc]onnection (?:closed by|reset)|remote process exited|Broken pipe|ConnectionResetError|ConnectionAbortedError"
    r"|NCCL.*(?:remote|timeout)"
    r"|Socket Timeout|recvValue failed|Gloo.*(?:closed|timed out)|shutdown|ContextTerminated|ENOTSOCK|ECONNRESET"
    r"|failed to recv"
    r"|zmq\.error|TCPStore|RPC call to .* timed out|leaked|cannot schedule new futures"
)
#: Headers of tracebacks that the process outlives.
_BENIGN_HEADER = re.compile(
    r"Exception ignored|Logging error|usage_lib|was never retrieved|Task was destroyed|Exception in callback|Unclosed"
)
#: Headers of tracebacks that end one request, not the server.
_REQUEST_HEADER = re.compile(
    r"ASGI application|Error in (?:chat|completion|preprocessing|parser|message|token|create|count|generation"
    r"|applying)|Error with model"
    r"|Invocation of|pre-processing request|handling event|Failed to collect|Error preparing|Error building"
    r"|Error during generation"
    r"|Error while (?:processing|calling)|Error accepting"
)
READY = re.compile(
    r"Application startup complete|Uvicorn running on|HTTP/1\.\d\" 200|Avg prompt throughput|HTTP/1\.\d\" 4\d\d"
)
RUN_BEGINS = re.compile(r"API server version|█ +version \d|non-default args|args: Namespace")
_STOPPED = re.compile(
    r"Shutting down\s*$|Shutting down FastAPI|shutting down FastAPI|[Rr]eceived signal"
    r"|\[shutdown\] API server: shutdown triggered"
    r"|Gracefully stopping|Finished server process|Application shutdown complete|Received KeyboardInterrupt"
    r"|Waiting for application shutdown"
)
#: Lines that say the engine is gone.
DEATH = re.compile(
    r"encountered a fatal error|Engine ?Dead|Engine background task failed|Background loop (?:has errored"
    r"|is not running)|EngineCore hit an exc"
    r"|died unexpectedly|died with exit code|died, exit code|[Ee]ngine (?:core )?proc\S* .*died|engine dead"
    r"|Fatal Python error|Segfault enc"
    r"|Segmentation fault|core dumped|terminate called|^Killed|Bus error|^Aborted|watchdog thread terminated"
    r"|error while attempting to bind"
    r"|Engine loop (?:is not running|has died)|MQLLMEngine (?:is already dead|terminated)|Illegal instruction"
    r"|AsyncLLM output_handler failed"
    r"|WorkerProc (?:hit an exception|failed)|panicked at|ActorDiedError|RayActorError|Failed: Cuda error"
)
#: How many lines before its death an engine's error may stand.
_REACH = 4000
#: How many errors of a kind are looked at: what is repeated for every request says nothing new.
_MOST = 50


@dataclass(frozen=True)
class Choice:
    """suspects: errors that may have ended the run, the likeliest first. complaints: error lines of the run.
    was_ready: whether the run had answered. is_dead: whether the log says that it ended by a failure.
    was_stopped: whether it ended because it was told to. ended: exceptions that say so. stop: the line that says so,
    where it is no exception: number and text.
    hollow: errors that only report another. last_ready: the last line that shows a server at work.
    """

    suspects: tuple[Raised, ...]
    hollow: tuple[Raised, ...]
    complaints: tuple[Complaint, ...]
    was_ready: bool
    is_dead: bool
    was_stopped: bool
    ended: tuple[Raised, ...]
    last_ready: int
    stop: tuple[int, str] | None = None


def choose(parsed: Parsed, head_was_ready: bool = False) -> Choice:
    """The errors of the last run in a log that matter, sorted.

    head_was_ready: the part of the log before this one showed a server that answered.
    """
    begin = _last_begin(parsed)
    raised = [error for error in parsed.raised if error.number >= begin]
    complaints = [line for line in parsed.complaints if line.number >= begin]
    notes = [note for note in parsed.notes if note[0] >= begin]
    ready = [number for number, text in notes if READY.search(text)]
    was_ready = bool(ready) or (head_was_ready and not begin)
    since = _ready_at(ready)
    if was_ready:
        raised = [error for error in raised if error.number > since]
        complaints = [line for line in complaints if line.number > since]
    deaths = [line.number for line in complaints if DEATH.search(line.body)]
    raised = [error for error in raised if not (error.is_orphan and was_ready)]
    deaths += [error.number for error in raised if HOLLOW.search(error.text)]
    stops = [number for number, text in notes if number > since and _STOPPED.search(text)]
    ended = [error for error in raised if ENDED.search(error.text)]
    stops += [error.number for error in ended]
    stop = min(stops, default=0)
    death = min(deaths, default=0)
    was_stopped = bool(stop) and (not death or stop <= death)
    if was_ready and was_stopped:
        # What is said after the order to stop is the noise of stopping.
        raised = [error for error in raised if error.number < stop]
        complaints = [line for line in complaints if line.number < stop]
    if was_ready and death:
        raised = [error for error in raised if error.number >= death - _REACH]
        complaints = [line for line in complaints if line.number >= death - _REACH]
    proper = [error for error in raised if not ENDED.search(error.text) and not _is_benign(error, was_ready)]
    whole = [error for error in proper if not error.is_orphan]
    proper = whole or ([] if was_ready else proper)
    hollow = [error for error in proper if HOLLOW.search(error.text)]
    suspects = [error for error in proper if not HOLLOW.search(error.text)]
    return Choice(
        tuple(_sorted(_without_inner(suspects))),
        tuple(hollow[:_MOST]),
        _some(complaints),
        was_ready,
        bool(death),
        was_stopped,
        tuple(ended),
        max(ready, default=0),
        next((note for note in notes if note[0] == stop), None),
    )


def _some(complaints: Sequence[Complaint]) -> tuple[Complaint, ...]:
    """Complaints with different texts, of very many the first ones and the last ones."""
    different = list({line.body: line for line in reversed(complaints)}.values())[::-1]
    return tuple(different if len(different) <= 8 * _MOST else different[: 4 * _MOST] + different[-4 * _MOST :])


def _ready_at(ready: Sequence[int]) -> int:
    """The line at which the server first answered; errors before it were survived."""
    return min(ready, default=0)


def _last_begin(parsed: Parsed) -> int:
    """The line at which the last run in the log begins: a keeper's restarts go into the same file."""
    events = sorted(
        [(error.number, False) for error in parsed.raised if not error.is_orphan]
        + [(number, False) for number, text in parsed.notes if READY.search(text)]
        + [(number, True) for number, text in parsed.notes if RUN_BEGINS.search(text)]
    )
    begin, since = 0, False
    for number, begins in events:
        if begins and since:
            begin, since = number, False
        elif not begins:
            since = True
    return begin


def _is_benign(error: Raised, was_ready: bool) -> bool:
    if error.level in ("DEBUG", "INFO", "WARNING") or _BENIGN_HEADER.search(error.header):
        return True
    if error.header.startswith("Exception in thread") and not re.search(r"Monitor|Engine|output_handler", error.header):
        return True
    return was_ready and _REQUEST_HEADER.search(error.header) is not None and not HOLLOW.search(error.text)


def _without_inner(errors: Iterable[Raised]) -> list[Raised]:
    """Only the last of each chain; the others are reached through it."""
    errors = list(errors)
    inner = {id(earlier) for error in errors for earlier in error.chain()[:-1]}
    return [error for error in errors if id(error) not in inner]


def role(error: Raised) -> int:
    """0 a worker, 1 the engine core, 2 unknown, 3 the API server: the deeper, the smaller."""
    who = f"{error.process} {error.header if error.header.startswith('Process ') else ''} {error.place}"
    if re.search(r"APIServer|ApiServer|api_server|launcher\.py|serving_|async_llm\.py", who):
        return 3
    if re.search(r"[Ww]orker|\bTP\d|rank=|multiproc_executor", who):
        return 0
    if re.search(r"Engine|SpawnProcess|ForkProcess|core\.py|engine\.py", who):
        return 1
    return 2


def _sorted(errors: list[Raised]) -> list[Raised]:
    core = min((error.number for error in errors if role(error) == 1), default=1 << 60)

    def key(error: Raised) -> tuple[bool, float, int]:
        depth = float(role(error))
        if depth == 0 and error.number > core:
            depth = 1.5  # said by a worker after the core had failed
        return bool(SECONDARY.search(error.text)), depth, error.number

    return sorted(errors, key=key)
