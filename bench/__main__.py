"""``python -m bench NAME`` runs one of the comparisons, or shows a saved one."""

from __future__ import annotations

import argparse

from bench import (
    capacity,
    coherence,
    compat,
    curve,
    dashboard,
    decorators,
    detection,
    disk,
    disk_hits,
    github,
    hit_ratio,
    hybrid,
    kills,
    monitoring,
    queue,
    ratios,
    remote,
    statistics,
    table,
    tails,
    warming,
)


def main() -> None:
    """Read the command line and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="NAME")
    for name, module, summary in (
        ("capacity", capacity, "predict the second half of traces from the first"),
        ("coherence", coherence, "what being in step costs, and invalidating a tag"),
        ("compat", compat, "compare our cachetools with cachetools"),
        ("curve", curve, "compare predicted hit ratios with replayed ones"),
        ("dashboard", dashboard, "what a live page costs the process that it looks at"),
        ("decorators", decorators, "compare decorated functions in interleaved rounds"),
        ("detection", detection, "count how soon alerts tell of injected faults, and of none"),
        ("disk", disk, "compare caches on disk, and how several processes read one"),
        ("disk_hits", disk_hits, "replay traces through directories of one size"),
        ("github", github, "count the quota of GitHub that ways of caching spend"),
        ("hit_ratio", hit_ratio, "replay traces through many policies"),
        ("hybrid", hybrid, "compare a hybrid cache with its parts, and with caches that load"),
        ("kills", kills, "kill users of a write queue, and count what was lost or made up"),
        ("queue", queue, "compare durable queues: items stored, taken and acknowledged"),
        (
            "monitoring",
            monitoring,
            "a replay with all monitoring on and off, in interleaved slices",
        ),
        ("ratios", ratios, "compare caches in interleaved rounds"),
        ("remote", remote, "compare what goes over Redis with a pipeline written by hand"),
        ("statistics", statistics, "what statistics cost, and how near they are"),
        ("tails", tails, "compare the slowest calls, under threads too"),
        ("warming", warming, "replay days of requests with warming on and off"),
        ("table", table, "print saved ratios as Markdown"),
    ):
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.main)
    options = parser.parse_args()
    options.run(options)


main()
