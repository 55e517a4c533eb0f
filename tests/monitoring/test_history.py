"""Metric history on disk: what was counted when, whoever dies, within its bounds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import hybridcore as hc
from hybridcore.disk import Lmdb
from hybridcore.errors import ClosedError, ConfigurationError, DiskError
from hybridcore.monitoring.historian import Historian
from hybridcore.monitoring.history import LEVELS, MetricHistory, SeriesName, series_text

BEGAN = 1_000_000_200.0
HITS = SeriesName("users", "requests_total", (("result", "hit"), ("tier", "memory")))


class Clock:
    """The time, which is moved."""

    now = BEGAN

    def __call__(self):
        return self.now


def test_a_history_tells_what_was_counted_when(tmp_path) -> None:
    """Counters by how much they grew, gauges as they were, of both steps alike."""
    clock = Clock()
    with (
        hc.HybridCache(hc.Memory(100), origin=str.upper) as store,
        Historian({"users": store}, tmp_path / "h", clock=clock, start=False) as historian,
    ):
        store.get("before")
        assert historian.write()
        for minute in range(90):
            for number in range(minute % 3):
                store.get(f"key {number}")
                store.get(f"key {number}")
            clock.now += 60
            historian.write()
        for step in (10.0, 300.0):
            found = historian.history.read(BEGAN, clock.now, step=step)
            assert found[HITS].values.sum() == store.stats().memory.hits
            entries = found[SeriesName("users", "memory_entries")]
            assert entries.values[-1] == store.stats().memory.entries
        fine = historian.history.read(BEGAN, clock.now)[HITS]
        assert len(fine.times) == 90
        assert fine.values[:3].tolist() == [0.0, 1.0, 3.0]
        assert historian.history.caches() == ["users"]
        begin, end = historian.history.span()
        assert begin <= BEGAN
        assert clock.now - 60 <= end <= clock.now + 10


def test_a_restart_is_no_fall(tmp_path) -> None:
    """What a cache counts that begins anew is added to what was counted before."""
    clock = Clock()
    for _ in range(2):
        with (
            hc.HybridCache(hc.Memory(100), origin=str.upper) as store,
            Historian({"users": store}, tmp_path / "h", clock=clock, start=False) as historian,
        ):
            for _ in range(3):
                historian.write()
                clock.now += 10
                store.get("a")
    with MetricHistory(tmp_path / "h") as history:
        found = history.read(BEGAN, clock.now)
        assert found[HITS].values.sum() == 4
        assert found[HITS].values.min() >= 0


def test_points_are_forgotten_after_their_time(tmp_path) -> None:
    """Fine ones after a day, coarse ones after a month."""
    with MetricHistory(tmp_path / "h") as history:
        name = series_text(SeriesName("c", "gauge"))
        for day in range(40):
            history.add(BEGAN + day * 86400, {name: day})
        end = BEGAN + 40 * 86400
        fine = history.read(0, end)[SeriesName("c", "gauge")]
        coarse = history.read(0, end, step=300.0)[SeriesName("c", "gauge")]
    assert fine.values.tolist() == [38.0, 39.0]
    assert coarse.values.tolist() == list(range(9, 40))


def test_a_history_keeps_its_bound(tmp_path) -> None:
    """Where points take more than may be, the oldest go, and the newest stay."""
    rng = np.random.default_rng(1)
    names = [series_text(SeriesName("c", f"gauge{number}")) for number in range(300)]
    with MetricHistory(tmp_path / "h", max_bytes="1MiB") as history:
        for step in range(500):
            told = dict(zip(names, rng.random(300).tolist(), strict=True))
            history.add(BEGAN + 10 * step, told)
        assert history.used_bytes() < 1 << 20
        found = history.read(BEGAN, BEGAN + 5_000)[SeriesName("c", "gauge0")]
        assert found.times[-1] == BEGAN + 5_000
        assert 50 < len(found.times) < 500
    assert (tmp_path / "h" / "data.mdb").stat().st_size <= 1 << 20


WRITER = """
import sys, time
import hybridcore as hc
from hybridcore.monitoring.historian import Historian
class Clock:
    now = {began}
    def __call__(self):
        return self.now
clock = Clock()
store = hc.HybridCache(hc.Memory(10), origin=str.upper)
historian = Historian({{"users": store}}, sys.argv[1], clock=clock, start=False)
while True:
    store.get("a")
    clock.now += 10
    if historian.write():
        print("wrote", flush=True)
"""


def test_another_process_reads_and_takes_over_when_the_writer_is_killed(tmp_path) -> None:
    """One writes, and what it wrote is whole when it was killed in the midst of it."""
    clock = Clock()
    command = [sys.executable, "-c", WRITER.format(began=BEGAN), str(tmp_path / "h")]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer,
        hc.HybridCache(hc.Memory(10), origin=str.upper) as store,
    ):
        try:
            for _ in range(20):
                assert writer.stdout.readline() == "wrote\n"
            with Historian({"users": store}, tmp_path / "h", clock=clock, start=False) as mine:
                assert not mine.write()
                assert not mine.writes
                found = mine.history.read(BEGAN, BEGAN + 1e6)[HITS]
                assert len(found.times) >= 18
                os.kill(writer.pid, signal.SIGKILL)
                writer.wait()
                written = mine.history.read(BEGAN, BEGAN + 1e6)[HITS]
                assert set(written.values.tolist()) == {1.0}
                assert (np.diff(written.times) == 10).all()
                assert mine.write()
                assert mine.writes
        finally:
            writer.kill()


def test_a_thread_writes_and_close_writes_the_rest(tmp_path) -> None:
    """Without being asked to; the hot path has no part in it."""
    with hc.HybridCache(hc.Memory(10), origin=str.upper) as store:
        with Historian({"users": store}, tmp_path / "h") as historian:
            deadline = time.monotonic() + 30
            while not historian.writes:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            store.get("a")
            store.get("a")
        with MetricHistory(tmp_path / "h") as history:
            assert history.read(0, time.time() + 10)[HITS].values.sum() == 1


def test_curves_are_kept_by_the_hour(tmp_path) -> None:
    """The curve of a cache that is analyzed comes back as it was, close enough."""
    clock = Clock()
    with (
        hc.HybridCache(hc.Memory(200), origin=str.upper, analytics=True) as store,
        Historian({"users": store}, tmp_path / "h", clock=clock, start=False) as historian,
    ):
        for _ in range(4):
            for number in range(3_000):
                store.get(f"{number * number % 997}")
            clock.now += 3600
            historian.write()
        curve = store.analytics.curve()
        saved = historian.history.curves("users", BEGAN, clock.now)
    assert len(saved) == 3  # the first look only begins
    last = saved[-1]
    assert last.size == 200
    assert last.calls_per_miss == pytest.approx(1.0)
    assert last.requests_per_hour > 0
    for size in (50, 200, 400):
        assert last.curve.hit_ratio(size) == pytest.approx(curve.hit_ratio(size), abs=0.02)


def test_what_cannot_be_is_refused(tmp_path) -> None:
    """Bounds, steps, and directories of others."""
    with pytest.raises(ConfigurationError, match="at least 1MiB"):
        MetricHistory(tmp_path / "h", max_bytes=1000)
    with pytest.raises(ConfigurationError, match="caches by name"):
        Historian({}, tmp_path / "h")
    with Lmdb(tmp_path / "disk"):
        pass
    with pytest.raises(DiskError, match="somebody else's"):
        MetricHistory(tmp_path / "disk")
    history = MetricHistory(tmp_path / "h")
    with pytest.raises(ConfigurationError, match="one of 10, 300, got 60"):
        history.read(0, 1, step=60.0)
    history.close()
    with pytest.raises(ClosedError):
        history.series()
    assert LEVELS[0].step == 10.0
