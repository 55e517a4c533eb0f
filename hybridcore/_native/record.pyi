from typing import NamedTuple, final

from typing_extensions import Buffer, Self

def pack(
    key: bytes,
    code: int,
    payload: tuple[Buffer, ...],
    meta: bytes,
    stored_at: int,
    fresh_until: int,
    expires_at: int,
    cost: float,
    importance: float,
    flags: int = 0,
) -> bytearray: ...
def seal(record: bytearray, version: int) -> None: ...
def retimed(record: Buffer, stored_at: int, fresh_until: int, expires_at: int) -> bytearray: ...

class Head(NamedTuple):
    version: int
    fresh_until: int
    expires_at: int
    key: bytes
    cost: float
    importance: float
    flags: int
    payload_size: int

def peek(record: Buffer) -> Head | None: ...
def is_intact(record: Buffer, key: bytes) -> bool: ...

@final
class Window: ...

@final
class Packed:
    key: bytes
    record: bytearray
    cost: float
    importance: float
    expires_at: int
    def __new__(
        cls, key: bytes, record: bytearray, cost: float, importance: float, expires_at: int
    ) -> Self: ...
