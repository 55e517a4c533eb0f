"""ObjectStoreOrigin when the store fails: credentials, statuses, broken and silent connections."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pytest

import hybridcore as hc
from hybridcore.errors import OriginError, OriginTimeoutError, OriginUnavailableError
from hybridcore.origins import ObjectStoreOrigin
from hybridcore.types import NotFound

from .conftest import gather, running_service
from .s3_server import SECRET


@contextmanager
def in_a_store(origin, tmp_path):
    with hc.HybridCache(hc.Cache(10), hc.Lmdb(tmp_path / "disk"), origin, breaker=None) as store:
        yield store
        assert (len(store.memory), len(store._engine.disk)) == (0, 0)


def get(call, store):
    return store.get("k") if call.loop is None else call.loop.run_until_complete(store.aio.get("k"))


def test_wrong_credentials(call, s3, open_s3, tmp_path):
    """Fault 32: they are refused clearly, kept nowhere, and never shown; so are listings."""
    origin = open_s3()
    origin.store("k", "v")
    with s3.checking_credentials(), in_a_store(origin, tmp_path) as store:
        with pytest.raises(
            OriginError, match=r"refused for the credentials given \(403\)"
        ) as caught:
            get(call, store)
        with pytest.raises(OriginError, match="refused for the credentials"):
            list(origin.objects())
        with pytest.raises(OriginError, match="refused for the credentials"):
            call(origin, "store", "k", "new")
    shown = f"{caught.value!r}{caught.value.__cause__!r}{origin!r}{origin.usage()}{vars(origin)}"
    assert SECRET not in shown.lower()
    assert origin.usage().errors == {"OriginError": 3}


def test_a_bucket_that_is_not_there(call, s3, tmp_path):
    """A missing bucket is an error, and not a bucket without objects."""
    origin = ObjectStoreOrigin("s3://no-such-bucket", options=s3.options, writable=True)
    with in_a_store(origin, tmp_path) as store:
        with pytest.raises(OriginError, match="no such bucket"):
            get(call, store)
        with pytest.raises(OriginError, match="no such bucket"):
            call(origin, "store", "k", "v")


def test_a_service_that_is_down(call, open_s3, s3, tmp_path):
    """A refused connection is OriginUnavailableError, after the retries."""
    origin = open_s3(options=s3.options | {"endpoint": "http://127.0.0.1:9"})
    failed = pytest.raises(OriginUnavailableError, match=r"GET s3://bucket-.*/k failed")
    with in_a_store(origin, tmp_path) as store, failed:
        get(call, store)


def fake(service, s3, open_s3, handler, **options):
    """An origin whose S3 answers as a test says."""
    service.handler = handler
    return open_s3(options=s3.options | {"endpoint": service.url.removesuffix("/base/")}, **options)


WHOLE = {"ETag": '"1"', "Last_Modified": "Tue, 15 Nov 1994 12:45:26 GMT"}
HEAD = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nLast-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\n'


@pytest.mark.parametrize(
    ("handler", "error", "message"),
    [
        (
            lambda e: e.raw(HEAD + b"Content-Length: 10\r\n\r\nhalf"),
            OriginUnavailableError,
            "failed",
        ),
        (
            lambda e: e.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            OriginError,
            "failed",
        ),
        (lambda e: e.reply(503), OriginUnavailableError, r"failed \(503\)"),
        (lambda e: e.reply(400), OriginError, "failed"),
        (lambda e: e.reply(401), OriginError, "credentials"),
        (lambda e: e.reply(302, Location="http://example.com/"), OriginError, "failed"),
        (
            lambda e: e.reply(200, b"\xff", Content_Type="text/plain", **WHOLE),
            OriginError,
            "damaged",
        ),
        (
            lambda e: e.reply(200, b"{", Content_Type="application/json", **WHOLE),
            OriginError,
            "damaged",
        ),
    ],
    ids=["short", "chunks", "503", "400", "401", "redirect", "text", "json"],
)
def test_bad_answers_are_no_values(call, service, s3, open_s3, tmp_path, handler, error, message):
    """Fault 21: a clear error of the right class without secrets, and nothing in any tier."""
    origin = fake(service, s3, open_s3, handler)
    with in_a_store(origin, tmp_path) as store, pytest.raises(error, match=message) as caught:
        get(call, store)
    assert "s3://bucket-" in str(caught.value)
    assert SECRET not in f"{caught.value!r}{caught.value.__cause__!r}".lower()


def test_a_redirect_takes_no_key_along(call, service, s3, open_s3):
    """Fault 32: where a service redirects to, nobody learns the signature of a request."""
    with running_service() as other:
        other.handler = lambda exchange: exchange.reply(404)
        target = f"{other.url.replace('127.0.0.1', 'localhost')}k"
        origin = fake(service, s3, open_s3, lambda e: e.reply(307, Location=target))
        assert call(origin, "load", "k") == NotFound()
        (redirected,) = other.seen
        assert "Authorization" in service.seen[0].headers
        assert "Authorization" not in redirected.headers
        assert SECRET not in str(redirected.headers).lower()


def test_a_service_that_is_silent(call, service, s3, open_s3, tmp_path):
    """Fault 21: a service that takes the request and says nothing runs into the timeout."""
    origin = fake(
        service, s3, open_s3, lambda exchange: service.stopping.wait(10), timeout=0.2, retries=0
    )
    late = pytest.raises(OriginTimeoutError, match="did not answer in time")
    with in_a_store(origin, tmp_path) as store, late:
        get(call, store)


def test_failures_that_may_pass_are_retried(call, service, s3, open_s3):
    """Fault 21: a 503 is tried again, as often as retries says."""
    service.in_turn(
        lambda exchange: exchange.reply(503), lambda exchange: exchange.reply(200, b"v", **WHOLE)
    )
    origin = fake(service, s3, open_s3, service.handler, retries=1)
    assert call(origin, "load", "k").value == b"v"


def test_a_download_that_breaks_leaves_the_file_as_it_was(call, service, s3, open_s3, tmp_path):
    """Fault 21: a stream that breaks off is an error, half of it is nowhere."""
    origin = fake(
        service,
        s3,
        open_s3,
        lambda e: e.raw(HEAD + b"Content-Length: 3000000\r\n\r\n" + bytes(2000000)),
    )
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with pytest.raises(OriginUnavailableError):
        call(origin, "download", "k", target)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert target.read_bytes() == b"old"
    with origin.open("k") as file, pytest.raises(OriginUnavailableError):
        file.read()
    with pytest.raises(OriginUnavailableError):
        asyncio.run(gather(origin.stream("k")))
