"""`Trial`: how often guesses came true, by how sure they were."""

from __future__ import annotations

_BUCKETS = 10
_FADE = 0.995
"""What is left of an old outcome with each new one: about the last 200 count."""


class Trial:
    """How often guesses of a confidence came true, the latest counting most."""

    def __init__(self) -> None:
        self._tried = [0.0] * _BUCKETS
        self._right = [0.0] * _BUCKETS
        self.tried = 0

    def note(self, confidence: float, right: bool) -> None:
        """A guess made with this confidence came true, or did not."""
        self.tried += 1
        bucket = _bucket(confidence)
        self._tried[bucket] = self._tried[bucket] * _FADE + 1
        self._right[bucket] = self._right[bucket] * _FADE + right

    def probability(self, confidence: float) -> float:
        """That a guess of this confidence comes true; careful while little is known."""
        bucket = _bucket(confidence)
        return self._right[bucket] / (self._tried[bucket] + 4.0)

    def precision(self) -> float:
        """Of all guesses."""
        return sum(self._right) / (sum(self._tried) or 1.0)

    def best(self) -> float:
        """Of the guesses of the confidence that does best."""
        return max(self.probability((n + 0.5) / _BUCKETS) for n in range(_BUCKETS))


def _bucket(confidence: float) -> int:
    return max(0, min(_BUCKETS - 1, int(confidence * _BUCKETS)))
