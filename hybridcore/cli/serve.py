"""``hybridcore serve``: a live page of the caches whose directories are given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.cli import UsageError, arguments

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers
    from hybridcore.monitoring.watcher import Watcher

_REACH = "2h"
"""Of what alerts look back at: twice what they compare with."""
_TOKEN = "HYBRIDCORE_TOKEN"  # noqa: S105  # the name of a variable


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "serve",
        help="show caches on a live page",
        description="Serve a live page of caches, found by the directories of their disk tiers, of "
        "their write queues, or in which their processes publish statistics. Whoever uses them "
        "goes on. The page is for this host; from elsewhere it needs a token.",
    )
    watch_arguments(command)
    add = command.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    add("--port", type=a_port, default=8420, help="0: any that is free (8420)")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"with the token that is the password; or in the variable {_TOKEN}",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which the page may be reached; may be given several times",
    )
    command.set_defaults(run=serve)


def watch_arguments(command: argparse.ArgumentParser) -> None:
    """Add what tells the caches to look at."""
    command.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    add = command.add_argument
    add("--interval", type=arguments.a_duration, default=2.0, metavar="TIME", help="(2s)")
    add("--rules", type=Path, metavar="FILE", help="TOML with alert rules beside those built in")


def a_port(text: str) -> int:
    """A port, or 0 for any that is free."""
    import argparse

    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def serve(options: argparse.Namespace) -> int:
    """Carry out the command."""
    try:
        from hybridcore.web.gate import is_loopback
        from hybridcore.web.server import serve as serve_page
    except ImportError as error:
        raise UsageError("the page needs: pip install 'hybridcore[serve]'") from error
    from hybridcore.errors import ConfigurationError

    token = _token(options.token_file)
    if token is None and not is_loopback(options.host):
        raise UsageError(
            f"{options.host!r} can be reached from other hosts: give --token-file FILE or the "
            f"variable {_TOKEN}, or listen on 127.0.0.1"
        )
    watcher = watching(options.directories, options.interval, options.rules)
    try:
        watcher.ask()
        serve_page(
            watcher,
            options.host,
            options.port,
            token=token,
            hosts=options.allow_host,
            on_ready=lambda url: print(f"{url}  (Ctrl-C ends it)", flush=True),
        )
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        place = f"{options.host}:{options.port}"
        raise UsageError(f"cannot listen on {place}: {error.strerror}") from error
    finally:
        watcher.close()
    return 0


def watching(directories: list[Path], interval: float, rules: Path | None = None) -> Watcher:
    """Watch directories, by the rules built in and those of a file."""
    from hybridcore.errors import ConfigurationError
    from hybridcore.monitoring.alerts import Alerts
    from hybridcore.monitoring.rules import BUILT_IN, load
    from hybridcore.monitoring.watched import WatchedDirectory
    from hybridcore.monitoring.watcher import Watcher

    watched: list[WatchedDirectory] = []
    try:
        own = [] if rules is None else load(rules)
        alerts = Alerts({}, rules=[*BUILT_IN, *own], reach=_REACH)
        for directory in dict.fromkeys(directories):
            watched.append(WatchedDirectory(directory))  # noqa: PERF401  # closed if one fails
        return Watcher(watched, interval=interval, alerts=alerts, always=True)
    except (ConfigurationError, OSError) as error:
        for one in watched:
            one.close()
        raise UsageError(str(error)) from error


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(_TOKEN) or None
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token could not be read: {error}") from error
