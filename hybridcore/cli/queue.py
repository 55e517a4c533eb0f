"""``hybridcore queue``: what waits in the directory of a write queue, and what comes and goes."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.cli import UsageError, arguments
from hybridcore.cli.output import print_json, print_table
from hybridcore.cli.stats import PUBLISHED

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
        "how many died; with --over or --watch also how many come and go a second, whoever "
        "brings them. How long they take and how many attempts succeed is known to the processes "
        "that use the queue, and told if they publish their statistics, in DIR/statistics or "
        "--statistics, by an exporter with directory=. Whoever uses the queue goes on.",
    )
    add = command.add_argument
    add("directory", type=Path, metavar="DIR", help="of the write queue")
    add("--json", action="store_true", help="print JSON")
    add("--over", type=arguments.a_duration, metavar="TIME", help="look twice, so far apart")
    add(
        "--watch",
        type=arguments.a_duration,
        metavar="TIME",
        help="show it again so often, until interrupted",
    )
    add("--statistics", type=Path, metavar="DIR", help="where processes publish theirs")
    command.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Carry out the command."""
    for name in ("over", "watch"):
        given = getattr(options, name)
        if given is not None and given <= 0:
            raise UsageError(f"--{name} is expected to be more than no time")
    published = options.statistics or options.directory / PUBLISHED
    if options.statistics is not None and not published.is_dir():
        raise UsageError(f"there are no published statistics in {published}")
    apart = options.watch or options.over
    with opened(options.directory) as queue:
        before = look(queue) if apart else None
        while True:
            if apart:
                time.sleep(apart)
            now = look(queue)
            told = now.told | (between(before, now) if before else {})
            if published.is_dir():
                told["processes"] = of_processes(published)
            if options.json:
                print_json(told)
            else:
                print_people(told)
            if options.watch is None:
                return 0
            before = now


class Look(NamedTuple):
    """What a directory held at a time, and how many writes had ever come."""

    at: float
    came: int
    told: dict[str, Any]


def look(queue: WriteQueue) -> Look:
    """Look into the directory."""
    came = queue.taken_ever()
    stats = queue.stats()
    names = ("levels", "depth", "bytes", "oldest", "running", "delayed", "dead", "dead_bytes")
    return Look(time.monotonic(), came, {name: getattr(stats, name) for name in names})


def between(before: Look, now: Look) -> dict[str, float]:
    """Writes that came and that left in a second, which are applied, replaced or died."""
    seconds = now.at - before.at
    came = now.came - before.came
    left = max(0, came + before.told["depth"] - now.told["depth"])
    return {"came_per_second": came / seconds, "left_per_second": left / seconds}


def of_processes(directory: Path) -> dict[str, Any]:
    """What the processes counted of their queues since they began, added up."""
    from hybridcore.exporters.metrics import BOUNDS, Buckets
    from hybridcore.exporters.processes import collect

    writes: Counter[str] = Counter()
    attempts = 0.0
    took: dict[str, Any] = {}
    for family in collect(directory):
        for labels, value in family.samples.items():
            said = dict(labels)
            if isinstance(value, Buckets):
                if family.name == "hybridcore_queue_duration_seconds":
                    counts = took.setdefault(said["until"], [0] * len(value.counts))
                    took[said["until"]] = [a + b for a, b in zip(counts, value.counts, strict=True)]
            elif family.name == "hybridcore_queue_writes_total":
                writes[said["result"]] += int(value)
            elif family.name == "hybridcore_queue_attempts_total":
                attempts += value
    return {
        "writes": dict(writes),
        "attempts": int(attempts),
        "success_rate": min(1.0, writes["written"] / attempts) if attempts else None,
        "seconds_until": {
            until: {
                f"p{share}": next(
                    (
                        b
                        for b, n in zip(BOUNDS, counts, strict=False)
                        if n * 100 >= share * counts[-1]
                    ),
                    None,
                )
                for share in (50, 99)
            }
            for until, counts in took.items()
            if counts[-1]
        },
    }


def print_people(told: dict[str, Any]) -> None:
    """Print what there is to tell for people."""
    rows = [
        (name, f"{level.items:,}", f"{level.bytes:,}", f"{level.oldest:.1f} s")
        for name, level in told["levels"].items()
    ]
    print_table(("level", "writes", "bytes", "oldest waits"), rows)
    print(
        f"under way {told['running']:,}, delayed {told['delayed']:,}, dead letters {told['dead']:,}"
    )
    if "came_per_second" in told:
        print(
            f"{told['came_per_second']:,.1f} come and {told['left_per_second']:,.1f} leave a second"
        )
    found = told.get("processes")
    if found and found["success_rate"] is not None:
        print(f"{found['success_rate']:.2%} of {found['attempts']:,} attempts succeeded")
    for until, times in (found or {}).get("seconds_until", {}).items():
        text = ", ".join(
            f"{name} " + (f"at most {at:g} s" if at is not None else "longer than is counted")
            for name, at in times.items()
        )
        print(f"until {until}: {text}")


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
