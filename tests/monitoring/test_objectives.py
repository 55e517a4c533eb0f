"""What became of objectives of a real cache, by day and month, and across restarts."""

from __future__ import annotations

import pytest

import hybridcore as hc
from hybridcore.errors import ConfigurationError
from hybridcore.monitoring.alerts import Alerts
from hybridcore.monitoring.objectives import Objectives
from hybridcore.monitoring.slo import Slo

NOVEMBER = 1_793_491_200.0
"""The first of November 2026."""
SLOS = [Slo("availability", objective=0.9), Slo("hit_ratio", objective=0.5)]


class Service:
    """A cache whose origin can be broken, and its alerts."""

    def __init__(self, kept=None):
        self.broken, self.number, self.now = False, 0, NOVEMBER
        entries = hc.EntryOptions(throttle=0)
        self.store = hc.HybridCache(origin=self.load, breaker=None, defaults=entries)
        self.alerts = Alerts(
            {"shop": self.store}, slos=SLOS, rules=(), kept=kept, clock=lambda: self.now
        )
        self.alerts.evaluate()

    def load(self, key):
        if self.broken:
            raise ConnectionError("down")
        return key

    def step(self, times=1):
        for _ in range(times):
            self.now += 10
            for _ in range(20):
                self.number += 1
                try:
                    self.store.get(self.number)
                except ConnectionError:
                    assert self.broken
            self.alerts.evaluate()

    def close(self):
        self.alerts.close()
        self.store.close()


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "objectives.json"


def test_a_month_tells_what_was_attained_and_when_it_was_not(kept) -> None:
    """Bad and all requests of each day, the budget spent, and the outage with its times."""
    service = Service(kept)
    service.step(90)
    service.broken = True
    service.step(10)
    service.broken = False
    service.step(30)
    service.now = NOVEMBER + 86_400
    service.step(1)
    service.close()
    availability, hits = service.alerts.objectives.month("2026-11")
    assert (availability.cache, availability.slo) == ("shop", "availability")
    assert availability.bad == 200
    assert availability.requests == 131 * 20
    assert availability.attained == pytest.approx(1 - 200 / 2620)
    assert availability.spent == pytest.approx(200 / 2620 / 0.1)
    assert availability.is_met
    assert availability.days[:2] == ((200, 2600), (0, 20))
    assert len(availability.days) == 30
    [outage] = [one for one in availability.violations if one.alert == "AvailabilityBurnsOutage"]
    assert outage.end is not None
    assert NOVEMBER + 900 < outage.begin <= outage.end < NOVEMBER + 1200
    assert hits.is_met is False  # each key was asked for once
    assert service.alerts.objectives.month("2026-10")[0].is_met is None
    assert Objectives(SLOS, kept).month("2026-11") == [availability, hits]


def test_it_goes_on_after_a_restart(kept) -> None:
    """What was counted before is kept, and nothing is counted twice."""
    for _ in range(2):
        service = Service(kept)
        service.step(5)
        service.close()
    assert service.alerts.objectives.month("2026-11")[0].requests == 200


def test_what_is_none_of_ours_is_refused(kept) -> None:
    """Another file, and what is no month."""
    kept.write_text("[1]")
    with pytest.raises(ConfigurationError, match="does not tell of objectives"):
        Objectives(SLOS, kept)
    with pytest.raises(ConfigurationError, match="a month"):
        Objectives(SLOS).month("2026-13")
