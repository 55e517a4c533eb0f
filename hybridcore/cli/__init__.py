"""The command ``hybridcore``: one module a subcommand, found by its name."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from hybridcore import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

COMMANDS = (
    "capacity",
    "dashboards",
    "dlq",
    "doctor",
    "invalidations",
    "mrc",
    "queue",
    "recommend",
    "replay",
    "report",
    "rules",
    "serve",
    "simulate",
    "stats",
    "top",
    "warm",
)


class UsageError(Exception):
    """What was asked for cannot be done; the message says why, in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status, 2 for wrong usage, 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.run(options)
    except UsageError as error:
        print(f"hybridcore: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hybridcore: interrupted", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybridcore", description="A hybrid cache: compiled memory, shared disk, your origin."
    )
    parser.add_argument("--version", action="version", version=f"hybridcore {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"hybridcore.cli.{name}").add_to(commands)
    return parser
