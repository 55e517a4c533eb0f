"""An open LMDB environment: transactions, what goes wrong with them, and who may be inside.

It is closed and opened again around forks, when it is compacted, and when somebody wants it to
be more durable; the gate keeps everybody out meanwhile.

Imports lmdb at use.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections import deque
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore._native.gate import Gate
from hybridcore._native.pages import Map
from hybridcore.disk.directory import (
    DATA_FILE,
    check_names,
    check_whole,
    data_file,
    discard,
    set_aside,
)
from hybridcore.disk.durability import State, is_blank, stronger
from hybridcore.disk.layout import DISK, Layout
from hybridcore.disk.marks import open_marks
from hybridcore.disk.opening import failure, look_inside, open_lmdb
from hybridcore.errors import ClosedError, DiskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedRandom
    from pathlib import Path

    import lmdb

    from hybridcore.disk.durability import Durability
    from hybridcore.disk.writer import Batch

T = TypeVar("T")

_DRAIN_SECONDS = 5.0
_FORK_DRAIN_SECONDS = 2.0
_IN_PLACE_SECONDS = 0.1
"""A removed or replaced directory is noticed by the first write after so long."""
_SPOILED_SECONDS = 10.0
"""For another process that discards entries, or lets them be discarded."""
_READERS_SECONDS = 10.0
"""The slots of dead readers are cleared by the first write after so long."""


class MapFullError(DiskError):
    """The map has no free page left; the transaction changed nothing."""


class NotAloneError(DiskError):
    """Somebody else uses the directory, or does not leave it; nothing was changed."""


class Environment:
    """An open LMDB environment; each database of its layout is an attribute of that name.

    ``waiting`` are batches on their way to the next commit, ``turn`` is held by who commits.
    """

    data: lmdb._Database
    order: lmdb._Database
    expiry: lmdb._Database
    meta: lmdb._Database
    main: lmdb._Database
    """The one that lists the others."""

    def __init__(
        self, directory: Path, map_size: int, durability: Durability, layout: Layout = DISK
    ) -> None:
        self.directory = directory
        self.layout = layout
        self.users = 0
        self.gate = Gate(_admission_to(self))
        self.waiting: deque[Batch] = deque()
        self.turn = threading.Lock()
        self.discarded = False
        """Whether entries were found that a power failure may have spoiled, and removed."""
        self.damaged = 0
        """Pages, and records on pages of their own, that walks had to leave out."""
        self._lock = threading.RLock()
        self._map_size = map_size
        self._env: lmdb.Environment | None = None
        self._file: BufferedRandom | None = None
        self._inherited: lmdb.Environment | None = None
        self._maintainer = 0
        self._checked = self._readers_checked = 0.0
        if is_blank(directory) and check_whole(directory):
            look_inside(directory, layout)
        check_names(directory)
        self._state = State(directory, durability)
        try:
            self._join()
            self._open()
            if layout.has_marks:
                self.marks = open_marks(directory, map_size)
        except BaseException:
            self._detach()
            self._state.close()
            raise

    def write(self, work: Callable[[Any], T], *, growth: float = 0.0, buffers: bool = True) -> T:
        """Run ``work`` in one write transaction and return what it returns.

        What it reads there are memoryviews, or bytes without ``buffers``.

        Work that frees space may need some first. When the map is full it grows, by at most the
        share ``growth`` of the size it was opened with.

        Raises:
            MapFullError: no page is left; nothing was written.
            DiskError: LMDB or the disk failed; nothing was written.
        """
        while True:
            try:
                with (
                    self.gate,
                    self.current().begin(self.data, None, True, buffers) as txn,  # type: ignore[call-overload]
                ):
                    self.before_write()
                    return work(txn)
            except Exception as error:
                self._recover_write(error, growth)

    def before_write(self) -> None:
        """Make sure of the directory and its state; at the beginning of a write transaction."""
        now = time.monotonic()
        if now >= self._checked + _IN_PLACE_SECONDS:
            self._check_in_place_again(now)
        self._state.before_write(self.current())

    def _recover_write(self, error: Exception, growth: float) -> None:
        """Return when the write that failed is worth another try."""
        import lmdb

        if not isinstance(error, lmdb.MapFullError):
            self.recover(error)
        elif not (growth and self._grow(growth)):
            raise MapFullError(
                f"the map of {str(self.directory)!r} is full ({self._map_size} bytes)"
            ) from error

    @contextmanager
    def reading(self, *, buffers: bool = True) -> Iterator[lmdb.Transaction[Any]]:
        """A read transaction, for what must be quick: it pins the pages it sees."""
        import lmdb

        while True:
            with self.gate:
                try:
                    txn: Any = self.current().begin(None, None, False, buffers)  # type: ignore[call-overload]
                except lmdb.Error as error:
                    failed = error
                else:
                    try:
                        with txn:
                            yield txn
                    except lmdb.Error as error:
                        raise self.failed(error) from error
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
            with self.gate:
                cleared = self.current().reader_check()
                slots = self.current().info()["max_readers"]
            if cleared == 0:
                raise DiskError(
                    f"all {slots} reader slots of {str(self.directory)!r} are taken by "
                    "live processes; open the directory in fewer of them"
                ) from error
        elif isinstance(error, lmdb.Error) and not isinstance(error, lmdb.BadRslotError):
            raise self.failed(error) from error
        elif not isinstance(error, lmdb.Error):
            raise error

    def pinned_by(self, behind: int) -> int | None:
        """The process whose reader is more than so many transactions behind, if there is one."""
        with self.gate:
            env = self.current()
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
        """Wait until all that was written is on the disk itself; of scratch nothing need be."""
        if self._state.durability != "none":
            self.while_nobody_writes(lambda: self._state.settle(self.current()))

    def settle(self) -> None:
        """Wait until the commits of a layout that ``settles_later`` are sure to survive."""
        if self._state.durability == "power":
            with self.gate:
                self.current().sync(True)

    def while_nobody_writes(self, work: Callable[[], T]) -> T:
        """Have the writers of all processes wait for ``work``."""
        import lmdb

        while True:
            try:
                with self.gate:
                    self.check_in_place()
                    with self.current().begin(write=True):
                        return work()
            except lmdb.Error as error:
                self.recover(error)

    def space(self) -> dict[str, int]:
        """Sizes of the file and the map in bytes, and how many readers are registered."""
        with self.gate:
            env = self.current()
            info = env.info()
            page = env.stat()["psize"]
        return {
            "file_bytes": self.file_bytes(),
            "map_bytes": info["map_size"],
            "allocated_bytes": (info["last_pgno"] + 1) * page,
            "readers": info["num_readers"],
            "max_readers": info["max_readers"],
        }

    def file_bytes(self) -> int:
        """Size of the data file."""
        try:
            return (self.directory / DATA_FILE).stat().st_size
        except OSError:
            return 0

    @contextmanager
    def mapped(self) -> Iterator[mmap]:
        """The data file as it is now, to be read without LMDB, but behind the gate."""
        assert self._file is not None
        with mmap(self._file.fileno(), 0, access=ACCESS_READ) as memory:
            yield memory

    def in_place(self) -> bool:
        """Whether the file that was opened is still the one in the directory."""
        return data_file(self.directory) == self.identity

    def check_in_place(self) -> None:
        """Raise a DiskError when the directory or its data file is another one now."""
        if not self.in_place():
            raise DiskError(
                f"{str(self.directory / DATA_FILE)!r} was removed or replaced while it was open. "
                "Close the tier and open it again"
            )

    def need(self, map_size: int, durability: Durability) -> None:
        """Make the map at least so large, and lose no more than this mode loses."""
        with self._lock:
            if map_size > self._map_size:
                self._map_size = map_size
                if self._env is not None:
                    self._resize(map_size)
            durability = stronger(durability, self._state.durability)
            if durability != self._state.durability:
                with self._nobody_inside("opened anew"):
                    self._detach()
                    self._state.strengthen(durability)

    @contextmanager
    def alone(self, purpose: str, patience: float | None = None) -> Iterator[lmdb.Environment]:
        """LMDB for nobody else in this process or another; `swap` may be called within.

        Raises:
            NotAloneError: others have it open, or somebody in this process does not leave it.
        """
        with self._nobody_inside(purpose, patience):
            if self._env is None:
                self._open()
            try:
                if not self._state.claim():
                    raise NotAloneError(
                        f"{str(self.directory)!r} cannot be {purpose}: other processes have it "
                        "open. Close it there first"
                    )
                env = self.current()
                env.set_mapsize(0)  # adopt what others may have made of it
                self._map()
                yield env
            finally:
                self._state.share()
                if self._env is None:
                    self._open()

    def swap(self, exchange: Callable[[], None]) -> None:
        """Exchange the data file while `alone`."""
        env = self.current()
        with env.begin(write=True):
            self._state.mark()
        self._detach()
        exchange()

    # -- opening and closing --------------------------------------------------------------

    def _join(self) -> None:
        """Have the directory open among others, with nothing in it that cannot be trusted.

        Who finds something is alone or waits for who is, and takes over if that one dies.
        """
        deadline = time.monotonic() + _SPOILED_SECONDS
        while True:
            if self._state.claim():
                if self._state.durability == "none":
                    discard(self.directory)
                elif self._is_spoiled():
                    if self.layout.disposable:
                        discard(self.directory)
                    else:
                        set_aside(self.directory)
                    self.discarded = True
            self._state.share()
            if not self._is_spoiled():
                break
            if time.monotonic() > deadline:
                raise DiskError(
                    f"{str(self.directory)!r} may have been spoiled by a power failure, but a "
                    "process that has it open does not let its entries be discarded. End it"
                )
            time.sleep(0.002)
        if self.discarded:
            import logging

            logging.getLogger(__name__).warning(
                "%s the entries of %r: there were unsynced writes when the machine went down, so "
                "that its pages cannot be trusted",
                "discarded" if self.layout.disposable else "set aside",
                str(self.directory),
            )

    def _is_spoiled(self) -> bool:
        return self._state.is_spoiled and data_file(self.directory) is not None

    def _open(self) -> None:
        opened = open_lmdb(
            self.directory,
            self._map_size,
            self.layout,
            synced=self._state.durability == "power",
            begin=self._state.before_write,
        )
        for name, database in opened.databases.items():
            setattr(self, name, database)
        env, self._file, self.main = opened.env, opened.file, opened.main
        self._map_size = max(self._map_size, env.info()["map_size"])
        self.identity = data_file(self.directory)
        self._env = env
        self.gate.begin = env.begin
        self.gate.data = self.data
        self._map()
        self.gate.open()

    def _map(self) -> None:
        """Let readers look records up without py-lmdb, which trusts the sizes that pages tell."""
        self.gate.map = None
        if self._file is not None and sys.platform != "win32" and self.layout.has_marks:
            env = self.current()
            size = env.info()["map_size"]
            self.gate.map = Map(self._file.fileno(), size, env.stat()["psize"], b"data")

    def close(self) -> bool:
        """Close LMDB; False when somebody stays inside so long that it has to remain open.

        Who wrote syncs, and so does the last one where others could not.
        """
        import lmdb

        with self._lock:
            self.gate.close()
            if not self.gate.drain(_DRAIN_SECONDS):
                self.gate.open()
                return False
            try:
                if self._inherited is None and self.in_place():
                    self._settle_last()
            except lmdb.Error as error:
                raise self.failed(error) from error
            finally:
                self._detach()
                self._state.close()
            return True

    def _settle_last(self) -> None:
        """Sync before closing, if there is a reason."""
        if self._env is None and self._state.wrote:  # closed since by a fork
            self._open()
            self.gate.close()
        if self._env is not None and self._state.needs_settling():
            self._env.set_mapsize(0)  # adopt what others may have made of it
            with self._env.begin(write=True):  # nobody else writes now
                self._state.settle(self._env)

    def _detach(self) -> None:
        """Close LMDB, if it is open, behind a closed, drained gate."""
        self.gate.begin = self.gate.data = self.gate.map = None
        env, self._env = self._env, None
        if env is not None:
            env.close()
        self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

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
        self._state.after_fork_in_child()
        # What could not be closed is kept for ever: its destructor would take the parent's
        # reader slots away.
        self._inherited, self._env = self._env, None

    # -- maintenance ----------------------------------------------------------------------

    def _admit(self) -> None:
        """Wait in front of the closed gate; open LMDB again when a fork closed it."""
        with self._lock:
            if self._maintainer == threading.get_ident():
                raise DiskError(
                    f"{str(self.directory)!r} was used while this thread closes or resizes its "
                    "map, perhaps from a destructor"
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

    def current(self) -> lmdb.Environment:
        """The LMDB environment; only inside the gate is it sure to be there."""
        assert self._env is not None
        return self._env

    def _check_in_place_again(self, now: float) -> None:
        self._checked = 0.0
        self.check_in_place()
        self._checked = now
        if now >= self._readers_checked + _READERS_SECONDS:
            self._readers_checked = now
            self.current().reader_check()

    def _adopt_map_size(self) -> None:
        """Take over the larger map that another process has made."""
        with self._lock:
            self._resize(0)

    def _grow(self, most: float) -> bool:
        """Make the map an eighth larger; False when it has grown by that share already."""
        with self._lock:
            size = self.current().info()["map_size"]
            if size >= (1 + most) * self._map_size:
                return False
            self._resize(size + max(self._map_size // 8, 1 << 18) // 65536 * 65536)
            return True

    def _resize(self, map_size: int) -> None:
        import lmdb

        with self._nobody_inside("resized"):
            if self._env is not None:
                try:
                    self._env.set_mapsize(map_size)
                    self._map()
                except lmdb.Error as error:
                    raise self.failed(error) from error

    @contextmanager
    def _nobody_inside(self, purpose: str, patience: float | None = None) -> Iterator[None]:
        """The gate closed and nobody behind it."""
        patience = _DRAIN_SECONDS if patience is None else patience
        with self._lock:
            self._maintainer = threading.get_ident()
            self.gate.close()
            try:
                if not self.gate.drain(patience):
                    raise NotAloneError(
                        f"{str(self.directory)!r} has to be {purpose}, but a value has been "
                        f"decoded or written for more than {patience:g} s; try again"
                    )
                yield
            finally:
                self._maintainer = 0
                if self._env is not None:
                    self.gate.open()

    def failed(self, error: Exception) -> DiskError:
        """The error that tells of an error of LMDB."""
        return failure(self.directory, error)


def _admission_to(environment: Environment) -> Callable[[], None]:
    """What the gate calls when it is shut; it keeps no environment, which keeps the gate."""
    admit = weakref.WeakMethod(environment._admit)

    def enter() -> None:
        admits = admit()
        if admits is None:
            raise ClosedError("the disk tier was used after close()")
        admits()

    return enter
