"""Numbers as people read them on a screen: counts, shares, durations, sizes, ages."""

from __future__ import annotations

NONE = "-"
_DURATIONS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))


def number(value: float | None) -> str:
    """A count or a rate."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"


def share(value: float | None) -> str:
    """A ratio in percent."""
    return NONE if value is None else f"{value:.1%}"


def duration(value: float | None) -> str:
    """Seconds in the unit that fits."""
    if value is None:
        return NONE
    if value == 0:
        return "0 s"
    for unit, name in _DURATIONS:
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 1e9:.0f} ns"


def size(value: float | None) -> str:
    """Bytes in the unit that fits."""
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"


def sized(value: float | None, unit: str) -> str:
    """The size of a cache, which is in bytes or entries."""
    return size(value) if unit == "bytes" else f"{number(value)} entries"
