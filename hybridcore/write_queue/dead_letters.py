"""Writes that will not come through by themselves: kept with their errors, replayed or purged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybridcore._native.writes import WritePacker
from hybridcore.errors import ClosedError, ConfigurationError, DecodeError, DiskError
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridcore._native.writes import Tally, Write
    from hybridcore.write_queue.durable import WriteQueue
    from hybridcore.write_queue.graves import Tombstone
    from hybridcore.write_queue.journal import Txn

_UNCHANGED: Any = object()
_AT_ONCE = 500
"""Letters that are read, replayed or purged in one transaction."""
_LOOK_AT_AGES = 3600.0
"""Seconds between two looks for letters that are too old, at most."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A write that died.

    - ``reason``: ``"attempts"`` (all were made), ``"permanent"`` (trying again does not help),
      ``"crashed"`` (each killed the process), ``"undecodable"``, ``"damaged"``, ``"shed"``
    - ``taken_at``, ``died_at``: seconds since the epoch
    - ``superseded``: whether a newer write of its key was taken since; it is not replayed then
    - ``value``: None where it cannot be decoded, for the reason ``unreadable``, and of a delete
    """

    id: int
    key: Any
    value: Any = field(repr=False)
    deletes: bool
    level: str
    reason: str
    error: str
    message: str
    traceback: str = field(repr=False)
    attempts: int
    taken_at: float
    died_at: float
    superseded: bool
    size: int
    unreadable: str = ""


Where = Callable[[DeadLetter], bool]


class DeadLetters:
    """The dead letters of a `WriteQueue`, oldest first; only retention and `purge` drop any."""

    def __init__(self, queue: WriteQueue) -> None:
        self._queue = queue
        self._aged_at = -math.inf
        self._on_replay: list[Callable[[DeadLetter], object]] = []

    def __len__(self) -> int:
        return self._queue.stats().dead

    def __iter__(self) -> Iterator[DeadLetter]:
        last = self._queue.taken_ever()  # one that is replayed may die again meanwhile
        letters = self.after(0, _AT_ONCE)
        while letters:
            yield from (letter for letter in letters if letter.id <= last)
            letters = self.after(letters[-1].id, _AT_ONCE) if letters[-1].id < last else []

    def after(self, number: int = 0, most: int = 100) -> list[DeadLetter]:
        """The letters with larger ids, at most so many."""
        with self._queue._environment.reading(buffers=False) as txn:
            self._bind()
            found = self._queue._journal.graves.after(txn, number, most)
            return [self._letter(txn, *each) for each in found]

    def get(self, number: int) -> DeadLetter | None:
        """The letter of this id, if there is one."""
        with self._queue._environment.reading(buffers=False) as txn:
            self._bind()
            found = self._queue._journal.graves.get(txn, number)
            return None if found is None else self._letter(txn, *found)

    def replay(
        self,
        number: int | None = None,
        *,
        where: Where | None = None,
        value: Any = _UNCHANGED,
        level: str | None = None,
        rate: float | None = None,
        force: bool = False,
    ) -> int:
        """Queue letters again, as new writes, and forget them; returns how many.

        Their values go as they were stored, also where this process cannot decode them.

        Args:
            number: of one letter; otherwise all.
            where: only those of which this is true.
            value: in the place of the one it died with.
            level: in the place of the one it had.
            rate: at most so many a second.
            force: also those that a newer write of their key has superseded, which it undoes.

        Raises:
            ConfigurationError: the rate is no finite number above 0, or there is no such level;
                nothing was queued.
            EncodeError: the value cannot be stored; nothing was queued.
        """
        if rate is not None and not 0 < rate < math.inf:
            raise ConfigurationError(
                f"rate is expected to be a number of letters a second above 0, got {rate!r}"
            )
        queue, done = self._queue, 0
        started = time.monotonic()
        for letter in self._chosen(number, where):
            if letter.reason == "damaged":
                continue
            if rate is not None:
                time.sleep(max(0.0, started + done / rate - time.monotonic()))
            said = queue._level.of(letter.key, level or letter.level)
            edited = None
            if value is not _UNCHANGED:
                edited = queue._encoding.pack(
                    letter.key, value, said, letter.deletes and value is None
                )
            if queue._committer.carry_out(self._moving(letter.id, edited, said, force)):
                done += 1
                queue._counts["queued"] += 1
                for tell in self._on_replay:
                    queue._drain.contained(tell, letter)
        queue._drain.wake()
        return done

    def purge(
        self,
        number: int | None = None,
        *,
        where: Where | None = None,
        older_than: Duration | None = None,
    ) -> int:
        """Forget letters for good; returns how many."""
        before = None if older_than is None else time.time() - seconds(older_than)
        numbers = [
            letter.id
            for letter in self._chosen(number, where)
            if before is None or letter.died_at < before
        ]
        return self._remove(numbers)

    def on_replay(self, tell: Callable[[DeadLetter], object]) -> None:
        """Have somebody told of each letter that is queued again by this object."""
        self._on_replay.append(tell)

    def came(self, numbers: Sequence[int]) -> None:
        """There are new letters: tell who wants to know, and keep within the bounds."""
        callbacks = self._queue._on_dead
        with suppress(ClosedError):  # they are still there when it is opened again
            for letter in map(self.get, numbers if callbacks else ()):
                for tell in callbacks if letter is not None else ():
                    self._queue._drain.contained(tell, letter)
        self.retain()

    def retain(self) -> None:
        """Purge what is older than ``keep_dead`` or beyond ``max_dead_bytes``, and log that.

        Ages are looked at now and then.
        """
        queue, (keep, most) = self._queue, self._queue._retention

        def shrink(txn: Txn, tally: Tally) -> int:
            return queue._journal.graves.shrink(txn, most, tally, _AT_ONCE)

        purged = 0
        with suppress(ClosedError, DiskError):  # it is looked at again
            while queue._tally.dead_bytes > most and (some := queue._committer.carry_out(shrink)):
                purged += some
            if self._aged_at + min(keep / 10, _LOOK_AT_AGES) <= time.monotonic():
                self._aged_at = time.monotonic()
                purged += self._remove(self._older(time.time() - keep))
        if purged:
            queue._logs.warning(
                "%d dead letters were purged: older than keep_dead, or beyond max_dead_bytes",
                purged,
            )

    def _older(self, horizon: float) -> list[int]:
        """Ids of those that died before."""
        found: list[int] = []
        last: int | None = 0
        while last is not None:
            with self._queue._environment.reading() as txn:
                self._bind()
                some, last = self._queue._journal.graves.older(txn, last, horizon, _AT_ONCE)
            found += some
        return found

    def _remove(self, numbers: list[int]) -> int:
        journal, removed = self._queue._journal, 0
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]

            def job(txn: Txn, tally: Tally, some: list[int] = some) -> int:
                return sum(journal.graves.remove(txn, number, tally) for number in some)

            removed += self._queue._committer.carry_out(job)
        return removed

    def _moving(
        self, number: int, edited: Write | None, level: int, force: bool
    ) -> Callable[[Txn, Tally], bool]:
        queue, journal = self._queue, self._queue._journal

        def job(txn: Txn, tally: Tally) -> bool:
            found = journal.graves.get(txn, number)
            if found is None or (journal.graves.is_superseded(txn, found[0]) and not force):
                return False  # somebody else was faster, or the key was written since
            try:
                key = queue._encoding.key(found[0].key)
            except DecodeError:
                return False
            write = edited or _as_stored(key, *found, level)
            write.mono, write.wall = queue._clock(), time.time_ns()
            journal.graves.remove(txn, number, tally)
            journal.accept(txn, [write], tally, again=number)
            return True

        return job

    def _chosen(self, number: int | None, where: Where | None) -> Iterator[DeadLetter]:
        letters = iter(self)
        if number is not None:
            letter = self.get(number)
            letters = iter(() if letter is None else (letter,))
        return letters if where is None else filter(where, letters)

    def _bind(self) -> None:
        self._queue._journal.bind(self._queue._environment.current())

    def _letter(self, txn: Txn, stone: Tombstone, payload: bytes) -> DeadLetter:
        queue = self._queue
        key = value = None
        unreadable = ""
        try:
            key = queue._encoding.key(stone.key)
            if not stone.deletes:
                value = queue._encoding.value(stone.codec, stone.flags, payload)
        except DecodeError as error:
            unreadable = str(error)
        return DeadLetter(
            id=stone.number,
            key=key,
            value=value,
            deletes=stone.deletes,
            level=queue.levels[min(stone.level, len(queue.levels) - 1)],
            reason=stone.reason,
            error=stone.error,
            message=stone.message,
            traceback=stone.traceback,
            attempts=stone.attempts,
            taken_at=stone.taken,
            died_at=stone.died,
            superseded=queue._journal.graves.is_superseded(txn, stone),
            size=len(payload),
            unreadable=unreadable,
        )


def _as_stored(key: Any, stone: Tombstone, payload: bytes, level: int) -> Write:
    """The write that died, with the payload that it had."""
    packer = WritePacker(lambda _: (stone.codec, (payload,)), lambda _, parts: (stone.flags, parts))
    return packer.pack(key, stone, level, stone.deletes)
