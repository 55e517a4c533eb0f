"""Predictive warming: models guess what comes, on trial until they pay."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hybridcore.errors import ConfigurationError
from hybridcore.warming.strategy import Heard, Wish
from hybridcore.warming.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hybridcore.warming.shelf import Shelf

_TRIAL = 30
"""Outcomes before a model is believed."""
_LEAST = 0.2
"""Share of guesses that come true below which no price makes them worth the work."""
_MOST = 20_000
"""Guesses on trial at a time."""
PROMPT = 0.05
"""Seconds between two looks at what a model watches."""


class Guess(NamedTuple):
    """That a key is asked for within so many seconds from now."""

    key: Any
    probability: float
    within: float
    why: str = ""
    lead: float | None = None
    """Seconds of freshness left from which the key needs no warming; None: ``within``."""


class Model(Protocol):
    """What predicts; a user's own has these methods, named as in river and scikit-learn.

    Bounded memory is its own affair. ``learn_one`` is told of demand below memory, and of that for
    entries that were warmed; hits of others are not seen.
    """

    name: str

    def learn_one(self, key: Any, at: float) -> None:
        """A reader asked for the key."""

    def predict_one(self, key: Any, at: float) -> Iterable[Guess]:
        """What follows, now that a reader asked for the key."""

    def predict_due(self, now: float) -> Iterable[Guess]:
        """What is expected by the time of day, whoever asked for what."""


class PromptModel(Model, Protocol):
    """A model whose guesses are of the next seconds: it is asked 20 times a second.

    Others are asked at every tick of the warmer.
    """

    def watched(self) -> Iterable[Any]:
        """The keys warmed for it whose use it is to be told at once; few."""


class Predictive:
    """Warms what a model guesses, if guesses of that confidence have come true often enough.

    Each guess is tracked whether it is warmed or not, so a model is on trial at no cost until it
    has shown what it can do, and is on trial again when it gets worse than pays.

    Args:
        model: a `Model`, such as `Associations`, `Periodicity`, `Popularity` or `Sequences`.
        at_least: the share of guesses to come true below which it is switched off. None: as much
            as pays, see ``break_even``: the dearer calls in vain, the more.
    """

    def __init__(self, model: Model, *, at_least: float | None = None) -> None:
        for method in ("learn_one", "predict_one", "predict_due"):
            if not callable(getattr(model, method, None)):
                raise ConfigurationError(f"a model is expected to have {method}, got {model!r}")
        if at_least is not None and not 0 <= at_least <= 1:
            raise ConfigurationError(f"at_least is expected from 0 to 1, got {at_least!r}")
        self.model = model
        self.name = f"predictive.{model.name}"
        self.trial = Trial()
        self._at_least = at_least
        self.break_even = 0.5
        """The share of guesses to come true that pays, kept up to date by the warmer."""
        self._fresh: deque[Guess] = deque(maxlen=_MOST)
        self._open: OrderedDict[Any, tuple[float, float]] = OrderedDict()
        self._warmed: dict[Any, float] = {}
        self._watched: Callable[[], Iterable[Any]] | None = getattr(model, "watched", None)
        self._looked_at = self._tried_at = 0.0

    @property
    def _bar(self) -> float:
        return max(self.break_even, _LEAST) if self._at_least is None else self._at_least

    @property
    def is_on(self) -> bool:
        """Whether there are guesses that pay."""
        return self.trial.tried >= _TRIAL and self.trial.best() >= self._bar

    @property
    def is_prompt(self) -> bool:
        """Whether it is to be asked between ticks, too; see `PromptModel`."""
        return self._watched is not None

    def watched(self) -> list[Any]:
        """The keys warmed for it whose use it is to be told at once."""
        if self._watched is None:
            return []
        return [key for key in self._watched() if key in self._warmed]

    def hear(self, what: Heard, key: Any, now: float, shelf: Shelf) -> None:
        """Learn of demand, and guess what follows."""
        if what is not Heard.DEMAND:
            return
        guessed = self._open.pop(key, None)
        if guessed is not None:
            self.trial.note(guessed[1], now <= guessed[0])
        self.model.learn_one(key, now)
        self._fresh.extend(self.model.predict_one(key, now))

    def wishes(self, now: float, shelf: Shelf) -> Iterator[Wish]:
        """The guesses that are likely enough to come true."""
        self._looked_at = now
        self._expire(now)
        guesses: list[Guess] = [*self._fresh, *self.model.predict_due(now)]
        self._fresh.clear()
        is_on = self.is_on
        for guess in guesses:
            life = shelf.life(guess.key)
            lead = guess.within if guess.lead is None else guess.lead
            if life is not None and (life.left is None or life.left > lead):
                continue  # it is there
            if guess.key in self._warmed:
                continue
            probability = self.trial.probability(guess.probability)
            if is_on and probability >= self._bar:
                self._warmed[guess.key] = guess.probability
                if len(self._warmed) > _MOST:
                    del self._warmed[next(iter(self._warmed))]
                yield Wish(
                    guess.key,
                    self.name,
                    probability,
                    unless_left=lead,
                    reason=guess.why,
                )
            elif guess.key not in self._open:
                self._open[guess.key] = (now + guess.within, guess.probability)
                if len(self._open) > _MOST:
                    self._open.popitem(last=False)

    def _expire(self, now: float) -> None:
        """Guesses that did not come true in time; looked at in turns."""
        if 0 <= now - self._tried_at < 1.0:
            return
        self._tried_at = now
        for _ in range(min(len(self._open), 2_000)):
            key, (until, confidence) = self._open.popitem(last=False)
            if until < now:
                self.trial.note(confidence, False)
            else:
                self._open[key] = (until, confidence)

    def next_at(self) -> float | None:
        """Guesses come with demand, or are looked for at every tick."""
        return self._looked_at + PROMPT if self.watched() else None

    def resolved(self, key: Any, is_hit: bool) -> None:
        """What was warmed was asked for, or not."""
        confidence = self._warmed.pop(key, None)
        if confidence is not None:
            self.trial.note(confidence, is_hit)


def predictive(*, at_least: float | None = None) -> tuple[Predictive, ...]:
    """A strategy for each of the models that suit any keys."""
    from hybridcore.warming.models import Associations, Periodicity, Popularity

    models: tuple[Model, ...] = (Associations(), Periodicity(), Popularity())
    return tuple(Predictive(model, at_least=at_least) for model in models)
