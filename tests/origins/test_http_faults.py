"""HttpOrigin when the service fails: statuses, waits, broken connections, bodies that lie."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import threading
import time
from email.utils import formatdate

import pytest

from hybridcore.errors import OriginError, OriginTimeoutError, OriginUnavailableError
from hybridcore.origins import HttpOrigin, http_rules, transport
from hybridcore.types import Loaded


class Clock:
    """Time that passes only when somebody sleeps; stands in for the module ``time``."""

    def __init__(self):
        self.now = 1000.0
        self.sleeps = []

    def monotonic(self):
        return self.now

    def time(self):
        return 1_700_000_000 + self.now

    def sleep(self, duration):
        self.sleeps.append(duration)
        self.now += duration


class FakeAsyncio:
    """The module asyncio, but for its sleep, which the clock does."""

    def __init__(self, clock):
        self.clock = clock

    async def sleep(self, duration):
        self.clock.sleep(duration)

    def __getattr__(self, name):
        return getattr(asyncio, name)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(transport, "time", clock)
    monkeypatch.setattr(http_rules, "time", clock)
    monkeypatch.setattr(transport, "asyncio", FakeAsyncio(clock))
    return clock


def status(code, **headers):
    """Return a handler that answers with this status."""
    return lambda exchange: exchange.reply(code, b"sorry", **headers)


def value(exchange):
    exchange.reply(200, b"value")


# Statuses


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504, 599])
def test_failures_that_may_pass_are_retried(call, make, service, clock, code):
    """Fault 21, 22: 5xx, 408 and 429 are retried after growing, uneven waits."""
    service.in_turn(status(code), status(code), value)
    origin = make()
    assert call(origin, "load", "k") == Loaded(b"value")
    first, second = clock.sleeps
    assert 0.07 < first < 0.13
    assert 0.14 < second < 0.26
    assert origin.usage().calls == 3
    assert sum(origin.usage().errors.values()) == 2


def test_retries_end(call, make, service, clock):
    """When the retries are used up, the error tells what was asked and what came."""
    service.handler = status(503)
    with pytest.raises(OriginUnavailableError, match=r"GET .*/base/k answered 503 Service Una"):
        call(make(retries=1), "load", "k")
    assert len(service.seen) == 2


@pytest.mark.parametrize("code", [400, 401, 403, 405, 409, 422, 451, 206, 300, 305])
def test_refusals_are_not_retried(call, make, service, clock, code):
    """Other statuses are an OriginError at once: asking again would not help."""
    service.handler = status(code)
    with pytest.raises(OriginError, match=f"answered {code}") as caught:
        call(make(), "load", "k")
    assert type(caught.value) is OriginError
    assert len(service.seen) == 1


@pytest.mark.parametrize("arguments", [("store", "k", 1), ("delete", "k")])
def test_writes_are_never_retried(call, make, service, clock, arguments):
    """Only GETs are repeated; a write that failed is the caller's to judge."""
    service.handler = status(503)
    with pytest.raises(OriginUnavailableError):
        call(make(writable=True), *arguments)
    assert len(service.seen) == 1


# Waits that the service asks for


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "3"},
        {"Retry_After": "Tue, 15 Nov 1994 12:00:03 GMT", "Date": "Tue, 15 Nov 1994 12:00:00 GMT"},
    ],
    ids=["seconds", "date"],
)
@pytest.mark.parametrize("code", [429, 503, 403])
def test_short_waits_are_waited_out(call, make, service, clock, code, headers):
    """Fault 22: a Retry-After up to max_wait is slept, a bit longer, and the GET repeated.

    A date is measured by the service's own clock.
    """

    def limited(exchange):
        exchange.send_response_only(code)
        for name, text in (headers | {"Content_Length": "0"}).items():
            exchange.send_header(name.replace("_", "-"), text)
        exchange.end_headers()

    service.in_turn(limited, value)
    assert call(make(), "load", "k") == Loaded(b"value")
    (slept,) = clock.sleeps
    assert 3 <= slept <= 3.75


def test_long_waits_fail_at_once_and_are_kept(call, make, service, clock):
    """Fault 22: a longer Retry-After fails at once, for every key, until the time has come."""
    service.in_turn(status(429, Retry_After="60"), value)
    origin = make()
    with pytest.raises(OriginUnavailableError, match="429") as caught:
        call(origin, "load", "k")
    assert caught.value.retry_after == 60
    clock.now += 50
    with pytest.raises(OriginUnavailableError, match="left alone for another 10") as caught:
        call(origin, "load", "other")
    assert caught.value.retry_after == pytest.approx(10)
    assert len(service.seen) == 1
    clock.now += 8
    assert call(origin, "load", "other") == Loaded(b"value")
    assert len(clock.sleeps) == 1


def test_waits_add_up_to_max_wait(call, make, service, clock):
    """However often the service asks for a second more, one call waits max_wait at most."""
    service.handler = status(503, Retry_After="2")
    with pytest.raises(OriginUnavailableError):
        call(make(retries=99), "load", "k")
    assert len(clock.sleeps) == 2


@pytest.mark.parametrize(
    ("reset", "wait"), [("120", 120.0), ("1700001120", 120.0), ("1600000000", 0.0)]
)
def test_spent_budget_with_a_reset_time(call, make, service, clock, reset, wait):
    """Fault 22: a 403 with nothing remaining is a rate limit until its reset."""
    date = formatdate(1_700_001_000, usegmt=True)

    def limited(exchange):
        exchange.send_response_only(403)
        exchange.send_header("Date", date)
        exchange.send_header("X-RateLimit-Remaining", "0")
        exchange.send_header("X-RateLimit-Reset", reset)
        exchange.send_header("Content-Length", "0")
        exchange.end_headers()

    service.handler = limited
    with pytest.raises(OriginUnavailableError, match="403") as caught:
        call(make(retries=0), "load", "k")
    assert caught.value.retry_after == wait


@pytest.mark.parametrize(
    ("text", "wait"),
    [("soon", None), ("-5", None), ("1e3", None), ("99999999", 3600.0), ("", None)],
)
def test_odd_retry_after(text, wait):
    """A Retry-After that means nothing is ignored, one that means for ever is an hour."""
    assert http_rules.retry_after({"retry-after": text}) == wait


def test_retry_after_in_the_past_is_now():
    """A date gone by asks for no wait."""
    assert http_rules.retry_after({"retry-after": "Tue, 15 Nov 1994 12:00:03 GMT"}) == 0.0


# Connections


def test_nobody_listens(call, make, clock):
    """A refused connection is OriginUnavailableError, after the retries."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        origin = make(f"http://127.0.0.1:{closed.getsockname()[1]}/")
        with pytest.raises(OriginUnavailableError, match=r"GET http://127.0.0.1:\d+/k failed"):
            call(origin, "load", "k")
    assert sum(origin.usage().errors.values()) == 3


def test_slow_first_byte(call, make, service):
    """Fault 21: a service that takes the request and says nothing runs into the timeout."""
    service.handler = lambda exchange: service.stopping.wait(10)
    with pytest.raises(OriginTimeoutError, match=r"took over 0\.1 s"):
        call(make(timeout=0.1), "load", "k")
    assert len(service.seen) == 1


def test_trickle(call, make, service):
    """Fault 21: a body that drips, each drop in time, ends at total_timeout."""

    def drip(exchange):
        exchange.reply(200, b"x", Content_Length="1000")
        while not service.stopping.wait(0.02):
            exchange.wfile.write(b"x")

    service.handler = drip
    started = time.monotonic()
    with pytest.raises(OriginTimeoutError, match="did not arrive in time"):
        call(make(total_timeout=0.2), "load", "k")
    assert time.monotonic() - started < 5


def reset(exchange):
    exchange.reply(200, b"half", Content_Length="1000")
    exchange.wfile.flush()
    linger = struct.pack("ii", 1, 0)  # close with a reset
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    exchange.connection.close()
    exchange.close_connection = True


def short(exchange):
    exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


def unfinished_chunks(exchange):
    exchange.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")


def no_answer(exchange):
    exchange.close_connection = True


def no_http(exchange):
    exchange.raw(b"* OK IMAP4 ready\r\n\r\n")


BROKEN = [reset, short, unfinished_chunks, no_answer, no_http]


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_replies_are_no_values(call, make, service, broken):
    """Fault 21: reset or closed mid-body, no reply, not HTTP: unavailable, never half a value."""
    service.handler = broken
    with pytest.raises(OriginUnavailableError):
        call(make(retries=0), "load", "k")


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_replies_are_retried_on_a_new_connection(call, make, service, clock, broken):
    """Fault 21: the retry after a broken reply does not meet its remains."""
    service.in_turn(broken, value)
    assert call(make(), "load", "k") == Loaded(b"value")
    assert service.seen[0].client_address != service.seen[1].client_address


def test_more_bytes_than_announced_do_not_reach_the_next_value(call, make, service, clock):
    """Fault 21: what follows the announced length is not taken for the next reply."""

    def too_long(exchange):
        exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf and more")

    service.in_turn(too_long, value)
    origin = make()
    assert call(origin, "load", "k") == Loaded(b"half")
    assert call(origin, "load", "k") == Loaded(b"value")


# Bodies


def test_announced_huge_body_is_refused_unread(call, make, service):
    """A Content-Length over max_body is refused before the body is read."""
    service.handler = lambda exchange: exchange.reply(200, b"", Content_Length="1001")
    origin = make(max_body=1000)
    with pytest.raises(OriginError, match=r"GET .*/k: the body is over max_body=1000 bytes"):
        call(origin, "load", "k")
    assert origin.usage().bytes_in == 0
    assert len(service.seen) == 1


def test_endless_body_is_refused_while_it_arrives(call, make, service):
    """A body without a length is read up to max_body and not further."""
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"

    def endless(exchange):
        exchange.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not service.stopping.is_set():
            exchange.wfile.write(chunk)

    service.handler = endless
    origin = make(max_body="64KiB")
    with pytest.raises(OriginError, match="over max_body=65536"):
        call(origin, "load", "k")
    assert origin.usage().bytes_in < 1 << 20


def test_small_body_that_unpacks_to_a_huge_one_is_refused(call, make, service):
    """A compressed body counts by its size unpacked, and is unpacked no further than max_body."""
    packed = gzip.compress(bytes(10_000_000))
    service.handler = lambda exchange: exchange.reply(200, packed, Content_Encoding="gzip")
    origin = make(max_body="64KiB")
    with pytest.raises(OriginError, match="over max_body=65536"):
        call(origin, "load", "k")
    assert origin.usage().bytes_in == len(packed)


def test_endless_error_body_is_not_read_to_its_end(call, make, service):
    """The body of an error is read only as far as it lets the connection be used again."""

    def endless(exchange):
        exchange.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while not service.stopping.is_set():
            exchange.wfile.write(b"x" * 4096)

    service.handler = endless
    origin = make()
    with pytest.raises(OriginError, match="answered 400"):
        call(origin, "load", "k")
    assert origin.usage().bytes_in < 1 << 20


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"a": ', {"Content_Type": "application/json"}),
        (b"[" * 100_000, {"Content_Type": "application/json"}),
        (b"\xff", {"Content_Type": "text/plain"}),
        (b"x", {"Content_Type": "text/plain; charset=nonsense"}),
        (b"not gzip", {"Content_Encoding": "gzip"}),
        (gzip.compress(bytes(9))[:-1], {"Content_Encoding": "gzip"}),
        (gzip.compress(bytes(9)) + gzip.compress(bytes(9))[:-9], {"Content_Encoding": "gzip"}),
        (gzip.compress(bytes(9)) + b"more", {"Content_Encoding": "x-gzip"}),
    ],
    ids=["json", "deep-json", "text", "charset", "gzip", "half", "half-member", "more"],
)
def test_damaged_bodies_are_no_values(call, make, service, body, headers):
    """A body that is not what its headers say is an OriginError."""
    service.handler = lambda exchange: exchange.reply(200, body, **headers)
    origin = make()
    with pytest.raises(OriginError, match="GET"):
        call(origin, "load", "k")
    assert sum(origin.usage().errors.values()) == 1


# Redirects


def test_redirect_to_another_service_is_refused(call, make, service):
    """A redirect to another port, host or scheme is not followed, with headers or without."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        port = other.getsockname()[1]
        for target in (f"http://127.0.0.1:{port}/k", f"//127.0.0.1:{port}/k", "https://127.0.0.1/"):
            service.handler = status(302, Location=target)
            with pytest.raises(OriginError, match="another service, which is refused"):
                call(make(), "load", "k")
        with pytest.raises(BlockingIOError):
            other.accept()


def test_redirect_loop_ends(call, make, service):
    """Redirects in a circle end with an error."""
    service.handler = status(307, Location="/base/k")
    with pytest.raises(OriginError, match="more than 5 times"):
        call(make(), "load", "k")
    assert len(service.seen) == 6


@pytest.mark.parametrize("location", ["http://[::1", "http://a b/", "ftp://127.0.0.1/"])
def test_redirect_to_nowhere(call, make, service, clock, location):
    """A Location that is no address is an OriginError."""
    service.handler = status(302, Location=location)
    with pytest.raises(OriginError):
        call(make(), "load", "k")


def test_writes_are_not_redirected(call, make, service):
    """A redirected PUT is refused: where the value would go is not where it was meant to."""
    service.handler = status(307, Location="/elsewhere")
    with pytest.raises(OriginError, match="answered 307"):
        call(make(writable=True), "store", "k", 1)
    assert len(service.seen) == 1


def test_cancelled_load_discards_its_connection(service):
    """A load that was cancelled leaves no connection behind that the next one would meet."""

    arrived = threading.Event()

    def stall(exchange):
        arrived.set()
        service.stopping.wait(0.3)
        exchange.reply(200, b"late")

    service.in_turn(stall, value)

    async def check():
        origin = HttpOrigin(service.url)
        load = asyncio.create_task(origin.aload("k"))
        await asyncio.to_thread(arrived.wait, 10)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert await origin.aload("k") == Loaded(b"value")
        await origin.aclose()

    asyncio.run(check())
    assert service.seen[0].client_address != service.seen[1].client_address
