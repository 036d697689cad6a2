"""The front of a log that rotation has given back to the file system: a hole that reads as zeros.

Apart from rotation, whose imports everybody who only steps over the hole need not wait for.
"""

from __future__ import annotations

import errno
import os

#: Bytes at most that are zero behind what a file system counts as given back: its largest block.
LARGEST_ZEROED = 4 << 20
_CHUNK = 1 << 20


def given_back(descriptor: int) -> int:
    """Up to where the file's blocks have been given back, at most; the bytes up to a block behind it are zero, too."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        return os.fstat(descriptor).st_size if error.errno == errno.ENXIO else 0


def first_byte(descriptor: int) -> int:
    """Where the file's content starts: behind the zeros of what has been given back."""
    start = given_back(descriptor)
    limit = start + LARGEST_ZEROED
    # Blocks are given back as a whole; the rest of the first one that is left has been zeroed.
    while 0 < start < limit and (chunk := os.pread(descriptor, _CHUNK, start)):
        text = chunk.lstrip(b"\0")
        start += len(chunk) - len(text)
        if text:
            break
    return start
