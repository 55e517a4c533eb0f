"""``hybridcore rules``: the alert rules as files of Prometheus, and unit tests of these."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.cli import UsageError
from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers
    from hybridcore.monitoring.rules import Rule


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser("rules", help="alert rules for Prometheus, and their unit tests")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    export = actions.add_parser("export", help="print a rule file of Prometheus")
    tests = actions.add_parser("tests", help="print unit tests for promtool test rules")
    for action in (export, tests):
        action.add_argument(
            "--rules",
            type=Path,
            metavar="FILE",
            help="rules and objectives of TOML, added to those built in",
        )
        action.add_argument(
            "--runbooks", metavar="URL", help="the page that has a section for each alert"
        )
    export.set_defaults(run=show)
    tests.add_argument(
        "--file",
        default="hybridcore-rules.yml",
        metavar="NAME",
        help="the rule file that they test (hybridcore-rules.yml)",
    )
    tests.set_defaults(run=show_tests)


def show(options: argparse.Namespace) -> int:
    """Print the rule file."""
    from hybridcore.monitoring import prometheus

    sys.stdout.write(prometheus.export(_rules(options)))
    return 0


def show_tests(options: argparse.Namespace) -> int:
    """Print the unit tests."""
    from hybridcore.monitoring import prometheus

    sys.stdout.write(prometheus.unit_tests(_rules(options), options.file))
    return 0


def _rules(options: argparse.Namespace) -> list[Rule]:
    from hybridcore.monitoring import rules

    page = rules.RUNBOOKS if options.runbooks is None else options.runbooks
    try:
        own = [] if options.rules is None else rules.load(options.rules, runbooks=page)
        return [*rules.with_runbooks(rules.BUILT_IN, page), *own]
    except (ConfigurationError, OSError) as error:
        raise UsageError(str(error)) from error
