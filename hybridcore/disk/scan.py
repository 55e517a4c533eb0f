"""Walking through a directory in batches, so that a slow consumer pins no pages.

LMDB ends the process where the pages of a walk are damaged, so the pages are read without it; a
read transaction keeps writers from using them again meanwhile.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore._native.pages import Walk
from hybridcore._native.record import peek
from hybridcore.disk.keys import decode_key, lmdb_key
from hybridcore.disk.meta import tags_of
from hybridcore.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from hybridcore.disk.environment import Environment
    from hybridcore.disk.tier import Lmdb

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")

_BATCH = 512
"""Keys per read transaction."""


def batches(
    environment: Environment, clock: Callable[[], int], prefix: bytes = b""
) -> Iterator[list[Any]]:
    """The keys of fresh entries whose forms begin so, in the order of the forms."""
    for heads in _batches(environment, prefix):
        now = clock()
        keys: list[Any] = []
        for name, head in heads:
            if not name.startswith(prefix):
                yield keys
                return
            header = peek(head)
            if header is not None and (not header[1] or now < header[1]):
                form = header[3]
                if lmdb_key(form) == name:
                    keys.append(decode_key(form))
        yield keys


def tagged(environment: Environment, tag: str) -> Iterator[list[bytes]]:
    """The LMDB keys of the records with this tag, batch by batch."""
    for heads in _batches(environment, b""):
        yield [name for name, head in heads if tag in tags_of(head)]


def check(environment: Environment) -> None:
    """Look at all pages that lead to records and indexes, for LMDB is about to.

    Raises:
        DiskError: one is damaged.
    """

    def damaged(memory: Buffer) -> int:
        trees = [name.encode() for name in environment.layout.databases]
        return sum(Walk(memory, name).check() for name in trees)

    if _walked(environment, damaged, int):
        raise DiskError(
            f"pages of {str(environment.directory)!r} are damaged. Close it in other processes "
            "and clear() it, or remove the directory to start afresh"
        )


def _batches(environment: Environment, start: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
    """All LMDB keys from one on, with the heads of their records."""
    beyond = False

    def heads(memory: Buffer) -> tuple[list[tuple[bytes, bytes]], int]:
        walk = Walk(memory, b"data")
        return walk.heads(start, beyond, _BATCH), walk.damaged

    while True:
        found, damaged = _walked(environment, heads, itemgetter(1))
        environment.damaged += damaged
        yield found
        if len(found) < _BATCH:
            return
        start, beyond = found[-1][0], True


def _walked(environment: Environment, walk: Callable[[Buffer], T], damage: Callable[[T], int]) -> T:
    """What a walk gives; where it meets damage it is repeated while nobody writes.

    Raises:
        DiskError: damage lets it not even begin.
    """

    def run() -> T:
        with environment.mapped() as memory:
            return walk(memory)

    try:
        with suppress(ValueError), environment.reading():  # which keeps the pages as they are
            found = run()
            if not damage(found):
                return found
        return environment.while_nobody_writes(run)
    except ValueError as error:
        raise DiskError(
            f"{str(environment.directory)!r} is damaged: {error} cannot be read. It is a cache: "
            "clear() it, or remove the directory to start afresh"
        ) from error


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
