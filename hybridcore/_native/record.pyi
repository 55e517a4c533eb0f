from collections.abc import Callable, Hashable, Iterable
from types import TracebackType
from typing import Any, final

from typing_extensions import Buffer, Self

from hybridcore.types import Validators

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
) -> bytearray: ...
def seal(record: bytearray, version: int) -> None: ...
def peek(record: Buffer) -> tuple[int, int, int, bytes] | None: ...
def is_intact(record: Buffer, key: bytes) -> bool: ...
@final
class Record:
    value: Any
    fresh: bool
    ttl_left: float | None
    validators: Validators | None
    version: int
    stored_at: int
    cost: float
    importance: float

@final
class Gate:
    begin: Any
    data: Any
    def __init__(self, admit: Callable[[], None]) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def close(self) -> None: ...
    def open(self) -> None: ...
    def drain(self, timeout: float) -> bool: ...

@final
class Reader:
    closed: bool
    def __init__(
        self,
        gate: Gate,
        *,
        decode: Callable[[int, memoryview], Any],
        decode_meta: Callable[[bytes], Validators | None],
        encode_key: Callable[[Any], bytes],
        squeeze: Callable[[bytes], bytes],
        recover: Callable[[BaseException], None],
        clock: Callable[[], int],
    ) -> None: ...
    @property
    def gate(self) -> Gate: ...
    @property
    def hits(self) -> int: ...
    @property
    def stale_hits(self) -> int: ...
    @property
    def misses(self) -> int: ...
    @property
    def expired(self) -> int: ...
    @property
    def damaged(self) -> int: ...
    def get(self, key: Any, default: Any = None) -> Any: ...
    def get_many(self, keys: Iterable[Hashable]) -> dict[Any, Any]: ...
    def fetch(self, key: Any) -> Record | None: ...
    def fetch_many(self, keys: Iterable[Hashable]) -> dict[Any, Record]: ...
    def contains(self, key: Any) -> bool: ...
