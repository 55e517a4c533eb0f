"""Histograms: what they tell is near the truth, of the right stretch of time, and never lost."""

from __future__ import annotations

import pickle
import sys
import threading
from time import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore._native.histogram import Distribution, Histogram

SHARES = (0.5, 0.95, 0.99, 0.999)


class Clock:
    """Time that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def histogram(clock: Clock) -> Histogram:
    return Histogram(clock)


def samples(shape: str) -> np.ndarray:
    """Durations of many shapes, always the same."""
    random = np.random.default_rng(8)
    if shape == "bimodal":
        fast, slow = random.normal(1e-6, 1e-7, 70_000), random.normal(5e-3, 5e-4, 30_000)
        return np.concatenate([fast, slow])
    found = random.lognormal(-9.0, 1.0, 100_000)
    if shape == "heavy tail":
        found[random.random(100_000) < 0.01] *= 50
    return found


@pytest.mark.parametrize("shape", ["log-normal", "bimodal", "heavy tail"])
def test_quantiles_are_within_two_percent(shape: str) -> None:
    """From p50 to p99.9, of whatever shape, a quantile is within 2 % of that of the samples."""
    durations = samples(shape)
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    exact = np.quantile(durations, SHARES, method="inverted_cdf")
    assert histogram.snapshot().quantiles(*SHARES) == pytest.approx(exact, rel=0.02)
    assert histogram.sum == pytest.approx(durations.sum(), rel=1e-4)


@given(st.integers(0, 10**11))
def test_every_duration_is_told_within_two_percent(ns: int) -> None:
    """From 0 ns, which is exact as all below 64 are, to 100 s."""
    histogram = Histogram()
    histogram.record_ns(ns)
    assert histogram.quantile(1.0) == pytest.approx(ns / 1e9, rel=0.0 if ns < 64 else 0.016)


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=50), st.floats(0.0, 1.0))
def test_quantiles_have_the_right_rank(durations: list[int], share: float) -> None:
    """A quantile is in the bucket of the sample that has its rank."""
    histogram = Histogram()
    for ns in durations:
        histogram.record_ns(ns)
    exact = float(np.quantile(durations, share, method="inverted_cdf"))
    assert histogram.quantile(share) == pytest.approx(exact / 1e9, rel=0.016)


def test_what_is_longer_than_all_buckets_is_in_the_last() -> None:
    """Nothing is too long to be recorded."""
    histogram = Histogram()
    histogram.record(1e300)
    histogram.record_ns(2**62)
    assert histogram.count == 2
    assert histogram.quantile(0.5) > 130


@pytest.mark.parametrize("wrong", [-1e-9, float("nan")])
def test_less_than_no_time_is_refused(histogram: Histogram, wrong: float) -> None:
    """A wrong duration is an error and is not recorded."""
    with pytest.raises(ValueError, match="at least 0"):
        histogram.record(wrong)
    with pytest.raises(ValueError, match="at least 0"):
        histogram.record_ns(-1)
    assert histogram.count == 0


def test_windows_tell_of_the_last_minutes(histogram: Histogram, clock: Clock) -> None:
    """A percentile is over the last 1, 5 or 60 minutes, though durations changed meanwhile."""
    for minute in range(120):
        for _ in range(60):
            histogram.record(1.0 + minute)
            clock.now += 1
    ever, one, five, hour = histogram.windows(60, 300, 3600)
    assert ever.count == 7200
    assert one.quantile(0.5) == pytest.approx(120, rel=0.02)
    assert five.quantile(0.5) == pytest.approx(118, rel=0.02)
    assert hour.quantile(0.5) == pytest.approx(90, rel=0.1)
    for window, told in ((60, one), (300, five), (3600, hour)):
        assert told.seconds == pytest.approx(window, rel=0.2)
        assert told.rate == pytest.approx(1.0, rel=0.02)
    assert histogram.snapshot("5m") == five


def test_a_window_in_which_nothing_was_recorded_is_empty(
    histogram: Histogram, clock: Clock
) -> None:
    """What is over is over, though nobody recorded since."""
    histogram.record(1.0)
    clock.now += 90
    assert histogram.snapshot(60).count == 0
    assert histogram.snapshot(60).rate == 0.0
    assert histogram.snapshot(300).count == 1
    assert histogram.snapshot().count == 1
    with pytest.raises(ValueError, match="at most an hour"):
        histogram.snapshot("2h")


def test_any_durations_fit_into_16_kib(histogram: Histogram, clock: Clock) -> None:
    """Where every bucket is in use slices become longer, and no count is lost."""
    random = np.random.default_rng(8)
    for _ in range(800):
        for exponent in random.uniform(-9, 2.1, 200):
            histogram.record(10**exponent, 1_000_000)
        clock.now += 7
    assert sys.getsizeof(histogram) <= 16 * 1024
    assert histogram.count == 800 * 200 * 1_000_000
    assert histogram.snapshot(300).rate == pytest.approx(200e6 / 7, rel=0.05)
    assert histogram.snapshot(300).seconds < 600


def test_a_distribution_is_a_number(histogram: Histogram) -> None:
    """Distributions add up, subtract to what came between, and survive pickling."""
    histogram.record(0.001)
    before = histogram.snapshot()
    histogram.record(0.1, 9)
    after = histogram.snapshot()
    between = after - before
    assert between.count == 9
    assert between.mean == pytest.approx(0.1)
    assert between.quantile(0.01) == pytest.approx(0.1, rel=0.02)
    assert (before + between).quantiles(*SHARES) == after.quantiles(*SHARES)
    assert pickle.loads(pickle.dumps(after)) == after
    assert hash(after) == hash(before + between)
    assert (before - after).count == 0
    assert Distribution().quantiles(0.5, 0.99) == [0.0, 0.0]
    assert Distribution().mean == 0.0


def test_buckets_of_others(histogram: Histogram) -> None:
    """Counts up to given bounds rise, and all are below the last."""
    for milliseconds in range(1, 101):
        histogram.record(milliseconds / 1000)
    bounds = [1e-6, 0.010, 0.050, 1.0, float("inf")]
    assert histogram.snapshot().at_most(bounds) == pytest.approx([0, 10, 50, 100, 100], abs=1)


def test_numpy_gets_counts_and_edges(histogram: Histogram) -> None:
    """As `numpy.histogram` returns them: each duration is between its edges."""
    for ns in (70, 1000, 1000, 10**9):
        histogram.record_ns(ns)
    counts, edges = histogram.snapshot().to_numpy()
    assert len(edges) == len(counts) + 1
    assert counts.sum() == 4
    place = np.searchsorted(edges, 1e-6, "right") - 1
    assert counts[place] == 2
    assert edges[place] <= 1e-6 < edges[place + 1]
    assert Distribution().to_numpy()[0].size == 0


def test_merging_keeps_times(clock: Clock) -> None:
    """What another one recorded is in the windows it belongs to."""
    one, other = Histogram(clock), Histogram(clock)
    other.record(5.0)
    clock.now += 100
    one.record(1.0)
    other.record(2.0)
    one.merge(other)
    assert one.count == 3
    assert one.snapshot(60).count == 2
    assert one.sum == pytest.approx(8.0)
    assert other.count == 2
    with pytest.raises(ValueError, match="into itself"):
        one.merge(one)


def test_outliers_are_kept_with_their_time(histogram: Histogram, clock: Clock) -> None:
    """The few that are longer than 999 of 1000 are told as they were, the last sixteen of them."""
    for _ in range(2000):
        histogram.record(0.001)
    clock.now += 30
    for seconds in range(1, 21):
        histogram.record(0.001)
        histogram.record(float(seconds))
    clock.now += 5
    outliers = histogram.outliers()
    assert [duration for duration, _ in outliers] == list(range(5, 21))
    assert all(at == pytest.approx(time() - 5, abs=2) for _, at in outliers)


def test_threads_lose_no_record() -> None:
    """Records of several threads, while others look, all count."""
    histogram = Histogram()
    seen: list[int] = []

    def work() -> None:
        for _ in range(20_000):
            histogram.record_ns(500)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(histogram.count)
    assert histogram.count == 80_000
    assert seen == sorted(seen)
    assert histogram.sum == pytest.approx(80_000 * 500e-9)
