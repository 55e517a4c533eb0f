from typing import final

import numpy as np
from numpy.typing import NDArray

@final
class StackDistances:
    requests: float
    sampled: float
    sampled_bytes: float
    def __init__(
        self,
        samples: int = 8192,
        sized: bool = False,
        deepest: float = 0,
        below: int = ...,
    ) -> None: ...
    def feed(
        self,
        hashes: NDArray[np.uint32],
        sizes: NDArray[np.int64] | None = None,
        operations: NDArray[np.uint8] | None = None,
        requests: float | None = None,
    ) -> None: ...
    def fade(self, factor: float) -> None: ...
    def histograms(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
    @property
    def rate(self) -> float: ...
    @property
    def below(self) -> int: ...
    @property
    def keys(self) -> float: ...
    @property
    def bytes(self) -> float: ...
    def memory_bytes(self) -> int: ...

def edges() -> NDArray[np.float64]: ...
