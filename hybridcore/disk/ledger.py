"""What a write transaction does: records, the indexes over them, and their tally."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from hybridcore._native.record import is_intact, peek, seal

if TYPE_CHECKING:
    import lmdb

    from hybridcore.disk.environment import Environment

    Transaction = lmdb.Transaction[memoryview]

TRAITS = 12
"""Bytes in front of the key in the order: what eviction wants to know; see `Marks.traits`."""

_TALLY = b"tally"
_NO_VERSION = bytes(8)


class Packed(NamedTuple):
    """A record on its way to the disk."""

    key: bytes
    """Its LMDB key."""
    record: bytearray
    traits: bytes
    expires_at: int
    """Wall clock, ns; 0: never."""


class Placed(NamedTuple):
    """A record as the order lists it."""

    version: bytes
    """8 bytes, big-endian."""
    key: bytes
    """Its LMDB key."""


class Ledger:
    """The books of one transaction; `settle` before a writing one ends.

    ``version``     the last one given
    ``live_bytes``  sum of the sizes of all records
    """

    def __init__(self, environment: Environment, txn: Transaction) -> None:
        self.txn = txn
        self.data = environment.data
        self.order = environment.order
        self.expiry = environment.expiry
        self.meta = environment.meta
        self._stored = bytes(txn.get(_TALLY, b"", self.meta))
        self.version = int.from_bytes(self._stored[:8], "little")
        self.live_bytes = int.from_bytes(self._stored[8:], "little")

    def store(self, packed: Packed) -> None:
        """Write a record with the next version."""
        key, record, traits, expires_at = packed
        self.version += 1
        seal(record, self.version)
        before = self.txn.get(key, None, self.data)
        if before is not None:
            self._forget(key, before)
        self.live_bytes += len(record)
        self.txn.put(key, record, db=self.data)
        stamp = self.version.to_bytes(8, "big")
        self.txn.put(stamp, traits + key, append=True, db=self.order)
        if expires_at:
            self.txn.put(expires_at.to_bytes(8, "big") + stamp, b"", db=self.expiry)

    def remove(self, key: bytes) -> bool:
        """Delete the record under an LMDB key; whether there was one."""
        before = self.txn.get(key, None, self.data)
        if before is None:
            return False
        self._forget(key, before)
        return self.txn.delete(key, db=self.data)

    def remove_placed(self, placed: Placed) -> int:
        """Delete a record that the order lists; return its bytes, 0 if there was none.

        One that was written again since is left alone, and the place it lost is forgotten.
        """
        version, key = placed
        self.txn.delete(version, db=self.order)
        record = self.txn.get(key, None, self.data)
        if record is None or not _written_as(record, version):
            return 0
        size = len(record)
        self._forget(key, record)
        self.txn.delete(key, db=self.data)
        return size

    def expired(self, now: int, limit: int) -> list[Placed]:
        """At most ``limit`` records that have expired, the earliest first.

        What the index has of records that are gone is dropped on the way.
        """
        found, gone = [], []
        with self.txn.cursor(self.expiry) as cursor:
            for entry in islice(cursor.iternext(values=False), limit):
                if int.from_bytes(entry[:8], "big") > now:
                    break
                version = bytes(entry[8:])
                listed = self.txn.get(version, None, self.order)
                if listed is None:
                    gone.append(bytes(entry))
                else:
                    found.append(Placed(version, bytes(listed[TRAITS:])))
        for stamp in gone:
            self.txn.delete(stamp, db=self.expiry)
        return found

    def intact(self, key: bytes, form: bytes) -> memoryview | None:
        """The undamaged record under an LMDB key, until the next write of this transaction."""
        record = self.txn.get(key, None, self.data)
        return record if record is not None and is_intact(record, form) else None

    def store_if(self, *, packed: Packed, expected: int, form: bytes, now: int) -> int:
        """Write a record if the one it replaces has this version; return the version found.

        0 stands for none, and for one that is damaged or has expired.
        """
        record = self.intact(packed.key, form)
        header = None if record is None else peek(record)
        found = 0
        if header is not None and not (header[2] and now >= header[2]):
            found = header[0]
        if found == expected:
            self.store(packed)
        return found

    def pop(self, key: bytes) -> bytes | None:
        """Delete the record under an LMDB key and return its bytes."""
        record = self.txn.get(key, None, self.data)
        raw = None if record is None else record.tobytes()
        self.remove(key)
        return raw

    def pop_last(self) -> tuple[bytes, bytes] | None:
        """Delete the record that was written last; return its canonical key and its bytes."""
        while True:
            with self.txn.cursor(self.order) as cursor:
                if not cursor.last():
                    return None
                placed = Placed(bytes(cursor.key()), bytes(cursor.value()[TRAITS:]))
            record = self.txn.get(placed.key, None, self.data)
            raw = b"" if record is None else record.tobytes()
            header = peek(raw)
            if self.remove_placed(placed) and header is not None:
                return header[3], raw

    def unplaced(self, limit: int) -> list[Placed]:
        """Some records, for when the order is empty: damage may have cost them their place."""
        with self.txn.cursor(self.data) as cursor:
            keys = islice(cursor.iternext(values=False), limit)
            return [Placed(_NO_VERSION, bytes(key)) for key in keys]

    def clear(self) -> int:
        """Delete every record and return how many there were; the versions go on."""
        count = self.entries()
        for database in (self.data, self.order, self.expiry):
            self.txn.drop(database, delete=False)
        self.live_bytes = 0
        return count

    def entries(self) -> int:
        """Number of records, expired ones included; O(1)."""
        return self.txn.stat(self.data)["entries"]

    def used_bytes(self) -> int:
        """Bytes of the pages that hold records and their indexes; O(1)."""
        used = 0
        for database in (self.data, self.order, self.expiry):
            stat = self.txn.stat(database)
            pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            used += pages * stat["psize"]
        return used

    def settle(self, *, anyway: bool = False) -> None:
        """Write the tally if it changed, or ``anyway``, so that there is something to commit."""
        tally = self.version.to_bytes(8, "little") + max(self.live_bytes, 0).to_bytes(8, "little")
        if tally != self._stored or anyway:
            self.txn.put(_TALLY, tally, db=self.meta)

    def _forget(self, key: bytes, record: memoryview) -> None:
        """Take a record out of the indexes; what a damaged header points to by chance stays."""
        self.live_bytes -= len(record)
        header = peek(record)
        if header is None:
            return
        version = header[0].to_bytes(8, "big")
        listed = self.txn.get(version, None, self.order)
        if listed is not None and listed[TRAITS:] == key:
            self.txn.delete(version, db=self.order)
        if header[2] > 0:
            self.txn.delete(header[2].to_bytes(8, "big") + version, db=self.expiry)


def is_fresh(record: memoryview, now: int) -> bool:
    """Whether the header says that a record is fresh."""
    header = peek(record)
    return header is not None and (not header[1] or now < header[1])


def _written_as(record: memoryview, version: bytes) -> bool:
    """Whether the record may go in the name of this version: it is that one, or damaged."""
    header = peek(record)
    if header is None or version == _NO_VERSION:
        return True
    return header[0] == int.from_bytes(version, "big") or not is_intact(record, header[3])
