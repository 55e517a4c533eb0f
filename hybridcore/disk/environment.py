"""One LMDB environment per directory and process, shared by all who open that directory.

LMDB must not be opened twice in a process, nor used by a child that was forked with it open.
So environments are counted here; around a fork each is closed, and parent and child open it
again when they next use it.

Imports lmdb at use.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from hybridcore._native.record import Gate
from hybridcore.disk.directory import DATA_FILE, LOCK_FILE, check_whole, prepare
from hybridcore.disk.marks import open_marks
from hybridcore.errors import ClosedError, DiskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import lmdb

    from hybridcore.disk.writer import Batch

T = TypeVar("T")

FORMAT = 2
_STAMP_KEY = b"format"
_STAMP = b"hybridcore disk "
_DATABASES = (b"data", b"meta", b"order", b"expiry")
_MAX_READERS = 4096
_DRAIN_SECONDS = 5.0
_FORK_DRAIN_SECONDS = 2.0
_IN_PLACE_SECONDS = 0.1
"""A removed or replaced directory is noticed by the first write after so long."""


class MapFullError(DiskError):
    """The map has no free page left; the transaction changed nothing."""


class Environment:
    """An open LMDB environment with the databases of the disk tier.

    ``data``   LMDB key -> record
    ``order``  hash of the LMDB key, 8 bytes big-endian -> traits, LMDB key
    ``expiry`` end of its life, hash, each 8 bytes big-endian -> nothing
    ``meta``   format stamp and tally

    ``waiting`` are batches on their way to the next commit, ``turn`` is held by who commits.
    """

    data: lmdb._Database
    order: lmdb._Database
    expiry: lmdb._Database
    meta: lmdb._Database

    def __init__(self, directory: Path, map_size: int) -> None:
        self.directory = directory
        self.users = 0
        self.gate = Gate(self._admit)
        self.waiting: deque[Batch] = deque()
        self.turn = threading.Lock()
        self._lock = threading.RLock()
        self._map_size = map_size
        self._env: lmdb.Environment | None = None
        self._inherited: lmdb.Environment | None = None
        self._maintainer = 0
        self._checked = 0.0
        self._open()
        self.marks = open_marks(directory, map_size)

    def write(self, work: Callable[[lmdb.Transaction[memoryview]], T], *, growth: float = 0.0) -> T:
        """Run ``work`` in one write transaction and return what it returns.

        Work that frees space may need some first. When the map is full it grows, by at most the
        share ``growth`` of the size it was opened with.

        Raises:
            MapFullError: no page is left; nothing was written.
            DiskError: LMDB or the disk failed; nothing was written.
        """
        import lmdb

        while True:
            try:
                with self.gate:
                    env = self._current()
                    self._check_in_place()
                    with env.begin(self.data, None, True, True) as txn:
                        return work(txn)
            except lmdb.MapFullError as error:
                if growth and self._grow(growth):
                    continue
                raise MapFullError(
                    f"the map of {str(self.directory)!r} is full ({self._map_size} bytes)"
                ) from error
            except lmdb.Error as error:
                self.recover(error)

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction[memoryview]]:
        """A read transaction, for what must be quick: it pins the pages it sees."""
        import lmdb

        while True:
            with self.gate:
                try:
                    txn = self._current().begin(buffers=True)
                except lmdb.Error as error:
                    failed = error
                else:
                    try:
                        with txn:
                            yield txn
                    except lmdb.Error as error:
                        raise self._failed(error) from error
                    return
            self.recover(failed)

    def recover(self, error: BaseException) -> None:
        """Return when the transaction that failed to begin is worth another try.

        Raises:
            DiskError: it is not.
        """
        import lmdb

        if isinstance(error, lmdb.MapResizedError):
            self._adopt_map_size()
        elif isinstance(error, lmdb.ReadersFullError):
            if self._current().reader_check() == 0:
                raise DiskError(
                    f"all {_MAX_READERS} reader slots of {str(self.directory)!r} are taken by "
                    "live processes; open the directory in fewer of them"
                ) from error
        elif isinstance(error, lmdb.Error) and not isinstance(error, lmdb.BadRslotError):
            raise self._failed(error) from error
        elif not isinstance(error, lmdb.Error):
            raise error

    def pinned_by(self, behind: int) -> int | None:
        """The process whose reader is more than so many transactions behind, if there is one."""
        with self.gate:
            env = self._current()
            env.reader_check()
            newest = env.info()["last_txnid"]
            for line in env.readers().splitlines():
                fields = line.split()
                if (
                    len(fields) == 3
                    and fields[0].isdigit()
                    and fields[2].isdigit()
                    and newest - int(fields[2]) > behind
                ):
                    return int(fields[0])
        return None

    def sync(self) -> None:
        """Wait until all that was written is on the disk itself."""
        import lmdb

        with self.gate:
            try:
                self._current().sync(True)
            except lmdb.Error as error:
                raise self._failed(error) from error

    def space(self) -> dict[str, int]:
        """Sizes of the file and the map in bytes, and how many readers are registered."""
        with self.gate:
            env = self._current()
            info = env.info()
            page = env.stat()["psize"]
        try:
            file_bytes = (self.directory / DATA_FILE).stat().st_size
        except OSError:
            file_bytes = 0
        return {
            "file_bytes": file_bytes,
            "map_bytes": info["map_size"],
            "allocated_bytes": (info["last_pgno"] + 1) * page,
            "readers": info["num_readers"],
            "max_readers": info["max_readers"],
        }

    def in_place(self) -> bool:
        """Whether the file that was opened is still the one in the directory."""
        try:
            found = os.stat(self._file)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def need_map(self, map_size: int) -> None:
        """Make the map at least so large."""
        with self._lock:
            if map_size > self._map_size:
                self._map_size = map_size
                if self._env is not None:
                    self._resize(map_size)

    # -- opening and closing --------------------------------------------------------------

    def _open(self) -> None:
        import lmdb

        exists = check_whole(self.directory)
        try:
            if exists and not (self.directory / LOCK_FILE).exists():
                # Nobody has it open: look inside without leaving a lock file behind.
                with (
                    lmdb.Environment(
                        str(self.directory), readonly=True, lock=False, create=False, max_dbs=4
                    ) as unlocked,
                    unlocked.begin() as txn,
                ):
                    self._check_stamp(unlocked, txn)
            env = lmdb.Environment(
                str(self.directory),
                map_size=self._map_size,
                mode=0o700,  # LMDB takes the x bits away: files are 0600
                create=False,
                sync=False,
                metasync=False,
                readahead=False,
                max_readers=_MAX_READERS,
                max_dbs=len(_DATABASES),
                max_spare_txns=1,
                lib_version=0,
            )
        except lmdb.Error as error:
            raise self._failed(error) from error
        try:
            env.reader_check()
            # A write transaction even when nothing is new: py-lmdb closes what a reading one
            # opened. Opening outside of one would wait for the writer lock with the GIL held.
            with env.begin(write=True) as txn:
                new = not self._check_stamp(env, txn)
                self.data, self.meta, self.order, self.expiry = (
                    env.open_db(name, txn=txn, create=new) for name in _DATABASES
                )
                if new:
                    txn.put(_STAMP_KEY, _STAMP + str(FORMAT).encode(), db=self.meta)
        except lmdb.Error as error:
            env.close()
            raise self._failed(error) from error
        except BaseException:
            env.close()
            raise
        self._map_size = max(self._map_size, env.info()["map_size"])
        self._file = str(self.directory / DATA_FILE)
        found = os.stat(self._file)
        self._identity = (found.st_dev, found.st_ino)
        self._env = env
        self.gate.begin = env.begin
        self.gate.data = self.data
        self.gate.open()

    def _check_stamp(self, env: lmdb.Environment, txn: lmdb.Transaction[bytes]) -> bool:
        """Whether the environment is ours; False when it is empty, an error when foreign."""
        import lmdb

        if txn.stat()["entries"] == 0:
            return False
        try:
            meta = env.open_db(b"meta", txn=txn, create=False)
            stamp = txn.get(_STAMP_KEY, b"", db=meta)
        except (lmdb.NotFoundError, lmdb.IncompatibleError):
            stamp = b""
        number = stamp.removeprefix(_STAMP)
        if not stamp.startswith(_STAMP) or not number.isdigit():
            raise DiskError(
                f"{str(self.directory)!r} holds somebody else's LMDB environment; it was left "
                "untouched. Choose another directory"
            )
        if int(number) != FORMAT:
            raise DiskError(
                f"{str(self.directory)!r} has disk format {int(number)}, this version of "
                f"hybridcore reads {FORMAT}. Choose another directory, or remove this one to "
                "start afresh"
            )
        return True

    def close(self) -> bool:
        """Close LMDB; False when somebody stays inside so long that it has to remain open."""
        import lmdb

        with self._lock:
            if self._env is None:
                self.gate.close()
                return True
            self.gate.close()
            if not self.gate.drain(_DRAIN_SECONDS):
                self.gate.open()
                return False
            try:
                self._env.sync(True)
            except lmdb.Error as error:
                raise self._failed(error) from error
            finally:
                self._detach()
            return True

    def _detach(self) -> None:
        """Close LMDB behind a closed, drained gate."""
        assert self._env is not None
        self.gate.begin = self.gate.data = None
        env, self._env = self._env, None
        env.close()

    # -- forks ----------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._lock.acquire()
        self.gate.close()
        if self._env is not None and self.gate.drain(_FORK_DRAIN_SECONDS):
            self._detach()

    def after_fork_in_parent(self) -> None:
        if self._env is not None:
            self.gate.open()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self.turn = threading.Lock()
        self.waiting.clear()
        # What could not be closed is kept for ever: its destructor would take the parent's
        # reader slots away.
        self._inherited, self._env = self._env, None

    # -- maintenance ----------------------------------------------------------------------

    def _admit(self) -> None:
        """Wait in front of the closed gate; open LMDB again when a fork closed it."""
        with self._lock:
            if self._maintainer == threading.get_ident():
                raise DiskError(
                    f"{str(self.directory)!r} was used while this thread resizes its map, "
                    "perhaps from a destructor"
                )
            if self._inherited is not None:
                raise DiskError(
                    f"{str(self.directory)!r} was in use by another thread, or being decoded "
                    "from, at the moment of a fork; the child cannot open it. Fork earlier, or "
                    "start processes with spawn"
                )
            if self.users == 0:
                raise ClosedError("the disk tier was used after close()")
            if self._env is None:
                self._open()

    def _current(self) -> lmdb.Environment:
        """The LMDB environment; only inside the gate is it sure to be there."""
        assert self._env is not None
        return self._env

    def _check_in_place(self) -> None:
        now = time.monotonic()
        if now < self._checked + _IN_PLACE_SECONDS:
            return
        self._checked = now
        if not self.in_place():
            self._checked = 0.0
            raise DiskError(
                f"{self._file!r} was removed or replaced while it was open. Close the tier and "
                "open it again"
            )

    def _adopt_map_size(self) -> None:
        """Take over the larger map that another process has made."""
        with self._lock:
            self._resize(0)

    def _grow(self, most: float) -> bool:
        """Make the map an eighth larger; False when it has grown by that share already."""
        with self._lock:
            size = self._current().info()["map_size"]
            if size >= (1 + most) * self._map_size:
                return False
            self._resize(size + max(self._map_size // 8, 1 << 18) // 65536 * 65536)
            return True

    def _resize(self, map_size: int) -> None:
        import lmdb

        self._maintainer = threading.get_ident()
        self.gate.close()
        try:
            if not self.gate.drain(_DRAIN_SECONDS):
                raise DiskError(
                    f"the map of {str(self.directory)!r} has to be resized, but a value has "
                    f"been decoded or written for more than {_DRAIN_SECONDS:g} s; try again"
                )
            if self._env is not None:
                self._env.set_mapsize(map_size)
        except lmdb.Error as error:
            raise self._failed(error) from error
        finally:
            self._maintainer = 0
            if self._env is not None:
                self.gate.open()

    def _failed(self, error: Exception) -> DiskError:
        import lmdb

        advice = ""
        if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)):
            advice = ". The file is damaged; it is a cache: remove the directory to start afresh"
        return DiskError(f"LMDB cannot use {str(self.directory)!r}: {error}{advice}")


_registry: dict[tuple[int, int], Environment] = {}
_registry_lock = threading.RLock()
_watching_forks = False


def acquire(directory: Path, map_size: int) -> Environment:
    """Open the directory's environment, or share the one that is open in this process.

    Raises:
        DiskError: the directory, its owner, its format or the disk forbid it.
    """
    with _registry_lock:
        _watch_forks()
        identity = prepare(directory)
        environment = _registry.get(identity)
        if environment is not None and not environment.in_place():
            del _registry[identity]
            environment = None
        if environment is None:
            environment = _registry[identity] = Environment(directory, map_size)
        else:
            environment.need_map(map_size)
        environment.users += 1
        return environment


def release(environment: Environment) -> None:
    """Give a shared environment back; the last one closes it."""
    with _registry_lock:
        environment.users -= 1
        if environment.users:
            return
        closed = True
        try:
            closed = environment.close()
        finally:
            if closed:
                for identity, known in list(_registry.items()):
                    if known is environment:
                        del _registry[identity]


def _watch_forks() -> None:
    global _watching_forks
    if not _watching_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )
        _watching_forks = True


def _before_fork() -> None:
    _registry_lock.acquire()
    for environment in _registry.values():
        environment.before_fork()


def _after_fork_in_parent() -> None:
    for environment in _registry.values():
        environment.after_fork_in_parent()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    for environment in _registry.values():
        environment.after_fork_in_child()
