"""Sequences: runs of numbered keys, and what is warmed of them."""

from __future__ import annotations

import random
import time

import pytest

from hybridcore import Cache, HybridCache
from hybridcore.warming import Budget, Predictive, Sequences, Warmer
from hybridcore.warming.sequences import numbered

from .conftest import Batches


def guesses_of(model, keys, at=0.0, apart=0.1):
    """All that is guessed while these keys are asked for."""
    found = []
    for turn, key in enumerate(keys):
        model.learn_one(key, at + turn * apart)
        found += model.predict_one(key, at + turn * apart)
    return [guess.key for guess in found]


@pytest.mark.parametrize(
    ("keys", "following"),
    [
        ([10, 11, 12], [13, 14]),
        ([1000, 872, 744], [616, 488]),
        (["page:8", "page:9", "page:10"], ["page:11", "page:12"]),
        (["2024-01-08.csv", "2024-01-09.csv", "2024-01-10.csv"], ["2024-01-11.csv"]),
        ([("vol", 1, "x"), ("vol", 3, "x"), ("vol", 5, "x")], [("vol", 7, "x"), ("vol", 9, "x")]),
    ],
)
def test_runs(keys, following) -> None:
    """The third of a run has the next guessed, in its stride and the shape of its key."""
    assert guesses_of(Sequences(), keys)[: len(following)] == following


@pytest.mark.parametrize("key", ["name", 1.5, True, None, b"7", ("a", "b"), (), "٣", "9" * 5_000])
def test_no_number(key) -> None:
    """A key without a number is in no run."""
    assert numbered(key) is None
    assert guesses_of(Sequences(), [key] * 5) == []


def test_runs_among_others() -> None:
    """Two runs and noise between them are told apart."""
    dice = random.Random(1)
    keys = []
    for turn in range(20):
        keys += [1_000 + turn, dice.randrange(10**9), 90_000 - 7 * turn, dice.randrange(10**9)]
    guessed = guesses_of(Sequences(), keys)
    assert set(guessed) >= {*range(1_003, 1_020), *range(90_000 - 7 * 19, 90_000 - 14, 7)}
    assert all(1_000 <= key < 1_060 or 89_500 < key < 90_000 for key in guessed)


def test_depth_and_confidence() -> None:
    """More is guessed of longer runs, up to the bound, and each number once."""
    guessed = guesses_of(Sequences(max_ahead=16), range(200), apart=0.01)
    assert len(guessed) == len(set(guessed))
    assert guessed == list(range(3, 3 + len(guessed)))
    assert 200 <= max(guessed) <= 215


def test_runs_that_end() -> None:
    """When runs kept ending after four, one of four is not believed to go on."""
    model = Sequences()
    for turn in range(50):
        guesses_of(model, [turn * 1_000 + n for n in range(4)], at=turn * 20.0)
    model.learn_one("end", 2_000.0)
    assert model._likely(4, 4) < 0.1
    assert model._expected == {} == dict(model._runs)


def test_bounded() -> None:
    """Memory has bounds, whatever is asked for."""
    model = Sequences(max_keys=100, max_runs=5, max_ahead=8)
    dice = random.Random(2)
    for turn in range(5_000):
        key = ("space", dice.randrange(40), dice.randrange(30))
        model.learn_one(key, turn * 0.01)
        list(model.predict_one(key, turn * 0.01))
    assert len(model._seen) <= 100 == sum(map(len, model._numbers.values()))
    assert len(model._runs) <= 5
    assert len(model._expected) <= 5 * 8


def test_keys_never_asked_for_are_warmed_in_batches(make_world) -> None:
    """Once runs have proved to go on, what is next in one is loaded in one call ahead."""
    world = make_world(Batches())
    warmer = world.warmer(Predictive(Sequences()), budget=Budget(overhead=None, clock=world.clock))
    asked_by_readers = 0
    for run in range(10):
        for number in range(40):
            before = len(world.origin.asked)
            world.store.get(run * 1_000 + number)
            asked_by_readers += len(world.origin.asked) > before
            world.clock.now += 0.1
            world.store._engine.events.drain()
            warmer.glance()
        world.pass_time(warmer, 20)
    batches = [keys for keys in world.origin.asked if isinstance(keys, tuple)]
    assert warmer.glances
    assert asked_by_readers < 200
    assert max(map(len, batches)) > 3
    assert warmer.stats().strategies["predictive.sequences"].hit_rate > 0.6


def test_by_itself() -> None:
    """A warmer with a thread keeps ahead of a reader of new pages, without waiting for its tick."""

    class Pages(Batches):
        pass

    store: HybridCache[str, str] = HybridCache(Cache(10_000), origin=Pages())
    strategy = Predictive(Sequences())
    with store, Warmer(store, strategy, budget=Budget(overhead=None), tick="1h") as warmer:
        number = 0
        end = time.monotonic() + 20
        while warmer.stats().strategies["predictive.sequences"].hits < 20:
            store.get(f"page:{number}")
            number += 1
            time.sleep(0.01)
            assert time.monotonic() < end, warmer.stats()
