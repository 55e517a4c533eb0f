"""``hybridcore dashboards export``: dashboards for Grafana, and these and monitors for Datadog."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError
from hybridcore.cli.output import print_json

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser("dashboards", help="dashboards for Grafana and Datadog")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    export = actions.add_parser(
        "export",
        help="write dashboards as files",
        description="Write a file for each dashboard, as Grafana imports or provisions them, or as "
        "the API of Datadog takes them, with a file of its monitors.",
    )
    add = export.add_argument
    add("directory", type=Path, metavar="DIR", help="where the files go; made if missing")
    add("--datadog", action="store_true", help="for Datadog; without, for Grafana")
    add("--json", action="store_true", help="print the names of the files as JSON")
    export.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Carry out the command."""
    files = _for_datadog() if options.datadog else _for_grafana()
    try:
        options.directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            text = json.dumps(content, indent=2) + "\n"
            (options.directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    written = [str(options.directory / name) for name in files]
    if options.json:
        print_json(written)
    else:
        print("\n".join(written))
    return 0


def _for_grafana() -> dict[str, Any]:
    from hybridcore.monitoring.dashboards import DASHBOARDS
    from hybridcore.monitoring.dashboards.grafana import dashboard

    return {f"{told.name}.json": dashboard(told) for told in DASHBOARDS}


def _for_datadog() -> dict[str, Any]:
    from hybridcore.monitoring.dashboards import DASHBOARDS
    from hybridcore.monitoring.dashboards.datadog import dashboard, monitor
    from hybridcore.monitoring.rules import BUILT_IN

    made = {f"{told.name}.json": dashboard(told) for told in DASHBOARDS}
    files: dict[str, Any] = {name: content for name, content in made.items() if content is not None}
    files["monitors.json"] = [found for rule in BUILT_IN if (found := monitor(rule)) is not None]
    return files
