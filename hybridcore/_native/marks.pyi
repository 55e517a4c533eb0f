from typing_extensions import Buffer, disjoint_base

def traits(size: int, cost: float, importance: float, expires_at: int) -> bytes: ...

@disjoint_base
class Marks:
    version: int
    def __init__(self, mapped: Buffer) -> None: ...
    def used(self, key: bytes) -> None: ...
    def uses(self, key: bytes) -> tuple[int, int]: ...
    def rank(
        self,
        drawn: dict[bytes, bytes],
        weights: tuple[float, float, float, float, float],
        newest: int,
        now: int,
    ) -> list[tuple[bytes, bytes]]: ...
