"""What a forked child forgets: locks that others held, and work that nobody is here to end."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """What is told of forks."""

    def start_afresh(self) -> None:
        """Make new locks and forget what is under way; called in the child."""


_told: WeakSet[Forgetful] = WeakSet()
_watching = False


def start_afresh_after_forks(one: Forgetful) -> None:
    """Have ``start_afresh`` called in each child that is forked while the object lives."""
    global _watching
    _told.add(one)
    if not _watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)
        _watching = True


def _after_fork_in_child() -> None:
    for one in list(_told):
        one.start_afresh()
