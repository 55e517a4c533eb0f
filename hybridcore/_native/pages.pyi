from typing import final

from typing_extensions import Buffer, Self

@final
class Walk:
    damaged: int
    def __init__(self, memory: Buffer, database: bytes) -> None: ...
    def heads(self, start: bytes, beyond: bool, limit: int) -> list[tuple[bytes, bytes]]: ...
    def check(self) -> int: ...

@final
class Map:
    def __new__(cls, file: int, size: int, page_size: int, database: bytes) -> Self: ...
