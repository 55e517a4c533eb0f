from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

from hybridcore._native.histogram import Histogram
from hybridcore.codec import Payload
from hybridcore.errors import DecodeError
from hybridcore.write_queue.delivery import Delivery

@final
class Write:
    form: bytes
    payload: bytes
    codec: int
    flags: int
    deletes: bool
    size: int
    number: int
    place: int
    level: int
    mono: int
    wall: int
    since: int
    waited: bool
    instead: Write | None
    @staticmethod
    def stored(place: bytes, row: bytes) -> Write: ...
    def row(self, number: int, born: bool = False) -> bytes: ...

@final
class WritePacker:
    def __init__(
        self,
        encode: Callable[[Any], tuple[int, Payload]],
        compress: Callable[[int, Payload], tuple[int, Payload]] | None,
    ) -> None: ...
    def pack(self, key: Any, value: Any, level: int, deletes: bool = False) -> Write: ...

def record_ages(histogram: Histogram, times: list[int], now: int) -> None: ...

@final
class Tally:
    depth: int
    size: int
    dead: int
    dead_bytes: int
    next: int
    fresh: int
    fresh_end: int
    fresh_level: int
    def __init__(self) -> None: ...
    @staticmethod
    def unpack(data: bytes | None) -> Tally: ...
    def pack(self) -> bytes: ...
    def packed_anew(self) -> bytes | None: ...
    def levels(self) -> list[int]: ...
    def items(self, level: int) -> int: ...
    def sizes(self, level: int) -> int: ...
    def add(self, level: int, count: int, size: int) -> None: ...
    def has_fresh(self, level: int) -> bool: ...
    def is_fresh(self, place: int, row: bytes) -> bool: ...

@final
class Claimed:
    write: Write
    attempt: int
    error: str

def lane_of(form: bytes) -> bytes: ...
def lay_out(
    writes: list[Write],
    names: list[bytes],
    tails: dict[bytes, bytes],
    tally: Tally,
    ready: bool,
) -> tuple[
    list[tuple[bytes, bytes]],
    list[tuple[bytes, bytes]],
    list[tuple[bytes, bytes]],
    list[tuple[bytes, bytes]],
]: ...
def fresh_from(
    cursor: Iterable[tuple[bytes, bytes]], tally: Tally, most: int
) -> list[tuple[bytes, bytes]]: ...
def claim_all(
    rows: list[tuple[bytes, bytes]],
    found: dict[bytes, bytes],
    level: int,
    owner: int,
    until: int,
    claimed: list[Claimed],
    damaged: list[tuple[bytes, bytes, DecodeError]],
    is_too_young: Callable[[Write], bool] | None = None,
) -> tuple[int, list[tuple[bytes, bytes]]]: ...
def finish_all(
    claims: Any,
    data: Any,
    done: Sequence[Delivery],
    owner: int,
    tally: Tally,
    finished: list[bytes],
) -> None: ...
