"""What the dashboard costs the process that it looks at: a look, an event, and a replay with it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import hybridcore as hc
from bench import report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


CLIENT = """
import sys, urllib.request
while True:
    with urllib.request.urlopen(sys.argv[1] + "events") as events:
        for line in events:
            if line.startswith(b"data"):
                print(len(line), flush=True)
"""
"""A page, as far as the server notices: reads the events, and asks again when they end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a round")
    parser.add_argument("--entries", type=int, default=20_000, help="in memory")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write JSON")


def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    from hybridcore.monitoring import watcher as watcher_module
    from hybridcore.monitoring.watched import WatchedStore
    from hybridcore.monitoring.watcher import Watcher
    from hybridcore.web.application import application

    with tempfile.TemporaryDirectory() as directory, _store(options, Path(directory)) as store:
        results = {"a look": looks(store)}
        twenty = [WatchedStore(f"cache {number}", store) for number in range(20)]
        results |= {"a look at twenty": looks(*[store] * 20)}
        watcher_module._IDLE = 0.0  # when the page is closed it is not looked at any more
        opened_by: dict[str, dict[str, float]] = {}
        for name, watched in (("one", twenty[:1]), ("twenty", twenty)):
            watcher = Watcher(watched)
            with _served(application(watcher)) as address:
                share, ratio, size = opened(store, address, options)
            watcher.close()
            opened_by[name] = {"share": share, "ratio": ratio, "bytes": size}
            print(
                f"page of {name:6} open: {share:.2%} of a processor, a lookup takes "
                f"{ratio:.3f} of what it takes otherwise, {size / 1024:.1f} KiB an event"
            )
    if options.save is not None:
        report.save(options.save, options, ["starlette", "uvicorn"], results | {"open": opened_by})


def looks(*stores: hc.HybridCache[Any, Any]) -> dict[str, float]:
    """Milliseconds of the processor that a look takes, and making the event of it."""
    from hybridcore.monitoring.watched import WatchedStore
    from hybridcore.monitoring.watcher import Watcher
    from hybridcore.web.application import _event

    watched = [WatchedStore(f"cache {number}", store) for number, store in enumerate(stores)]
    watcher = Watcher(watched)
    took: dict[str, list[float]] = {"look": [], "event": []}
    for _ in range(30):
        started = time.process_time()
        watcher.look()
        looked = time.process_time()
        _event(watcher, watcher.views(), "", 0.0)
        took["look"].append(looked - started)
        took["event"].append(time.process_time() - looked)
    watcher.close()
    found = {name: 1000 * median(times) for name, times in took.items()}
    print(f"{len(stores):2} caches: look {found['look']:.3f} ms, event {found['event']:.3f} ms")
    return found


def opened(
    store: hc.HybridCache[Any, Any], address: str, options: argparse.Namespace
) -> tuple[float, float, int]:
    """What the threads that watch and serve take of a processor while the page is open, by how
    much fewer lookups there are then, and the bytes of an event."""
    shares, ratios, sizes = [], [], [0]
    for _ in range(options.rounds):
        closed = _lookups(store, options.seconds)
        page = subprocess.Popen([sys.executable, "-c", CLIENT, address], stdout=subprocess.PIPE)
        assert page.stdout is not None
        sizes.append(int(page.stdout.readline()))
        before, started = _of_threads(), time.perf_counter()
        ratios.append(closed / _lookups(store, options.seconds))
        shares.append((_of_threads() - before) / (time.perf_counter() - started))
        page.kill()
        page.communicate()
    return median(shares), median(ratios), max(sizes)


def _of_threads() -> float:
    """Seconds of the processor that the threads of the dashboard took."""
    return sum(
        time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.name in ("hybridcore-watcher", "page") and thread.ident is not None
    )


def _lookups(store: hc.HybridCache[Any, Any], seconds: float) -> float:
    """Lookups for a second of the processor that this thread gets."""
    count, until, started = 0, time.perf_counter() + seconds, time.thread_time()
    while time.perf_counter() < until:
        for key in _KEYS[:1000]:
            store.get(key)
        count += 1000
    return count / (time.thread_time() - started)


_KEYS = [f"key {number}" for number in np.random.default_rng(8).zipf(1.2, 100_000) % 30_000]


@contextmanager
def _store(options: argparse.Namespace, directory: Path) -> Iterator[hc.HybridCache[str, str]]:
    """A cache with all that there is to look at."""
    queue: hc.WriteQueue = hc.WriteQueue(directory / "queue", redelivery=hc.Redelivery(attempts=1))

    def refuse(key: str, value: str) -> None:
        raise ValueError("no such column")

    with hc.HybridCache(
        hc.Memory(options.entries),
        hc.Lmdb(directory / "disk"),
        hc.CallableOrigin(lambda key: key * 10, store=refuse),
        strategy="write_behind",
        queue=queue,
        analytics=True,
        breaker=None,
    ) as store:
        for number in range(60):
            store.put(f"written {number}", "value")
        store.flush(30)
        for key in _KEYS:
            store.get(key)
        for number in range(100):
            store.invalidate(f"key {number}", cause="test")
        yield store


@contextmanager
def _served(page: Any) -> Iterator[str]:
    import uvicorn

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(page, log_level="critical", ws="none"))
        thread = threading.Thread(target=server.run, name="page", kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()
