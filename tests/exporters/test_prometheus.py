"""What Prometheus gets: right names, several caches, counters that never go back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse

import hybridcore as hc
from hybridcore.errors import ConfigurationError
from hybridcore.exporters.metrics import BOUNDS
from hybridcore.exporters.processes import collect
from hybridcore.exporters.prometheus import PrometheusExporter
from hybridcore.warming import Budget, Warmer


def samples(text):
    """Values by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def value(text, name, **labels):
    return samples(text)[(name, *sorted(labels.items()))]


@pytest.fixture
def exporter(store):
    for number in range(10):
        store.get(f"key {number % 5}")
    store.get("nowhere")
    exporter = PrometheusExporter({"things": store})
    yield exporter
    exporter.close()


def test_counters_are_those_of_the_cache(exporter, store) -> None:
    """Lookups by tier and result, and durations in buckets."""
    text = exporter.text()
    name = "hybridcore_requests_total"
    assert value(text, name, cache="things", tier="memory", result="hit") == 5
    assert value(text, name, cache="things", tier="disk", result="miss") == 6
    assert value(text, name, cache="things", tier="origin", result="hit") == 5
    assert value(text, name, cache="things", tier="origin", result="miss") == 1
    assert value(text, name, cache="things", tier="origin", result="error") == 0
    series = {"cache": "things", "tier": "origin", "operation": "load", "result": "hit"}
    duration = "hybridcore_request_duration_seconds"
    buckets = [
        value(text, f"{duration}_bucket", le=le, **series) for le in (*map(str, BOUNDS), "+Inf")
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == value(text, f"{duration}_count", **series) == 5
    assert value(text, f"{duration}_sum", **series) > 0
    assert len(BOUNDS) == 15


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool")
def test_promtool_finds_nothing_to_say(exporter, store) -> None:
    """Names, units and texts are as Prometheus would have them, those of warming too."""
    with Warmer(store, threaded=False):
        text = exporter.text()
    assert "hybridcore_warming_on" in text
    run = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_openmetrics_is_well_formed(exporter) -> None:
    """A strict parser takes it."""
    registry = CollectorRegistry()
    registry.register(exporter)
    text = generate_openmetrics(registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"hybridcore_requests", "hybridcore_request_duration_seconds"} <= names
    assert all(name.startswith("hybridcore_") for name in names)


def test_several_caches_share_a_registry(exporter, store) -> None:
    """In one exporter, each by its label."""
    with hc.HybridCache() as other:
        other.get("x")
        text = PrometheusExporter({"things": store, "others": other}).text()
    name = "hybridcore_requests_total"
    assert value(text, name, cache="others", tier="memory", result="miss") == 1
    assert value(text, name, cache="things", tier="memory", result="hit") == 5
    assert text.count(f"# TYPE {name} counter") == 1


def test_a_registry_asks_only_when_scraped(store) -> None:
    """Registering takes no snapshot, and a snapshot is taken for each scrape."""
    asked = []

    class Asked:
        def stats(self):
            asked.append(1)
            return store.stats()

    registry = CollectorRegistry()
    registry.register(PrometheusExporter({"things": Asked()}))
    assert not asked
    generate_latest(registry)
    generate_latest(registry)
    assert len(asked) == 2


def test_what_is_no_cache_is_refused() -> None:
    """The error says what was expected."""
    with pytest.raises(ConfigurationError, match="users=store"):
        PrometheusExporter({"things": object()})


def test_a_closed_cache_tells_what_it_counted_last(exporter, store, caplog) -> None:
    """Counters never go back, and the log tells why they stand still."""
    before = samples(exporter.text())
    store.close()
    after = samples(exporter.text())
    name = ("hybridcore_requests_total", ("cache", "things"), ("result", "hit"), ("tier", "memory"))
    assert after[name] == before[name] == 5
    assert "told as they were" in caplog.text


def test_the_endpoint_listens_on_loopback(exporter) -> None:
    """A scrape over HTTP gets the text; nobody else on the network does."""
    with exporter.serve() as endpoint:
        url = f"http://127.0.0.1:{endpoint.port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        assert endpoint._server.server_address[0] == "127.0.0.1"
    assert "hybridcore_requests_total" in text


def test_it_can_be_mounted(exporter) -> None:
    """As a WSGI and as an ASGI application."""
    started = []
    body = b"".join(
        exporter.wsgi()(
            {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: started.append(args)
        )
    )
    assert started[0][0].startswith("200")
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(exporter.asgi()(scope, receive, send))
    assert b"hybridcore_requests_total" in body
    assert b"hybridcore_requests_total" in sent[1]["body"]


def test_scrapes_and_lookups_do_not_wait_for_each_other(exporter, store) -> None:
    """Under threads every scrape is whole, and no counter goes back."""
    ended = threading.Event()

    def ask():
        while not ended.is_set():
            store.get("key 1")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    name = ("hybridcore_requests_total", ("cache", "things"), ("result", "hit"), ("tier", "memory"))
    seen = [samples(exporter.text())[name] for _ in range(30)]
    ended.set()
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def in_a_child(work) -> None:
    """Do this in a forked child, and wait for it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_tells_of_itself_alone(store, tmp_path) -> None:
    """Added up, what was counted before the fork counts once; what the child did, as well."""
    for number in range(10):
        store.get(f"key {number}")
    exporter = PrometheusExporter({"things": store}, directory=tmp_path / "s", interval=0)
    result = tmp_path / "result"

    def work():
        for number in range(7):
            store.get(f"child {number}")
        result.write_text(json.dumps(exporter._sources.stats()["things"].memory.misses))
        exporter.close()

    in_a_child(work)
    assert result.read_text() == "7"
    labels = {"cache": "things", "tier": "memory", "result": "miss"}
    assert value(exporter.text(), "hybridcore_requests_total", **labels) == 17
    assert value(exporter.text(), "hybridcore_requests_total", **labels) == 17
    count = "hybridcore_request_duration_seconds_count"
    series = {"cache": "things", "tier": "origin", "operation": "load"}
    assert value(exporter.text(), count, result="hit", **series) == 10
    assert value(exporter.text(), count, result="miss", **series) == 7
    exporter.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_files_of_the_dead_are_put_together(store, tmp_path) -> None:
    """Their number does not grow, and gauges are those of the living."""
    directory = tmp_path / "s"
    exporter = PrometheusExporter({"things": store}, directory=directory, interval=0)

    def work():
        store.get("key 1")
        exporter.close()

    for _ in range(5):
        in_a_child(work)
    families = {family.name: family for family in collect(directory)}
    requests = families["hybridcore_requests_total"].samples
    assert requests[("cache", "things"), ("tier", "memory"), ("result", "miss")] == 5
    assert "hybridcore_memory_entries" not in families
    assert [path.name for path in Path(directory).glob("*.json")] == ["gone.json"]
    assert collect(directory) == collect(directory)
    exporter.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_a_killed_process_told_stays(store, tmp_path) -> None:
    """Killed without a word, it loses what it counted in its last interval, and nothing before."""
    exporter = PrometheusExporter({"things": store}, directory=tmp_path / "s", interval=0.02)
    labels = {"cache": "things", "tier": "memory", "result": "miss"}
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            for number in range(7):
                store.get(f"child {number}")
            time.sleep(60)
        finally:
            os._exit(1)
    try:
        deadline = time.monotonic() + 30
        while value(exporter.text(), "hybridcore_requests_total", **labels) < 7:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for _ in range(2):
        assert value(exporter.text(), "hybridcore_requests_total", **labels) == 7
    exporter.close()


def test_predictions_are_told_where_requests_are_looked_at(tmp_path, table) -> None:
    """Recommended sizes and expected evictions are gauges; without analytics there are none."""
    with hc.HybridCache(
        memory=hc.Memory(20), disk=hc.Lmdb(tmp_path / "d"), origin=table.load, analytics=True
    ) as store:
        assert not store.stats().predictions.recommended
        for number in range(300):
            store.get(f"key {number * number % 67}")
        text = PrometheusExporter({"things": store}).text()
        expected = store.stats().predictions
        live = store.recommend().recommended
    for tier in ("memory", "disk"):
        told = value(text, "hybridcore_recommended_size", cache="things", tier=tier)
        assert told == expected.recommended[tier].size > 0
    told = value(text, "hybridcore_recommended_size", cache="things", tier="memory")
    assert told == live.size
    assert "memory_recommended" not in text
    with hc.HybridCache(memory=hc.Memory(20), origin=table.load) as store:
        assert "recommended" not in PrometheusExporter({"things": store}).text()


def test_the_ledger_of_warming_is_told(exporter, store) -> None:
    """What a warmer loaded, what became of it and what it may spend are series by strategy."""
    with Warmer(store, budget=Budget(calls=100, per="1h"), threaded=False) as warmer:
        warmer.warm([f"key {number}" for number in range(50, 60)])
        text = exporter.text()
    strategy = {"cache": "things", "strategy": "manual"}
    assert value(text, "hybridcore_warming_warmed_total", **strategy) == 10
    assert value(text, "hybridcore_warming_settled_total", **strategy, result="wasted") == 0
    assert 0 <= value(text, "hybridcore_warming_budget_left", cache="things", unit="calls") <= 100
    assert value(text, "hybridcore_warming_on", cache="things", strategy="preemptive") == 1
