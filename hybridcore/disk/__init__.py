"""The disk tier: LMDB in a directory that every process of the host shares.

    tier         `Lmdb`, what users and the engine call
    keys         keys as canonical bytes
    meta         validators inside a record
    ledger       what a write transaction does: records, order, eviction
    environment  LMDB opened once per process, across forks and resizes
    directory    what is checked before LMDB sees a directory

The record itself is laid out, checked and read in ``src/hybridcore/_native/record.pyx``.
"""

from hybridcore._native.record import Record
from hybridcore.disk.tier import Lmdb

__all__ = ["Lmdb", "Record"]
