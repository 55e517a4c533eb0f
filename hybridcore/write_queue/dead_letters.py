"""Writes that will not come through by themselves: kept with their errors, replayed or purged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ClosedError, ConfigurationError, DecodeError
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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A write that died.

    - ``reason``: ``"attempts"`` (all were made), ``"permanent"`` (trying again does not help),
      ``"crashed"`` (each killed the process), ``"undecodable"``, ``"damaged"``, ``"shed"``
    - ``taken_at``, ``died_at``: seconds since the epoch
    - ``superseded``: whether a newer write of its key was taken since; it is not replayed then
    - ``value``: None where it cannot be decoded, and of a delete
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


Where = Callable[[DeadLetter], bool]


class DeadLetters:
    """The dead letters of a `WriteQueue`, oldest first; only retention and `purge` drop any."""

    def __init__(self, queue: WriteQueue) -> None:
        self._queue = queue

    def __len__(self) -> int:
        return self._queue.stats().dead

    def __iter__(self) -> Iterator[DeadLetter]:
        letters = self.after(0, _AT_ONCE)
        while letters:
            yield from letters
            letters = self.after(letters[-1].id, _AT_ONCE)

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

        Args:
            number: of one letter; otherwise all.
            where: only those of which this is true.
            value: in the place of the one it died with.
            level: in the place of the one it had.
            rate: at most so many a second.
            force: also those that a newer write of their key has superseded, which it undoes.

        Raises:
            ConfigurationError: the rate is no finite number above 0; nothing was queued.
        """
        if rate is not None and not 0 < rate < math.inf:
            raise ConfigurationError(
                f"rate is expected to be a number of letters a second above 0, got {rate!r}"
            )
        queue, done = self._queue, 0
        started = time.monotonic()
        for letter in self._chosen(number, where):
            if letter.reason == "damaged" or (
                letter.reason == "undecodable" and value is _UNCHANGED
            ):
                continue
            again = letter.value if value is _UNCHANGED else value
            write = queue._encoding.pack(
                letter.key,
                again,
                queue._level.of(letter.key, level or letter.level),
                letter.deletes and again is None,
            )
            write.mono, write.wall = queue._clock(), time.time_ns()
            if queue._committer.carry_out(self._moving(letter.id, write, force)):
                done += 1
                queue._counts["queued"] += 1
            if rate is not None:
                time.sleep(max(0.0, started + done / rate - time.monotonic()))
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

    def came(self, numbers: Sequence[int]) -> None:
        """There are new letters: tell who wants to know, and keep within the bounds."""
        callbacks = self._queue._on_dead
        with suppress(ClosedError):  # they are still there when it is opened again
            for letter in map(self.get, numbers if callbacks else ()):
                for tell in callbacks if letter is not None else ():
                    self._queue._drain.contained(tell, letter)
            self._retain()

    def _retain(self) -> None:
        keep, most = self._queue._retention
        horizon = time.time() - keep
        over = self._queue._tally.dead_bytes - most
        numbers = []
        for letter in self:
            if letter.died_at >= horizon and over <= 0:
                break
            numbers.append(letter.id)
            over -= letter.size
        if numbers:
            self._queue._logs.warning(
                "%d dead letters were purged: older than keep_dead, or beyond max_dead_bytes",
                self._remove(numbers),
            )

    def _remove(self, numbers: list[int]) -> int:
        journal, removed = self._queue._journal, 0
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]

            def job(txn: Txn, tally: Tally, some: list[int] = some) -> int:
                return sum(journal.graves.remove(txn, number, tally) for number in some)

            removed += self._queue._committer.carry_out(job)
        return removed

    def _moving(self, number: int, write: Write, force: bool) -> Callable[[Txn, Tally], bool]:
        journal = self._queue._journal

        def job(txn: Txn, tally: Tally) -> bool:
            found = journal.graves.get(txn, number)
            if found is None or (journal.graves.is_superseded(txn, found[0]) and not force):
                return False  # somebody else was faster, or the key was written since
            journal.graves.remove(txn, number, tally)
            journal.accept(txn, [write], tally, again=number)
            return True

        return job

    def _chosen(self, number: int | None, where: Where | None) -> list[DeadLetter]:
        if number is not None:
            letter = self.get(number)
            letters = [] if letter is None else [letter]
        else:
            letters = list(self)
        return letters if where is None else [letter for letter in letters if where(letter)]

    def _bind(self) -> None:
        self._queue._journal.bind(self._queue._environment.current())

    def _letter(self, txn: Txn, stone: Tombstone, payload: bytes) -> DeadLetter:
        queue = self._queue
        key = value = None
        try:
            key = queue._encoding.key(stone.key)
            if not stone.deletes:
                value = queue._encoding.value(stone.codec, stone.flags, payload)
        except (DecodeError, IndexError):
            pass
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
        )
