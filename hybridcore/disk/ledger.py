"""What a write transaction does: records, the order they were written in, eviction."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from hybridcore._native.record import is_intact, peek, seal

if TYPE_CHECKING:
    from collections.abc import Iterable

    import lmdb

    from hybridcore.disk.environment import Environment

    Transaction = lmdb.Transaction[memoryview]

_COUNTER = b"version"
_NO_VERSION = bytes(8)
_STRIDE = 16
"""At most so many victims are evicted between two looks at the space that is left."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """How many records one batch took, and whether the target was reached."""

    fresh: int = 0
    expired: int = 0
    done: bool = True


def store(
    environment: Environment, txn: Transaction, records: Iterable[tuple[bytes, bytearray]]
) -> None:
    """Write packed records under their LMDB keys, each with the next version."""
    data, order, meta = environment.data, environment.order, environment.meta
    version = int.from_bytes(txn.get(_COUNTER, b"", meta), "little")
    for key, record in records:
        version += 1
        seal(record, version)
        before = txn.get(key, None, data)
        if before is not None:
            _forget_order(environment, txn, key, before)
        txn.put(key, record, db=data)
        txn.put(version.to_bytes(8, "big"), key, append=True, db=order)
    txn.put(_COUNTER, version.to_bytes(8, "little"), db=meta)


def remove(environment: Environment, txn: Transaction, key: bytes) -> bool:
    """Delete the record under an LMDB key; whether there was one."""
    before = txn.get(key, None, environment.data)
    if before is None:
        return False
    _forget_order(environment, txn, key, before)
    return txn.delete(key, db=environment.data)


def clear(environment: Environment, txn: Transaction) -> int:
    """Delete every record and return how many there were; the version counter goes on."""
    count = entries(environment, txn)
    txn.drop(environment.data, delete=False)
    txn.drop(environment.order, delete=False)
    return count


def touch_counter(environment: Environment, txn: Transaction) -> None:
    """Commit something: LMDB hands pages out again two commits after they were freed."""
    txn.put(_COUNTER, bytes(txn.get(_COUNTER, b"", environment.meta)), db=environment.meta)


def evict(environment: Environment, txn: Transaction, target: int, limit: int, now: int) -> Evicted:
    """Delete the records written longest ago until ``target`` bytes are used, at most ``limit``."""
    fresh = expired = taken = 0
    while (excess := used_bytes(environment, txn) - target) > 0:
        if taken >= limit:
            return Evicted(fresh, expired, done=False)
        batch = _oldest(environment, txn, min(_STRIDE, limit - taken))
        if not batch:
            break
        for version, key in batch:
            taken += 1
            txn.delete(version, db=environment.order)
            record = txn.get(key, None, environment.data)
            if record is None or not _written_as(record, version):
                continue
            header = peek(record)
            excess -= len(record)
            txn.delete(key, db=environment.data)
            if header is not None and header[2] and now >= header[2]:
                expired += 1
            else:
                fresh += 1
            if excess <= 0:
                break
    return Evicted(fresh, expired)


def used_bytes(environment: Environment, txn: Transaction) -> int:
    """Bytes of the pages that hold records and their order; O(1)."""
    used = 0
    for database in (environment.data, environment.order):
        stat = txn.stat(database)
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        used += pages * stat["psize"]
    return used


def entries(environment: Environment, txn: Transaction) -> int:
    """Number of records, expired ones included; O(1)."""
    return txn.stat(environment.data)["entries"]


def _oldest(environment: Environment, txn: Transaction, count: int) -> list[tuple[bytes, bytes]]:
    with txn.cursor(environment.order) as cursor:
        batch = [(bytes(version), bytes(key)) for version, key in islice(cursor, count)]
    if batch:
        return batch
    # Damage may have cost records their place in the order; without one any may go.
    with txn.cursor(environment.data) as cursor:
        return [(_NO_VERSION, bytes(key)) for key in islice(cursor.iternext(values=False), count)]


def _written_as(record: memoryview, version: bytes) -> bool:
    """Whether the record may go in the name of this version: it is that one, or damaged."""
    header = peek(record)
    if header is None or version == _NO_VERSION:
        return True
    return header[0] == int.from_bytes(version, "big") or not is_intact(record, header[3])


def _forget_order(
    environment: Environment, txn: Transaction, key: bytes, record: memoryview
) -> None:
    """Delete the order entry of a record; one that a damaged header points to by chance stays."""
    header = peek(record)
    if header is not None:
        version = header[0].to_bytes(8, "big")
        listed = txn.get(version, None, environment.order)
        if listed is not None and listed.tobytes() == key:
            txn.delete(version, db=environment.order)
