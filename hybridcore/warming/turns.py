"""`Turns`: long work in a thread, cut so that readers need not wait for the interpreter."""

from __future__ import annotations

from time import perf_counter, sleep

_WORK, _REST = 0.0005, 0.00002
"""Seconds. A thread that does not rest keeps the interpreter for 5 ms when another wants it."""


class Turns:
    """Rests for a moment after each half a millisecond of work, if anybody could want the turn."""

    def __init__(self, *, are_taken: bool) -> None:
        self._are_taken = are_taken
        self._until = 0.0

    def begin(self) -> None:
        """Work begins, after a pause or at first."""
        if self._are_taken:
            self._until = perf_counter() + _WORK

    def rest(self) -> None:
        """Call it between two pieces of work."""
        if self._are_taken and perf_counter() >= self._until:
            sleep(_REST)
            self._until = perf_counter() + _WORK
