from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from hybridcore._native import MemoryStore

@final
class Miniature:
    below: int
    requests: float
    hits: float
    lru_hits: float
    bytes: float
    hit_bytes: float
    lru_hit_bytes: float
    def __init__(
        self,
        cache: MemoryStore[Any, Any],
        lru: MemoryStore[Any, Any],
        below: int,
    ) -> None: ...
    def go_on_with(self, small: Miniature) -> Miniature: ...
    def feed(
        self,
        hashes: NDArray[np.uint32],
        sizes: NDArray[np.int64] | None = None,
        operations: NDArray[np.uint8] | None = None,
    ) -> None: ...
    def fade(self, factor: float) -> None: ...
    @property
    def entries(self) -> int: ...
    def memory_bytes(self) -> int: ...
