"""What is worth writing: an `Admission` decides on what is offered to the disk tier."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hybridcore.errors import ConfigurationError
from hybridcore.units import Size, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore._native.marks import Marks
    from hybridcore._native.record import Packed

Verdict = Literal["admitted", "first", "size", "rate"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What `Lmdb.offer` writes; whatever replaces an entry on disk is written in any case.

    - ``reject_first``: a key is written when it is offered again, and only remembered the first
      time: what is used once never costs a write
    - ``min_size``, ``max_size``: of the record, key included
    - ``write_rate``: bytes a second of this process, a burst of a second included; None: no limit

    Raises:
        ConfigurationError: a size is no size, or no record fits both.
    """

    reject_first: bool = True
    min_size: Size = 0
    max_size: Size | None = None
    write_rate: Size | None = None

    def __post_init__(self) -> None:
        least = size_in_bytes(self.min_size) if self.min_size else 0
        most = None if self.max_size is None else size_in_bytes(self.max_size)
        rate = None if self.write_rate is None else size_in_bytes(self.write_rate)
        if most is not None and most < least:
            raise ConfigurationError(
                f"max_size is expected to be at least min_size={self.min_size!r}, "
                f"got {self.max_size!r}"
            )
        for name, value in (("min_size", least), ("max_size", most), ("write_rate", rate)):
            object.__setattr__(self, name, value)


class Admitter:
    """Judges what is offered, and counts its verdicts."""

    def __init__(
        self, admission: Admission, marks: Marks, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self._admission = admission
        self._marks = marks
        self._clock = clock
        self._lock = threading.Lock()
        rate = admission.write_rate
        self._rate = None if rate is None else int(rate)
        self._credit = float(self._rate or 0)
        self._credited = clock()

    def judge(self, packed: Packed) -> Verdict:
        """Say whether to write a record that replaces none."""
        with self._lock:
            verdict = self._judge(packed)
            self.verdicts[verdict] += 1
        return verdict

    def _judge(self, packed: Packed) -> Verdict:
        size = len(packed.record)
        most = self._admission.max_size
        if size < int(self._admission.min_size) or (most is not None and size > int(most)):
            return "size"
        if self._admission.reject_first and not self._marks.offered(packed.key):
            return "first"
        if self._rate is not None:
            now = self._clock()
            earned = (now - self._credited) * self._rate
            self._credit = min(self._credit + earned, float(self._rate))
            self._credited = now
            if self._credit <= 0:
                return "rate"
            self._credit -= size  # may go below 0: the next ones wait for what a large one took
        return "admitted"
