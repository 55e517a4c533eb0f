"""Walking through a directory in batches, so that a slow consumer pins no pages."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore._native.record import peek
from hybridcore.disk.keys import decode_key, lmdb_key
from hybridcore.disk.meta import tags_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.disk.environment import Environment
    from hybridcore.disk.tier import Lmdb

K = TypeVar("K")
V = TypeVar("V")

_BATCH = 512
"""Keys per read transaction."""


def batches(
    environment: Environment, clock: Callable[[], int], prefix: bytes = b""
) -> Iterator[list[Any]]:
    """The keys of fresh entries whose forms begin so, in the order of the forms."""
    after = b""
    while True:
        seen = []
        now = clock()
        with environment.reading() as txn, txn.cursor(environment.data) as cursor:
            start = after or prefix
            if not (cursor.set_range(start) if start else cursor.first()):
                return
            if after and cursor.key() == after and not cursor.next():
                return
            for name, record in islice(cursor, _BATCH):
                seen.append((bytes(name), peek(record)))
        keys: list[Any] = []
        for after, header in seen:
            if not after.startswith(prefix):
                yield keys
                return
            if header is not None and (not header[1] or now < header[1]):
                form = header[3]
                if lmdb_key(form) == after:
                    keys.append(decode_key(form))
        yield keys
        if len(seen) < _BATCH:
            return


def tagged(environment: Environment, tag: str) -> Iterator[list[bytes]]:
    """The LMDB keys of the records with this tag, batch by batch."""
    after = b""
    while True:
        found = []
        with environment.reading() as txn, txn.cursor(environment.data) as cursor:
            if not (cursor.set_range(after) if after else cursor.first()):
                return
            if after and cursor.key() == after and not cursor.next():
                return
            for name, record in islice(cursor, _BATCH):
                after = bytes(name)
                if tag in tags_of(record):
                    found.append(after)
            last = not cursor.next()
        yield found
        if last:
            return


class Items(ItemsView[K, V]):
    """Reads values a batch at a time; entries that vanish meanwhile are left out."""

    _mapping: Lmdb[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for keys in self._mapping.batches():
            yield from self._mapping.get_many(keys).items()


class Values(ValuesView[V]):
    """Reads values a batch at a time; entries that vanish meanwhile are left out."""

    _mapping: Lmdb[Any, V]

    def __iter__(self) -> Iterator[V]:
        for keys in self._mapping.batches():
            yield from self._mapping.get_many(keys).values()
