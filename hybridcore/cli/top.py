"""``hybridcore top``: what ``hybridcore serve`` shows, in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hybridcore.cli import UsageError
from hybridcore.cli.serve import watch_arguments, watching

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "top",
        help="show caches in the terminal, live",
        description="Show caches live, found by the directories of their disk tiers, of their "
        "write queues, or in which their processes publish statistics. Whoever uses them goes on.",
    )
    watch_arguments(command)
    command.set_defaults(run=top)


def top(options: argparse.Namespace) -> int:
    """Carry out the command."""
    try:
        from hybridcore.cli.top_screen import Top
    except ImportError as error:
        raise UsageError("the screen needs: pip install 'hybridcore[top]'") from error
    watcher = watching(options.directories, options.interval, options.rules)
    try:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("top needs a terminal; hybridcore stats DIR --json needs none")
        Top(watcher).run()
    finally:
        watcher.close()
    return 0
