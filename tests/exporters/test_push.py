"""Sinks: a real UDP socket, a reader of OpenTelemetry, and one of one's own that fails."""

from __future__ import annotations

import logging
import socket

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from hybridcore.exporters import otel
from hybridcore.exporters.datadog import DogStatsdSink
from hybridcore.exporters.push import Push


class Notes:
    """A sink that remembers what it was told, and fails when it should."""

    def __init__(self) -> None:
        self.counts: dict = {}
        self.gauges: dict = {}
        self.flushes = 0
        self.fails = False

    def count(self, name, increase, labels):
        if self.fails:
            raise OSError("unreachable")
        place = (name, *sorted(labels.items()))
        self.counts[place] = self.counts.get(place, 0) + increase

    def gauge(self, name, value, labels):
        self.gauges[(name, *sorted(labels.items()))] = value

    def flush(self):
        self.flushes += 1


HITS = ("hybridcore_requests_total", ("cache", "c"), ("result", "hit"), ("tier", "memory"))


def test_a_sink_hears_of_what_counters_grew_by(store) -> None:
    """Added up they are the counters; gauges are as they are, quantiles of the last minute."""
    notes = Notes()
    with Push({"c": store}, notes, interval=None) as push:
        store.get("key 1")
        push.push()
        store.get("key 1")
        store.get("key 1")
        push.push()
        push.push()
    assert notes.counts[HITS] == 2
    assert notes.flushes == 4
    assert notes.gauges[("hybridcore_memory_entries", ("cache", "c"))] == 1
    labels = {"cache": "c", "tier": "origin", "operation": "load", "result": "hit"}
    place = ("hybridcore_request_duration_seconds", *sorted({**labels, "quantile": "p99"}.items()))
    assert 0 < notes.gauges[place] < 1


def test_a_sink_that_fails_is_told_of_once(store, caplog) -> None:
    """The others go on, the cache as well, and when it works again a new failure is told."""
    failing, working = Notes(), Notes()
    failing.fails = True
    push = Push({"c": store}, failing, working, interval=None)
    with caplog.at_level(logging.WARNING, "hybridcore"):
        for _ in range(3):
            store.get("key 1")
            push.push()
        assert caplog.text.count("Notes") == 1
        assert "OSError" in caplog.text
        failing.fails = False
        store.get("key 1")
        push.push()
        failing.fails = True
        store.get("key 1")
        push.push()
        assert caplog.text.count("Notes") == 2
    assert working.counts[HITS] == 4
    assert failing.counts[HITS] == 1
    push.close()


def test_dogstatsd_gets_datagrams(store) -> None:
    """Counts and gauges with tags, over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(5)
        store.get("key 1")
        store.get("key 1")
        with Push({"c": store}, DogStatsdSink(port=agent.getsockname()[1]), interval=None):
            pass
        lines: set[str] = set()
        wanted = {
            "hybridcore.requests_total:1.0|c|#cache:c,tier:memory,result:hit",
            "hybridcore.memory_entries:1|g|#cache:c",
        }
        while not wanted <= lines:
            datagram = agent.recv(65536).decode()
            lines |= {line.partition("|c:")[0] for line in datagram.splitlines()}


@pytest.mark.filterwarnings("default")
def test_opentelemetry_reads_when_it_collects(store) -> None:
    """Counters and gauges by their attributes, as of the collection."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    store.get("key 1")
    otel.instrument({"c": store}, provider)
    store.get("key 1")
    otel._FRESH, before = 0.0, otel._FRESH
    try:
        data = reader.get_metrics_data()
    finally:
        otel._FRESH = before
    metrics = {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    found = {
        (point.attributes["tier"], point.attributes["result"]): point.value
        for point in metrics["hybridcore_requests"].data.data_points
    }
    assert found["memory", "hit"] == 1
    assert found["origin", "hit"] == 1
    assert metrics["hybridcore_requests"].data.is_monotonic
    assert metrics["hybridcore_memory_entries"].data.data_points[0].value == 1
    loads = metrics["hybridcore_request_duration_seconds_count"].data.data_points
    assert any(point.attributes["tier"] == "origin" and point.value == 1 for point in loads)
    assert metrics["hybridcore_request_duration_seconds_quantile"].data.data_points
    provider.shutdown()
