"""A generator process of a benchmark: sends requests when they are due and notes when the bytes of the answers arrive.

Standard library only: an epoll loop of its own, because the client is not to be what is measured. Request (argv[1]):
host, port, tls, path, bodies and offsets (files), counter (a file that all processes share), arrivals (a file; absent
in a closed loop), slots, connections, results (a file), silence (s), keep_text. The API key comes in the environment.
Commands on stdin, a line each: "go ZERO FIRST LAST UNTIL KEEP", "stop", "end". It says "ready", "batch", "drained".
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
    from qwen_tui.workers.bench_answer import EVENT_END, Answer, MalformedError
    from qwen_tui.workers.bench_connections import (
        NOTES_SIZE,
        READ,
        READ_SIZE,
        WRITE,
        Connection,
        Connections,
        unpack_time,
    )
    from qwen_tui.workers.bench_health import Health, Outbox
    from qwen_tui.workers.bench_record import Record
    from qwen_tui.workers.bench_results import Results, pause_for, so_far
    from qwen_tui.workers.bench_work import Work
else:
    import protocol
    from bench_answer import EVENT_END, Answer, MalformedError
    from bench_connections import NOTES_SIZE, READ, READ_SIZE, WRITE, Connection, Connections, unpack_time
    from bench_health import Health, Outbox
    from bench_record import Record
    from bench_results import Results, pause_for, so_far
    from bench_work import Work

_TICK = 0.2  # seconds between two messages to the parent
_RETRY = 0.02  # seconds after a connection could not be opened
_BEGUN_MOST = 256  # answers under way that are told of, each time
_BURST = 16  # requests sent before what has arrived meanwhile is read
_NEVER = float("inf")
_SEND_MOST = 1e-4  # seconds that a send takes at most, unless the process is suspended in it
#: How a request ends whose connection can't be used again.
_SPOILT = ("malformed", "broken", "timeout", "cancelled")
monotonic = time.monotonic


class Generator:
    """The loop of one process."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._work = Work(request)
        self._poll = select.epoll()
        self._connections = Connections(request["host"], request["port"], request["tls"], self._poll)
        self._wanted: int = request["connections"]
        self._slots: int = request["slots"]
        self._silence: float = request["silence"]
        self._keep_text: bool = request["keep_text"]
        self._results = Results(request["results"])
        self._outbox = Outbox(int(os.environ[protocol.FD_VARIABLE]))
        self._health = Health()
        self._active: set[Connection] = set()
        self._next = -1  # the request that waits for its time
        self._next_due = 0.0
        self._again: deque[tuple[int, float]] = deque()  # taken, but not sent yet or to be sent once more
        self._pause_until = 0.0
        self._next_at = _NEVER  # when to look whether it can go out
        self._zero = 0.0
        self._until = _NEVER
        self._running = False
        self._stopping = False
        self._resent = 0
        self._chunks_before = 0
        self._pause = 0.0
        self._offset = time.time() - monotonic()  # of the wall clock, by which the kernel notes arrivals
        self._commands = b""

    # -- before the clock -----------------------------------------------------------------------------

    def open_all(self) -> None:
        """Open the connections; returns when they are open or can't be. Says "ready"."""
        connections = self._connections
        connections.open_first(self._wanted)
        os.set_blocking(0, False)
        self._poll.register(0, select.EPOLLIN)
        self._outbox.say("ready", open=connections.opened, problem=connections.problem)

    # -- the loop -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until told to stop. What is done here for each chunk is paid by the measurement."""
        by_fd, health, is_tls = self._connections.by_fd, self._health, self._connections.is_tls
        event_end, size, notes_size, unpack = EVENT_END, READ_SIZE, NOTES_SIZE, unpack_time
        tick_at = monotonic() + _TICK
        while not self._stopping:
            happened = self._wait(min(self._next_at, health.due))
            offset = self._offset
            for fd, events in happened:
                connection = by_fd.get(fd)
                if connection is None or (answer := connection.answer) is None or not answer.fast or is_tls:
                    self._happened(fd, connection, events)
                    continue
                try:
                    data, notes, _flags, _from = connection.receive(size, notes_size)
                except OSError:
                    self._happened(fd, connection, events)
                    continue
                if notes:
                    seconds, nanoseconds = unpack(notes[0][2])
                    at = seconds + nanoseconds * 1e-9 - offset
                else:
                    at = monotonic()
                if data.endswith(event_end) and data.count(b"\n") == 4 and answer.mark in data:
                    # What `take` would find out first, without the cost of a call.
                    answer.stamps.append(at)
                    answer.last_read = data
                    continue
                self._arrived(connection, data, at)
            now = monotonic()
            if now >= self._next_at:
                self._send_due(now)
            if now >= health.due:
                health.probe(now)
                if now >= tick_at:
                    tick_at = now + _TICK
                    self._tick(now)
            elif self._pause and self._next_at > now:
                # The kernel notes when bytes arrive: read a few streams' at once instead of waking for each.
                time.sleep(min(self._pause, self._next_at - now))

    def _wait(self, until: float) -> list[tuple[int, int]]:
        """What has happened, at once or by `until`. epoll counts in milliseconds; the last one is select's."""
        wait = until - monotonic()
        if wait <= 0:
            return self._poll.poll(0)
        if not self._running:
            return self._poll.poll(wait)
        if wait > 0.002:
            return self._poll.poll(wait - 0.001)
        select.select((self._poll,), (), (), wait)
        return self._poll.poll(0)

    def _happened(self, fd: int, connection: Connection | None, events: int) -> None:
        """Whatever is not the next chunk of a stream."""
        if connection is None:
            if fd == 0:
                self._listen()
            return
        if not connection.is_open:
            if self._connections.go_on_opening(connection):
                self._arm(monotonic())
            elif connection.sock.fileno() < 0:
                self._could_not_open()
            return
        try:
            if events & select.EPOLLOUT and connection.unsent and connection.write():
                connection.sent = monotonic()
                self._poll.modify(connection.fd, READ)
            if events & ~select.EPOLLOUT:
                self._read_all(connection)
        except OSError as error:
            self._lost(connection, error.strerror or str(error))

    def _read_all(self, connection: Connection) -> None:
        while True:
            data, at = connection.read()
            if data is None:
                return
            self._arrived(connection, data, at - self._offset if at else monotonic())
            if not data or not connection.has_more:
                return

    def _arrived(self, connection: Connection, data: bytes, now: float) -> None:
        """Bytes, or the end of the connection, that need a closer look."""
        answer = connection.answer
        if not data or answer is None:
            self._lost(connection, "")  # closed by the server, or it says something that nobody asked for
            return
        try:
            rest = answer.take(data, now) if answer.fast or answer.carry else data
            if rest:
                answer.feed(rest, now)
        except MalformedError as error:
            self._finish(connection, now, "malformed", str(error))
            return
        if answer.is_whole:
            self._finish(connection, now)

    def _lost(self, connection: Connection, why: str) -> None:
        """The connection is gone. A request that it took along unanswered, because it was an old one, is sent again."""
        answer = connection.answer
        now = monotonic()
        if answer is None:
            self._connections.drop(connection)
            self._arm(now)
            return
        answer.closed()
        if answer.is_whole or answer.begun or not connection.served or not self._running:
            self._finish(connection, now, "" if answer.is_whole else "broken", why)
            return
        self._active.discard(connection)
        self._connections.drop(connection)
        self._resent += 1
        if self._next >= 0:
            self._again.append((self._next, self._next_due))
        self._next, self._next_due = connection.index, connection.due
        self._arm(now)

    # -- sending --------------------------------------------------------------------------------------

    def _arm(self, now: float) -> None:
        """Decide which request is the next, and when to look whether it can go out."""
        self._next_at = _NEVER
        if not self._running or len(self._active) >= self._slots:
            return
        if self._next < 0 and not self._take_next(now):
            return
        connections = self._connections
        spare = max(1, self._wanted // 8) if self._work.is_open_loop else 1
        connections.want(spare - len(connections.idle) - connections.opening)
        if connections.idle:
            self._next_at = max(self._next_due, self._pause_until)
        elif not connections.opening:
            self._next_at = max(self._next_due, now + _RETRY)

    def _take_next(self, now: float) -> bool:
        """Choose the request that goes out next; whether there is one."""
        if self._again:
            self._next, self._next_due = self._again.popleft()
            return True
        if now >= self._until or (index := self._work.next()) < 0:
            return False
        after = self._work.due_at(index)
        due = max(now, self._zero) if after is None else self._zero + after
        if due > self._until:
            return False
        self._next, self._next_due = index, due
        return True

    def _send_due(self, now: float) -> None:
        """Send what is due, as far as there are slots and connections."""
        for _ in range(_BURST):
            if self._next < 0 or now < self._next_at:
                return
            if not self._connections.idle:
                self._could_not_open()
                return
            connection = self._connections.idle.popleft()
            connection.index, connection.due = self._next, self._next_due
            connection.unsent = self._work.message(self._next)
            self._next = -1
            connection.answer = Answer(self._keep_text)
            connection.sent = 0.0
            self._active.add(connection)
            try:
                began = monotonic()
                if connection.write():
                    connection.sent = min(monotonic(), began + _SEND_MOST)
                else:
                    connection.sent = _NEVER
                    self._poll.modify(connection.fd, WRITE)
            except OSError as error:
                self._lost(connection, error.strerror or str(error))
            now = monotonic()
            self._arm(now)

    def _could_not_open(self) -> None:
        """With no connection left or on its way, the request that waits for one has failed."""
        connections = self._connections
        now = monotonic()
        if not (connections.idle or connections.opening or self._next < 0 or now < self._next_due):
            self._results.keep(Record(self._next, "connect", self._next_due, end=now, message=connections.problem))
            self._next = -1
            self._pause_until = now + _RETRY
        self._arm(now)

    # -- what has ended -------------------------------------------------------------------------------

    def _finish(self, connection: Connection, now: float, kind: str = "", message: str = "") -> None:
        """The request on `connection` has ended; the connection is free, or gone."""
        answer = connection.answer
        assert answer is not None
        if not kind:
            answer.finish()
            kind, message = answer.outcome
        record = connection.record(now, kind, message)
        connection.answer = None
        connection.served += 1
        self._active.discard(connection)
        if answer.is_whole and answer.keeps_alive and kind not in _SPOILT:
            self._connections.idle.append(connection)
        else:
            self._connections.drop(connection)
        self._results.keep(record)
        self._arm(now)

    def _tick(self, now: float) -> None:
        """A few times a second: write what is done, tell how far things are, end what is silent."""
        if self._running:
            for connection in [c for c in self._active if now - c.last_sign > self._silence]:
                is_done = connection.answer is not None and connection.answer.done
                self._finish(connection, now, "ok" if is_done else "timeout")
        self._results.flush()
        self._offset = time.time() - monotonic()
        if not self._running:
            self._pause = 0.0
            return
        begun = [(c.sent, c.answer.stamps) for c in self._active if c.answer is not None and c.answer.stamps]
        chunks = self._results.chunks + sum(len(stamps) for _sent, stamps in begun)
        rate = (chunks - self._chunks_before) / _TICK
        self._pause = 0.0 if self._connections.is_tls else pause_for(rate, len(self._active))
        self._chunks_before = chunks
        self._outbox.say(
            "batch", running=len(self._active), chunks=chunks, written=self._results.written, at=now - self._zero,
            cpu=self._health.cpu, begun=[so_far(sent, stamps) for sent, stamps in begun[:_BEGUN_MOST]],
        )  # fmt: skip
        if not self._active and self._next < 0 and (now >= self._until or self._work.is_done):
            self._drained()

    def close(self) -> None:
        """Write the rest, and wait until the parent has heard everything."""
        self._results.flush()
        self._outbox.close()

    def _drained(self) -> None:
        self._running = False
        self._outbox.say(
            "drained",
            written=self._results.written,
            opened=self._connections.opened,
            resent=self._resent,
            **self._health.figures(),
        )

    # -- commands -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        data = b""
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return
        if not data:
            self._stop()  # the parent is gone
        *lines, self._commands = (self._commands + data).split(b"\n")
        for line in lines:
            word, *values = line.decode().split()
            if word == "go":
                self._go(*map(float, values))
            elif word == "stop":
                self._stop()
            elif word == "end":
                self._stopping = True

    def _go(self, zero: float, first: float, last: float, until: float, keeps: float) -> None:
        """Work on the requests `first` to `last`, from the moment `zero` to `until`, both on the monotonic clock."""
        self._zero, self._until, self._results.keeps = zero, until or _NEVER, bool(keeps)
        self._work.begin(int(first), int(last))
        self._next, self._running = -1, True
        self._again.clear()
        gc.collect()
        gc.freeze()
        self._health.begin()
        self._arm(monotonic())

    def _stop(self) -> None:
        """End what is on its way; it is kept as cancelled."""
        now = monotonic()
        self._until = now
        self._next = -1
        self._again.clear()
        for connection in list(self._active):
            self._finish(connection, now, "cancelled")


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Work until told to end."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    gc.disable()
    generator = Generator(request)
    generator.open_all()
    generator.run()
    generator.close()
    return {}


if __name__ == "__main__":
    protocol.run(main)
