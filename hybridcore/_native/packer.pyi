from collections.abc import Callable
from typing import Any, final

from typing_extensions import Buffer, Self

from hybridcore._native.reader import Record
from hybridcore._native.record import Packed
from hybridcore.codec import Payload
from hybridcore.types import Validators
from hybridcore.units import Duration

@final
class Times:
    stored_at: int
    fresh_until: int
    expires_at: int
    def __new__(cls, stored_at: int, fresh_until: int, expires_at: int) -> Self: ...

@final
class Packer:
    def __init__(
        self,
        encode: Callable[[Any], tuple[int, Payload]],
        compress: Callable[[int, Payload], tuple[int, Payload]] | None,
        encode_key: Callable[[Any], bytes],
        squeeze: Callable[[bytes], bytes],
        encode_meta: Callable[[Validators | None, str | None], bytes],
        clock: Callable[[], int],
        max_bytes: int,
        limit: int,
    ) -> None: ...
    def times(self, ttl: Duration | None = None, stale: Duration = 0.0) -> Times: ...
    def pack(
        self,
        key: Any,
        value: Any,
        times: Times,
        *,
        validators: Validators | None = None,
        tag: str | tuple[str, ...] | None = None,
        cost: float = 1.0,
        importance: float = 1.0,
    ) -> Packed: ...
    def repack(self, key: Any, value: Any, record: Record) -> Packed: ...
    def retime(self, name: bytes, record: Buffer, times: Times) -> Packed: ...
