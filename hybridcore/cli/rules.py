"""``hybridcore rules export``: alerting rules for Prometheus, of the same definitions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.cli import UsageError
from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser("rules", help="alert rules for Prometheus")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    export = actions.add_parser("export", help="print alerting rules as a rule file of Prometheus")
    export.add_argument(
        "--rules",
        type=Path,
        metavar="FILE",
        help="rules and objectives of TOML, added to those built in",
    )
    export.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Carry out the command."""
    from hybridcore.monitoring import rules

    own = []
    if options.rules is not None:
        try:
            own = rules.load(options.rules)
        except (ConfigurationError, OSError) as error:
            raise UsageError(str(error)) from error
    sys.stdout.write(rules.export([*rules.BUILT_IN, *own]))
    return 0
