"""Recommendations read a curve; what makes no sense is refused."""

from __future__ import annotations

import numpy as np
import pytest

from hybridcore.analytics import MissRatioCurve, recommend
from hybridcore.errors import ConfigurationError

SIZES = np.array([0.0, 100.0, 200.0, 400.0, 1_000.0])
HITS = np.array([0.0, 0.4, 0.6, 0.7, 0.8])


def curve(unit="entries", requests=1_000.0):
    return MissRatioCurve(unit, "lru", SIZES, HITS, HITS / 2, requests, 1_000.0, 5_000.0, 1.0)


def test_a_size_for_a_hit_ratio():
    """The smallest size that reaches the target, and what it saves of the origin's calls."""
    found = recommend(
        curve(), current=100, hit_ratio=0.7, requests_per_hour=3_600, calls_per_miss=0.5, cost=2
    )
    assert found.recommended is not None
    assert found.recommended.size == 400
    assert found.recommended.hit_ratio == pytest.approx(0.7)
    assert found.recommended.byte_hit_ratio == pytest.approx(0.35)
    assert found.recommended.calls_saved_per_hour == pytest.approx(0.3 * 1_800)
    assert found.recommended.cost_saved_per_hour == pytest.approx(0.3 * 3_600)
    assert found.current is not None
    assert found.current.origin_calls_per_hour == pytest.approx(0.6 * 1_800)
    assert [option.size for option in found.options] == [25, 50, 100, 200, 400, 800]


def test_the_default_target():
    """Without one it is 95 % of what any size could hit."""
    found = recommend(curve())
    assert found.target == pytest.approx(0.76)
    assert found.current is None
    assert found.recommended is not None
    assert found.recommended.size == 760


def test_out_of_reach():
    """A hit ratio that no size has gets no size."""
    found = recommend(curve(), hit_ratio=0.9)
    assert found.recommended is None
    assert found.best_hit_ratio == pytest.approx(0.8)
    assert recommend(curve(requests=0.0)).recommended is None


def test_marginal_gain():
    """It is that of the next 1000 entries, or of the next MiB."""
    entries = recommend(curve(), sizes=[200])
    assert entries.options[0].marginal == pytest.approx(0.2)
    of_bytes = recommend(curve("bytes"), sizes=[200])
    assert of_bytes.options[0].marginal == pytest.approx(0.2)
    assert curve().marginal(100, 100) == pytest.approx(0.2)
    assert curve().knee(0.5) == pytest.approx(100)


@pytest.mark.parametrize("wrong", [{"hit_ratio": 0}, {"hit_ratio": 1.0}, {"sizes": [0]}])
def test_what_makes_no_sense(wrong):
    """Ratios that are none and sizes below 1 are refused."""
    with pytest.raises(ConfigurationError, match="expected"):
        recommend(curve(), **wrong)


def test_a_recommended_size_is_whole_and_reaches_what_it_should():
    """Of a size between two whole ones the larger is recommended, with the hit ratio of that."""
    found = recommend(curve(), hit_ratio=0.7003)
    assert found.recommended is not None
    assert found.recommended.hit_ratio >= 0.7003
    assert found.recommended.hit_ratio == curve().hit_ratio(found.recommended.size)
