import lmdb

from hybridcore._native.marks import Marks

def enter(
    txn: lmdb.Transaction[memoryview],
    marks: Marks,
    databases: tuple[lmdb._Database, lmdb._Database, lmdb._Database],
    key: bytes,
    record: bytearray,
    cost: float,
    importance: float,
    expires_at: int,
    version: int,
) -> int: ...
