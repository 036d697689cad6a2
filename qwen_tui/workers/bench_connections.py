"""The connections of a generator process: opened before the clock starts, kept, opened again when a server drops them.

Standard library only.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import ssl
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers.bench_answer import Answer
    from qwen_tui.workers.bench_record import Record
else:
    from bench_record import Record

#: Ask the kernel when bytes arrived. Source: linux/socket.h, the same on x86-64 and arm64; Python has no name for it.
SO_TIMESTAMPNS = 35
NOTES_SIZE = 64
unpack_time = struct.Struct("@ll").unpack
READ = select.EPOLLIN | select.EPOLLRDHUP
WRITE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP
#: Bytes asked for at once; a chunk of a stream is some 250.
READ_SIZE = 16384
#: Connections being opened at the same time.
_OPENING_MOST = 128
#: Failures to open, without one success, that are enough.
_GIVE_UP = 3


class Connection:
    """One connection, and the request that is on it.

    served: requests that were answered on it. unsent: what the kernel has not taken yet.
    """

    __slots__ = ("answer", "due", "fd", "index", "is_open", "receive", "sent", "served", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.receive = sock.recvmsg  # looked up once: it is called for every chunk
        self.is_open = False
        self.served = 0
        self.index = -1
        self.due = 0.0
        self.sent = 0.0
        self.unsent: bytes | memoryview = b""
        self.answer: Answer | None = None

    def read(self) -> tuple[bytes | None, float]:
        """What has arrived, and when; empty when the other side closed, None when there is nothing yet. Raises OSError.

        The kernel's own time of arrival (on the wall clock) where it tells one, for a process that had to wait for a
        core reads late; else 0.
        """
        try:
            if isinstance(self.sock, ssl.SSLSocket):
                return self.sock.recv(READ_SIZE), 0.0
            data, notes, _flags, _from = self.sock.recvmsg(READ_SIZE, NOTES_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError):
            return None, 0.0
        if not notes:
            return data, 0.0
        seconds, nanoseconds = unpack_time(notes[0][2])
        return data, seconds + nanoseconds * 1e-9

    @property
    def has_more(self) -> bool:
        """Whether TLS holds decrypted bytes that the kernel no longer tells of."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    @property
    def last_sign(self) -> float:
        """When its request was sent, or the last chunk came; while it can't be sent, when it was due."""
        if self.answer is not None and self.answer.stamps:
            return self.answer.stamps[-1]
        return self.sent if self.sent < math.inf else self.due

    def write(self) -> bool:
        """Hand over what is unsent; whether the kernel has all of it. Raises OSError."""
        while self.unsent:
            try:
                count = self.sock.send(self.unsent)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError):
                return False
            self.unsent = memoryview(self.unsent)[count:]
        self.unsent = b""
        return True

    def record(self, now: float, kind: str, message: str) -> Record:
        """What became of the request on it, which has ended now."""
        answer = self.answer
        assert answer is not None
        return Record(
            self.index,
            kind,
            self.due,
            self.sent,
            now,
            answer.first_text,
            answer.status,
            answer.prompt_tokens,
            answer.completion_tokens,
            answer.stamps,
            message,
            "".join(answer.text or ()),
        )

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


class Connections:
    """All connections of one process to one server.

    poll: where their events come up. idle: those that are open and free. problem: why the last one could not be opened.
    """

    def __init__(self, host: str, port: int, tls: bool, poll: select.epoll) -> None:
        self._poll = poll
        self._host = host
        self._made, self._address = _reachable(host, port)
        self._context = ssl.create_default_context() if tls else None
        self.is_tls = tls
        self.by_fd: dict[int, Connection] = {}
        self.idle: deque[Connection] = deque()
        self.opening = 0
        self.opened = 0
        self.failed = 0
        self.problem = ""

    def open_first(self, count: int) -> None:
        """Open `count`; returns when they are open or can't be."""
        deadline = time.monotonic() + 30
        while self.opened < count and time.monotonic() < deadline:
            if self.failed > (_GIVE_UP if not self.opened else count):
                return
            self.want(count - self.opened - self.opening)
            for fd, _events in self._poll.poll(0.2):
                if connection := self.by_fd.get(fd):
                    self.go_on_opening(connection)

    def want(self, count: int) -> None:
        """Begin to open `count` more, as far as that many may be on their way at once."""
        for _ in range(min(count, _OPENING_MOST - self.opening)):
            try:
                self._open()
            except OSError as error:
                self._note(error)
                return

    def _open(self) -> None:
        sock = socket.socket(*self._made)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        code = sock.connect_ex(self._address)
        if code not in (0, 115):  # EINPROGRESS
            sock.close()
            raise OSError(code, os.strerror(code))
        connection = Connection(sock)
        self.by_fd[connection.fd] = connection
        self.opening += 1
        self._poll.register(connection.fd, select.EPOLLOUT)

    def go_on_opening(self, connection: Connection) -> bool:
        """Something happened on a connection that is being opened; whether it is open now."""
        try:
            if code := connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            if self._context is not None:
                if not isinstance(connection.sock, ssl.SSLSocket):  # it had to be connected first
                    connection.sock = self._context.wrap_socket(
                        connection.sock, server_hostname=self._host, do_handshake_on_connect=False
                    )
                connection.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._poll.modify(connection.fd, select.EPOLLIN)
            return False
        except ssl.SSLWantWriteError:
            self._poll.modify(connection.fd, select.EPOLLOUT)
            return False
        except OSError as error:
            self._note(error)
            self.drop(connection)
            return False
        connection.is_open = True
        self.opening -= 1
        self.opened += 1
        self._poll.modify(connection.fd, READ)
        self.idle.append(connection)
        return True

    def drop(self, connection: Connection) -> None:
        """Close and forget a connection, whatever it is doing."""
        if self.by_fd.pop(connection.fd, None) is None:
            return
        if not connection.is_open:
            self.opening -= 1
        with contextlib.suppress(OSError, ValueError):
            self._poll.unregister(connection.fd)
        with contextlib.suppress(ValueError):
            self.idle.remove(connection)
        connection.close()

    def _note(self, error: OSError) -> None:
        self.failed += 1
        self.problem = error.strerror or str(error)


def _reachable(host: str, port: int) -> tuple[tuple[Any, ...], Any]:
    """What a socket to the host is made of, and its address: the first that takes a connection, or just the first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _name, address in found if len(found) > 1 else ():
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as sock:
            sock.settimeout(3.0)
            sock.connect(address)
            return (family, kind, protocol), address
    family, kind, protocol, _name, address = found[0]
    return (family, kind, protocol), address
