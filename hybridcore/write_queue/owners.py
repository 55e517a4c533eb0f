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
        self.number = randbits(63)
        self._directory = directory
        self._file = directory / f"{_PREFIX}{self.number:016x}"
        self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _lock(self._fd)

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
