"""`Retention`: how much of the log of invalidations a directory keeps."""

from __future__ import annotations

from dataclasses import dataclass

from hybridcore.errors import ConfigurationError
from hybridcore.units import Duration, seconds


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of a log: the newest ``entries``, as far as they are not older than ``age``.

    A process that has read less far than the log goes back forgets all that it holds in memory,
    and a bus that was away for longer has everything loaded anew. Entries go in batches, so that
    some more may be there for a while.

    Raises:
        ConfigurationError: less than 100 entries, or no age.
    """

    entries: int = 100_000
    age: Duration | None = None

    def __post_init__(self) -> None:
        if isinstance(self.entries, bool) or not isinstance(self.entries, int):
            raise ConfigurationError(f"entries is expected to be an int, got {self.entries!r}")
        if self.entries < 100:
            raise ConfigurationError(
                f"a log is expected to keep at least 100 entries, got {self.entries}: who reads "
                "less far forgets everything"
            )
        if self.age is not None and not seconds(self.age):
            raise ConfigurationError("age=0 would keep nothing. Give a duration, or None for any")

    @property
    def batch(self) -> int:
        """After how many entries those that are too many are removed."""
        return max(8, min(1024, self.entries // 8))

    @property
    def seconds(self) -> float | None:
        """The age in seconds."""
        return None if self.age is None else seconds(self.age)
