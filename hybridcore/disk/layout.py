"""What kinds of directories there are: their stamps, databases, and what goes with them."""

from __future__ import annotations

from typing import NamedTuple

FORMAT = 4


class Layout(NamedTuple):
    """A kind of directory: the word and number of its stamp, its databases, what goes with them.

    What a power failure may have spoiled is discarded where it is ``disposable``, and set aside
    where it is not. Under ``"power"`` a commit is sure to survive when it has returned, or, with
    ``settles_later``, after `Environment.settle`; what one leaves behind is whole in either case.
    """

    word: str
    format: int
    databases: tuple[str, ...]
    has_marks: bool
    disposable: bool
    settles_later: bool = False


DISK = Layout("disk", FORMAT, ("data", "meta", "order", "expiry", "log", "barriers"), True, True)
"""A disk tier.

``data``   LMDB key -> record
``order``  hash of the LMDB key, 8 bytes big-endian -> traits, LMDB key
``expiry`` end of its life, hash, each 8 bytes big-endian -> nothing
``meta``   format stamp
``log``, ``barriers``  what was invalidated, see `hybridcore.invalidation.log`

The tally is in the database that lists these, whose one page every commit writes anyway.
"""
