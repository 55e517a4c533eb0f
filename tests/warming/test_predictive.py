"""Predictive warming: models, their trial, and what they warm."""

from __future__ import annotations

import random

import pytest

from hybridcore import ConfigurationError
from hybridcore.warming import Associations, Guess, Periodicity, Popularity, Predictive
from hybridcore.warming.trial import Trial

DAY = 86_400.0


def test_associations() -> None:
    """What followed a key most times is guessed after it; what came by chance is not."""
    model = Associations(within=30)
    dice = random.Random(1)
    for round_ in range(20):
        at = round_ * 100.0
        for offset, key in enumerate(("page", "style", "script", f"noise {dice.random()}")):
            model.learn_one(key, at + offset)
    guesses = {guess.key: guess.probability for guess in model.predict_one("page", 2000.0)}
    assert set(guesses) == {"style", "script"}
    assert min(guesses.values()) > 0.9


def test_associations_are_bounded() -> None:
    """However many keys come by, no more than max_keys are remembered, with few followers each."""
    model = Associations(max_keys=100, followers=3)
    for number in range(5_000):
        model.learn_one(number % 700, float(number))
    assert len(model._after) <= 100
    assert max(len(followers) for _, followers in model._after.values()) <= 3


@pytest.mark.parametrize("period", [7_200.0, DAY, 7 * DAY])
def test_periodicity(period) -> None:
    """A key that comes back after its own time, a day or a week is guessed shortly before."""
    model = Periodicity(lead=60)
    for turn in range(4):
        model.learn_one("report", turn * period + turn * 7)
    due = [g for t in range(30) for g in model.predict_due(3 * period + 21 + t * period / 20)]
    assert {guess.key for guess in due} == {"report"}
    model.learn_one("report", 4 * period)
    begin = min(at for at, *_ in model._expected)
    assert 5 * period - 1_100 < begin < 5 * period


def test_periodicity_on_weekdays() -> None:
    """A job of weekdays is expected on Monday after Friday, when it has been so for a week."""
    model = Periodicity(lead=60)
    for day in range(12):
        if day % 7 < 5:
            model.learn_one("report", day * DAY + 36_000)
    coming = [begin for begin, *_ in model._expected]
    assert any(abs(begin - (14 * DAY + 36_000)) < 2_000 for begin in coming)


def test_no_period() -> None:
    """Keys asked for at random are not expected at any time."""
    model = Periodicity(lead=60, tolerance=0.01)
    dice = random.Random(3)
    at, guessed = 0.0, 0
    for _ in range(400):
        at += dice.expovariate(1 / 20_000)
        guessed += sum(guess.probability > 0.8 for guess in model.predict_due(at))
        model.learn_one("k", at)
    assert guessed < 60


def test_popularity() -> None:
    """A key asked for every minute is expected again, one asked for twice in an hour is not."""
    model = Popularity(within=120)
    for minute in range(60):
        model.learn_one("hot", minute * 60.0)
        if minute % 30 == 0:
            model.learn_one("cold", minute * 60.0)
    guesses = list(model.predict_due(3_600.0))
    assert {guess.key for guess in guesses} == {"hot"}
    assert guesses[0].probability > 0.7


def test_a_trial() -> None:
    """Guesses are believed as far as those of their confidence came true, lately."""
    trial = Trial()
    for _ in range(1_000):
        trial.note(0.9, True)
        trial.note(0.3, False)
    assert trial.probability(0.9) > 0.9
    assert trial.probability(0.3) < 0.1
    for _ in range(1_000):
        trial.note(0.9, False)
    assert trial.probability(0.9) < 0.1


def test_warms_what_follows(world) -> None:
    """After a page its parts are there before they are asked for, once that has been seen."""
    strategy = Predictive(Associations())
    misses = []
    with world.warmer(strategy) as warmer:
        for _ in range(60):
            before = world.store.memory.stats().misses
            for key in ("page", "style", "script"):
                world.store.get(key)
                world.pass_time(warmer, 1)
            misses.append(world.store.memory.stats().misses - before)
            world.pass_time(warmer, 200, 10.0)
    assert misses[:5] == [3] * 5
    assert misses[-5:] == [1] * 5
    book = warmer.stats().strategies["predictive.associations"]
    assert book.is_on
    assert book.hits > 20
    assert book.hit_rate > 0.9


def test_a_model_that_is_wrong_costs_nothing(world) -> None:
    """A model whose guesses do not come true is never let near the origin."""

    class Wrong:
        name = "wrong"

        def learn_one(self, key, at) -> None:
            pass

        def predict_one(self, key, at):
            yield Guess(f"not {key}", 0.9, 20.0)

        def predict_due(self, now):
            return ()

    strategy = Predictive(Wrong())
    with world.warmer(strategy) as warmer:
        for number in range(200):
            world.store.get(number)
            world.pass_time(warmer, 1)
    assert strategy.trial.tried > 100
    assert not strategy.is_on
    assert world.origin.asked == list(range(200))
    assert not warmer.stats().strategies["predictive.wrong"].is_on


def test_a_model_that_gets_worse_is_switched_off(world) -> None:
    """What paid for a while and does no more goes back on trial, and its loss stays small."""

    class Next:
        name = "next"

        def learn_one(self, key, at) -> None:
            pass

        def predict_one(self, key, at):
            yield Guess(key + 1, 0.9, 20.0)

        def predict_due(self, now):
            return ()

    strategy = Predictive(Next())
    with world.warmer(strategy) as warmer:
        for number in range(300):
            world.store.get(number)
            world.pass_time(warmer, 1)
        assert strategy.is_on
        before = len(world.origin.asked)
        for number in range(2_000):
            world.store.get(number * 1_000 + 10_000)
            world.pass_time(warmer, 1)
        assert not strategy.is_on
    in_vain = len(world.origin.asked) - before - 2_000
    assert in_vain < 300


def test_not_a_model() -> None:
    """What lacks a method of a model is refused, and so is a share out of range."""
    with pytest.raises(ConfigurationError, match="learn_one"):
        Predictive(object())
    with pytest.raises(ConfigurationError, match="at_least"):
        Predictive(Popularity(), at_least=2)
