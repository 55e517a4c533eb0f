from collections.abc import Callable
from typing import Any, final

from hybridcore._native.histogram import Histogram
from hybridcore.codec import Payload

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
    def row(self, number: int) -> bytes: ...

@final
class WritePacker:
    def __init__(
        self,
        encode: Callable[[Any], tuple[int, Payload]],
        compress: Callable[[int, Payload], tuple[int, Payload]] | None,
    ) -> None: ...
    def pack(self, key: Any, value: Any, level: int, deletes: bool = False) -> Write: ...

def record_ages(histogram: Histogram, writes: list[Write], now: int) -> None: ...
