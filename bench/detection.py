"""How soon alerts tell of faults, and how often of none, over days of a simulated service.

A stream is a real cache under a replayed trace, with daily cycles and deploys (`bench.service`):
hours without faults, then faults one after the other. A fault is detected when an alert that is
meant for its kind fires while it lasts. What fires when there is no fault, and was none in the last
ten minutes, is false; alerts that fire at the same time are one episode. Rules and thresholds were
chosen on the traces of ``--tuning``, some of which are judged with other seeds; four never were.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import recorded
from bench.service import KINDS, TICK, running
from bench.traces import SHIPPED, read_trace
from hybridcore.monitoring.alerts import Alerts
from hybridcore.monitoring.signals import samples_of

if TYPE_CHECKING:
    import argparse

    from hybridcore.monitoring.signals import Samples

MEANT = {
    "origin down": {"OriginFailing", "BreakerOpen"},
    "slow origin": {"OriginSlow"},
    "scan": {"HitRatioCollapsed"},
    "disk full": {"DiskFailing"},
    "queue stall": {"QueueStalled"},
    "coherence lag": {"CoherenceLagging"},
    "memory leak": {"MemoryLeaking"},
    "quota exhaustion": {"QuotaRunsOut", "QuotaSpentFaster"},
}
"""Alerts that detect a kind of fault."""

_UNSEEN = ("corda", "gcc_pen", "multi3", "w92")
_SEEN = ("scarab", "orm_busy", "mooncake_conv", "arc_p3", "w106", "tencent_1326")
TUNING = ("web12", "oltp", "tencent_3300", "meta_kv_synth", *_SEEN)
JUDGED = (*_UNSEEN, *_SEEN)

_LASTS, _PAUSE, _GRACE = 600.0, 2400.0, 600.0
_DEPLOYS = 10 * 3600.0
"""Mean seconds between two deploys."""


@dataclass
class Injected:
    """A fault: when it began, what it was, and what told of it after how long."""

    kind: str
    what: str
    at: float
    until: float
    by: str | None = None
    after: float = math.inf


@dataclass
class Stream:
    """What became of one stream."""

    trace: str
    seed: int
    begin: float = 0.0
    fault_free_hours: float = 0.0
    hours: float = 0.0
    deploys: int = 0
    faults: list[Injected] = field(default_factory=list)
    fired: list[tuple[str, float, float]] = field(default_factory=list)
    """Alerts: name, when they began to fire and when that was over."""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """What it is called in files."""
        return f"{self.trace}-{self.seed}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--traces", type=Path, help="directory of traces (default: the shipped one)"
    )
    parser.add_argument("--tuning", action="store_true", help="the traces that rules were tuned on")
    parser.add_argument("--hours", type=float, default=102.0, help="without faults, in all (102)")
    parser.add_argument("--faults", type=int, default=96, help="in all (96)")
    parser.add_argument("--rate", type=float, default=12.0, help="lookups a second (12)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="streams at a time (1)")
    parser.add_argument(
        "--prometheus",
        action="store_true",
        help="judge the exported rules on the same streams, too",
    )
    parser.add_argument("--json", type=Path, help="where to save the results")


def main(options: argparse.Namespace) -> None:
    """Run the streams and print what came of them."""
    logging.disable()
    paths = _traces(options)
    options.home = Path(tempfile.mkdtemp(prefix="hybridcore-streams-"))
    each = max(8, math.ceil(options.faults / len(paths) / 8) * 8)
    jobs = [
        (path, options.seed * 1000 + number, options.hours / len(paths), each, options)
        for number, path in enumerate(paths)
    ]
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            streams = list(pool.map(_stream, jobs))
    else:
        streams = [_stream(job) for job in jobs]
    print("alerts in the process")
    found = {"in the process": judged(streams)}
    show(found["in the process"])
    told = {"results": found, "streams": [asdict(stream) for stream in streams]}
    if options.prometheus:
        ends = {options.home / f"{s.name}.om": (s.begin, s.begin + s.hours * 3600) for s in streams}
        fired = recorded.refired(ends)
        again = [by_others(*both) for both in zip(streams, fired, strict=True)]
        print("the exported rules, evaluated by Prometheus")
        found["prometheus"] = judged(again)
        show(found["prometheus"])
        told["by prometheus"] = [asdict(stream) for stream in again]
    shutil.rmtree(options.home)
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=1, default=str) + "\n")


def _traces(options: argparse.Namespace) -> list[Path]:
    if options.traces is None:
        return [SHIPPED] * 4
    names = TUNING if options.tuning else JUDGED
    return [options.traces / f"{name}.npz" for name in names]


def _stream(job: tuple[Path, int, float, int, Any]) -> Stream:
    """Run one stream: hours without faults, and then the faults, each kind as often."""
    logging.disable()
    path, seed, hours, faults, options = job
    began = time.perf_counter()
    stream = Stream(path.name.removesuffix(".npz"), seed)
    random = np.random.default_rng(seed + 1)
    kept: list[tuple[float, Samples]] | None = [] if options.prometheus else None
    with running(read_trace(path), seed, options.rate) as service:
        clock = service.clock
        stream.begin = start = clock.now
        watch = Watch(clock.seconds, stream, kept)
        deploy_at = start + float(random.exponential(_DEPLOYS))

        def pass_time(seconds: float) -> None:
            until = clock.now + seconds
            while clock.now < until:
                watch.look(service.tick())

        def deploy() -> None:
            nonlocal deploy_at
            service.deploy()
            watch.restart()
            stream.deploys += 1
            deploy_at = clock.now + float(random.exponential(_DEPLOYS))

        while clock.now < start + hours * 3600:
            pass_time(600)
            if clock.now > deploy_at:
                deploy()
        stream.fault_free_hours = (clock.now - start) / 3600
        for kind in random.permutation(list(KINDS) * (faults // len(KINDS))):
            if clock.now > deploy_at:
                deploy()
                pass_time(1200)
            pass_time(_PAUSE + float(random.uniform(0, 600)))
            what = service.begin(str(kind))
            injected = Injected(str(kind), what, clock.now, clock.now + _LASTS)
            stream.faults.append(injected)
            watch.injected = injected
            pass_time(_LASTS)
            service.end()
            watch.injected = None
        pass_time(_GRACE)
        watch.close()
        stream.hours = (clock.now - start) / 3600
    stream.seconds = time.perf_counter() - began
    if kept is not None:
        recorded.save(options.home / f"{stream.name}.om", kept)
    return stream


class Watch:
    """The alerts of a process, which keep their past when it restarts, and what they told."""

    def __init__(self, clock: Any, stream: Stream, kept: list[Any] | None) -> None:
        self._clock = clock
        self._stream = stream
        self._kept = kept
        self._since: dict[str, float] = {}
        self.injected: Injected | None = None
        self._home = tempfile.TemporaryDirectory(prefix="hybridcore-alerts-")
        self._past = Path(self._home.name) / "past"
        self._alerts = Alerts({}, clock=clock, past=self._past)

    def look(self, stats: Any) -> None:
        """Evaluate the rules for a snapshot."""
        now = self._clock()
        if self._kept is not None:
            self._kept.append((now, recorded.needed(samples_of(stats))))
        for change in self._alerts.observe("cache", stats, now):
            if change.state == "resolved":
                self._stream.fired.append((change.rule, self._since.pop(change.rule), now))
                continue
            self._since[change.rule] = now
            fault = self.injected
            if fault is not None and fault.by is None and change.rule in MEANT[fault.kind]:
                fault.by, fault.after = change.rule, now - fault.at

    def restart(self) -> None:
        """The process was stopped: what fired fires no more."""
        self._stop()
        self._alerts = Alerts({}, clock=self._clock, past=self._past)

    def close(self) -> None:
        """The end."""
        self._stop()
        self._home.cleanup()

    def _stop(self) -> None:
        self._alerts.close()
        now = self._clock()
        self._stream.fired += [(rule, since, now) for rule, since in self._since.items()]
        self._since.clear()


def by_others(stream: Stream, fired: list[tuple[str, float, float]]) -> Stream:
    """The same stream, as it was seen by somebody else."""
    faults = []
    for fault in stream.faults:
        meant = [
            (begin - fault.at, rule)
            for rule, begin, _ in fired
            if rule in MEANT[fault.kind] and fault.at <= begin <= fault.until
        ]
        after, by = min(meant, default=(math.inf, None))
        faults.append(replace(fault, by=by, after=after))
    return replace(stream, faults=faults, fired=fired)


def judged(streams: list[Stream]) -> dict[str, Any]:
    """The numbers of all streams."""
    faults = [fault for stream in streams for fault in stream.faults]
    delays = [fault.after for fault in faults]
    false: list[dict[str, Any]] = []
    episodes = in_free_hours = 0
    for stream in streams:
        started = min((begin for _, begin, _ in stream.fired), default=0.0)
        for names, begin, end in _episodes(stream.fired):
            episodes += 1
            if not any(f.at <= end and begin <= f.until + _GRACE for f in stream.faults):
                first = stream.faults[0].at if stream.faults else math.inf
                in_free_hours += begin < first
                false.append({"trace": stream.trace, "rules": names, "at": begin - started})
    free = sum(stream.fault_free_hours for stream in streams)
    return {
        "faults": len(faults),
        "detected": sum(delay < math.inf for delay in delays),
        "mean seconds to detection": mean(delays) if delays else None,
        "p95 seconds to detection": _p95(delays),
        "by kind": {
            kind: {
                "faults": len(of_kind),
                "detected": sum(delay < math.inf for delay in of_kind),
                "mean": mean(of_kind) if of_kind else None,
                "p95": _p95(of_kind),
            }
            for kind in KINDS
            if (of_kind := [fault.after for fault in faults if fault.kind == kind])
        },
        "undetected": [(fault.kind, fault.what) for fault in faults if fault.after == math.inf],
        "episodes": episodes,
        "false episodes": len(false),
        "false, at most with 95 % confidence": upper_bound(len(false), episodes),
        "false": false,
        "fault-free hours": free,
        "false episodes in them": in_free_hours,
        "a week": in_free_hours * 168 / free if free else None,
        "hours": sum(stream.hours for stream in streams),
        "deploys": sum(stream.deploys for stream in streams),
    }


def _episodes(fired: list[tuple[str, float, float]]) -> list[tuple[list[str], float, float]]:
    """Stretches of time in which something fired."""
    found: list[tuple[list[str], float, float]] = []
    for name, begin, end in sorted(fired, key=lambda one: one[1]):
        if found and begin <= found[-1][2] + TICK:
            names, first, last = found[-1]
            found[-1] = ([*names, name], first, max(last, end))
        else:
            found.append(([name], begin, end))
    return found


def _p95(delays: list[float]) -> float | None:
    if not delays:
        return None
    return sorted(delays)[math.ceil(0.95 * len(delays)) - 1]


def upper_bound(count: int, of: int, confidence: float = 0.95) -> float:
    """The largest share that is compatible with so many of so many (Clopper and Pearson)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        chance = sum(
            math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(count + 1)
        )
        low, high = (share, high) if chance > 1 - confidence else (low, share)
    return high


def show(found: dict[str, Any]) -> None:
    """Print what was found."""
    print(f"{found['faults']} faults in {found['hours']:.0f} simulated hours, ", end="")
    print(f"{found['deploys']} deploys")
    for kind, numbers in found["by kind"].items():
        told = f"{numbers['detected']} of {numbers['faults']}"
        print(f"  {kind:18} {told:>9} detected, mean {numbers['mean']:4.0f} s, ", end="")
        print(f"p95 {numbers['p95']:4.0f} s")
    print(f"time to detection: mean {found['mean seconds to detection']:.0f} s, ", end="")
    print(f"p95 {found['p95 seconds to detection']:.0f} s")
    for kind, what in found["undetected"]:
        print(f"  undetected: {kind}, {what}")
    bound = found["false, at most with 95 % confidence"]
    print(f"{found['episodes']} episodes of alerts, {found['false episodes']} false ", end="")
    print(f"(with 95 % confidence at most {bound:.1%})")
    print(f"{found['fault-free hours']:.0f} hours without faults: ", end="")
    print(f"{found['false episodes in them']} false, {found['a week']:.2f} a week")
    for false in found["false"]:
        print(f"  false: {false['rules']} under {false['trace']}")
