"""The levels of a durable queue: their names, which one a key has, and how long each may gather."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.units import Duration, seconds
from hybridcore.write_queue.records import MOST_LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEVELS = ("urgent", "normal", "low")


class Levels:
    """Names, the most urgent first; a key has the middle one unless ``level_of`` says another."""

    def __init__(self, names: Sequence[str], level_of: Callable[[Any], str] | None) -> None:
        if level_of is not None and not callable(level_of):
            raise ConfigurationError(
                f"level_of is expected to be a function of a key, got {level_of!r}"
            )
        self.level_of = level_of
        self.use(_checked(names))

    def use(self, names: tuple[str, ...]) -> None:
        """Have these names, which the directory was made with."""
        self.names = names
        self.middle = len(names) // 2

    def of(self, key: Any, level: str | None) -> int:
        """The number of the level named, or of the key's.

        Raises:
            ConfigurationError: there is none of this name.
        """
        if level is None:
            if self.level_of is None:
                return self.middle
            level = self.level_of(key)
        try:
            return self.names.index(level)
        except ValueError:
            raise ConfigurationError(
                f"level is expected to be one of {', '.join(self.names)}, got {level!r}"
            ) from None

    def delays(self, delay: Duration | dict[str, Duration]) -> list[int]:
        """The ``batch_delay`` of each level, ns.

        Raises:
            ConfigurationError: a level is unknown.
        """
        if not isinstance(delay, dict):
            return [0] + [int(seconds(delay) * 1e9)] * (len(self.names) - 1)
        unknown = set(delay) - set(self.names)
        if unknown:
            raise ConfigurationError(
                f"batch_delay is expected to be of the levels {', '.join(self.names)}, "
                f"got {unknown}"
            )
        return [int(seconds(delay.get(level, 0.0)) * 1e9) for level in self.names]


def _checked(levels: Sequence[str]) -> tuple[str, ...]:
    names = tuple(levels)
    if (
        isinstance(levels, str)
        or not 1 <= len(names) <= MOST_LEVELS
        or len(set(names)) != len(names)
        or not all(isinstance(name, str) and name and "\n" not in name for name in names)
    ):
        raise ConfigurationError(
            f"levels is expected to be 1 to {MOST_LEVELS} different names, got {levels!r}"
        )
    return names
