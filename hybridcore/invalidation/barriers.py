"""Barriers: what an invalidation of a tag, or of everything, covers without touching it."""

from __future__ import annotations

from typing import NamedTuple

FLOOR, MERGED = b"f", b"m"
"""Names of the barriers of all entries, and of all tags that have none of their own."""


class Barrier(NamedTuple):
    """What is older is invalid: than an entry of the log in memory, up to a version on disk.

    What is older than the ``hard`` ones must not be served as stale either.
    """

    number: int
    version: int
    hard_number: int
    hard_version: int

    def raised(self, number: int, version: int, *, hard: bool) -> Barrier:
        """The barrier after another invalidation."""
        if hard:
            return Barrier(number, version, number, version)
        return self._replace(number=number, version=version)


NO_BARRIER = Barrier(0, 0, 0, 0)
