from typing import TypeVar

import lmdb
from typing_extensions import Self, disjoint_base

from hybridcore._native.record import Packed
from hybridcore.disk.environment import Environment
from hybridcore.disk.marks import MappedMarks

_B = TypeVar("_B", bound=Books)

@disjoint_base
class Books:
    txn: lmdb.Transaction[memoryview]
    main: lmdb._Database
    data: lmdb._Database
    order: lmdb._Database
    expiry: lmdb._Database
    marks: MappedMarks
    tally: bytes
    version: int
    live_bytes: int
    written_bytes: int
    entries: int
    most_used: int
    def __init__(
        self,
        environment: Environment,
        txn: lmdb.Transaction[memoryview],
        known: Self | None = None,
    ) -> None: ...
    def store(self, packed: Packed) -> None: ...
    def used_bytes(self) -> int: ...
    def settle(self, *, anyway: bool = False) -> None: ...

def store_where_room_is(
    kind: type[_B], environment: Environment, known: _B | None, records: list[Packed], allowed: int
) -> _B | None: ...
