"""Alerts after a restart, and of an origin that is seldom asked."""

from __future__ import annotations

import logging

import pytest

from hybridcore.monitoring.alerts import Alerts
from hybridcore.monitoring.rules import BUILT_IN

SLOW = [rule for rule in BUILT_IN if rule.name == "OriginSlow"]
TIER = frozenset({("tier", "origin")})


class Service:
    """An origin that is asked once in so many seconds, as its metrics tell."""

    def __init__(self, every: float) -> None:
        self.now = 1_700_000_000.0
        self.every = every
        self.count = self.sum = 0.0
        self.fired: list[str] = []

    def run(self, alerts: Alerts, seconds: float, takes: float) -> None:
        """Let time pass, a look every ten seconds."""
        for _ in range(int(seconds / 10)):
            self.now += 10
            if self.now % self.every < 10:
                self.count += 1
                self.sum += takes
            samples = {
                "hybridcore_request_duration_seconds_count": [(TIER, self.count)],
                "hybridcore_request_duration_seconds_sum": [(TIER, self.sum)],
            }
            self.fired += [one.rule for one in alerts.judge("shop", samples, self.now)]

    def clock(self) -> float:
        """The time."""
        return self.now


@pytest.mark.parametrize("every", [10, 60])
def test_a_slow_origin_is_told_also_when_it_is_seldom_asked(every) -> None:
    """Four loads in five minutes are enough, and what is a little slower is left alone."""
    service = Service(every)
    alerts = Alerts({}, rules=SLOW, clock=service.clock)
    service.run(alerts, 2 * 3600, 0.1)
    service.run(alerts, 600, 0.11)
    assert service.fired == []
    service.run(alerts, 600, 0.5)
    assert service.fired == ["OriginSlow"]
    alerts.close()


def test_a_process_that_starts_knows_the_past(tmp_path) -> None:
    """What the last hour was like is known after a restart, and forgotten without a file."""
    for past, fired in ((tmp_path / "past", ["OriginSlow"]), (None, [])):
        service = Service(10)
        before = Alerts({}, rules=SLOW, clock=service.clock, past=past)
        service.run(before, 2 * 3600, 0.1)
        before.close()
        service.now += 30
        after = Alerts({}, rules=SLOW, clock=service.clock, past=past)
        service.run(after, 300, 0.5)
        after.close()
        assert service.fired == fired


def test_a_killed_process_forgets_five_minutes_at_most(tmp_path) -> None:
    """The file is written while it runs."""
    service = Service(10)
    past = tmp_path / "past"
    Alerts({}, rules=SLOW, clock=service.clock).close()
    killed = Alerts({}, rules=SLOW, clock=service.clock, past=past)
    service.run(killed, 3600, 0.1)
    after = Alerts({}, rules=SLOW, clock=service.clock, past=past)
    service.run(after, 10, 0.1)
    assert after._histories["shop"].seconds > 3600 - 310
    after.close()
    killed.close()


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\x81\xa4shop\x94\x90\x91\x01\xc4\x01a\x80"]
)
def test_a_damaged_past_is_begun_anew(tmp_path, caplog, content) -> None:
    """It is logged, and costs no more than the past."""
    past = tmp_path / "past"
    past.write_bytes(content)
    service = Service(10)
    with caplog.at_level(logging.WARNING):
        alerts = Alerts({}, rules=SLOW, clock=service.clock, past=past)
        service.run(alerts, 600, 0.1)
    assert "past" in caplog.text
    alerts.close()
    assert len(past.read_bytes()) > 1_000
