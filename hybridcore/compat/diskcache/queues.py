"""Queues in a cache: their entries have numbers for keys, from 500 trillion up and down."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from hybridcore.compat.diskcache import walk

if TYPE_CHECKING:
    from hybridcore._native.reader import Record
    from hybridcore.disk.tier import Lmdb

Side = Literal["back", "front"]

_MIDDLE = 500_000_000_000_000
_LAST = 999_999_999_999_999
_NUMBER = re.compile("[0-9]{15}")


def push(
    tier: Lmdb[Any, Any],
    value: Any,
    prefix: str | None,
    side: Side,
    *,
    ttl: float | None,
    tag: str | None,
) -> int | str:
    """Add a value at one side; return its key. Of several at the same time each has its own."""
    _check(side)
    step = 1 if side == "back" else -1
    end = _end(tier, prefix, side)
    if end is None:
        number = _MIDDLE
    else:
        number = (end if prefix is None else int(end[len(prefix) + 1 :])) + step
    while True:
        key = number if prefix is None else f"{prefix}-{number:015d}"
        if tier.add(key, value, ttl=ttl, tag=tag):
            return key
        number += step


def pull(tier: Lmdb[Any, Any], prefix: str | None, side: Side) -> tuple[Any, Record] | None:
    """Take the fresh entry at one side; expired ones on the way are deleted."""
    _check(side)
    while (key := _end(tier, prefix, side)) is not None:
        record = walk.take(tier, key)
        if record is not None:
            return key, record
    return None


def peek(tier: Lmdb[Any, Any], prefix: str | None, side: Side) -> tuple[Any, Record] | None:
    """Return the fresh entry at one side; expired ones on the way are deleted."""
    _check(side)
    while (key := _end(tier, prefix, side)) is not None:
        record = tier.fetch(key)
        if record is not None and record.fresh:
            return key, record
        if not tier.expire():
            tier.delete(key)  # what is damaged does not expire
    return None


def _end(tier: Lmdb[Any, Any], prefix: str | None, side: Side) -> Any:
    """The key at one side of the queue; None if it is empty."""
    if prefix is None:
        return walk.between(tier, 0, _LAST, last=side == "back")
    low, high = f"{prefix}-000000000000000", f"{prefix}-{_LAST}"
    while True:
        key = walk.between(tier, low, high, last=side == "back")
        if key is None or _NUMBER.fullmatch(key, len(prefix) + 1):
            return key
        low, high = (low, key) if side == "back" else (key, high)  # somebody else's key


def _check(side: str) -> None:
    if side not in ("back", "front"):
        raise ValueError(f"side is expected to be 'back' or 'front', got {side!r}")
