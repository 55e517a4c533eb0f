"""Alerts, objectives and the rules of Prometheus, over snapshots of a real cache."""

from __future__ import annotations

import hmac
import json
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain

import pytest

import hybridcore as hc
from hybridcore.errors import ConfigurationError
from hybridcore.monitoring.alerts import Alerts
from hybridcore.monitoring.rules import BUILT_IN, load, of_slos
from hybridcore.monitoring.signals import History, Increase
from hybridcore.monitoring.sinks import Webhook, signature
from hybridcore.monitoring.slo import Slo


class Shop:
    """A cache whose origin can be broken, and the time."""

    def __init__(self, **options) -> None:
        self.broken = False
        self.now = 1000.0
        self.number = 0
        entries = hc.EntryOptions(throttle=0)
        self.store = hc.HybridCache(origin=self.load, defaults=entries, **options)

    def load(self, key):
        if self.broken:
            raise ConnectionError("down")
        return key

    def step(self, alerts):
        """Ten seconds with twenty lookups that miss."""
        self.now += 10
        for _ in range(20):
            self.number += 1
            try:
                self.store.get(self.number)
            except (ConnectionError, hc.BreakerOpenError):
                assert self.broken
        return [(change.rule, change.state) for change in alerts.evaluate()]


@pytest.fixture
def shop():
    shop = Shop(breaker=None)
    yield shop
    shop.store.close()


def test_an_outage_is_told_once_and_when_it_is_over(shop) -> None:
    """Within two minutes, by the built-in rule; nothing is told while all is well."""
    told = []
    alerts = Alerts({"shop": shop.store}, [told.append], clock=lambda: shop.now)
    assert list(chain.from_iterable(shop.step(alerts) for _ in range(20))) == []
    shop.broken = True
    changes = [shop.step(alerts) for _ in range(12)]
    assert list(chain.from_iterable(changes)) == [("OriginFailing", "firing")]
    assert [alert.rule for alert in alerts.firing()] == ["OriginFailing"]
    shop.broken = False
    changes = list(chain.from_iterable(shop.step(alerts) for _ in range(20)))
    assert changes == [("OriginFailing", "resolved")]
    alerts.close()
    assert [alert.state for alert in told] == ["firing", "resolved"]


def test_an_open_breaker_is_told() -> None:
    """Within two minutes, though the origin is no longer asked."""
    shop = Shop()
    alerts = Alerts({"shop": shop.store}, clock=lambda: shop.now)
    for _ in range(20):
        assert shop.step(alerts) == []
    shop.broken = True
    changes = list(chain.from_iterable(shop.step(alerts) for _ in range(12)))
    assert ("BreakerOpen", "firing") in changes
    alerts.close()
    shop.store.close()


def test_windows_of_hours_need_their_past(shop) -> None:
    """One failure just after the start burns no budget of days."""
    slo = Slo("availability", objective=0.999)
    alerts = Alerts({"shop": shop.store}, rules=of_slos([slo]), clock=lambda: shop.now)
    shop.step(alerts)
    shop.broken = True
    with pytest.raises(ConnectionError):
        shop.store.get("once")
    shop.broken = False
    assert list(chain.from_iterable(shop.step(alerts) for _ in range(20))) == []
    assert slo.spent(alerts._histories["shop"], "5m") > 1
    alerts.close()


def test_silenced_alerts_are_evaluated_but_not_told(shop) -> None:
    """They are among those that fire."""
    told = []
    alerts = Alerts({"shop": shop.store}, [told.append], clock=lambda: shop.now)
    alerts.silence("1h", rule="OriginFailing")
    shop.broken = True
    for _ in range(12):
        shop.step(alerts)
    assert [alert.rule for alert in alerts.firing()] == ["OriginFailing"]
    alerts.close()
    assert told == []


def test_an_objective_tells_of_an_outage_within_two_minutes(shop) -> None:
    """By its window of a minute, and what was spent of the budget is known."""
    slo = Slo("availability", objective=0.999)
    alerts = Alerts({"shop": shop.store}, rules=of_slos([slo]), clock=lambda: shop.now)
    for _ in range(20):
        assert shop.step(alerts) == []
    shop.broken = True
    changes = list(chain.from_iterable(shop.step(alerts) for _ in range(12)))
    assert ("AvailabilityBurnsOutage", "firing") in changes
    assert slo.spent(alerts._histories["shop"], "5m") > 1
    alerts.close()


def test_a_sink_that_hangs_or_fails_delays_nobody(shop) -> None:
    """The others are told at once."""
    free, told = threading.Event(), threading.Event()

    def fails(alert):
        raise RuntimeError("no")

    sinks = [lambda alert: free.wait(30), fails, lambda alert: told.set()]
    alerts = Alerts({"shop": shop.store}, sinks, clock=lambda: shop.now)
    shop.broken = True
    for _ in range(12):
        shop.step(alerts)
    assert told.wait(5)
    free.set()
    alerts.close()


def test_webhooks_are_signed(shop) -> None:
    """The receiver can tell that nobody else sent it."""
    got = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers), body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        hook = Webhook(f"http://127.0.0.1:{server.server_port}/", b"secret")
        alerts = Alerts({"shop": shop.store}, [hook], clock=lambda: shop.now)
        shop.broken = True
        for _ in range(12):
            shop.step(alerts)
        alerts.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    [(headers, body)] = got
    assert json.loads(body)["rule"] == "OriginFailing"
    expected = signature(b"secret", headers["X-Hybridcore-Timestamp"], body)
    assert hmac.compare_digest(headers["X-Hybridcore-Signature"], expected)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('\n[[rule]]\nname="A"\nsignal="nothing"\nabove=1', 2, "expected a signal"),
        ('[[rule]]\nname="A"\nsignal="disk_errors"', 1, "one of above and below"),
        ('[[rule]]\nname="A"\nsignal="disk_errors"\nabove=1\nclear=2', 1, "never be over"),
        ('[[rule]]\nname="A"\nsignal="disk_errors"\nabove=nan', 1, "finite"),
        ('\n\n[[slo]]\nname="latency"\nobjective=2\nthreshold="50ms"', 3, "between 0 and 1"),
        ('[[slo]]\nname="latency"\nobjective=0.9\nthreshold="51ms"', 1, "buckets"),
        ("\nrules=3", 2, "unknown key"),
        ("[[slo]]\nobjective=0.9", 1, "name is missing"),
        ('[[slo]]\nname="hit_ratio"\nobjective=0.9\ngoal=1', 1, "unknown key 'goal'"),
    ],
)
def test_malformed_rules_are_refused(tmp_path, text, line, reason) -> None:
    """With file, line and reason."""
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"rules\.toml:{line}: .*{reason}"):
        load(path)


def test_days_of_snapshots_take_little_memory() -> None:
    """Older ones are thinned out, and windows of minutes, hours and days are told all the same."""
    rules = [*BUILT_IN, *of_slos([Slo("availability", objective=0.999)])]
    asked = [
        Increase("hybridcore_requests_total", window, {"tier": "memory"})
        for window in (60, 3600, 86400)
    ]
    labels = [
        frozenset({("tier", tier), ("result", result)})
        for tier in ("memory", "disk", "origin")
        for result in ("hit", "miss", "error")
    ]
    tracemalloc.start()
    try:
        history = History([*(rule.signal for rule in rules), *asked])
        for second in chain(range(0, 338_400, 60), range(338_400, 345_600, 10)):
            count = float(second)
            history.add(count, {"hybridcore_requests_total": [(one, count) for one in labels]})
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(history) < 1200
    assert taken < 600_000
    for signal in asked:
        assert signal.value(history) == pytest.approx(3 * signal.window, rel=0.02)
    assert history.seconds == pytest.approx(3 * 86400, rel=0.005)


def test_rules_that_cannot_be_read_are_named(tmp_path) -> None:
    """A file that is not there is told with its name and the reason."""
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read: No such file"):
        load(tmp_path / "none.toml")
