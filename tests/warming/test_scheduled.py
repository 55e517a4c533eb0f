"""Scheduled warming: times, zones, missed runs, and the hours in which little is asked for."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from hybridcore import ConfigurationError
from hybridcore.warming import Scheduled

HOUR = 3_600.0
DAY = 24 * HOUR


def run_times(world, strategy, seconds: float, step: float = 60.0) -> list[float]:
    """When it warmed, in seconds from now."""
    begin, times = world.clock.now, []
    with world.warmer(strategy) as warmer:
        end = begin + seconds
        while world.clock.now < end:
            before = len(world.origin.asked)
            world.pass_time(warmer, step, step)
            if len(world.origin.asked) > before:
                times.append(world.clock.now - begin)
    return times


def test_cron(world) -> None:
    """It runs at the minutes that the expression names."""
    times = run_times(world, Scheduled("30 5 * * *", ["k"], refresh=True), 2 * DAY)
    assert times == [5.5 * HOUR, 29.5 * HOUR]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2024-03-30", [2.5, 25.0]),  # the second is skipped by summer time
        ("2024-10-26", [2.5, 26.5]),  # the second is there twice
    ],
)
def test_summer_time(world, day, expected) -> None:
    """Times are those of the zone, on the days on which its clocks are changed, too."""
    zone = ZoneInfo("Europe/Vienna")
    world.clock.now = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=zone).timestamp()
    strategy = Scheduled("30 2 * * *", ["k"], timezone="Europe/Vienna", refresh=True)
    times = run_times(world, strategy, 1.5 * DAY)
    assert len(times) == 2
    assert times[0] == expected[0] * HOUR
    assert expected[1] * HOUR <= times[1] <= 27 * HOUR


@pytest.mark.parametrize(("missed", "runs"), [("run", 1), ("skip", 0)])
def test_missed_runs(world, tmp_path, missed, runs) -> None:
    """What was due while no process ran is made up for once, or left out; it is counted."""
    state = tmp_path / "state"
    first = Scheduled("0 * * * *", ["k"], state=state, missed=missed, refresh=True)
    assert run_times(world, first, 2 * HOUR)
    before = len(world.origin.asked)
    world.clock.now += 5 * HOUR + 60
    second = Scheduled("0 * * * *", ["k"], state=state, missed=missed, refresh=True)
    run_times(world, second, 600)
    assert len(world.origin.asked) - before == runs
    assert second.missed == 5


def test_off_peak(world) -> None:
    """It runs once a day in the hour in which least was asked for on the days before."""
    strategy = Scheduled("off-peak", ["k"], refresh=True, missed="skip")
    ran = []
    with world.warmer(strategy) as warmer:
        for minute in range(3 * 24 * 60):
            hour = minute // 60 % 24
            for _ in range(1 if hour == 4 else 5):
                world.store.get("other")
            before = world.origin.asked.count("k")
            world.pass_time(warmer, 60, 60)
            if world.origin.asked.count("k") > before:
                ran.append(int(world.clock.now // HOUR))
    assert [hour % 24 for hour in ran] == [4] * len(ran)
    assert len(ran) == 2


def test_popular(make_world, tmp_path) -> None:
    """Without keys of its own it warms those in demand before, also those before a restart."""
    world = make_world()
    state = tmp_path / "state"
    with world.warmer(Scheduled("0 5 * * *", count=2, state=state)) as warmer:
        for _ in range(3):
            for key in ("a", "b"):
                world.store.get(key)
            world.settle(warmer)
            world.pass_time(warmer, 200, 50)
        world.store.get("once")
        world.pass_time(warmer, 6 * HOUR, 600)
    again = make_world()
    again.clock.now = world.clock.now
    with again.warmer(Scheduled("0 5 * * *", count=2, state=state)) as warmer:
        again.pass_time(warmer, DAY, 600)
    assert sorted(again.origin.asked) == ["a", "b"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Scheduled("61 * * * *"),
        lambda: Scheduled("off peak"),
        lambda: Scheduled("* * * * *", timezone="Mars/Base"),
        lambda: Scheduled("* * * * *", "key"),
        lambda: Scheduled("* * * * *", missed="sometimes"),
    ],
)
def test_wrong_options(wrong) -> None:
    """Expressions, zones and keys that are none are refused at once."""
    with pytest.raises(ConfigurationError):
        wrong()


def test_a_damaged_state(tmp_path) -> None:
    """A state that cannot be read is told of and begun anew."""
    state = tmp_path / "state"
    state.write_bytes(b"\xff nothing")
    assert Scheduled("* * * * *", ["k"], state=state).missed == 0
