"""`Sequences`: runs of numbered keys, such as blocks, pages and dates, and what comes next."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import OrderedDict
from math import ceil, exp, log, log2
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.warming.predictive import Guess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NEIGHBOURS = 3
"""Numbers below and above that are tried as the one before in a run."""
_LEAST_AHEAD = 4
_FADE = 0.98
"""What is left of an old outcome with each new one: about the last 50 runs count."""
_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,18}(?=[^0-9]*\Z)")


class Place(NamedTuple):
    """Where a number stands: the key without it, and how the key is made of one."""

    rest: Any
    key_of: Callable[[int], Any]


class _Run:
    """Numbers asked for one after the other, the same stride apart."""

    __slots__ = ("asked_at", "gap", "head", "last", "length", "marker", "place", "stride")

    def __init__(self, place: Place, last: int, stride: int, gap: float, at: float) -> None:
        self.place = place
        self.last = self.head = last
        self.stride = stride
        self.length = 3
        self.gap = gap
        """Seconds between two of them."""
        self.asked_at = at
        self.marker: int | None = None
        """Once this one is used more is to be guessed."""


class Sequences:
    """Which numbers follow in a run: the only guesses that reach keys never asked for before.

    Keys are ints, texts whose last number counts (``"page:17"``) and tuples whose last int does.
    A number is in a run when the two before it, the same distance apart, were asked for in this
    order, whatever came in between. What is guessed ahead doubles as the run goes on, up to
    what its pace needs, as in readahead (Linux) and AMP (Gill and Bathen, FAST 2007): AMP, too,
    guesses more before what was guessed is used up, when a marker in its midst is. How likely a
    run is to go on is learned by its length from the runs before: most short ones end, and
    few long ones do.

    Args:
        ahead: seconds of the run's pace that are guessed ahead.
        max_ahead: numbers that are, at most.
        patience: seconds without demand after which a run is over.
        max_keys: remembered numbers; of more, those asked for longest ago go.
        max_runs: followed at a time.
    """

    name = "sequences"

    def __init__(
        self,
        *,
        ahead: float = 2.0,
        max_ahead: int = 64,
        patience: float = 15.0,
        max_keys: int = 4_096,
        max_runs: int = 256,
    ) -> None:
        self._ahead = ahead
        self._most_ahead = max_ahead
        self._patience = patience
        self._most = max_keys
        self._most_runs = max_runs
        self._seen: OrderedDict[tuple[Any, int], tuple[int, float]] = OrderedDict()
        self._numbers: dict[Any, list[int]] = {}
        self._expected: dict[tuple[Any, int], _Run] = {}
        self._runs: OrderedDict[int, _Run] = OrderedDict()
        self._going: tuple[Any, _Run] | None = None
        self._count = 0
        self._went = [0.0] * 64
        self._tried = [0.0] * 64
        """Runs that reached a length from 2 to the n, and of them those that doubled it."""

    def learn_one(self, key: Any, at: float) -> None:
        """Find the run that the key is in; O(log max_keys)."""
        self._going = None
        self._end_idle(at)
        found = numbered(key)
        if found is None:
            return
        place, number = found
        run = self._expected.get((place.rest, number))
        if run is not None:
            self._advance(run, number, at)
        else:
            run = self._discover(place, number, at)
        if run is not None:
            self._going = key, run
        self._remember(place.rest, number, at)

    def predict_one(self, key: Any, at: float) -> Iterator[Guess]:
        """The next of its run, unless enough of them are guessed already."""
        if self._going is None or self._going[0] != key:
            return
        run = self._going[1]
        pace = ceil(self._ahead / max(run.gap, 1e-6))
        depth = max(_LEAST_AHEAD, min(run.length, pace, self._most_ahead))
        guessed = (run.head - run.last) // run.stride
        if guessed > depth // 2:
            return
        why = f"in steps of {run.stride} after {key!r}"
        for step in range(guessed + 1, depth + 1):
            number = run.last + step * run.stride
            if self._expected.setdefault((run.place.rest, number), run) is run:
                yield Guess(
                    run.place.key_of(number),
                    self._likely(run.length, step),
                    self._patience,
                    why,
                    lead=min(self._patience, self._ahead),
                )
        run.head = run.last + depth * run.stride
        run.marker = run.last + max(1, guessed, depth // 2) * run.stride

    def predict_due(self, now: float) -> Iterator[Guess]:
        """Nothing by the clock."""
        self._end_idle(now)
        return iter(())

    def watched(self) -> list[Any]:
        """The keys whose use is to be told at once, as more is guessed then."""
        return [
            run.place.key_of(run.marker) for run in self._runs.values() if run.marker is not None
        ]

    def _advance(self, run: _Run, number: int, at: float) -> None:
        steps = (number - run.last) // run.stride
        for step in range(1, steps + 1):
            self._expected.pop((run.place.rest, run.last + step * run.stride), None)
        for power in range(int(log2(run.length)), int(log2(run.length + steps))):
            self._note(power, True)
        run.gap += 0.25 * ((at - run.asked_at) / steps - run.gap)
        run.last, run.asked_at = number, at
        run.length += steps
        if run.marker is not None and (number - run.marker) * run.stride >= 0:
            run.marker = None
        self._runs.move_to_end(id(run))

    def _discover(self, place: Place, number: int, at: float) -> _Run | None:
        """The run that the number is the third of."""
        numbers = self._numbers.get(place.rest)
        if numbers is None:
            return None
        seen, rest = self._seen, place.rest
        here = bisect_left(numbers, number)
        near = [*numbers[max(0, here - _NEIGHBOURS) : here], *numbers[here : here + _NEIGHBOURS]]
        for before in sorted(near, key=lambda one: abs(number - one)):
            stride = number - before
            first = seen.get((rest, before - stride))
            if not stride or first is None:
                continue
            order, when = first
            second = seen[rest, before][0]
            after = seen.get((rest, number + stride))
            if not order < second or (after is not None and after[0] > order):
                continue
            if at - when > self._patience:
                continue
            run = _Run(place, number, stride, (at - when) / 2, at)
            self._runs[id(run)] = run
            if len(self._runs) > self._most_runs:
                self._end(self._runs.popitem(last=False)[1])
            return run
        return None

    def _remember(self, rest: Any, number: int, at: float) -> None:
        self._count += 1
        if (rest, number) not in self._seen:
            insort(self._numbers.setdefault(rest, []), number)
        self._seen[rest, number] = self._count, at
        self._seen.move_to_end((rest, number))
        if len(self._seen) > self._most:
            (rest, number), _ = self._seen.popitem(last=False)
            numbers = self._numbers[rest]
            del numbers[bisect_left(numbers, number)]
            if not numbers:
                del self._numbers[rest]

    def _end_idle(self, now: float) -> None:
        while self._runs:
            run = next(iter(self._runs.values()))
            if now - run.asked_at <= max(self._patience, 8 * run.gap):
                return
            self._end(self._runs.popitem(last=False)[1])

    def _end(self, run: _Run) -> None:
        self._note(int(log2(run.length)), False)
        for step in range(1, (run.head - run.last) // run.stride + 1):
            place = run.place.rest, run.last + step * run.stride
            if self._expected.get(place) is run:
                del self._expected[place]

    def _note(self, power: int, doubled: bool) -> None:
        self._tried[power] = self._tried[power] * _FADE + 1
        self._went[power] = self._went[power] * _FADE + doubled

    def _likely(self, length: int, more: int) -> float:
        """That a run of this length gets so many numbers longer."""
        likely = 0.0
        at, end = log2(length), log2(length + more)
        while at < end:
            power = int(at)
            until = min(end, power + 1.0)
            doubled = (self._went[power] + 1.0) / (self._tried[power] + 2.0)
            likely += (until - at) * log(doubled)
            at = until
        return exp(likely)


def numbered(key: Any) -> tuple[Place, int] | None:
    """Where the number of a key stands, and the number; None: it has none.

    >>> place, number = numbered("page:017")
    >>> number, place.key_of(18)
    (17, 'page:018')
    """
    if type(key) is int:
        return Place(None, int), key
    if type(key) is str:
        match = _NUMBER.search(key)
        if match is None:
            return None
        digits = match.group()
        width = len(digits) if digits[0] == "0" else 0
        before, after = key[: match.start()], key[match.end() :]
        return Place((before, after), lambda n: f"{before}{n:0{width}d}{after}"), int(digits)
    if type(key) is tuple:
        ints = [position for position, part in enumerate(key) if type(part) is int]
        if ints:
            head, tail = key[: ints[-1]], key[ints[-1] + 1 :]
            return Place((head, tail), lambda n: (*head, n, *tail)), key[ints[-1]]
    return None
