"""What rotation has taken out of a log: compressed files beside it, of which any part can be read at once.

An archive is a gzip file of many members, one for each PIECE bytes of the log. A member says in its header, in an
extra field (RFC 1952), how long it is and how many lines it holds. So `zcat` reads it like any other, while a reader
goes from header to header and decompresses only what it needs. Whatever else is gzip, such as an archive that
somebody compressed anew, is read from its beginning.

Standard library only: the keeper, which has nothing else, imports this.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import struct
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

#: Bytes of a log in one member: what is decompressed to read any of them.
PIECE = 256 * 1024
#: Pieces that are kept decompressed while a log is read.
PIECES_KEPT = 4
#: The fixed part of a member's header, with our field: length of the member, of its text, and newlines in it.
_HEADER = struct.Struct("<4sIBBH2sHIII")
_MAGIC, _FIELD, _FIELD_SIZE = b"\x1f\x8b\x08\x04", b"QT", 12
_RAW, _GZIP = -15, 31
_NAME = re.compile(r"\.(?P<start>\d+)-(?P<end>\d+)\.gz$")


class Archive(NamedTuple):
    """A compressed part of a log. start, end: bytes, where it lay in the log."""

    path: Path
    start: int
    end: int


class Stopped(Exception):
    """The work is wanted no more."""


class _Piece(NamedTuple):
    """start, end: bytes in the log. at, size: bytes in the archive. lines: newlines in it; -1 where nobody counted."""

    start: int
    end: int
    at: int
    size: int
    lines: int


def archives(log: Path) -> list[Archive]:
    """The parts that have been taken out of `log` and are still there, the oldest first."""
    found = []
    with suppress(FileNotFoundError), os.scandir(log.parent) as entries:
        for entry in entries:
            match = _NAME.search(entry.name)
            if match and entry.name[: match.start()] == log.name:
                found.append(Archive(log.with_name(entry.name), int(match["start"]), int(match["end"])))
    return sorted(found, key=lambda archive: archive.start)


def reaching(found: list[Archive], first: int) -> list[Archive]:
    """Those of `found` that together go up to the byte `first` of the log without a gap, the oldest first."""
    chain: list[Archive] = []
    start = first
    for archive in reversed(found):
        if archive.start < start <= archive.end:
            chain.append(archive)
            start = archive.start
    return chain[::-1]


def write_archive(descriptor: int, archive: Archive, is_stopped: Callable[[], bool] | None = None) -> None:
    """Compress that part of the open log into a new file, mode 0600, and see that it is on the disk.

    Nothing is left behind if it fails. Raises OSError, and Stopped if asked to.
    """
    partial = archive.path.with_name(f"{archive.path.name}.part")
    partial.unlink(missing_ok=True)
    target = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(target, "wb") as file:
            at = archive.start
            while at < archive.end:
                if is_stopped is not None and is_stopped():
                    raise Stopped
                piece = os.pread(descriptor, min(PIECE, archive.end - at), at)
                if not piece:
                    raise OSError(errno.EIO, "the log became shorter while it was archived")
                file.write(_member(piece))
                at += len(piece)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(archive.path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(archive.path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _member(piece: bytes) -> bytes:
    compressor = zlib.compressobj(3, zlib.DEFLATED, _RAW)
    body = compressor.compress(piece) + compressor.flush()
    size = _HEADER.size + len(body) + 8
    header = _HEADER.pack(
        _MAGIC, 0, 0, 255, 4 + _FIELD_SIZE, _FIELD, _FIELD_SIZE, size, len(piece), piece.count(b"\n")
    )  # fmt: skip
    return header + body + struct.pack("<II", zlib.crc32(piece), len(piece))


class ArchiveReader:
    """Reads what was taken out of a log, by the byte where it lay in it. Not for use by two threads at once.

    found: which archives; where they leave a gap, there is nothing. Reading raises OSError.
    """

    def __init__(self, found: list[Archive]) -> None:
        self.found = found
        self._pieces: dict[Archive, list[_Piece]] = {}
        self._texts: OrderedDict[tuple[Archive, int], bytes] = OrderedDict()
        self._open: tuple[Archive, int] | None = None

    def close(self) -> None:
        """Let go of the file that was read last."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def over(self, start: int, data: bytes) -> bytes:
        """`data`, which is the log from the byte `start` on, with what has been archived of it put in its place."""
        end = start + len(data)
        result: bytearray | None = None
        for archive in self.found:
            first, last = max(start, archive.start), min(end, archive.end)
            if first < last:
                result = bytearray(data) if result is None else result
                result[first - start : last - start] = self._read(archive, first, last)
        return data if result is None else bytes(result)

    def counted(self, start: int) -> tuple[int, int] | None:
        """Where the piece ends that starts at the byte `start`, and how many newlines it holds.

        None where none starts there, or nobody counted.
        """
        for archive in self.found:
            if archive.start <= start < archive.end:
                pieces = self._index(archive)
                piece = pieces[_number_of(pieces, start)]
                if piece.start == start and piece.lines >= 0:
                    return piece.end, piece.lines
        return None

    def _read(self, archive: Archive, start: int, end: int) -> bytes:
        pieces = self._index(archive)
        parts = []
        for number in range(_number_of(pieces, start), _number_of(pieces, end - 1) + 1):
            piece = pieces[number]
            text = self._text(archive, number, piece)
            parts.append(text[max(0, start - piece.start) : end - piece.start])
        return b"".join(parts)

    def _text(self, archive: Archive, number: int, piece: _Piece) -> bytes:
        text = self._texts.pop((archive, number), None)
        if text is None:
            text = self._decompressed(archive, piece)
            if len(text) != piece.end - piece.start:
                raise _damaged(archive, "it ends too early")
        self._texts[archive, number] = text
        if len(self._texts) > PIECES_KEPT:
            self._texts.popitem(last=False)
        return text

    def _decompressed(self, archive: Archive, piece: _Piece) -> bytes:
        try:
            if piece.size:
                data = os.pread(self._descriptor(archive), piece.size, piece.at)
                return zlib.decompress(data, _GZIP, piece.end - piece.start)
            with gzip.open(archive.path) as file:
                file.seek(piece.start - archive.start)
                return file.read(piece.end - piece.start)
        except (zlib.error, gzip.BadGzipFile, EOFError) as error:
            raise _damaged(archive, str(error)) from None

    def _index(self, archive: Archive) -> list[_Piece]:
        """The pieces of an archive, from its headers; those of one that lacks ours are found by reading it."""
        known = self._pieces.get(archive)
        if known is None:
            known = self._pieces[archive] = self._headers(archive) or [
                _Piece(start, min(start + PIECE, archive.end), 0, 0, -1)
                for start in range(archive.start, archive.end, PIECE)
            ]
        return known

    def _headers(self, archive: Archive) -> list[_Piece] | None:
        descriptor = self._descriptor(archive)
        pieces, start, at = [], archive.start, 0
        while start < archive.end:
            header = os.pread(descriptor, _HEADER.size, at)
            if len(header) < _HEADER.size:
                return None
            magic, _time, _flags, _system, _extra, field, length, size, count, lines = _HEADER.unpack(header)
            if (magic, field, length) != (_MAGIC, _FIELD, _FIELD_SIZE) or size <= _HEADER.size or not count:
                return None
            pieces.append(_Piece(start, start + count, at, size, lines))
            start, at = start + count, at + size
        return pieces if start == archive.end else None

    def _descriptor(self, archive: Archive) -> int:
        if self._open is None or self._open[0] != archive:
            self.close()
            self._open = (archive, os.open(archive.path, os.O_RDONLY | os.O_CLOEXEC))
        return self._open[1]


def _number_of(pieces: list[_Piece], position: int) -> int:
    """Which of the pieces holds that byte of the log."""
    return bisect_right(pieces, position, key=lambda piece: piece.start) - 1


def _damaged(archive: Archive, why: str) -> OSError:
    return OSError(errno.EIO, f"{archive.path.name} is damaged: {why}")
