"""``hybridcore doctor``: what is wrong with a directory, and what cures it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.cli.output import print_json

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "doctor",
        help="find what is wrong with a directory, and tell the cure",
        description="Look at the directory of a disk tier or a write queue: permissions, file "
        "system, format, damage, space, readers, writes that nobody brings out, clocks; and at "
        "what is installed. Whoever uses it goes on. The status is 1 if there is an error.",
    )
    command.add_argument("directory", type=Path, metavar="DIR")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Carry out the command."""
    from hybridcore.monitoring.doctor import as_dict, examine

    found = examine(options.directory)
    if options.json:
        print_json([as_dict(finding) for finding in found])
    else:
        for finding in found:
            print(f"{finding.level}: {finding.text}")
            if finding.cure:
                print(f"    {finding.cure}")
        if all(finding.level == "note" for finding in found):
            print("nothing is wrong")
    return int(any(finding.level == "error" for finding in found))
