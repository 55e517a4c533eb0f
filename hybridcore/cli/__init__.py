"""The command ``hybridcore``: reads its arguments and hands them to what does the work."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hybridcore import __version__
from hybridcore.errors import ConfigurationError
from hybridcore.units import seconds, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class UsageError(Exception):
    """What was asked for cannot be done; the message says why, in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 when a replay read a wrong value, 2 for wrong usage."""
    options = _parser().parse_args(argv)
    from hybridcore.cli.replay import replay

    try:
        return replay(options)
    except UsageError as error:
        print(f"hybridcore: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hybridcore: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybridcore", description="A hybrid cache: compiled memory, shared disk, your origin."
    )
    parser.add_argument("--version", action="version", version=f"hybridcore {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "replay",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        help="replay a trace of requests through memory, disk and an HTTP origin",
        description="Replay a trace of requests through memory, disk and an HTTP origin that is "
        "started for it on loopback; then once more in a fresh process over the same disk tier, "
        "and, to compare, through memory alone and without a cache. Every value is checked.",
    )
    command.add_argument(
        "trace",
        nargs="?",
        type=Path,
        metavar="TRACE",
        help=".npz with an array 'keys', .csv with keys in the first column, or text with a key "
        "a line; by default the conversation trace that comes with hybridcore",
    )
    add = command.add_argument
    add("--requests", type=_count, default=15_000, metavar="N", help="replay the first N requests")
    add(
        "--memory",
        type=_memory,
        default=2_000,
        metavar="SIZE",
        help='size of the memory tier: entries, or bytes such as "64MiB"',
    )
    add("--disk", type=_size, default="1GiB", metavar="SIZE", help="size of the disk tier")
    add(
        "--directory",
        type=Path,
        metavar="DIR",
        help="keep the disk tier in DIR/hybridcore-replay, emptied first; by default in a "
        "temporary directory",
    )
    add(
        "--latency",
        type=_duration,
        default="5ms",
        metavar="TIME",
        help="the origin's median time to answer",
    )
    add(
        "--rate-limit",
        type=_count,
        default=2_000,
        metavar="N",
        help="requests a second that the origin answers; it refuses more with 429",
    )
    add(
        "--ttl",
        type=_duration,
        default="5s",
        metavar="TIME",
        help="how long one key in ten stays fresh; the others stay so for an hour",
    )
    add("--workers", type=_count, default=8, metavar="N", help="threads that share the requests")
    add("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    add("--no-compare", action="store_true", help="leave out memory alone and no cache")
    return parser


def _checked(convert: Callable[[str], T], text: str) -> T:
    try:
        return convert(text)
    except (ConfigurationError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    number = _checked(int, text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number


def _duration(text: str) -> float:
    return _checked(lambda text: seconds(float(text) if text.isdecimal() else text), text)


def _size(text: str) -> int:
    return _checked(size_in_bytes, text)


def _memory(text: str) -> int | str:
    """Entries as int, bytes as str, as `hybridcore.Memory` takes them."""
    if text.isdecimal():
        return _count(text)
    _size(text)
    return text
