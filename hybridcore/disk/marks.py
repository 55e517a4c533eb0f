"""The file that the marks of reads are mapped from; it grows with the number of entries."""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from hybridcore._native.marks import GENERATION_OFFSET, HEAD_SIZE, MARK_SIZE, Marks
from hybridcore.disk.directory import MARKS_FILE

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = struct.Struct("=8sQ")
_MAGIC = b"hcmarks2"
_FEWEST, _MOST = 1 << 12, 1 << 25
_BYTES_PER_MARK = 512
"""Of max_bytes: there is room for so many marks,"""
_MARKS_PER_ENTRY = 4
"""of which so many are used for each entry, so that evicted keys are remembered."""


class MappedMarks(Marks):
    """The marks of a directory, or of this process where no file can be had.

    The file is sparse, and the part that is in use has its space taken on the disk: a mapped page
    for which the disk has no room would end the process.
    """

    def __init__(self, mapped: mmap.mmap, file: Path | None) -> None:
        super().__init__(mapped)
        self._room = (len(mapped) - HEAD_SIZE) // MARK_SIZE
        self.shared = None if file is None else mapped
        """What all processes of the directory have mapped."""
        self.generation_offset = GENERATION_OFFSET
        self._file = file
        self._identity = None if file is None else _identity(file)

    def make_room_for(self, entries: int) -> None:
        """Use more marks when there are many entries; under LMDB's writer lock."""
        while self.size < _MARKS_PER_ENTRY * entries and 2 * self.size <= self._room:
            if not self._take_space(2 * self.size):
                return
            self.widen()

    def _take_space(self, marks: int) -> bool:
        if self._file is None:
            return True
        with suppress(OSError):
            descriptor = os.open(self._file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _identity(descriptor) == self._identity:
                    _allocate(descriptor, HEAD_SIZE + marks * MARK_SIZE)
                    return True
            finally:
                os.close(descriptor)
        return False


def open_marks(directory: Path, max_bytes: int) -> MappedMarks:
    """Map the directory's marks, or make a file with room for those of so many bytes.

    Where no file can be had, on a full disk or one that cannot be written, they are in the memory
    of this process: marks are worth a better eviction, not an error.
    """
    room = min(max(max_bytes // _BYTES_PER_MARK, _FEWEST), _MOST)
    room = 1 << (room - 1).bit_length()
    file = directory / MARKS_FILE
    for _ in range(2):
        with suppress(OSError, ValueError):
            return MappedMarks(_map(file), file)
        with suppress(OSError):
            _make(file, room)
    mapped = mmap.mmap(-1, HEAD_SIZE + room * MARK_SIZE)
    _HEAD.pack_into(mapped, 0, _MAGIC, _FEWEST)
    return MappedMarks(mapped, None)


def _map(file: Path) -> mmap.mmap:
    """Map a whole and sound file.

    Raises:
        ValueError: it is neither.
        OSError: it cannot be opened.
    """
    descriptor = os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        size = os.fstat(descriptor).st_size
        if size < HEAD_SIZE or os.pread(descriptor, len(_MAGIC), 0) != _MAGIC:
            raise ValueError(f"{str(file)!r} is no file of marks")
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def _make(file: Path, room: int) -> None:
    """Make an empty file, unless another process is faster: all have to map the same one.

    One that is there and not sound gives way to it.
    """
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(descriptor, HEAD_SIZE + room * MARK_SIZE)
        _allocate(descriptor, HEAD_SIZE + _FEWEST * MARK_SIZE)
        os.pwrite(descriptor, _HEAD.pack(_MAGIC, _FEWEST), 0)
        if file.exists() or not hasattr(os, "link"):
            os.replace(draft, file)
        else:
            os.link(draft, file)
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            draft.unlink()


def _allocate(descriptor: int, size: int) -> None:
    """Have the disk keep room for the first bytes, where it can promise that."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


def _identity(file: Path | int) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_dev, found.st_ino
