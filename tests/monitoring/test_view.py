"""What the dashboard is told of caches: numbers of late, from stores and from what they publish."""

from __future__ import annotations

import pytest

import hybridcore as hc
from hybridcore.exporters.metrics import BOUNDS
from hybridcore.exporters.prometheus import PrometheusExporter
from hybridcore.monitoring.alerts import Alerts
from hybridcore.monitoring.view import plain, shown_key
from hybridcore.monitoring.watched import Seen, WatchedDirectory, WatchedStore
from hybridcore.monitoring.watcher import Watcher, _Track
from hybridcore.warming import Warmer


@pytest.fixture
def clock(monkeypatch):
    """The time that watchers go by."""

    class Clock:
        now = 1_000_000.0

    monkeypatch.setattr("hybridcore.monitoring.watcher.time.time", lambda: Clock.now)
    return Clock


@pytest.fixture
def store(tmp_path):
    def load(key):
        if key == "broken":
            raise OSError("no origin")
        return key

    with hc.HybridCache(hc.Memory(100), hc.Lmdb(tmp_path / "users"), load, analytics=True) as store:
        yield store


def tier(view, name):
    return next(tier for tier in view.tiers if tier.name == name)


def test_rates_and_ratios_are_of_late(store, clock) -> None:
    """Of the last minute, not of all time; of the first look there are ratios and no rates."""
    watcher = Watcher([WatchedStore("users", store)])
    for number in range(100):
        store.get(number)
    watcher.look()
    (view,) = watcher.views()
    assert (view.name, view.source, view.state) == ("users", "this process", "ok")
    assert (view.rate, view.window, view.hit_ratio) == (None, None, 0.0)
    assert watcher.points("users") == []
    for look in range(20):
        clock.now += 5
        for number in range(100):
            store.get(number if look < 5 else "none")
        watcher.look()
    (view,) = watcher.views()
    assert view.window == 60.0
    assert view.hit_ratio == pytest.approx(1.0, abs=0.01)
    assert (tier(view, "memory").entries, tier(view, "memory").bound) == (100, 100)
    assert len(watcher.points("users")) == 20
    assert len(watcher.points("users", after=clock.now - 12)) == 3
    watcher.close()


def test_rates_are_by_the_clock_of_the_cache() -> None:
    """What was published a while ago says nothing new, and then it is of the time between."""
    age = frozenset()
    hit = frozenset({("tier", "memory"), ("result", "hit")})

    def samples(uptime, hits):
        return {
            "hybridcore_uptime_seconds": [(age, uptime)],
            "hybridcore_requests_total": [(hit, hits)],
        }

    track = _Track()
    for at, told in ((100.0, samples(10, 50)), (102.0, samples(10, 50)), (104.0, samples(13, 80))):
        view = track.view(Seen(name="c", source="d", samples=told), at)
    assert [point.memory for point in track.points] == [10.0]
    assert view.rate == 10.0
    view = track.view(Seen(name="c", source="d", samples=samples(1, 8)), 106.0)  # began anew
    assert track.points[-1].memory == 4.0


def test_a_cache_that_began_anew_has_rates_of_the_time_that_passed() -> None:
    """Of a restart it is not concluded that no time passed, however old the cache is now."""

    def samples(uptime, hits):
        age = frozenset({("cache", "users")})
        memory = age | {("tier", "memory"), ("result", "hit")}
        return {
            "hybridcore_uptime_seconds": [(age, uptime)],
            "hybridcore_requests_total": [(memory, hits)],
        }

    track = _Track()
    track.view(Seen(name="users", source="", samples=samples(3.0, 100)), 1000.0)
    view = track.view(Seen(name="users", source="", samples=samples(4.0, 1100)), 1010.0)
    assert view.rate == pytest.approx(100.0)
    assert track.points[-1].memory == pytest.approx(100.0)


def test_what_is_published_tells_the_same(store, tmp_path, clock) -> None:
    """Of a directory counts, sizes and curve are those of the store, latencies in their bucket."""
    directory = tmp_path / "users"
    exporter = PrometheusExporter({"users": store}, directory=directory / "statistics", interval=0)
    watcher = Watcher([WatchedStore("here", store), WatchedDirectory(directory)])
    for number in range(3000):
        store.get(number % 150)
    with pytest.raises(OSError, match="no origin"):
        store.get("broken")
    store.invalidate(1, 2, 3, 4, 5, 6, 7, tags=["t"], cause="told")
    exporter.close()
    watcher.look()
    here, there = watcher.views()
    assert (there.name, there.source) == ("users", str(directory))
    assert there.hit_ratio == here.hit_ratio
    for name in ("memory", "disk", "origin"):
        one, other = tier(here, name), tier(there, name)
        assert (one.hit_ratio, one.entries, one.bound) == (
            other.hit_ratio,
            other.entries,
            other.bound,
        )
        for exact, rough in zip(one.latencies, other.latencies, strict=True):
            least = max((bound for bound in BOUNDS if bound <= 0.95 * exact), default=0.0)
            assert least <= rough <= min(bound for bound in BOUNDS if bound >= 1.05 * exact)
    assert there.curve.current == here.curve.current == 100
    assert there.curve.recommended == here.curve.recommended
    for name in ("recommended_hit_ratio", "current_hit_ratio"):
        assert getattr(there.curve, name) == pytest.approx(getattr(here.curve, name))
    assert there.invalidations == here.invalidations
    assert [line.what for line in there.invalidations[:2]] == ["tag 't'", "7"]
    watcher.close()


def test_alerts_of_what_is_published(store, tmp_path, clock) -> None:
    """A directory's metrics are judged by the rules built in, and what fires is shown."""
    directory = tmp_path / "users"
    exporter = PrometheusExporter({"users": store}, directory=directory / "statistics", interval=0)
    watcher = Watcher([WatchedDirectory(directory)], alerts=Alerts({}), always=True)
    store.breaker.trip()
    for _ in range(5):
        exporter.text()
        watcher.look()
        clock.now += 15
    (view,) = watcher.views()
    assert [(alert.rule, alert.severity) for alert in view.alerts] == [("BreakerOpen", "page")]
    assert view.state == "degraded"
    assert view.reasons == ("origin is down: the breaker is open",)
    store.breaker.reset()
    exporter.close()
    watcher.look()
    assert watcher.views()[0].alerts == ()
    watcher.close()


def test_the_warming_ledger(store) -> None:
    """What a strategy did, as its books say."""
    with Warmer(store) as warmer:
        warmer.warm(range(5))
        watcher = Watcher([WatchedStore("users", store)])
        watcher.look()
        lines = {line.name: line for line in watcher.views()[0].warming}
        assert (lines["manual"].warmed, lines["manual"].is_on) == (5, True)
        watcher.close()


def test_queues_in_memory_and_on_disk(tmp_path) -> None:
    """A depth by level and dead letters, in a store and in the directory of the queue."""
    written = []

    def options(queue):
        origin = hc.CallableOrigin(str, store=lambda key, value: written.append(key))
        return {"origin": origin, "strategy": "write_behind", "queue": queue}

    queue = hc.WriteQueue(tmp_path / "writes", workers=1, batch_delay="1h")
    with hc.HybridCache(**options(queue)) as one, hc.HybridCache(**options(None)) as other:
        one.put("k", 1)
        watcher = Watcher(
            [
                WatchedStore("one", one),
                WatchedStore("other", other),
                WatchedDirectory(tmp_path / "writes"),
            ]
        )
        watcher.look()
        depths = [
            {level.name: level.items for level in view.queue.levels} for view in watcher.views()
        ]
        assert depths == [
            {"urgent": 0, "normal": 1, "low": 0},
            {"all": 0},
            {"urgent": 0, "normal": 1, "low": 0},
        ]
        assert [view.queue.is_open for view in watcher.views()] == [True, False, True]
        with pytest.raises(hc.ConfigurationError, match="no write queue on disk"):
            watcher.replay("other")
        with pytest.raises(hc.ConfigurationError, match="no cache 'nobody'"):
            watcher.replay("nobody")
        watcher.close()


def test_caches_of_one_name_are_told_apart(store, tmp_path) -> None:
    """By a number behind the name."""
    for place in ("a", "b"):
        hc.Lmdb(tmp_path / place / "users").close()
    directories = [WatchedDirectory(tmp_path / place / "users") for place in ("a", "b")]
    watcher = Watcher([WatchedStore("users", store), *directories])
    watcher.look()
    assert [view.name for view in watcher.views()] == ["users", "users (2)", "users (3)"]
    watcher.close()


def test_what_fails_to_be_looked_at_is_told(store, monkeypatch) -> None:
    """The others are shown, and this one with the reason, until it works again."""
    watcher = Watcher([WatchedStore("bad", store), WatchedStore("good", store)])
    watcher.look()
    bad = watcher._watched[0]
    monkeypatch.setattr(bad, "look", lambda: 1 / 0)
    watcher.look()
    views = watcher.views()
    assert [(view.name, view.state) for view in views] == [("bad", "unknown"), ("good", "ok")]
    assert views[0].reasons == ("it could not be looked at: ZeroDivisionError",)
    monkeypatch.undo()
    watcher.look()
    assert [view.state for view in watcher.views()] == ["ok", "ok"]
    watcher.close()


def test_texts_from_outside_are_one_plain_line() -> None:
    """Bounded, without control characters, also where a key cannot be told."""

    class Mute:
        def __repr__(self):
            raise RuntimeError

    assert plain("a\nb\x1b[0m\u202e\ud800é") == r"a\nb\x1b[0m\u202e\ud800é"
    assert len(plain("x" * 10_000)) == 200
    assert shown_key("it's") == '"it\'s"'
    assert shown_key(Mute()) == "<Mute without a repr: RuntimeError>"
