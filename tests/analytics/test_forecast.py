"""Forecasts: a robust line, a season where there is one, and intervals that hold."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from hybridcore.analytics import forecast
from hybridcore.analytics.predictions import POINTS, Series, predict
from hybridcore.errors import ConfigurationError

HOUR, DAY = 3600.0, 86400.0


def test_a_line_is_found_under_outliers():
    """One measurement in ten is nonsense, and the slope is still right."""
    rng = np.random.default_rng(1)
    times = np.arange(100) * 60.0
    values = 500 + 2 * times + rng.normal(0, 20, 100)
    values[::10] = 1e6
    found = forecast(times, values, HOUR)
    assert found.model == "theil-sen"
    assert found.per_hour == pytest.approx(7200, rel=0.03)
    assert found.values[-1] == pytest.approx(500 + 2 * found.times[-1], rel=0.02)


def test_intervals_hold():
    """Of lines with noise, about nine in ten go on within the interval of 90 %."""
    rng = np.random.default_rng(2)
    times = np.arange(80) * 60.0
    within = 0
    for _ in range(100):
        values = 100 + 0.1 * times + rng.normal(0, 30, 80)
        found = forecast(times, values, HOUR)
        truth = 100 + 0.1 * found.times[-1] + rng.normal(0, 30)
        within += found.lower[-1] <= truth <= found.upper[-1]
    assert 84 <= within <= 100


def test_a_season_is_known():
    """With two days of data, the tide of a third is foretold, which no line does."""
    if importlib.util.find_spec("statsmodels") is None:
        pytest.skip("statsmodels is not installed")
    rng = np.random.default_rng(3)
    times = np.arange(0, 4 * DAY, 1800.0)

    def tide(at):
        return 1e6 + 2 * at / HOUR + 2e5 * np.sin(2 * np.pi * at / DAY)

    found = forecast(times, tide(times) + rng.normal(0, 3e3, len(times)), DAY, period=DAY)
    assert found.model == "stl"
    truth = tide(np.array(found.times))
    assert np.abs(np.array(found.values) - truth).max() < 4e4
    assert np.mean((np.array(found.lower) <= truth) & (truth <= np.array(found.upper))) > 0.8
    line = forecast(times, tide(times), DAY)
    assert np.abs(np.array(line.values) - truth).max() > 1e5


def test_when_a_value_is_reached():
    """The time at which the line is expected to cross a bound, None beyond the horizon."""
    found = forecast([0, 1, 2, 3], [0, 10, 20, 30], 10)
    assert found.reaches(100) == pytest.approx(10, abs=0.6)
    assert found.reaches(1000) is None


@pytest.mark.parametrize(
    ("times", "values"), [([0, 1], [1, 2]), ([0, 1, 1], [1, 2, 3]), ([0, 1, 2], [1, 2])]
)
def test_too_little_data(times, values):
    """Less than three points, or points out of order, are refused."""
    with pytest.raises(ConfigurationError, match="three points"):
        forecast(times, values, 1)


def test_a_series_keeps_a_bounded_number_of_points():
    """When there are many, every second one goes and the interval doubles."""
    series = Series(1.0, 0.0)
    for second in range(5 * POINTS):
        if series.due(second):
            series.add(second, {"size": second} if second % 3 else {"size": second, "disk": 1.0})
    assert len(series.times) < POINTS
    assert series.interval >= 8
    found = series.forecast("size", 100, None)
    assert found is not None
    assert found.per_hour == pytest.approx(3600)
    assert series.forecast("nothing", 100, None) is None


def test_evictions_of_a_full_cache():
    """A cache that evicts ten a second will have evicted 36,000 within the hour."""
    series = Series(1.0, 0.0)
    for second in range(60):
        series.add(second, {"size": 100.0, "evicted": 10.0 * second, "inserted": 10.0 * second})
    found = predict(series, HOUR, maxsize=100)
    assert found.full_in == 0
    assert found.evictions == pytest.approx(36_000, rel=0.01)
    assert found.fewest is not None
    assert found.most is not None
    assert found.fewest <= found.evictions <= found.most
    assert found.growth["size"].per_hour == pytest.approx(0, abs=1e-6)


def test_evictions_of_a_cache_that_fills():
    """One that has half an hour to go evicts for the other half."""
    series = Series(1.0, 0.0)
    for second in range(61):
        series.add(second, {"size": 10.0 * second, "evicted": 0.0, "inserted": 10.0 * second})
    found = predict(series, HOUR, maxsize=600 + 18_000)
    assert found.full_in == pytest.approx(1800, rel=0.01)
    assert found.evictions == pytest.approx(18_000, rel=0.02)
    never = predict(series, HOUR, maxsize=float("inf"))
    assert (never.evictions, never.full_in) == (0, None)


def test_nothing_measured():
    """Before three measurements nothing is foretold."""
    found = predict(Series(1.0, 0.0), HOUR, maxsize=10)
    assert found.evictions is None
    assert found.growth == {}
