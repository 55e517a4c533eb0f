"""The budget, with what it leaves to readers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybridcore.stats import OriginUsage
from hybridcore.warming import Budget
from tests.warming.conftest import Clock


def told(left: float, resets_at: float | None = None) -> OriginUsage:
    return OriginUsage(1, 0, {}, 0.0, 0, 0, 1.0, left, resets_at)


def test_refills_evenly() -> None:
    """A budget of calls an hour is full again after an hour, half after half of it."""
    clock = Clock()
    budget = Budget(calls=10, per="1h", clock=clock)
    assert all(budget.take() for _ in range(10))
    assert not budget.take()
    clock.now += 1_800
    assert sum(budget.take() for _ in range(10)) == 5


def test_all_or_nothing() -> None:
    """Where one bound is exceeded nothing is taken from the others."""
    budget = Budget(calls=10, bytes="1KiB", clock=Clock())
    assert not budget.take(1, bytes=2_000) or budget.stats().bytes_left < 0
    budget = Budget(calls=10, cost=1, clock=Clock())
    assert budget.take(1, cost=1)
    assert not budget.take(1, cost=1)
    assert budget.stats().calls_left == 9


def test_reserve() -> None:
    """Below the reserve of the origin's quota nothing is warmed, until it is filled again."""
    clock = Clock()
    budget = Budget(reserve=0.2, clock=clock)
    assert budget.allows(told(5_000, clock.now + 3_600))
    assert budget.allows(told(1_001, clock.now + 3_600))
    assert not budget.allows(told(1_000, clock.now + 3_600))
    clock.now += 3_600
    assert budget.allows(told(1_000, clock.now))
    assert not Budget(reserve=2_000, clock=clock).allows(told(1_999))
    assert Budget(clock=clock).allows(None)


def test_overhead_grows_with_what_readers_spend() -> None:
    """What may be lost is a share of what readers' own loads cost, beyond a small credit."""
    budget = Budget(overhead=0.05, clock=Clock())
    while budget.take(lost=1):
        pass
    assert not budget.take(lost=1)
    budget.readers_spent(100)
    assert sum(budget.take(lost=1) for _ in range(10)) == 5
    assert budget.scarcity() > 100
    budget.settle(-3)
    assert budget.take(lost=1)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 5]), st.floats(0, 600)), max_size=60),
    st.integers(1, 50),
)
def test_never_more_than_its_rate(steps, limit) -> None:
    """In any time no more is taken than a full budget and what was refilled meanwhile."""
    clock = Clock()
    budget = Budget(calls=limit, per=600, overhead=None, clock=clock)
    began, taken = clock.now, 0
    for calls, pause in steps:
        taken += calls if calls <= limit and budget.take(calls) else 0
        clock.now += pause
        assert taken <= limit * (1 + (clock.now - began) / 600) + 1e-6
