"""The file that the marks of reads are mapped from."""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from hybridcore._native.marks import HEAD_SIZE, MARK_SIZE, Marks
from hybridcore.disk.directory import MARKS_FILE

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = struct.Struct("=8sQ")
_MAGIC = b"hcmarks1"
_FEWEST, _MOST = 1 << 10, 1 << 25
_BYTES_PER_MARK = 512
"""Of max_bytes: four marks or more for each entry of 2 KiB, so that evicted keys are remembered."""


def open_marks(directory: Path, max_bytes: int) -> Marks:
    """Map the directory's table of marks, or make one for so many bytes of entries.

    Where no file can be had, on a full disk or one that cannot be written, the table is in the
    memory of this process: marks are worth a better eviction, not an error.
    """
    marks = min(max(max_bytes // _BYTES_PER_MARK, _FEWEST), _MOST)
    marks = 1 << (marks - 1).bit_length()
    file = directory / MARKS_FILE
    for _ in range(2):
        with suppress(OSError, ValueError):
            return Marks(_map(file))
        with suppress(OSError):
            _make(file, marks)
    return Marks(mmap.mmap(-1, HEAD_SIZE + marks * MARK_SIZE))


def _map(file: Path) -> mmap.mmap:
    """Map a whole and sound table.

    Raises:
        ValueError: it is neither.
        OSError: it cannot be opened.
    """
    descriptor = os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        size = os.fstat(descriptor).st_size
        if size < HEAD_SIZE:
            raise ValueError(f"{str(file)!r} is no table of marks")
        mapped = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    magic, marks = _HEAD.unpack_from(mapped)
    if magic != _MAGIC or size != HEAD_SIZE + marks * MARK_SIZE:
        mapped.close()
        raise ValueError(f"{str(file)!r} is no table of marks")
    return mapped


def _make(file: Path, marks: int) -> None:
    """Put an empty table in place of whatever is there, its space taken on the disk.

    A mapped page for which the disk has no room would end the process.
    """
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        size = HEAD_SIZE + marks * MARK_SIZE
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.write(descriptor, bytes(size))
        os.pwrite(descriptor, _HEAD.pack(_MAGIC, marks), 0)
        os.replace(draft, file)
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            draft.unlink()
