from collections.abc import Callable
from types import TracebackType
from typing import Any, final

from typing_extensions import Self

from hybridcore._native.pages import Map

@final
class Gate:
    begin: Any
    data: Any
    map: Map | None
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
