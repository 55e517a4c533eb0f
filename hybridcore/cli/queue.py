"""``hybridcore queue``: what waits in the directory of a write queue."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.cli import UsageError
from hybridcore.cli.output import print_json, print_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from hybridcore.cli import Subparsers
    from hybridcore.write_queue import WriteQueue


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "queue",
        help="show what waits in a write queue",
        description="Show how many writes wait in the directory of a write queue, by level, and "
        "how many died. Whoever uses the queue goes on.",
    )
    command.add_argument("directory", type=Path, metavar="DIR", help="of the write queue")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Carry out the command."""
    with opened(options.directory) as queue:
        stats = queue.stats()
    if options.json:
        print_json(
            {
                "levels": stats.levels,
                "depth": stats.depth,
                "bytes": stats.bytes,
                "oldest": stats.oldest,
                "running": stats.running,
                "delayed": stats.delayed,
                "dead": stats.dead,
                "dead_bytes": stats.dead_bytes,
            }
        )
        return 0
    rows = [
        (name, f"{level.items:,}", f"{level.bytes:,}", f"{level.oldest:.1f} s")
        for name, level in stats.levels.items()
    ]
    print_table(("level", "writes", "bytes", "oldest waits"), rows)
    print(f"under way {stats.running:,}, delayed {stats.delayed:,}, dead letters {stats.dead:,}")
    return 0


@contextmanager
def opened(directory: Path) -> Iterator[WriteQueue]:
    """Open the queue in a directory that has one."""
    from hybridcore.errors import HybridCoreError
    from hybridcore.write_queue import WriteQueue

    if not (directory / "data.mdb").is_file():
        raise UsageError(f"there is no write queue in {directory}")
    try:
        with WriteQueue(directory) as queue:
            yield queue
    except HybridCoreError as error:
        raise UsageError(str(error)) from error
