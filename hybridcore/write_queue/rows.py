"""Rows of LMDB databases, several at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lmdb

    Txn = lmdb.Transaction[bytes]

_FEW = 4
"""Rows that are stored or read sooner one by one than through a cursor."""


def get_all(txn: Txn, database: lmdb._Database, keys: list[bytes]) -> dict[bytes, bytes]:
    """The values of those keys that are there."""
    if len(keys) > _FEW:
        with txn.cursor(database) as cursor:
            return dict(cursor.getmulti(sorted(keys)))
    found = {}
    for key in keys:
        value = txn.get(key, None, database)
        if value is not None:
            found[key] = value
    return found


def put_all(
    txn: Txn, database: lmdb._Database, rows: list[tuple[bytes, bytes]], append: bool = False
) -> None:
    """Store rows, which are in order; ``append`` them where all that is there comes before."""
    if len(rows) > _FEW:
        with txn.cursor(database) as cursor:
            cursor.putmulti(rows, append=append)
    else:
        for key, value in rows:
            txn.put(key, value, True, True, append, database)


def all_of(txn: Txn, database: lmdb._Database) -> list[tuple[bytes, bytes]]:
    """The rows of a small database."""
    with txn.cursor(database) as cursor:
        return list(cursor)


def set_before(cursor: lmdb.Cursor[bytes], key: bytes) -> bool:
    """Move to the last row before a key, if there is one."""
    return cursor.prev() if cursor.set_range(key) else cursor.last()
