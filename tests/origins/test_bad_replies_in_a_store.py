"""What a hybrid cache over HTTP makes of bad input: a clear error, and nothing in any tier."""

from __future__ import annotations

import socket

import pytest

import hybridcore as hc
from hybridcore.errors import ConfigurationError, OriginError, OriginTimeoutError
from hybridcore.origins import HttpOrigin


def reply(*args, **headers):
    return lambda exchange: exchange.reply(*args, **headers)


def raw(data):
    return lambda exchange: exchange.raw(data)


BAD = {
    "wrong credentials": (reply(401, b"who?", WWW_Authenticate="Basic"), "answered 401"),
    "forbidden": (reply(403, b"no"), "answered 403"),
    "text that is not UTF-8": (reply(200, b"caf\xe9", Content_Type="text/plain"), "damaged"),
    "JSON that is not UTF-8": (reply(200, b'"\xff"', Content_Type="application/json"), "damaged"),
    "half of JSON": (reply(200, b'{"a": ', Content_Type="application/json"), "damaged"),
    "a body shorter than its Content-Length": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        "failed",
    ),
    "chunks without an end": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        "failed",
    ),
    "half of a gzip body": (
        reply(200, b"\x1f\x8b\x08\x00\x00", Content_Encoding="gzip"),
        "DecodingError",
    ),
    "a part of the body": (reply(206, b"part", Content_Range="bytes 0-3/9"), "answered 206"),
    "a body over the limit": (reply(200, b"x" * 2000), "over max_body=1000"),
    "a body over the limit without a length": (
        raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000),
        "over max_body=1000",
    ),
    "a redirect to another host": (
        reply(302, Location="http://example.com/k"),
        "another service, which is refused",
    ),
    "a redirect to another scheme": (
        reply(302, Location="ftp://127.0.0.1/k"),
        "another service, which is refused",
    ),
    "a 304 for nothing held": (reply(304), "answered 304"),
    "no HTTP": (raw(b"220 ready\r\n\r\n"), "failed"),
}


@pytest.fixture
def store(call, make, service, tmp_path):
    origin = make(max_body=1000, retries=0, timeout=5, headers={"Authorization": "canary"})
    defaults = hc.EntryOptions(ttl=60, stale=60)
    with hc.HybridCache(
        hc.Cache(100), hc.Lmdb(tmp_path / "disk"), origin, defaults=defaults, breaker=None
    ) as store:
        yield store


@pytest.fixture
def get(call, store):
    """Look a key up, in one of the two faces."""
    if call.loop is None:
        return store.get
    return lambda key: call.loop.run_until_complete(store.aio.get(key))


@pytest.mark.parametrize("bad", BAD)
def test_nothing_bad_is_kept(get, store, service, bad):
    """Fault 21, 32: a clear error without secrets, no tier has the key, and the next one asks."""
    handler, message = BAD[bad]
    service.handler = handler
    with pytest.raises(OriginError, match=message) as caught:
        get("k")
    assert "GET http://127.0.0.1" in str(caught.value)
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}{store!r}"
    assert (len(store.memory), len(store._engine.disk)) == (0, 0)
    service.handler = reply(200, b"good")
    assert get("k") == b"good"
    assert (len(store.memory), len(store._engine.disk)) == (1, 1)


@pytest.mark.parametrize("bad", BAD)
def test_a_good_copy_outlives_bad_replies(get, store, service, bad):
    """What is held stays as it was when it is asked for anew and the reply is bad."""
    service.handler = reply(200, b"good", Cache_Control="max-age=0")
    assert get("k") == b"good"
    service.handler = BAD[bad][0]
    assert get("k") == b"good"
    assert store.stats().origin.stale_served == 1


def test_nobody_there(call, tmp_path):
    """A refused connection and a silent host are told apart, and leave nothing behind."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with hc.HybridCache(
            hc.Cache(10), origin=HttpOrigin(url, timeout=0.1, retries=0), breaker=None
        ) as store:
            with pytest.raises(OriginTimeoutError, match="took over"):
                store.get("k")
            silent.close()
            with pytest.raises(OriginError, match="failed"):
                store.get("k")
            assert len(store.memory) == 0


@pytest.mark.parametrize("url", ["gopher://h/", "file:///etc/passwd", "h/x", "javascript:{x}", ""])
def test_unknown_schemes_are_refused_at_once(url):
    """An address that is not http or https makes no origin."""
    with pytest.raises(ConfigurationError, match="http"):
        HttpOrigin(url)
