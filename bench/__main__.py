"""``python -m bench NAME`` runs one of the comparisons."""

from __future__ import annotations

import argparse

from bench import ratios


def main() -> None:
    """Read the command line and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    command = commands.add_parser("ratios", help="interleaved rounds", description=ratios.__doc__)
    ratios.add_arguments(command)
    command.set_defaults(run=ratios.main)
    options = parser.parse_args()
    options.run(options)


main()
