"""Keeping copies in step: what was invalidated here, and in the other processes of a directory."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import proxy

from hybridcore._native import Generation
from hybridcore.errors import DiskError
from hybridcore.invalidation.barriers import FLOOR, MERGED, NO_BARRIER, Barrier
from hybridcore.invalidation.clock import HybridClock
from hybridcore.stats import CoherenceStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hybridcore.disk.environment import Environment
    from hybridcore.invalidation.log import Entry, Scope, Txn
    from hybridcore.invalidation.retention import Retention
    from hybridcore.stats import BusStats

MOST_KEPT = 1000
"""Entries that a cache without a disk keeps to be looked at."""


def _new_node() -> int:
    return int.from_bytes(os.urandom(8), "big") >> 1


class Follower(Protocol):
    """Who holds copies and is told what happened to them elsewhere."""

    def changed(self, key: Any) -> None:
        """Another process changed or deleted the key."""

    def changed_from(self, prefix: Any) -> None:
        """Another process deleted the keys that begin so."""

    def doubt(self) -> None:
        """A barrier was raised: what has tags has to be confirmed."""

    def cleared(self, *, hard: bool) -> None:
        """Everything was invalidated, or nobody knows what was."""

    def is_loading(self) -> bool:
        """Whether there are loads under way."""


class Coherence:
    """What was invalidated in one process, which has its copies for itself.

    Invalidations are numbered as they happen. A copy that was begun at a number is valid unless one
    of its tags was invalidated after it: a *barrier* is the number at which that was.
    """

    is_shared = False
    """Whether there may be others to hear of."""

    def __init__(self, follower: Follower) -> None:
        self.generation = Generation()
        """What a hit in memory compares: not current when others have invalidated something."""
        self.node = _new_node()
        self.clock = HybridClock()
        self._follower: Follower = proxy(follower)
        self._lock = RLock()
        self._barriers: dict[Any, Barrier] = {}
        self._depended: set[Any] = set()
        self._entries: list[Entry] = []
        self.buses: dict[str, Callable[[], BusStats]] = {}
        """What tells of each bus that is connected."""
        self._told = self._followed = self._missed = 0
        self._changed: dict[Any, int] = {}  # what was changed lately, and when
        self._forgotten = 0  # what was changed before is not known any more

    def start_afresh(self) -> None:
        """After a fork: the child is a node of its own, which its parent has to follow."""
        self._lock = RLock()
        self.node = _new_node()

    def stats(self) -> CoherenceStats:
        """A snapshot of what was counted."""
        buses = {name: stats() for name, stats in list(self.buses.items())}
        return CoherenceStats(
            self._told,
            self._followed,
            self._missed,
            len(self._barriers),
            self._behind(),
            buses,
            max([self._lag(), *(bus.lag for bus in buses.values())]),
        )

    def _lag(self) -> float:
        """Seconds since this process knew all invalidations of its host."""
        return 0.0

    def _behind(self) -> int:
        """Entries that others added and nobody here has looked at."""
        return 0

    def catch_up(self) -> bool:
        """Learn what the others did since; returns whether there was anything."""
        return False

    def close(self) -> None:
        """Follow nobody any more."""

    # -- what is valid ----------------------------------------------------------------------

    def in_memory(self, number: int, tags: Iterable[Any]) -> bool | None:
        """Whether an entry begun at a number is valid; None: it may be served as stale."""
        valid: bool | None = True
        for barrier in self._against(tags):
            if number < barrier.hard_number:
                return False
            if number < barrier.number:
                valid = None
        return valid

    def on_disk(self, version: int, tags: Iterable[Any]) -> bool | None:
        """Whether a record of a version is valid; None: it may be served as stale."""
        valid: bool | None = True
        for barrier in self._against(tags):
            if version <= barrier.hard_version:
                return False
            if version <= barrier.version:
                valid = None
        return valid

    def tag_of(self, key: Any) -> Any:
        """The tag that whatever depends on a key carries."""
        return "key", key

    def _against(self, tags: Iterable[Any]) -> Iterator[Barrier]:
        if not self._barriers:
            return
        merged = self._barriers.get(MERGED, NO_BARRIER)
        for tag in tags:
            yield self._barriers.get(self._name(tag), merged)
        yield self._barriers.get(FLOOR, NO_BARRIER)

    def _name(self, tag: Any) -> Any:
        return "tag", tag

    # -- what this process does -------------------------------------------------------------

    def change(
        self,
        key: Any,
        cause: str,
        *,
        since: int | None = None,
        tags: tuple[Any, ...] = (),
        depends_on: tuple[Any, ...] = (),
    ) -> Change | None:
        """What is to be done along with a change of a key; None: nothing.

        Args:
            since: of a load: call it off if something after this number covers the key or its tags.
        """
        if depends_on or key in self._depended or (since is None and self._follower.is_loading()):
            return LocalChange(self, key, cause, since, depends_on)
        return None

    def invalidate(
        self,
        scope: Scope,
        *,
        keys: tuple[Any, ...] = (),
        tags: tuple[Any, ...] = (),
        hard: bool = True,
        cause: str,
    ) -> int:
        """Raise the barriers of tags, or of everything; returns the number of the invalidation."""
        from hybridcore.invalidation.log import Entry

        with self._lock:
            number = self.generation.seen + 1
            stamp = self.clock.stamp()
            at = time.time()
            entry = Entry(number, at, stamp, self.node, scope, keys, tags, hard, 0, cause)
            self._entries.append(entry)
            del self._entries[:-MOST_KEPT]
            self._apply([entry])
            self.generation.caught_up(number)
            self._told += 1
        return number

    def note_change(self, key: Any, cause: str) -> None:
        """A key was changed: invalidate what depends on it, and what is made of it just now."""
        with self._lock:
            if key in self._depended:
                self.invalidate("key", keys=(key,), tags=(self.tag_of(key),), cause=cause)
            else:
                self.generation.caught_up(self.generation.seen + 1)
            self._changed.pop(key, None)
            self._changed[key] = self.generation.seen
            while len(self._changed) > MOST_KEPT:
                self._forgotten = self._changed.pop(next(iter(self._changed)))

    def depend(self, keys: Iterable[Any], since: int | None) -> bool:
        """Note that something depends on these keys; False if one was changed after a number."""
        with self._lock:
            self._depended.update(keys)
            self.generation.minds_loads = True
            return since is None or (
                since >= self._forgotten and all(self._changed.get(key, 0) <= since for key in keys)
            )

    def entries(self, since: int = 0, last: int | None = None) -> list[Entry]:
        """The newest invalidations after a number, oldest first, as far as they are kept."""
        with self._lock:
            start = 0 if last is None else max(0, len(self._entries) - last)
            newest = self._entries[start:]
            return [entry for entry in newest if entry.number > since]

    def _apply(self, entries: list[Entry]) -> None:
        """Note barriers and tell the follower of what it did not do itself."""
        doubts = False
        for entry in entries:
            doubts |= self._note(entry)
            if entry.node == self.node:
                continue
            self._followed += 1
            if entry.scope == "all":
                self._follower.cleared(hard=entry.hard)
            elif entry.scope == "prefix":
                self._follower.changed_from(self.key_of(entry.keys[1]))
            else:
                for form in entry.keys:
                    self._follower.changed(self.key_of(form))
        if doubts:
            self._follower.doubt()

    def _note(self, entry: Entry) -> bool:
        names = [FLOOR] if entry.scope == "all" else [self._name(tag) for tag in entry.tags]
        with self._lock:
            for name in names:
                before = self._barriers.get(name, NO_BARRIER)
                if entry.number > before.number:
                    self._barriers[name] = before.raised(
                        entry.number, entry.version, hard=entry.hard
                    )
                    self.generation.raised = True
        return bool(names)

    def key_of(self, form: Any) -> Any:
        """The key that an entry of the log names."""
        return form


class Change(Protocol):
    """What else a change of a key does, in the transaction of the data or after it."""

    @property
    def off(self) -> bool:
        """Whether it was called off: something newer covers the key or its tags."""

    def may_be(self, txn: Any, /) -> bool:
        """Before the data is changed: whether it may be."""

    def made(self, txn: Any, version: int, /, *, is_new: bool, differs: bool) -> None:
        """After the data was changed; ``version`` is the last that was given before."""

    def announce(self) -> None:
        """After the commit."""

    def alone(self, *, differs: bool = True) -> None:
        """In place of all these, where no data is changed on disk."""


class LocalChange:
    """What a change of a key does where there is no disk."""

    def __init__(
        self,
        coherence: Coherence,
        key: Any,
        cause: str,
        since: int | None,
        depends_on: tuple[Any, ...],
    ) -> None:
        self._coherence = coherence
        self._key = key
        self._cause = cause
        self._since = since
        self._depends_on = depends_on
        self.off = False

    def alone(self, *, differs: bool = True) -> None:
        """After it was made, or before that of a load, which it may call off."""
        coherence = self._coherence
        if differs:
            coherence.note_change(self._key, self._cause)
        if self._depends_on:
            self.off = not coherence.depend(self._depends_on, self._since)

    def announce(self) -> None:
        """It was made on disk."""

    def may_be(self, txn: Any, /) -> bool:
        """Whether the change may be."""
        return True

    def made(self, txn: Any, version: int, /, *, is_new: bool, differs: bool) -> None:
        """It was made on disk."""


class SharedCoherence(Coherence):
    """What was invalidated in any process that has a directory open.

    All is in the directory's log. Whoever adds to it moves a word in mapped memory, which is what
    a hit in memory compares; when it has moved, `catch_up` reads the log.
    """

    is_shared = True

    def __init__(
        self, follower: Follower, environment: Environment, retention: Retention | None = None
    ) -> None:
        from hybridcore.disk.keys import decode_key, encode_key
        from hybridcore.invalidation.log import Log, name_of_tag, tag_of_key

        super().__init__(follower)
        self.on_announce: Callable[[], None] | None = None
        """Called after each commit that the log has an entry of."""
        self.log = Log(retention)
        self._environment = environment
        self._in_step_at = time.monotonic()
        self._encode, self._decode = encode_key, decode_key
        self._name_of_tag, self._tag_of_key = name_of_tag, tag_of_key
        marks = environment.marks
        self.generation.share(marks.shared, marks.generation_offset)
        announced = self.announced
        with self._reading() as txn:
            self._know(self.log.all_barriers(txn))
            self.generation.caught_up(max(self.log.last(txn), announced))

    def close(self) -> None:
        self.generation.rest()

    def catch_up(self) -> bool:
        generation = self.generation
        if generation.is_current:
            return False
        seen = generation.seen
        announced = self.announced  # before the snapshot, which has all that was announced
        try:
            with self._reading() as txn:
                last = max(self.log.last(txn), announced)
                entries = list(self.log.since(txn, seen))
                barriers = None if len(entries) == last - seen else self.log.all_barriers(txn)
        except DiskError:
            return False  # it is looked at again with every lookup, until the disk works
        if barriers is None:
            self._apply(entries)
        else:  # the log does not go back so far
            self._missed += 1
            self._know(barriers)
            self._follower.cleared(hard=True)
            self._follower.doubt()
        generation.caught_up(last)
        return last > seen

    def _behind(self) -> int:
        return max(0, self.announced - self.generation.seen)

    def _lag(self) -> float:
        now = time.monotonic()
        if self._behind():
            self.catch_up()  # nobody may have looked anything up since
        if not self._behind():
            self._in_step_at = now
        return now - self._in_step_at

    def change(
        self,
        key: Any,
        cause: str,
        *,
        since: int | None = None,
        tags: tuple[Any, ...] = (),
        depends_on: tuple[Any, ...] = (),
    ) -> Change:
        forms = [self._encode(other) for other in depends_on]
        return SharedChange(self, self._encode(key), cause, since, tags, forms)

    def invalidate(
        self,
        scope: Scope,
        *,
        keys: tuple[Any, ...] = (),
        tags: tuple[Any, ...] = (),
        hard: bool = True,
        cause: str,
    ) -> int:
        """As `Coherence.invalidate`; ``keys`` are forms. One transaction."""
        number = self._environment.write(
            lambda txn: self.append(txn, scope, keys=keys, tags=tags, hard=hard, cause=cause)
        )
        self.announce(number)
        return number

    def append(
        self,
        txn: Txn,
        scope: Scope,
        *,
        keys: tuple[bytes, ...] = (),
        tags: tuple[str, ...] = (),
        hard: bool = True,
        cause: str,
        node: int | None = None,
        stamp: int | None = None,
    ) -> int:
        """Add to the log, in a transaction; `announce` what is returned after it."""
        self.bind()
        return self.log.append(
            txn,
            scope,
            stamp=self.clock.stamp() if stamp is None else stamp,
            node=self.node if node is None else node,
            version=int.from_bytes(txn.get(b"tally", b"", self._environment.main)[:8], "little"),
            keys=keys,
            tags=tags,
            hard=hard,
            cause=cause,
            after=self.announced,
        )

    def trim(self, retention: Retention) -> int:
        """Remove what the log need not keep; returns how many entries."""

        def work(txn: Txn) -> int:
            self.bind()
            return self.log.trim(txn, retention, 1024)

        removed = 0
        while some := self._environment.write(work):
            removed += some
        return removed

    def only_puts(self, since: int, key: Any, tags: Iterable[Any]) -> bool:
        """Whether what happened to a key and its tags after a number is that others were put."""
        from hybridcore.invalidation.log import covers

        form, wanted = self._encode(key), set(tags)
        entries = self.entries(since)
        if len(entries) < max(self.generation.seen, self.announced) - since:
            return False
        return all(
            entry.cause == "put" and entry.keys == (form,)
            for entry in entries
            if covers(entry, form, wanted)
        )

    def announce(self, number: int) -> None:
        """Tell the others, after the commit. What is ours alone we need not read."""
        self._told += 1
        if self.on_announce is not None:
            self.on_announce()
        generation = self.generation
        if generation.seen == number - 1 and self._is_ours(number):
            generation.caught_up(number)
        else:
            generation.announce(number)

    def _know(self, barriers: dict[bytes, Barrier]) -> None:
        with self._lock:
            self._barriers = dict(barriers)
            self.generation.raised = bool(barriers)

    def _is_ours(self, number: int) -> bool:
        """Note the barriers of an entry that was added just now."""
        with suppress(DiskError), self._reading() as txn:
            entries = list(self.log.since(txn, number - 1))
            if entries and entries[0].number == number and entries[0].node == self.node:
                self._apply(entries[:1])
                return True
        return False

    def entries(self, since: int = 0, last: int | None = None) -> list[Entry]:
        with self._reading() as txn:
            if last is not None:
                since = max(since, self.log.last(txn) - last)
            return list(self.log.since(txn, since))

    def bind(self) -> None:
        """Use the databases as they are open now."""
        databases: Any = self._environment  # which has an attribute for each of its layout
        self.log.bind(databases.log, databases.barriers)

    def tag_of(self, key: Any) -> Any:
        return self._tag_of_key(self._encode(key))

    def _name(self, tag: Any) -> Any:
        return self._name_of_tag(tag)

    def key_of(self, form: Any) -> Any:
        return self._decode(form)

    @property
    def announced(self) -> int:
        """The number announced last, as far as that can be known."""
        announced = self.generation.announced
        return 0 if announced == 2**64 - 1 else announced

    @contextmanager
    def _reading(self) -> Iterator[Txn]:
        with self._environment.reading() as txn:
            self.bind()
            yield txn


class SharedChange:
    """What a change of a key does in the transaction of the data."""

    __slots__ = (
        "_cause",
        "_coherence",
        "_depends_on",
        "_form",
        "_number",
        "_since",
        "_tags",
        "off",
    )

    def __init__(
        self,
        coherence: SharedCoherence,
        form: bytes,
        cause: str,
        since: int | None,
        tags: tuple[str, ...],
        depends_on: list[bytes],
    ) -> None:
        self._coherence = coherence
        self._form = form
        self._cause = cause
        self._since = since
        self._tags = tags
        self._depends_on = depends_on
        self._number = 0
        self.off = False
        """Whether it was called off: something newer covers the key or its tags."""

    def may_be(self, txn: Any, /) -> bool:
        """Before the data is changed: whether it may be."""
        coherence = self._coherence
        coherence.bind()
        self._number = 0
        self.off = self._since is not None and coherence.log.covers(
            txn, self._since, self._form, self._tags, coherence.announced
        )
        return not self.off

    def made(self, txn: Any, version: int, /, *, is_new: bool, differs: bool) -> None:
        """After the data was changed.

        Others are told of what the application changed, and of a load that brought another value
        than there was. Of one that is new here they hold no copy that is older than its ttl allows.
        """
        coherence = self._coherence
        if self._depends_on:
            coherence.log.depend(txn, self._depends_on)
        if self._since is not None and (is_new or not differs):
            return
        tags: tuple[str, ...] = ()
        if coherence.log.is_depended_on(txn, self._form):
            from hybridcore.invalidation.log import tag_of_key

            tags = (tag_of_key(self._form),)
        self._number = coherence.append(
            txn, "key", keys=(self._form,), tags=tags, cause=self._cause
        )

    def announce(self) -> None:
        """After the commit."""
        if self._number:
            self._coherence.announce(self._number)

    def alone(self, *, differs: bool = True) -> None:
        """In a transaction of its own."""
        if not (differs or self._depends_on):
            return

        def work(txn: Any) -> None:
            if self.may_be(txn):
                self.made(txn, 0, is_new=False, differs=differs)

        self._coherence._environment.write(work)
        self.announce()
