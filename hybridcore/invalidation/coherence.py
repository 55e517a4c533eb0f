"""One process's part in keeping the memory of all processes in step with a directory."""

from __future__ import annotations

from contextlib import contextmanager
from random import getrandbits
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from hybridcore._native import Generation
from hybridcore.disk.keys import decode_key, encode_key
from hybridcore.invalidation.clock import HybridClock
from hybridcore.invalidation.log import (
    FLOOR,
    MERGED,
    NO_BARRIER,
    Barrier,
    Log,
    name_of_tag,
    tag_of_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hybridcore.disk.environment import Environment
    from hybridcore.invalidation.log import Entry, Scope, Txn


class Follower(Protocol):
    """Who holds copies and is told what happened to them elsewhere."""

    def changed(self, key: Any) -> None:
        """Another process changed or deleted the key."""

    def changed_from(self, prefix: bytes) -> None:
        """Another process deleted the keys whose forms begin so."""

    def doubt(self) -> None:
        """A barrier was raised: what has tags has to be confirmed."""

    def cleared(self, *, hard: bool) -> None:
        """Everything was invalidated, or nobody knows what was."""


class Coherence:
    """Follows the log of a directory, and appends to it.

    ``generation`` is what a hit in memory compares. When it has moved, `catch_up` reads what the
    others did since, and tells the follower; what this process did itself it knows.
    """

    def __init__(self, environment: Environment, clock: HybridClock | None = None) -> None:
        self.generation = Generation()
        self.node = getrandbits(63)
        self.clock = clock or HybridClock()
        self.log = Log()
        self._environment = environment
        self._lock = RLock()
        self._barriers: dict[bytes, Barrier] = {}
        self._follower: Follower | None = None
        self.start()

    def start(self) -> None:
        """Know what there is; also after a fork."""
        self._lock = RLock()
        environment = self._environment
        mapped = environment.marks.shared
        self.generation.share(mapped, environment.marks.generation_offset)
        with self._reading() as txn:
            self._barriers = self.log.all_barriers(txn)
            self.generation.caught_up(max(self.log.last(txn), self.generation.announced))

    def follow(self, follower: Follower) -> None:
        """Tell this one what happens elsewhere."""
        self._follower = follower

    def close(self) -> None:
        """Let go of the directory."""
        self.generation.rest()

    # -- what others did --------------------------------------------------------------------

    def catch_up(self) -> bool:
        """Read what the log has beyond what was read; returns whether there was anything."""
        if self.generation.is_current:
            return False
        with self._lock:
            seen = self.generation.seen
            with self._reading() as txn:
                last = max(self.log.last(txn), self.generation.announced)
                if last == seen:
                    self.generation.caught_up(seen)
                    return False
                entries = self._since(txn, seen, last)
            # Before the follower is told: what it stores from now on is checked anew.
            self._apply(entries)
            self.generation.caught_up(last)
        return True

    def _since(self, txn: Txn, seen: int, last: int) -> list[Entry] | None:
        """What the log has after a number; None: it does not have all of it any more."""
        entries = list(self.log.since(txn, seen))
        if len(entries) == last - seen:
            return entries
        self._barriers = self.log.all_barriers(txn)
        return None

    def _apply(self, entries: list[Entry] | None) -> None:
        follower = self._follower
        if entries is None:
            if follower is not None:
                follower.cleared(hard=True)
            return
        doubts = False
        for entry in entries:
            doubts |= self._note_barriers(entry)
            if follower is None or entry.node == self.node:
                continue
            if entry.scope == "all":
                follower.cleared(hard=entry.hard)
            elif entry.scope == "prefix":
                for prefix in entry.keys:
                    follower.changed_from(prefix)
            else:
                for form in entry.keys:
                    follower.changed(decode_key(form))
        if doubts and follower is not None:
            follower.doubt()

    def _note_barriers(self, entry: Entry) -> bool:
        names = [FLOOR] if entry.scope == "all" else [name_of_tag(tag) for tag in entry.tags]
        for name in names:
            before = self._barriers.get(name, NO_BARRIER)
            if entry.number > before.number:
                self._barriers[name] = before.raised(entry.number, entry.version, hard=entry.hard)
        return bool(names)

    # -- what is valid ----------------------------------------------------------------------

    def barriers_of(self, tags: Iterable[str]) -> list[Barrier]:
        """The barriers that an entry with these tags is held against."""
        merged = self._barriers.get(MERGED, NO_BARRIER)
        found = [self._barriers.get(name_of_tag(tag), merged) for tag in tags]
        found.append(self._barriers.get(FLOOR, NO_BARRIER))
        return found

    def in_memory(self, number: int, tags: Iterable[str]) -> bool | None:
        """Whether an entry held since a number is valid; None: it may be served as stale."""
        valid: bool | None = True
        for barrier in self.barriers_of(tags):
            if number < barrier.hard_number:
                return False
            if number < barrier.number:
                valid = None
        return valid

    def on_disk(self, version: int, tags: Iterable[str]) -> bool | None:
        """Whether a record of a version is valid; None: it may be served as stale."""
        valid: bool | None = True
        for barrier in self.barriers_of(tags):
            if version <= barrier.hard_version:
                return False
            if version <= barrier.version:
                valid = None
        return valid

    # -- what this process does -------------------------------------------------------------

    def change(
        self,
        form: bytes,
        cause: str,
        *,
        since: int | None = None,
        tags: tuple[str, ...] = (),
        depends_on: Iterable[Any] = (),
    ) -> Change:
        """What has to be done in the transaction that changes a key.

        Args:
            since: of a load: call it off if the log has something newer than this number that
                covers the key or its tags.
        """
        forms = [encode_key(key) for key in depends_on]
        return Change(self, form, cause, since, tags, forms)

    def append(
        self,
        scope: Scope,
        *,
        keys: tuple[bytes, ...] = (),
        tags: tuple[str, ...] = (),
        hard: bool = True,
        cause: str,
        within: Callable[[Txn], object] | None = None,
    ) -> int:
        """Invalidate in a transaction of its own, and announce it; returns the entry's number."""

        def work(txn: Txn) -> int:
            self.bind()
            if within is not None:
                within(txn)
            return self.log.append(
                txn,
                scope,
                stamp=self.clock.stamp(),
                node=self.node,
                version=self._version(txn),
                keys=keys,
                tags=tags,
                hard=hard,
                cause=cause,
                after=self.generation.announced,
            )

        number = self._environment.write(work)
        self.announce(number)
        return number

    def announce(self, number: int) -> None:
        """Tell the others, after the commit; what is ours alone needs no reading."""
        generation = self.generation
        with self._lock:
            if generation.seen == number - 1:
                with self._reading() as txn:
                    entries = list(self.log.since(txn, number - 1))
                self._apply([entry for entry in entries if entry.number == number])
                generation.caught_up(number)
            else:
                generation.announce(number)

    def bind(self) -> None:
        """Use the databases as they are open now."""
        databases: Any = self._environment  # which has an attribute for each of its layout
        self.log.bind(databases.log, databases.barriers)

    def _version(self, txn: Txn) -> int:
        """The version of the newest record."""
        return int.from_bytes(txn.get(b"tally", b"", self._environment.main)[:8], "little")

    @contextmanager
    def _reading(self) -> Iterator[Txn]:
        with self._environment.reading() as txn:
            self.bind()
            yield txn


class Change:
    """The part of a change that is in the transaction of the data; see `Coherence.change`."""

    __slots__ = ("_cause", "_coherence", "_depends_on", "_form", "_since", "_tags", "number")

    def __init__(
        self,
        coherence: Coherence,
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
        self.number: int | None = None
        """Of the entry in the log, when others are told."""

    def may_be(self, txn: Txn) -> bool:
        """Before the data is changed: whether it may be, as nothing newer covers it."""
        coherence = self._coherence
        coherence.bind()
        self.number = None
        return self._since is None or not coherence.log.covers(
            txn, self._since, self._form, self._tags
        )

    def made(self, txn: Txn, version: int, *, is_new: bool, differs: bool) -> None:
        """After the data was changed; ``version`` is that of the newest record before.

        Others are told of what the application changed, and of a load that brought another value
        than there was: of one that is new here they may hold no copy that is older than their ttl
        allows.
        """
        coherence, log = self._coherence, self._coherence.log
        if self._depends_on:
            log.depend(txn, self._depends_on)
        if self._since is not None and (is_new or not differs):
            return
        depended = log.is_depended_on(txn, self._form)
        self.number = log.append(
            txn,
            "key",
            stamp=coherence.clock.stamp(),
            node=coherence.node,
            version=version,
            keys=(self._form,),
            tags=(tag_of_key(self._form),) if depended else (),
            cause=self._cause,
            after=coherence.generation.announced,
        )

    def announce(self) -> None:
        """After the commit."""
        if self.number is not None:
            self._coherence.announce(self.number)
