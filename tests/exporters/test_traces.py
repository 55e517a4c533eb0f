"""Spans of OpenTelemetry: of calls that are slow or fail, in the trace of whoever asked."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import hybridcore as hc
from hybridcore.errors import ConfigurationError
from hybridcore.exporters.traces import TracedOrigin
from hybridcore.testing import FaultyOrigin


class Words(hc.Origin):
    """Words in capitals; "not" is missing, "bad" fails with a secret in its message."""

    name = "words"

    def load(self, key, held=None):
        if key == "bad":
            raise ValueError("secret")
        if held is not None:
            return hc.NotModified()
        return hc.NotFound() if key == "not" else hc.Loaded(key.upper())

    def store(self, key, value):
        pass

    def store_many(self, items):
        return {key: ValueError("secret") for key in items if key == "bad"}


@pytest.fixture
def traces():
    """A provider, and the spans that it was told of."""
    provider = TracerProvider()
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider, spans


@pytest.mark.parametrize("face", ["blocking", "asyncio"])
def test_a_load_is_part_of_the_trace_that_asked(traces, face) -> None:
    """Its span has the caller's as its parent, and its time; it tells what came of it."""
    provider, spans = traces
    tracer = provider.get_tracer("test")
    with (
        hc.HybridCache(origin=TracedOrigin(Words(), provider=provider)) as store,
        tracer.start_as_current_span("request") as request,
    ):
        for _ in range(2):  # the second time from memory
            if face == "blocking":
                assert store.get("a") == "A"
            else:
                assert asyncio.run(store.aio.get("a")) == "A"
    told, whole = spans.get_finished_spans()
    assert whole.name == "request"
    assert (told.name, told.kind) == ("words load", SpanKind.CLIENT)
    assert told.parent.span_id == request.get_span_context().span_id
    assert dict(told.attributes) == {
        "hybridcore.origin": "words",
        "hybridcore.operation": "load",
        "hybridcore.keys": 1,
        "hybridcore.answer": "value",
    }
    assert whole.start_time <= told.start_time <= told.end_time <= whole.end_time


def test_only_what_is_slow_or_fails_is_told(traces) -> None:
    """Calls below the threshold leave no span, unless they end in an error; that has no message."""
    provider, spans = traces
    slow = FaultyOrigin(Words(), latency=0.06)
    store = hc.HybridCache(origin=TracedOrigin(slow, over="50ms", provider=provider), breaker=None)
    with store:
        store.get("slow")
        slow.latency = 0.0
        store.get("quick")
        with pytest.raises(ValueError, match="secret"):
            store.get("bad")
    told, failed = spans.get_finished_spans()
    assert told.end_time - told.start_time >= 50e6
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "ValueError"
    assert "secret" not in failed.to_json()
    assert "bad" not in failed.to_json()


def test_a_batch_is_one_span(traces) -> None:
    """Many keys are told as one call, with how many of them failed."""
    provider, spans = traces
    origin = TracedOrigin(Words(), provider=provider)
    assert origin.load_many(["a", "not", "bad"])["a"] == hc.Loaded("A")
    assert asyncio.run(origin.astore_many({"a": 1, "bad": 2})).keys() == {"bad"}
    loads, writes = spans.get_finished_spans()
    assert loads.attributes["hybridcore.keys"] == 3
    assert loads.attributes["hybridcore.errors"] == writes.attributes["hybridcore.errors"] == 1
    assert writes.name == "words store_many"


def test_writes_of_a_queue_are_told(traces, tmp_path) -> None:
    """What is written behind is told of when it reaches the origin."""
    provider, spans = traces
    queue = hc.WriteQueue(tmp_path / "queue")
    origin = TracedOrigin(Words(), provider=provider)
    with hc.HybridCache(origin=origin, strategy="write_behind", queue=queue) as store:
        store.put("a", "A")
        assert queue.flush(10)
    assert [span.name for span in spans.get_finished_spans()] == ["words store"]


def test_it_is_as_the_origin_behind_it(traces) -> None:
    """What takes writes, what compares and what counts is asked of that one."""
    origin = TracedOrigin(Words(), provider=traces[0])
    assert origin.writable
    assert origin.does_many("store_many")
    assert not origin.does_many("delete_many")
    assert origin.usage() is None
    assert repr(origin).startswith("TracedOrigin(<")
    assert not TracedOrigin(hc.CallableOrigin(str.upper), provider=traces[0]).writable
    with pytest.raises(ConfigurationError, match="CallableOrigin"):
        TracedOrigin(str.upper)
