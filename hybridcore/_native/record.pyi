from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Generic, TypeVar, final, overload

from typing_extensions import Buffer, Self

from hybridcore.types import Validators

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

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

class Reader(Generic[K, V]):
    closed: bool
    def __init__(
        self,
        gate: Gate,
        decode: Callable[[int, memoryview], Any],
        decode_meta: Callable[[bytes], Validators | None],
        encode_key: Callable[[Any], bytes],
        squeeze: Callable[[bytes], bytes],
        recover: Callable[[BaseException], None],
        clock: Callable[[], int],
    ) -> None: ...
    def close_reader(self) -> None: ...
    def lookups(self) -> tuple[int, int, int, int, int]: ...
    @overload
    def get(self, key: K, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V, /) -> V: ...
    @overload
    def get(self, key: K, default: D, /) -> V | D: ...
    def __getitem__(self, key: K, /) -> V: ...
    def __contains__(self, key: object, /) -> bool: ...
    def get_many(self, keys: Iterable[K], /) -> dict[K, V]: ...
    def fetch(self, key: K, /) -> Record | None: ...
    def fetch_many(self, keys: Iterable[K], /) -> dict[K, Record]: ...
