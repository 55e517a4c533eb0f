"""HttpOrigin: what a healthy service's replies mean, in both faces, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    OriginError,
    ReadOnlyOriginError,
)
from hybridcore.origins import HttpOrigin
from hybridcore.origins.http_rules import address, checked_base, path_of
from hybridcore.types import Loaded, NotFound, NotModified, Validators


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b'{"a": [1, null]}', {"a": [1, None]}),
        ("application/problem+json; charset=utf-8", b"[1.5]", [1.5]),
        ("text/plain; charset=latin-1", b"caf\xe9", "café"),
        ("text/markdown", "naïve".encode(), "naïve"),
        ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
        ("image/png", b"", b""),
    ],
)
def test_value_by_content_type(call, make, service, content_type, body, value):
    """JSON is parsed, text is str in its charset, anything else bytes."""
    service.handler = lambda exchange: exchange.reply(200, body, Content_Type=content_type)
    assert call(make(), "load", "k") == Loaded(value)


def test_custom_decode_sees_body_and_type(call, make, service):
    """decode= takes over, with the body and its content type."""
    service.handler = lambda exchange: exchange.reply(200, b"abc", Content_Type="x/y")
    origin = make(decode=lambda body, content_type: (len(body), content_type))
    assert call(origin, "load", "k") == Loaded((3, "x/y"))


def test_compressed_bodies_are_unpacked_and_counted_as_sent(call, make, service):
    """A gzip body is unpacked; bytes_in counts what came over the wire."""
    packed = gzip.compress(b"x" * 5000)
    service.handler = lambda exchange: exchange.reply(200, packed, Content_Encoding="gzip")
    origin = make()
    assert call(origin, "load", "k") == Loaded(b"x" * 5000)
    usage = origin.usage()
    assert (usage.calls, usage.bytes_in, usage.errors) == (1, len(packed), {})


@pytest.mark.parametrize("size", [0, 1, 16384, 3_000_000])
@pytest.mark.parametrize("members", [1, 2])
def test_gzip_bodies_of_any_size_are_whole(call, make, service, size, members):
    """Every byte of a gzip body arrives, be it one member or several."""
    plain = os.urandom(size // 2) + bytes(size - size // 2)
    packed = gzip.compress(plain) * members
    service.handler = lambda exchange: exchange.reply(200, packed, Content_Encoding="gzip")
    assert call(make(), "load", "k") == Loaded(plain * members)


@pytest.mark.parametrize("status", [404, 410])
def test_not_found(call, make, service, status):
    """404 and 410 say that there is no such key."""
    service.handler = lambda exchange: exchange.reply(status, b"nothing here")
    assert call(make(), "load", "k") == NotFound()


@pytest.mark.parametrize("etag", ['"strong"', 'W/"weak"'])
def test_etag_renews_with_304_without_a_body(call, make, service, etag):
    """Fault 21: validators, weak and strong, travel back as they came, and a 304 renews."""
    date = "Tue, 15 Nov 1994 12:45:26 GMT"

    def handler(exchange):
        if exchange.headers["If-None-Match"] == etag:
            assert exchange.headers["If-Modified-Since"] == date
            exchange.reply(304, ETag=etag, Cache_Control="max-age=7")
        else:
            exchange.reply(200, b"v", ETag=etag, Last_Modified=date)

    service.handler = handler
    origin = make()
    first = call(origin, "load", "k")
    assert first == Loaded(b"v", validators=Validators(etag, date))
    renewed = call(origin, "load", "k", first.validators)
    assert renewed == NotModified(pytest.approx(7, abs=1))
    usage = origin.usage()
    assert (usage.calls, usage.bytes_in, usage.not_modified, usage.errors) == (2, 1, 1, {})


def test_304_to_one_who_holds_nothing_is_an_error(call, make, service):
    """A 304 that nobody asked for is no value."""
    service.handler = lambda exchange: exchange.reply(304)
    with pytest.raises(OriginError, match="answered 304 Not Modified"):
        call(make(), "load", "k")


def test_keys_arrive_as_paths_below_the_base(call, make, service):
    """A key is the path below base_url, each odd character percent-encoded."""
    origin = make()
    for key in ["docs/index.md", "a b?c=d#e", "%2e%2e", "ü/\n", "a//b"]:
        call(origin, "load", key)
    assert [exchange.path for exchange in service.seen] == [
        "/base/docs/index.md",
        "/base/a%20b%3Fc%3Dd%23e",
        "/base/%252e%252e",
        "/base/%C3%BC/%0A",
        "/base/a//b",
    ]


@pytest.mark.parametrize("key", ["..", "../up", "a/../../b", "./a", "a\\..\\..\\b", 5, "\ud800"])
def test_keys_cannot_leave_the_base(call, make, service, key):
    """Fault 30: a key with dot segments, or one with no path, is refused before it is sent."""
    with pytest.raises(OriginError):
        call(make(), "load", key)
    assert service.seen == []


@pytest.mark.parametrize("path", ["..", "%2e%2e/x", "a%2F..%2fb", "a b", "a\r\nb", "é"])
def test_key_to_path_cannot_leave_the_base_either(call, make, service, path):
    """Fault 30: a path made by key_to_path passes the same checks, encoded or not."""
    with pytest.raises(OriginError):
        call(make(key_to_path=lambda key: path), "load", "k")
    assert service.seen == []


def test_key_to_path_makes_addresses_of_other_keys(call, make, service):
    """key_to_path turns any key into a path, which may carry a query."""
    call(make(key_to_path=lambda key: f"item?id={key}"), "load", 7)
    assert service.seen[0].path == "/base/item?id=7"


@given(st.text(), st.text())
def test_every_key_has_its_own_address(one, other):
    """Two keys never share an address, and every address is below the base."""
    base = checked_base("http://h/base")

    def to(key):
        try:
            return address(base, path_of(key))
        except OriginError:
            return key

    assert (to(one) == to(other)) == (one == other)
    assert to(one) == one or to(one).startswith("http://h/base/")


def test_same_host_redirects_are_followed(call, make, service):
    """A redirect on the same service is followed, with the validators."""

    def handler(exchange):
        if exchange.path == "/base/k":
            exchange.reply(302, Location="/elsewhere/k")
        else:
            exchange.reply(200, exchange.headers["If-None-Match"].encode())

    service.handler = handler
    assert call(make(), "load", "k", Validators('"e"')) == Loaded(b'"e"')
    assert service.seen[-1].path == "/elsewhere/k"


def test_connections_are_reused_by_threads_of_requests(call, make, service):
    """Requests one after the other use one connection."""
    origin = make()
    for key in "abc":
        call(origin, "load", key)
    assert len({exchange.client_address for exchange in service.seen}) == 1


def test_load_many_asks_for_several_at_once(call, make, service):
    """load_many has as many requests under way as max_connections, and an answer per key."""
    together = threading.Barrier(4)

    def handler(exchange):
        together.wait(10)
        name = exchange.path.rpartition("/")[2]
        exchange.reply(404 if name == "3" else 200, name.encode())

    service.handler = handler
    origin = make(max_connections=4)
    answers = call(origin, "load_many", [str(n) for n in range(8)])
    assert answers.pop("3") == NotFound()
    assert answers == {str(n): Loaded(str(n).encode()) for n in range(8) if n != 3}


def test_load_many_renews_what_is_held(call, make, service):
    """A batch sends the validators of each copy held."""

    def handler(exchange):
        known = exchange.headers["If-None-Match"] == '"1"'
        exchange.reply(304 if known else 200, b"" if known else b"v", ETag='"1"')

    service.handler = handler
    origin = make()
    held = {"a": Validators('"1"'), "b": None, "c": Validators('"0"')}
    fresh = Loaded(b"v", validators=Validators('"1"'))
    assert call(origin, "load_many", held) == {"a": NotModified(), "b": fresh, "c": fresh}


def test_store_is_put_and_delete_is_delete(call, make, service):
    """A writable origin puts JSON or bytes and deletes; a missing key is deleted already."""
    rows = {}

    def handler(exchange):
        if exchange.command == "PUT":
            rows[exchange.path] = (exchange.headers["Content-Type"], exchange.body)
            exchange.reply(201, ETag='"2"')
        else:
            exchange.reply(204 if rows.pop(exchange.path, None) else 404)

    service.handler = handler
    origin = make(writable=True)
    assert origin.writable
    assert call(origin, "store", "j", {"a": 1}) == Validators('"2"')
    call(origin, "store", "b", b"\x00")
    call(origin, "store", "t", "é")
    assert rows == {
        "/base/j": ("application/json", b'{"a":1}'),
        "/base/b": ("application/octet-stream", b"\x00"),
        "/base/t": ("text/plain; charset=utf-8", "é".encode()),
    }
    call(origin, "delete", "b")
    call(origin, "delete", "b")
    assert "/base/b" not in rows
    assert origin.usage().bytes_out == 10


def test_read_only_unless_told_otherwise(call, make, service):
    """Without writable=True nothing is written, and the error says how to allow it."""
    origin = make()
    assert not origin.writable
    for method, *arguments in (("store", "k", 1), ("delete", "k")):
        with pytest.raises(ReadOnlyOriginError, match="writable=True"):
            call(origin, method, *arguments)
    assert service.seen == []


def test_headers_are_sent_and_never_shown(call, make, service):
    """Fault 32: a secret header or password reaches the service and no repr or error."""
    service.handler = lambda exchange: exchange.reply(500)
    base = service.url.replace("http://", "http://user:canary@")
    origin = make(base, headers={"X-Token": "canary"}, retries=0, key_to_path="k?t=canary{}".format)
    with pytest.raises(OriginError) as caught:
        call(origin, "load", "k")
    assert service.seen[0].headers["X-Token"] == "canary"
    assert service.seen[0].headers["Authorization"].startswith("Basic ")
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}{origin!r}{origin.usage()}"


@pytest.mark.parametrize("value", ["canary\n", "canary\u00e9", None, b"canary"])
def test_header_values_that_cannot_be_sent_are_not_shown(value):
    """Fault 32: a malformed header is refused by its name alone."""
    with pytest.raises(ConfigurationError, match="'X-Token'") as caught:
        HttpOrigin("http://127.0.0.1/", headers={"X-Token": value})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "ftp://host/"},
        {"base_url": "/path"},
        {"base_url": "http://host/?q=1"},
        {"base_url": "http://u:canary@host/#x"},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"total_timeout": 0},
        {"max_body": "big"},
        {"retries": -1},
        {"max_connections": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    """A wrong option is a ConfigurationError, and no password is shown in it."""
    with pytest.raises(ConfigurationError) as caught:
        HttpOrigin(**({"base_url": "http://host/"} | options))
    assert "canary" not in str(caught.value)


def test_closed_is_closed(call, make, service):
    """After close, which may be called twice, loads are refused."""
    origin = make()
    call(origin, "load", "k")
    call(origin, "close")
    call(origin, "close")
    with pytest.raises(ClosedError):
        call(origin, "load", "k")
    assert len(service.seen) == 1


def test_each_event_loop_has_its_own_connections(service):
    """One origin serves one event loop after another."""
    origin = HttpOrigin(service.url)

    async def once():
        answer = await origin.aload("k")
        await origin._transport._process().async_clients.pop(asyncio.get_running_loop()).aclose()
        return answer

    assert asyncio.run(once()) == asyncio.run(once()) == Loaded(b"")
    origin.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_its_own_connections(service):
    """A child forked after the first request opens connections and counts of its own."""
    script = f"""
import os
from hybridcore.origins import HttpOrigin
origin = HttpOrigin({service.url!r})
origin.load("parent")
child = os.fork()
if child == 0:
    origin.load("child")
    os._exit(0 if origin.usage().calls == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
origin.load("parent")
assert origin.usage().calls == 2
origin.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    parent, child, again = (exchange.client_address for exchange in service.seen)
    assert parent == again != child


def test_without_httpx_it_says_what_to_install():
    """When httpx is missing, the error names the extra, and the package still imports."""
    script = """
import sys
sys.modules["httpx"] = None
from hybridcore.origins import HttpOrigin
try:
    HttpOrigin("http://127.0.0.1/")
except ImportError as error:
    assert "pip install hybridcore[http]" in str(error)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
