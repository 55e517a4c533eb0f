"""`Weights` and `Adaptive`: what makes sense, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hybridcore import Adaptive, Cache, Weights
from hybridcore.errors import ConfigurationError

FACTORS = ["recency", "frequency", "size", "cost", "importance"]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("weight", [-1, 8.5, math.nan, math.inf, "1", None, [], 1j])
def test_a_weight_that_is_none(factor: str, weight: Any) -> None:
    """A weight is a number from 0 to 8; the error names the factor and what came."""
    with pytest.raises(ConfigurationError, match=f"{factor} is expected .* from 0 to 8") as caught:
        Weights(**{factor: weight})
    assert repr(weight) in str(caught.value)


def test_weights_that_choose_nothing() -> None:
    """At least one factor must count."""
    with pytest.raises(ConfigurationError, match="only zeros"):
        Weights(0, 0, 0, 0, 0)
    for factor in FACTORS:
        Weights(**{**dict.fromkeys(FACTORS, 0), factor: 8})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -0.1),
        ("learning_rate", 1),
        ("learning_rate", "fast"),
        ("learning_rate", None),
        ("learning_rate", math.nan),
        ("performance_target", 0),
        ("performance_target", 1.1),
        ("performance_target", math.nan),
        ("performance_target", "all"),
        ("objective", "speed"),
        ("objective", None),
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 1.0),
        ("seed", "1"),
    ],
)
def test_learning_that_makes_no_sense(name: str, value: Any) -> None:
    """The error names the option, what was expected and what came."""
    with pytest.raises(ConfigurationError, match=f"{name} is expected") as caught:
        Adaptive(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "lru"},
        {"weights": 1, "adaptive": Adaptive()},
        {"weights": Adaptive()},
        {"adaptive": True},
        {"adaptive": "hit_ratio", "weights": Weights()},
        {"low_water": -0.1},
        {"low_water": 1.1},
        {"low_water": math.nan},
        {"low_water": "half"},
        {"low_water": None},
    ],
    ids=repr,
)
def test_a_cache_refuses_what_makes_no_sense(options: dict[str, Any], make: Any) -> None:
    """The error names the option; a cache that is initialized again with it stays as it was."""
    name, value = next(iter(options.items()))
    with pytest.raises(ConfigurationError, match=f"{name} is expected") as caught:
        Cache(10, **options)
    assert repr(value) in str(caught.value)
    cache = make(3, weights=Weights.lru(), low_water=0.9)
    cache.update(a=1, b=2)
    before = cache.options(), cache.entries(), cache.counters()
    with pytest.raises(ConfigurationError):
        cache.__init__(10, **options)
    assert (cache.options(), cache.entries(), cache.counters()) == before


def test_what_decides() -> None:
    """By default a cache learns; weights alone decide, unless they come with adaptive."""

    def state(**options: Any) -> str:
        return Cache(10, **options).tuning().state

    assert state() == "filling"
    assert state(adaptive=Adaptive(seed=4)) == "filling"
    assert state(weights=Weights(size=0), adaptive=Adaptive()) == "filling"
    assert state(weights=Weights(size=0)) == "fixed"
    assert state(weights=Weights.lru()) == "fixed"
    assert state(adaptive=Adaptive(enabled=False)) == "fixed"


def test_lru_and_lfu() -> None:
    """They are weights of one factor, and weights are values."""
    assert Weights.lru() == Weights(1, 0, 0, 0, 0) != Weights.lfu() == Weights(0, 1, 0, 0, 0)
    assert len({Weights(), Weights(1.0), Weights.lru(), Weights.lfu()}) == 3
    with pytest.raises(AttributeError):
        Weights().size = 3  # type: ignore[misc]
