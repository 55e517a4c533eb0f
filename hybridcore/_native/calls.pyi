from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class Calls:
    @classmethod
    def _native_own_call(cls) -> None: ...
    def _native_open(
        self,
        function: Callable[..., Any],
        cache: Any,
        key: Callable[..., Any],
        lock: Any,
        condition: Any,
        mark: object,
        instance: Any = None,
        /,
    ) -> None: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...
    @property
    def cache(self) -> Any: ...
    @property
    def cache_key(self) -> Callable[..., Any]: ...
    @property
    def cache_lock(self) -> Any: ...
    @property
    def cache_condition(self) -> Any: ...
    def cache_clear(self) -> None: ...
    def _native_counts(self) -> tuple[int, int]: ...
