"""What monitoring costs: a replay with alerts on and off, in interleaved rounds.

Both replay the same keys through caches of their own, with memory, disk and origin. Alerts have an
hour of past, so that every rule is worked out, and look 100 times as often as they do by default.
Counted is the time of the processor that the whole process takes, threads included.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.report import quotients, spread
from bench.traces import SHIPPED, read_trace
from hybridcore import HybridCache, Lmdb, Memory
from hybridcore.monitoring.alerts import Alerts
from hybridcore.monitoring.slo import Slo

if TYPE_CHECKING:
    import argparse

_INTERVAL = 0.1
_OFTEN = 100
"""Times as often as by default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (9)")
    parser.add_argument("--requests", type=int, default=60_000, help="in a round (60,000)")
    parser.add_argument("--json", type=Path, help="where to save the results")


def main(options: argparse.Namespace) -> None:
    """Run the rounds and print what they tell."""
    keys = read_trace(SHIPPED, options.requests).keys.tolist()
    times: dict[str, list[float]] = {"off": [], "on": []}
    looks = 0
    with ExitStack() as exits:
        home = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="hybridcore-")))
        stores = {name: exits.enter_context(_store(home / name)) for name in times}
        for store in stores.values():
            _replay(store, keys)
        clock = _Clock()
        past, each = _past(stores["on"], clock)
        for number in range(options.rounds):
            for name in sorted(times, reverse=number % 2 == 1):
                before = clock.asked
                started = time.process_time()
                if name == "on":
                    with past:
                        _replay(stores[name], keys)
                    past = _again(past)
                    looks += clock.asked - before
                else:
                    _replay(stores[name], keys)
                times[name].append(time.process_time() - started)
        past.close()
    ratio = spread(quotients(times["on"], times["off"]))
    cost = max(0.0, ratio["median"] - 1) / _OFTEN
    print(f"{options.rounds} rounds of {len(keys)} requests, {looks} looks at the cache")
    print(f"processor time with alerts: {ratio['median']:.3f} of that without")
    print(f"at one look in ten seconds: {cost:.3%} more")
    print(f"  from {ratio['p10']:.3f} to {ratio['p90']:.3f}, 10th to 90th percentile")
    print(f"a look takes {each * 1e3:.2f} ms: every ten seconds {each / 10:.4%} of a processor")
    if options.json is not None:
        told: dict[str, Any] = {"ratio": ratio, "look": each, "times": times, "cost": cost}
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def _store(directory: Path) -> HybridCache[int, bytes]:
    disk: Lmdb[int, bytes] = Lmdb(directory, max_bytes="16MiB", sweep=None)
    return HybridCache(Memory(5_000), disk, origin=lambda key: bytes(100))


def _replay(store: HybridCache[int, bytes], keys: list[int]) -> None:
    get = store.get
    for key in keys:
        get(key)


class _Clock:
    """Real time, some hours on."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return time.time() + self.ahead


def _past(store: HybridCache[int, bytes], clock: _Clock) -> tuple[Alerts, float]:
    """Alerts that have looked for two hours, and how long a look takes then."""
    slos = [Slo("availability", 0.999), Slo("latency", 0.99, "50ms")]
    alerts = Alerts({"cache": store}, slos=slos, interval=_INTERVAL, clock=clock)
    took = []
    for _ in range(720):
        clock.ahead += 10
        started = time.process_time()
        alerts.evaluate()
        took.append(time.process_time() - started)
    return alerts, median(took[-60:])


def _again(alerts: Alerts) -> Alerts:
    """The same, to be started once more."""
    alerts._stopping.clear()
    alerts._thread = None
    return alerts
