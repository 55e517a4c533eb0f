"""Objects of any size: what is told of them, and their bytes as they arrive."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridcore.errors import OriginUnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from obstore import GetResult, ObjectMeta

    from hybridcore.origins.object_client import ObjectClient

PIECE = 1 << 20
"""Bytes that a stream reads at a time."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store tells of an object: its key below the prefix, its size in bytes."""

    key: str
    size: int
    etag: str | None
    modified: datetime


class ObjectReader(io.RawIOBase):
    """The bytes of an object as they arrive."""

    def __init__(self, client: ObjectClient, key: str, result: GetResult) -> None:
        self._client = client
        self._key = key
        self.meta = result.meta
        self._pieces = iter(result.stream(PIECE))
        self._rest = memoryview(b"")
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            with self._client.calling("GET", self._key, calls=0) as call:
                piece = next(self._pieces, None)
                if piece is None:
                    check_whole(self._key, self._read, self.meta)
                    return 0
                call.bytes_in = len(piece)
            self._read += len(piece)
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def check_whole(key: str, size: int, meta: ObjectMeta) -> None:
    """Raise `OriginUnavailableError` unless all of an object has come."""
    if size != meta["size"]:
        raise OriginUnavailableError(f"of {key!r} came {size} bytes of {meta['size']}")


def stored(meta: ObjectMeta, key: str | None = None) -> StoredObject:
    """What a listing or an answer tells of an object."""
    return StoredObject(
        meta["path"] if key is None else key, meta["size"], meta["e_tag"], meta["last_modified"]
    )
