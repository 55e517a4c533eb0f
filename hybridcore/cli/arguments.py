"""What the arguments of commands are: counts, durations, sizes, checked as they are read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeVar

from hybridcore.errors import ConfigurationError
from hybridcore.units import seconds, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def _checked(convert: Callable[[str], T], text: str) -> T:
    try:
        return convert(text)
    except (ConfigurationError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def a_count(text: str) -> int:
    """A whole number of at least 1."""
    number = _checked(int, text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number


def a_duration(text: str) -> float:
    """Seconds, as a number or in words such as "5m"."""
    return _checked(lambda text: seconds(float(text) if text.isdecimal() else text), text)


def a_size(text: str) -> int:
    """Bytes, as a number or in words such as "64MiB"."""
    return _checked(size_in_bytes, text)


def a_memory(text: str) -> int | str:
    """Entries as int, bytes as str, as `hybridcore.Memory` takes them."""
    if text.isdecimal():
        return a_count(text)
    a_size(text)
    return text
