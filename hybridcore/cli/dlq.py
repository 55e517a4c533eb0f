"""``hybridcore dlq``: the dead letters of a write queue, listed, shown, replayed, purged."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError, arguments, letters
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
        if name == "show":
            add("--value", action="store_true", help="print nothing but the value, to be edited")
        if name == "replay":
            add(
                "--value",
                metavar="FILE",
                help="with --id: the value in this file, or of standard input (-), in the place of "
                "the one it died with: JSON, or as it is where that is text or bytes",
            )
            add("--level", metavar="LEVEL", help="in the place of the one it had")
            add("--rate", type=float, metavar="N", help="at most N a second")
            add("--force", action="store_true", help="also those that a newer write superseded")
        if name == "purge":
            add("--older-than", type=arguments.a_duration, metavar="TIME", help="since they died")
            add("--all", action="store_true", help="needed to purge without any condition")


def _list(options: argparse.Namespace) -> int:
    with opened(options.directory) as queue:
        wanted = _where(options)
        found = [letter for letter in queue.dead_letters if wanted(letter)]
    if options.json:
        print_json([_summary(letter) for letter in found])
        return 0
    rows = [
        (
            str(letter.id),
            repr(letter.key),
            letter.level,
            letter.reason,
            _plain(" ".join(f"{letter.error}: {letter.message}"[:200].split()))[:60],
            str(letter.attempts),
            _moment(letter.died_at),
            "superseded" if letter.superseded else "",
        )
        for letter in found
    ]
    print_table(("id", "key", "level", "reason", "error", "attempts", "died", ""), rows)
    return 0


def _show(options: argparse.Namespace) -> int:
    with opened(options.directory) as queue:
        letter = _require(queue, options.id)
    assert letter is not None
    if options.value:
        sys.stdout.buffer.write(letters.as_file(letter))
        return 0
    if options.json:
        more = ("value", "unreadable", "traceback")
        print_json(_summary(letter) | {name: getattr(letter, name) for name in more})
        return 0
    for name, value in _summary(letter).items():
        print(f"{name:12} {_plain(str(value))}")
    shown = "(a delete)" if letter.deletes else repr(letter.value)
    if letter.unreadable:
        shown = f"(cannot be read here: {letter.unreadable})"
    print(f"{'value':12} {shown}")
    print(f"\n{_plain(letter.traceback)}", end="")
    return 0


def _replay(options: argparse.Namespace) -> int:
    if options.value is not None and options.id is None:
        raise UsageError("--value is expected with --id: a value is of one letter")
    content = None if options.value is None else _read(options.value)
    with opened(options.directory) as queue:
        letter = _require(queue, options.id)
        changes: dict[str, Any] = {}
        if letter is not None and content is not None:
            changes["value"] = letters.from_file(letter, content)
        count = queue.dead_letters.replay(
            options.id,
            where=_where(options),
            level=options.level,
            rate=options.rate,
            force=options.force,
            **changes,
        )
        left = len(queue.dead_letters)
    if letter is not None and not count:
        raise UsageError(_why_not(letter, options))
    print(f"{count:,} queued again, {left:,} dead letters left")
    return 0


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error


def _why_not(letter: DeadLetter, options: argparse.Namespace) -> str:
    """Why a letter that was asked for was not queued again."""
    if letter.superseded and not options.force:
        return f"a newer write superseded letter {letter.id}; --force queues it all the same"
    if not _where(options)(letter):
        return f"letter {letter.id} died of {letter.error}, reason {letter.reason}"
    return f"letter {letter.id} is damaged and cannot be queued again"


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


def _require(queue: WriteQueue, number: int | None) -> DeadLetter | None:
    """The letter that is asked for, if one is, which has to be there."""
    letter = None if number is None else queue.dead_letters.get(number)
    if letter is None and number is not None:
        raise UsageError(f"there is no dead letter {number}")
    return letter


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


def _plain(text: str) -> str:
    """A text whose control characters do nothing to the terminal."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
