"""``hybridcore dlq``: the dead letters of a write queue, listed, shown, replayed, purged."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError, arguments
from hybridcore.cli.output import print_json, print_table
from hybridcore.cli.queue import opened

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from hybridcore.cli import Subparsers
    from hybridcore.write_queue import DeadLetter, WriteQueue


def add_to(commands: Subparsers) -> None:
    """Add the command's parsers."""
    command = commands.add_parser(
        "dlq",
        help="list, show, replay or purge the dead letters of a write queue",
        description="The writes that a queue gave up, with their errors.",
    )
    actions = command.add_subparsers(required=True, metavar="ACTION")
    for name, run, summary in (
        ("list", _list, "list dead letters, oldest first"),
        ("show", _show, "show one with its payload and traceback"),
        ("replay", _replay, "queue them again; those that a newer write has superseded are left"),
        ("purge", _purge, "forget them for good"),
    ):
        action = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        action.add_argument("directory", type=Path, metavar="DIR", help="of the write queue")
        action.set_defaults(run=run)
        add = action.add_argument
        if name == "show":
            add("id", type=arguments.a_count, help="of the letter")
        else:
            add("--id", type=arguments.a_count, metavar="ID", help="only this one")
            add("--error", metavar="CLASS", help="only those that died of this class of error")
            add("--reason", metavar="REASON", help='only those of this reason, such as "attempts"')
        if name in ("list", "show"):
            add("--json", action="store_true", help="print JSON")
        if name == "replay":
            add("--rate", type=float, metavar="N", help="at most N a second")
            add("--force", action="store_true", help="also those that a newer write superseded")
        if name == "purge":
            add("--older-than", type=arguments.a_duration, metavar="TIME", help="since they died")
            add("--all", action="store_true", help="needed to purge without any condition")


def _list(options: argparse.Namespace) -> int:
    with opened(options.directory) as queue:
        wanted = _where(options)
        letters = [letter for letter in queue.dead_letters if wanted(letter)]
    if options.json:
        print_json([_summary(letter) for letter in letters])
        return 0
    rows = [
        (
            str(letter.id),
            repr(letter.key),
            letter.level,
            letter.reason,
            f"{letter.error}: {letter.message}"[:60],
            str(letter.attempts),
            _moment(letter.died_at),
            "superseded" if letter.superseded else "",
        )
        for letter in letters
    ]
    print_table(("id", "key", "level", "reason", "error", "attempts", "died", ""), rows)
    return 0


def _show(options: argparse.Namespace) -> int:
    with opened(options.directory) as queue:
        _require(queue, options.id)
        letter = queue.dead_letters.get(options.id)
    assert letter is not None
    if options.json:
        print_json({**_summary(letter), "value": letter.value, "traceback": letter.traceback})
        return 0
    for name, value in _summary(letter).items():
        print(f"{name:12} {value}")
    print(f"{'value':12} {'(a delete)' if letter.deletes else repr(letter.value)}")
    print(f"\n{letter.traceback}", end="")
    return 0


def _replay(options: argparse.Namespace) -> int:
    with opened(options.directory) as queue:
        _require(queue, options.id)
        count = queue.dead_letters.replay(
            options.id, where=_where(options), rate=options.rate, force=options.force
        )
        left = len(queue.dead_letters)
    print(f"{count:,} queued again, {left:,} dead letters left")
    return 0


def _purge(options: argparse.Namespace) -> int:
    conditions = (options.id, options.error, options.reason, options.older_than)
    if not options.all and all(condition is None for condition in conditions):
        raise UsageError("say which to purge: --id, --error, --reason, --older-than, or --all")
    with opened(options.directory) as queue:
        _require(queue, options.id)
        count = queue.dead_letters.purge(
            options.id, where=_where(options), older_than=options.older_than
        )
    print(f"{count:,} purged")
    return 0


def _require(queue: WriteQueue, number: int | None) -> None:
    """Have the letter that is asked for be there."""
    if number is not None and queue.dead_letters.get(number) is None:
        raise UsageError(f"there is no dead letter {number}")


def _where(options: argparse.Namespace) -> Callable[[DeadLetter], bool]:
    return lambda letter: (
        options.id in (None, letter.id)
        and options.error in (None, letter.error)
        and options.reason in (None, letter.reason)
    )


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "key": letter.key,
        "deletes": letter.deletes,
        "level": letter.level,
        "reason": letter.reason,
        "error": letter.error,
        "message": letter.message,
        "attempts": letter.attempts,
        "taken": _moment(letter.taken_at),
        "died": _moment(letter.died_at),
        "superseded": letter.superseded,
        "bytes": letter.size,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
