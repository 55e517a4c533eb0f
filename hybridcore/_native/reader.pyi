from collections.abc import Callable, Iterable
from types import GenericAlias, TracebackType
from typing import Any, Generic, TypeVar, final, overload

from typing_extensions import disjoint_base

from hybridcore._native.gate import Gate
from hybridcore._native.marks import Marks
from hybridcore.types import Validators

_K = TypeVar("_K")
_V = TypeVar("_V")
_D = TypeVar("_D")

@final
class Record:
    value: Any
    fresh: bool
    ttl_left: float | None
    validators: Validators | None
    tag: str | tuple[str, ...] | None
    version: int
    stored_at: int
    fresh_until: int
    expires_at: int
    cost: float
    importance: float

@final
class Pin: ...

@final
class View:
    def __init__(self, reader: Reader[Any, Any], key: Any) -> None: ...
    def __enter__(self) -> Any: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@disjoint_base
class Reader(Generic[_K, _V]):
    closed: bool
    def __class_getitem__(cls, parameters: Any, /) -> GenericAlias: ...
    def __init__(
        self,
        gate: Gate,
        decode: Callable[..., Any],
        decode_meta: Callable[[bytes], tuple[Validators | None, str | tuple[str, ...] | None]],
        encode_key: Callable[[Any], bytes],
        squeeze: Callable[[bytes], bytes],
        recover: Callable[[BaseException], None],
        clock: Callable[[], int],
        decompress: Callable[[int, bytes | memoryview], bytes] | None = None,
        marks: Marks | None = None,
    ) -> None: ...
    def close_reader(self) -> None: ...
    def lookups(self) -> tuple[int, int, int, int, int]: ...
    @overload
    def get(self, key: _K, default: None = None) -> _V | None: ...
    @overload
    def get(self, key: _K, default: _V) -> _V: ...
    @overload
    def get(self, key: _K, default: _D) -> _V | _D: ...
    def __getitem__(self, key: _K, /) -> _V: ...
    def __contains__(self, key: object, /) -> bool: ...
    def view(self, key: _K, /) -> View: ...
    def get_many(self, keys: Iterable[_K], /) -> dict[_K, _V]: ...
    def fetch(self, key: _K, /) -> Record | None: ...
    def fetch_plain(self, key: _K, /) -> tuple[Any, float | None, float] | Record | None: ...
    def unpack(self, record: bytes | None, form: bytes) -> Record | None: ...
    def fetch_many(self, keys: Iterable[_K], /) -> dict[_K, Record]: ...
