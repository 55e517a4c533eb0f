"""The endpoints that orchestrators ask, over HTTP by a real server of WSGI, and as ASGI."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import msgspec
import pytest

import hybridcore as hc
from hybridcore.errors import ConfigurationError
from hybridcore.monitoring.probes import Probes


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *args):
        pass


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request):
    """Has a server of the probes running; asks it."""
    store = hc.HybridCache(hc.Memory(10), origin=str.upper)
    probes = Probes({"users": store})
    if request.param == "wsgi":
        server = make_server("127.0.0.1", 0, validator(probes.wsgi), handler_class=Quiet)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}"

        def fetch(path, method="GET"):
            sent = urllib.request.Request(base + path, method=method)
            try:
                with urllib.request.urlopen(sent, timeout=20) as answer:
                    return answer.status, answer.read(), answer.headers
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read(), error.headers

        yield store, fetch
        server.shutdown()
        server.server_close()
        thread.join()
    else:

        def fetch(path, method="GET"):
            sent = []

            async def receive():
                return {"type": "http.request"}

            async def send(message):
                sent.append(message)

            scope = {"type": "http", "method": method, "path": "/app" + path, "root_path": "/app"}
            asyncio.run(probes.asgi(scope, receive, send))
            start, body = sent
            headers = {n.decode().title(): value.decode() for n, value in start["headers"]}
            return start["status"], body["body"], headers

        yield store, fetch
    store.close()


def test_a_cache_that_is_well(ask) -> None:
    """All three say so, as JSON that nobody keeps."""
    _, fetch = ask
    for path in ("/livez", "/readyz", "/healthz"):
        status, body, headers = fetch(path)
        assert status == 200
        assert msgspec.json.decode(body)["status"] == "ok"
        assert headers["Content-Type"] == "application/json"
        assert headers["Cache-Control"] == "no-store"
    assert fetch("/healthz", "HEAD")[:2] == (200, b"")
    assert fetch("/healthz", "DELETE")[0] == 405
    assert fetch("/other")[0] == 404


def test_an_origin_that_is_down(ask) -> None:
    """The cache is degraded, which the body explains, and still takes requests."""
    store, fetch = ask
    store.breaker.trip()
    status, body, _ = fetch("/healthz")
    told = msgspec.json.decode(body)
    assert (status, told["status"]) == (200, "degraded")
    [reason] = told["caches"]["users"]["tiers"]["origin"]["reasons"]
    assert reason["code"] == "breaker_open"
    assert fetch("/readyz")[0] == 200


def test_a_cache_that_was_closed(ask) -> None:
    """It is to be restarted, and gets no requests."""
    store, fetch = ask
    store.close()
    assert [fetch(path)[0] for path in ("/livez", "/readyz", "/healthz")] == [503] * 3


def test_a_probe_that_fails(ask, monkeypatch) -> None:
    """It answers that the cache is not well, and lets nothing be raised."""
    store, fetch = ask

    def fail(limits):
        raise RuntimeError("secret")

    monkeypatch.setattr(store, "health", fail)
    status, body, _ = fetch("/readyz")
    assert status == 503
    assert b"secret" not in body
    assert fetch("/livez")[0] == 200


def test_lifespan() -> None:
    """A server that tells of its start and end is answered."""
    with hc.HybridCache() as store:
        incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent = []

        async def receive():
            return next(incoming)

        async def send(message):
            sent.append(message["type"])

        asyncio.run(Probes({"a": store}).asgi({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ConfigurationError):
        Probes({})
