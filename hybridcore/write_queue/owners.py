"""Who has claimed writes, and whether they are still alive: a locked file for each process."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from secrets import randbits
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = "owner-"


class Owner:
    """This process as an owner of claims: a number, and a file that is locked while it lives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1
        while self._fd < 0:
            self.number = randbits(63)
            self._file = directory / f"{_PREFIX}{self.number:016x}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
            fd = os.open(self._file, flags, 0o600)
            if _lock(fd) and self._file.exists():
                self._fd = fd
            else:  # somebody swept it up before it was locked
                os.close(fd)
        self._sweep()

    def _sweep(self) -> None:
        """Remove the files of owners that have died without claims that somebody would notice."""
        for file in self._directory.glob(f"{_PREFIX}*"):
            with suppress(ValueError):
                self.is_gone(int(file.name.removeprefix(_PREFIX), 16))

    def is_gone(self, other: int) -> bool:
        """Whether another owner is certain to have died; its file is removed then."""
        if other == self.number or sys.platform == "win32":
            return False
        file = self._directory / f"{_PREFIX}{other:016x}"
        try:
            fd = os.open(file, os.O_RDWR)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            if not _lock(fd):
                return False
            with suppress(OSError):
                file.unlink()
            return True
        finally:
            os.close(fd)

    def close(self, *, forked: bool = False) -> None:
        """Leave; the file of a parent stays when its forked child forgets it."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        os.close(fd)
        if not forked:
            with suppress(OSError):
                self._file.unlink()


def _lock(fd: int) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
