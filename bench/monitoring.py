"""What monitoring costs: a replay with all of it switched on and without, in interleaved slices.

Both replay the same keys through caches of their own, with memory, disk and origin. Switched on are
alerts with objectives and hours of past, the history on disk, the miss-ratio curve, statistics
published in a directory and scraped, and the page open, all as often as they are by default.

Slices of half a second alternate, in an order by chance, so that whatever else the machine does is
the same for both. Counted is the time of the processor for a request: with monitoring that of the
whole process, all its threads included, and without that of the thread which replays. Who scrapes
and who looks at the page are processes of their own, and not counted.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.report import save, spread
from bench.traces import SHIPPED, read_trace
from hybridcore import HybridCache, Lmdb, Memory
from hybridcore.exporters.prometheus import PrometheusExporter
from hybridcore.monitoring.alerts import Alerts
from hybridcore.monitoring.historian import Historian
from hybridcore.monitoring.slo import Slo
from hybridcore.monitoring.watched import WatchedStore
from hybridcore.monitoring.watcher import Watcher

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_SLICE = 20_000
"""Requests of a slice."""
_ROUNDS = 10

_CLIENT = """
import sys, threading, time, urllib.request
def scrape():
    while True:
        urllib.request.urlopen(sys.argv[2]).read()
        print("scrape", flush=True)
        time.sleep(10)
threading.Thread(target=scrape, daemon=True).start()
while True:
    with urllib.request.urlopen(sys.argv[1] + "events") as events:
        for line in events:
            if line.startswith(b"data"):
                print("event", flush=True)
"""
"""A Prometheus and a page, as far as the process that they ask notices."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--seconds", type=float, default=150, help="with and without, in all (150)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of slices (1)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write JSON")


def main(options: argparse.Namespace) -> None:
    """Run the slices and print what they tell."""
    keys = read_trace(SHIPPED).keys.tolist()
    chance = random.Random(options.seed)
    counts = {"looks": 0, "scrape": 0, "event": 0}
    with ExitStack() as exits:
        home = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="hybridcore-")))
        replays = {
            name: _Replay(exits.enter_context(_store(home / name, analytics=name == "on")), keys)
            for name in ("on", "off")
        }
        for _ in range(len(keys) // _SLICE):  # what comes is then known to both
            for replay in replays.values():
                replay.go()
        clock = _Clock()
        alerts, each = _past(replays["on"].store, clock)
        looks = clock.asked
        rounds = []
        with _monitored(replays["on"].store, alerts, home, counts):
            for _ in range(_ROUNDS):
                until = time.perf_counter() + options.seconds / _ROUNDS
                took = dict.fromkeys(replays, 0.0) | {"wall": 0.0}
                while time.perf_counter() < until:
                    for name in chance.sample(("on", "off"), 2):
                        began = time.perf_counter()
                        whole, own = replays[name].go()
                        took[name] += whole if name == "on" else own
                        took["wall"] += time.perf_counter() - began if name == "on" else 0.0
                rounds.append(took)
        counts["looks"] = clock.asked - looks
    ratio = spread([one["on"] / one["off"] for one in rounds])
    sums = {name: sum(one[name] for one in rounds) for name in rounds[0]}
    whole = sums["on"] / sums["off"]
    print(
        f"{replays['on'].done:,} requests with monitoring in {sums['wall']:.0f} s, and as many "
        f"without; meanwhile {counts['looks']} looks of alerts, {counts['scrape']} scrapes, "
        f"{counts['event']} events of the page"
    )
    print(
        f"with all monitoring a request takes {whole:.4f} of the processor's time without; "
        f"by rounds {ratio['p10']:.3f} to {ratio['p90']:.3f} (10th to 90th percentile of "
        f"{_ROUNDS}), median {ratio['median']:.3f}"
    )
    print(f"a look of alerts takes {each * 1e3:.2f} ms")
    if options.save is not None:
        results: dict[str, Any] = {"ratio": whole, "rounds": rounds, "look": each}
        packages = ["starlette", "uvicorn", "prometheus_client"]
        save(options.save, options, packages, results | counts)


def _store(directory: Path, *, analytics: bool) -> HybridCache[int, bytes]:
    disk: Lmdb[int, bytes] = Lmdb(directory, max_bytes="16MiB", sweep=None)
    return HybridCache(Memory(5_000), disk, origin=lambda key: bytes(100), analytics=analytics)


class _Replay:
    """The trace again and again, a slice at a time."""

    def __init__(self, store: HybridCache[int, bytes], keys: list[int]) -> None:
        self.store = store
        self._keys = cycle(keys)
        self.done = 0

    def go(self) -> tuple[float, float]:
        """Replay a slice; returns the time of the processor of the process and of this thread."""
        get = self.store.get
        whole, own = time.process_time(), time.thread_time()
        for key in islice(self._keys, _SLICE):
            get(key)
        self.done += _SLICE
        return time.process_time() - whole, time.thread_time() - own


@contextmanager
def _monitored(
    store: HybridCache[int, bytes], alerts: Alerts, home: Path, counts: dict[str, int]
) -> Iterator[None]:
    """All of monitoring for a while; ``counts`` is told what others saw."""
    from hybridcore.web.server import serving

    with ExitStack() as exits:
        exporter = PrometheusExporter({"replay": store}, directory=home / "statistics")
        exits.callback(exporter.close)
        metrics = exits.enter_context(exporter.serve())
        exits.enter_context(Historian({"replay": store}, home / "history"))
        exits.enter_context(alerts)
        watcher = Watcher([WatchedStore("replay", store)], alerts=alerts)
        exits.callback(watcher.close)
        page = exits.enter_context(serving(watcher, "127.0.0.1", 0))
        client = subprocess.Popen(
            [sys.executable, "-c", _CLIENT, page, f"http://127.0.0.1:{metrics.port}/metrics"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield
        finally:
            client.terminate()
            told = client.communicate()[0].split()
            for name in ("scrape", "event"):
                counts[name] += told.count(name)


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
    alerts = Alerts({"replay": store}, slos=slos, clock=clock)
    took = []
    for _ in range(720):
        clock.ahead += 10
        started = time.process_time()
        alerts.evaluate()
        took.append(time.process_time() - started)
    return alerts, median(took[-60:])
