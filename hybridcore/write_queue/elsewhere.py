"""`Elsewhere`: whether other processes wrote a key to a durable queue since a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.write_queue.in_memory import MemoryQueue
from hybridcore.write_queue.records import NUMBER

if TYPE_CHECKING:
    from hybridcore.write_queue.base import WriteSink
    from hybridcore.write_queue.durable import WriteQueue
    from hybridcore.write_queue.journal import Txn


class Moment(NamedTuple):
    """How far a queue had come: the place of its next write, and how many lanes it had."""

    next: int
    lanes: int


class Elsewhere:
    """Tells from the lanes of a queue's journal what was written meanwhile, and brought out since.

    Lanes that are over stay until they are swept, see `Journal`.
    """

    def __init__(self, queue: WriteQueue) -> None:
        self._queue = queue

    def now(self) -> Moment:
        """The moment."""
        with self._queue._environment.reading(buffers=False) as txn:
            self._queue._journal.bind(self._queue._environment.current())
            return self._moment(txn)

    def wrote(self, key: Any, since: Moment) -> bool:
        """Whether a write of the key came since, or may have: lanes were swept.

        One that took the place of another that waited at that moment counts with that one.
        """
        from hybridcore.disk.keys import encode_key, lmdb_key

        with self._queue._environment.reading(buffers=False) as txn:
            journal = self._queue._journal
            journal.bind(self._queue._environment.current())
            now = self._moment(txn)
            if now.next == since.next:
                return False
            if now.lanes < since.lanes:
                return True
            place = txn.get(lmdb_key(encode_key(key)), db=journal.lanes)
        return place is not None and int(NUMBER.unpack(place)[0]) >= since.next

    def _moment(self, txn: Txn) -> Moment:
        journal = self._queue._journal
        return Moment(journal.tally(txn).next, txn.stat(journal.lanes)["entries"])


def beside(queue: WriteSink) -> Elsewhere | None:
    """What tells of writes of other processes, if they may share the queue."""
    if isinstance(queue, MemoryQueue):
        return None
    from hybridcore.write_queue.durable import WriteQueue

    return Elsewhere(queue) if isinstance(queue, WriteQueue) else None
