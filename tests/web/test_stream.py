"""The events of the page: what they cost while nobody listens, and who listens badly."""

from __future__ import annotations

import json
import socket
import threading
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import hybridcore as hc
from hybridcore.web import app
from tests.web.conftest import running, until


def events(address, cache="", **headers):
    """The events of a stream, decoded, until it ends."""
    query = {"cache": cache}
    with httpx.stream(
        "GET", address + "events", params=query, headers=headers, timeout=30
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def watchers():
    return [thread for thread in threading.enumerate() if thread.name == "hybridcore-watcher"]


def test_points_go_on_where_a_page_stopped(store) -> None:
    """Who comes again is told only what it does not have yet."""
    page = app({"users": store}, interval=0.05)
    with running(page) as address:
        stream = events(address)
        seen = [next(stream) for _ in range(4)]
        stream.close()
        assert [len(event["points"]) for event in seen[1:]] == [1, 1, 1]
        after = seen[1]["at"]
        again = next(events(address, **{"Last-Event-ID": str(after)}))
        assert all(point[0] > after for point in again["points"])
        assert len(next(events(address, **{"Last-Event-ID": "x"}))["points"]) >= 3
        page.state.watcher.close()


def test_nothing_is_done_while_nobody_looks(store, monkeypatch) -> None:
    """The thread begins with the first listener, and ends some time after the last."""
    monkeypatch.setattr("hybridcore.monitoring.watcher._IDLE", 0.1)
    page = app({"users": store}, interval=0.05)
    with running(page) as address:
        assert httpx.get(address).status_code == 200
        assert not watchers()
        stream = events(address)
        next(stream)
        assert len(watchers()) == 1
        stream.close()
        until(lambda: not watchers())
        assert next(events(address))["cache"]["name"] == "users"
        page.state.watcher.close()


def test_a_stream_ends_by_itself(store, monkeypatch) -> None:
    """So that a server in which it is mounted, and which tells nobody that it stops, can stop."""
    monkeypatch.setattr("hybridcore.web.application._LONGEST", 0.3)
    page = app({"users": store}, interval=0.1)
    with running(Starlette(routes=[Mount("/cache", page)])) as address:
        assert httpx.get(address + "cache").status_code == 307
        assert httpx.get(address + "cache/").status_code == 200
        assert len(list(events(address + "cache/"))) >= 2
    page.state.watcher.close()


def test_a_slow_client_holds_nobody_up(store) -> None:
    """One that never reads what it asked for leaves the others, and the server's end, alone."""
    for number in range(30):
        store.invalidate("k" * 180, cause=f"{number}" + "c" * 180)
    page = app({"users": store}, interval=0.002)
    with running(page) as address, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.connect(("127.0.0.1", urlsplit(address).port))
        slow.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stream = events(address)
        for _ in range(100):
            assert next(stream)["caches"]
        stream.close()
        page.state.watcher.close()
        slow.close()


def test_twenty_caches(store) -> None:
    """All are told of, one in detail: the one asked for, or the first."""
    with hc.HybridCache() as other:
        caches = {f"cache {number}": other for number in range(19)} | {"users": store}
        page = app(caches, interval=0.1)
        with running(page) as address:
            event = next(events(address, "users"))
            assert [cache["name"] for cache in event["caches"]] == list(caches)
            assert event["cache"]["name"] == "users"
            assert next(events(address, "nonsense"))["cache"]["name"] == "cache 0"
            page.state.watcher.close()


def test_a_closed_cache_is_shown_as_gone(store) -> None:
    """The others go on."""
    other = hc.HybridCache()
    page = app({"other": other, "users": store}, interval=0.05)
    with running(page) as address:
        stream = events(address)
        assert "gone" not in {cache["state"] for cache in next(stream)["caches"]}
        other.close()
        until(lambda: next(stream)["caches"][0]["state"] == "gone")
        assert next(stream)["caches"][1]["state"] != "gone"
        page.state.watcher.close()


@pytest.mark.parametrize("interval", [0, -1, "soon"])
def test_an_interval_that_is_none_is_refused(interval) -> None:
    """When the application is made."""
    with hc.HybridCache() as cache, pytest.raises(hc.ConfigurationError):
        app({"c": cache}, interval=interval)
