"""Durations and sizes in words: ``"5m"`` and ``"256MiB"`` become seconds and bytes."""

from __future__ import annotations

import math
import re

from hybridcore.errors import ConfigurationError

Duration = float | str
"""Seconds, or a number with a unit (ns, us, ms, s, m, h, d, w); ``"1h30m"`` adds up."""

Size = int | str
"""Bytes, or a number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)."""

_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_BYTES = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def seconds(duration: Duration) -> float:
    """Return the duration in seconds.

    >>> seconds("1h30m"), seconds("250ms"), seconds(5)
    (5400.0, 0.25, 5.0)

    Raises:
        ConfigurationError: not a number, unknown unit, negative or NaN.
    """
    if isinstance(duration, str):
        text = duration.strip().lower()
        parts = _PART.findall(text)
        if not parts or "".join(n + u for n, u in parts) != text:
            raise ConfigurationError(
                f'expected a duration such as 30, "30s", "5m" or "1h30m", got {duration!r}'
            )
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise ConfigurationError(
            f'expected a duration in seconds or a str such as "5m", got {duration!r}'
        )
    if math.isnan(duration) or duration < 0:
        raise ConfigurationError(f"expected a duration of at least 0 seconds, got {duration!r}")
    return float(duration)


def size_in_bytes(size: Size) -> int:
    """Return the size in bytes.

    >>> size_in_bytes("256MiB"), size_in_bytes("1.5kB"), size_in_bytes(100)
    (268435456, 1500, 100)

    Raises:
        ConfigurationError: not a whole number, unknown unit or negative.
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size.strip().lower())
        if match is None or match[2] not in _BYTES:
            raise ConfigurationError(
                f'expected a size such as 1048576, "64KiB" or "8GiB", got {size!r}'
            )
        return int(float(match[1]) * _BYTES[match[2]])
    if isinstance(size, bool) or not isinstance(size, int):
        raise ConfigurationError(
            f'expected a size in bytes or a str such as "256MiB", got {size!r}'
        )
    if size < 0:
        raise ConfigurationError(f"expected a size of at least 0 bytes, got {size}")
    return size
