"""The sidecar ``state``: who has a directory open, and whether a power failure may spoil it.

LMDB that does not sync survives ``kill -9``, but after a power failure its pages may be anything.
So the first unsynced write puts ``dirty`` and the id of this boot into the file, and a sync puts
``clean``. Who finds it dirty from another boot discards the entries instead of trusting them.

Whoever has the directory open holds a shared ``flock`` on the file. An exclusive one proves that
nobody else has; it is taken to discard, and to exchange the data file.
"""

from __future__ import annotations

import os
import re
import sys
import time
import zlib
from contextlib import suppress
from functools import cache
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from hybridcore.disk.directory import STATE_FILE
from hybridcore.errors import ConfigurationError, DiskError

if TYPE_CHECKING:
    import lmdb

Durability = Literal["none", "process", "power"]
"""What a directory survives: nothing, the death of a process, a power failure."""

CAN_LOCK = sys.platform != "win32"

_MODES: tuple[Durability, ...] = get_args(Durability)
_LINE = re.compile(rb"hybridcore state 1 (dirty|clean) ([0-9a-f-]{36}) ([0-9a-f]{8})\n")
_OURS = b"hybridcore state 1 "
_SIZE = 71
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NO_BOOT = "-" * 36
_WAIT_SECONDS = 30.0
"""For a process that discards entries or exchanges the data file."""


def checked(durability: str) -> Durability:
    """The mode of this name.

    Raises:
        ConfigurationError: there is none.
    """
    for mode in _MODES:
        if mode == durability:
            return mode
    raise ConfigurationError(
        f"durability is expected to be 'none', 'process' or 'power', got {durability!r}"
    )


def stronger(one: Durability, other: Durability) -> Durability:
    """The mode that loses less."""
    return max(one, other, key=_MODES.index)


@cache
def boot_id() -> str:
    """36 characters that another boot of this machine does not have.

    Where the system tells none they are unlike any other, so that all that is dirty is discarded.
    """
    with suppress(OSError):
        text = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        if re.fullmatch("[0-9a-f-]{36}", text):
            return text
    from uuid import NAMESPACE_OID, uuid4, uuid5

    if sys.platform != "win32":
        import subprocess

        for name in ("kern.bootsessionuuid", "kern.boottime"):
            with suppress(OSError, subprocess.SubprocessError):
                command = ["sysctl", "-n", name]
                said = subprocess.run(command, capture_output=True, check=True, timeout=5)  # noqa: S603 - no user input
                return str(uuid5(NAMESPACE_OID, said.stdout.decode()))
    return str(uuid4())


@cache
def line(*, dirty: bool, boot: str = "") -> bytes:
    """What the file says; of a clean directory the boot does not matter."""
    said = f"dirty {boot or boot_id()}" if dirty else f"clean {_NO_BOOT}"
    text = b"hybridcore state 1 " + said.encode()
    return b"%s %08x\n" % (text, zlib.crc32(text))


def is_blank(directory: Path) -> bool:
    """Whether the directory has no state, or an empty one that a failure may have left."""
    try:
        with (directory / STATE_FILE).open("rb") as stream:
            return not stream.read(_SIZE + 1).strip(b"\0")
    except FileNotFoundError:
        return True
    except OSError as error:
        raise _unusable(directory, error) from error


class State:
    """The open file, with a shared lock from `share` to `close`."""

    def __init__(self, directory: Path, durability: Durability) -> None:
        """Open the file or make it, with mode 0600.

        Raises:
            DiskError: it is not hybridcore's, or cannot be written.
        """
        self.directory = directory
        self.durability = durability
        self.wrote = False
        """Whether this process wrote what nobody may have synced since."""
        self._marked = False
        self._dirty = line(dirty=True)
        self._inherited = False
        self._fd = _open_ours(directory)
        try:
            self._map = mmap(self._fd, _SIZE)
        except OSError as error:
            os.close(self._fd)
            raise _unusable(directory, error) from error

    # -- who has it open ------------------------------------------------------------------

    def claim(self) -> bool:
        """Be the only one that has the directory open; when False, `share` again."""
        return not self._inherited and _flock(self._fd, exclusive=True)

    def share(self) -> None:
        """Have the directory open as one of many; wait while somebody has it alone.

        Raises:
            DiskError: that takes too long.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while not _flock(self._fd, exclusive=False):
            if time.monotonic() >= deadline:
                raise DiskError(
                    f"{str(self.directory)!r} has been held by a process that compacts or clears "
                    f"it for more than {_WAIT_SECONDS:g} s; try again, or end that process"
                )
            time.sleep(0.002)

    def after_fork_in_child(self) -> None:
        """Have the directory open in the child's own name.

        A lock belongs to parent and child as long as both have the file that was inherited, so
        that one could not tell the other is there.
        """
        self.wrote = self._marked = False
        inherited = os.fstat(self._fd)
        try:
            own = os.open(self.directory / STATE_FILE, _FLAGS)
        except OSError:
            self._inherited = True
            return
        if os.path.samestat(os.fstat(own), inherited) and _flock(own, exclusive=False):
            os.close(self._fd)
            self._fd = own
        else:
            os.close(own)
            self._inherited = True

    def close(self) -> None:
        """Let go; harmless when called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._map.close()
            os.close(fd)

    # -- what a power failure spoils ------------------------------------------------------

    @property
    def is_spoiled(self) -> bool:
        """Whether unsynced writes were there when the machine went down, or may have been.

        Never where nobody could be sure to be alone to discard them.
        """
        if not CAN_LOCK:
            return False
        found = _LINE.fullmatch(self._map[:])
        if found is None or int(found[3], 16) != zlib.crc32(found[0][:-10]):
            return True
        return found[1] == b"dirty" and found[2].decode() != boot_id()

    @property
    def is_dirty(self) -> bool:
        """Whether there may be unsynced writes."""
        return self._map[:] != line(dirty=False)

    def mark(self) -> None:
        """Say that unsynced writes follow; called with LMDB's writer lock, before they are made.

        The file is synced when it changes, and once in the life of this process: who wrote the
        mark may have died before it was on the disk.
        """
        self.wrote = True
        before = self._map[:]
        if before == line(dirty=True):
            if not self._marked:
                self._write(None)
        else:
            self._write(line(dirty=True), sync=before == line(dirty=False))
        self._marked = True

    def settle(self, env: lmdb.Environment) -> None:
        """Sync what was written, and say so; called with LMDB's writer lock."""
        env.sync(True)
        if self.is_dirty:
            try:
                sync_directory(self.directory)
                with suppress(PermissionError):  # of others it is not ours to make
                    sync_directory(self.directory.parent)
            except OSError as error:
                raise _unusable(self.directory, error) from error
            self._write(line(dirty=False), sync=True)
        self.wrote = False

    def needs_settling(self) -> bool:
        """Whether who closes now is the one to sync; takes the lock that `close` gives up."""
        return self.durability != "none" and self.is_dirty and (self.wrote or self.claim())

    def strengthen(self, durability: Durability) -> None:
        """Go on in a mode that loses less."""
        self.durability = durability
        self._marked = False

    def before_write(self, env: lmdb.Environment) -> None:
        """Make sure that the state tells the truth about the write that follows.

        Called with LMDB's writer lock, which nobody who changes the state goes without.
        """
        if self.durability != "power":
            if not self._marked or self._map[:] != self._dirty:
                self.mark()
            self.wrote = True
        elif self.is_dirty:
            self.settle(env)

    def _write(self, content: bytes | None, *, sync: bool = False) -> None:
        """Write the line if one is given; scratch is synced only where it must be."""
        try:
            if content is not None:
                os.lseek(self._fd, 0, os.SEEK_SET)
                os.write(self._fd, content)
            if sync or self.durability != "none":
                os.fsync(self._fd)
        except OSError as error:
            raise _unusable(self.directory, error) from error


def sync_directory(directory: Path) -> None:
    """Wait until the names in the directory are on the disk."""
    if sys.platform == "win32":
        return
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_ours(directory: Path) -> int:
    """Open the file or make it, unless it is somebody else's; it has its full size then."""
    try:
        fd = os.open(directory / STATE_FILE, _FLAGS | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from error
    try:
        found = os.read(fd, _SIZE + 1)
        if found.strip(b"\0") and not found.startswith(_OURS):
            raise DiskError(
                f"{str(directory / STATE_FILE)!r} is somebody else's file, or a later "
                "version's; it was left untouched. Choose another directory"
            )
        if len(found) != _SIZE:
            os.truncate(fd, _SIZE)
    except OSError as error:
        os.close(fd)
        if isinstance(error, DiskError):
            raise
        raise _unusable(directory, error) from error
    return fd


def _flock(fd: int, *, exclusive: bool) -> bool:
    """Take the lock, or change the one there is, if that needs no waiting."""
    if sys.platform == "win32" or not CAN_LOCK:  # nobody can tell who else is there
        return not exclusive
    import fcntl

    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unusable(directory: Path, error: OSError) -> DiskError:
    return DiskError(
        f"cannot use {str(directory / STATE_FILE)!r}: {error.strerror or error}. The disk tier "
        "needs a directory that this process can write to"
    )
