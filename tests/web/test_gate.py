"""Who is answered: names, tokens, proxies, and pages that are not ours."""

from __future__ import annotations

import asyncio
import base64

import httpx
import pytest

import hybridcore as hc
from hybridcore.web import app
from tests.web.conftest import running

TOKEN = "a token that is long enough"


@pytest.fixture
def cache():
    with hc.HybridCache() as cache:
        yield cache


def ask(page, method="GET", path="/", client="127.0.0.1", host="localhost:1", **headers):
    """An answer of the application to somebody at an address."""

    async def answered():
        transport = httpx.ASGITransport(page, client=(client, 5))
        named = {"Host": host, **{name.replace("_", "-"): text for name, text in headers.items()}}
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as asking:
            return await asking.request(method, path, headers=named, content=b"{}")

    return asyncio.run(answered())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8420", "[::1]:8420"])
def test_this_host_is_answered(cache, host) -> None:
    """By every name of the loopback, with headers that keep other pages out."""
    answer = ask(app({"c": cache}), host=host)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "localhost@evil", "", "[::1", "10.0.0.1"]
)
def test_other_names_are_refused(cache, host) -> None:
    """A name that leads here, and is none of ours, is that of somebody else's page."""
    for path in ("/", "/events", "/static/page.js"):
        assert ask(app({"c": cache}), path=path, Host=host).status_code == 421


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("10.0.0.9", {}),
        ("127.0.0.1", {"Forwarded": "for=1.2.3.4"}),
        ("::1", {"X_Forwarded_For": "1.2.3.4"}),
    ],
)
def test_other_hosts_need_a_token(cache, client, headers) -> None:
    """So do those behind a proxy of this host."""
    assert ask(app({"c": cache}), client=client, **headers).status_code == 403
    page = app({"c": cache}, token=TOKEN)
    refused = ask(page, client=client, **headers)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    bearer = f"Bearer {TOKEN}"
    assert ask(page, client=client, Authorization=bearer, **headers).status_code == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Basic " + base64.b64encode(f"anybody:{TOKEN}".encode()).decode(), 200),
        (f"bearer {TOKEN}", 200),
        ("Basic " + base64.b64encode(b"anybody:wrong").decode(), 401),
        ("Basic " + base64.b64encode(TOKEN.encode()).decode(), 401),
        ("Basic ===", 401),
        ("Bearer", 401),
        ("Bearer " + TOKEN[:-1], 401),
        (f"Digest {TOKEN}", 401),
    ],
)
def test_the_token_is_the_password(cache, authorization, status) -> None:
    """Of HTTP Basic, whatever the name, or a bearer; also for this host."""
    page = app({"c": cache}, token=TOKEN, hosts=["dash.example"])
    for host in ("dash.example", "10.0.0.1:8420"):
        assert ask(page, host=host, Authorization=authorization).status_code == status
    assert ask(page, host="evil.example", Authorization=authorization).status_code == 421


@pytest.mark.parametrize("token", ["", "short", "ü" * 20])
def test_a_token_that_could_be_guessed_is_refused(cache, token) -> None:
    """When the application is made, not when it is used."""
    with pytest.raises(hc.ConfigurationError, match="at least 16 ASCII"):
        app({"c": cache}, token=token)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Hybridcore": "page", "Sec_Fetch_Site": "same-origin"}, 400),
        ({"X_Hybridcore": "page", "Origin": "http://localhost:1"}, 400),
        ({"X_Hybridcore": "page"}, 400),
        ({}, 403),
        ({"Origin": "http://localhost:1", "Sec_Fetch_Site": "same-origin"}, 403),
        ({"X_Hybridcore": "page", "Sec_Fetch_Site": "cross-site"}, 403),
        ({"X_Hybridcore": "page", "Sec_Fetch_Site": "same-site"}, 403),
        ({"X_Hybridcore": "page", "Origin": "http://evil.example"}, 403),
        ({"X_Hybridcore": "page", "Origin": "null"}, 403),
    ],
)
def test_only_the_page_may_change_something(cache, headers, status) -> None:
    """A form, an image or a script of another page is refused before it is read (400: after)."""
    assert ask(app({"c": cache}), "POST", "/replay", **headers).status_code == status


def test_who_mounts_it_may_admit_whom_they_want(cache) -> None:
    """Names and hosts are theirs then; other pages may still change nothing."""
    page = app({"c": cache}, trusted=True)
    assert ask(page, client="10.0.0.9", host="shop.example").status_code == 200
    assert ask(page, "POST", "/replay", client="10.0.0.9", host="shop.example").status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ('{"cache": "c"}', 400),
        ('{"cache": "c", "letter": "1"}', 400),
        ('{"cache": "c", "letter": 1, "more": 2}', 400),
        ('{"cache": "other", "letter": 1}', 409),
        ('{"cache": "c", "letter": 1}', 409),
        ("x" * 5000, 413),
    ],
)
def test_what_cannot_be_replayed_is_told(cache, body, status) -> None:
    """Malformed, unknown or too long: an error in words, and the page goes on."""
    page = app({"c": cache}, interval=0.1)
    with running(page) as address:
        answer = httpx.post(address + "replay", content=body, headers={"X-Hybridcore": "page"})
        assert answer.status_code == status
        assert answer.json()["error"]
        page.state.watcher.close()


def test_no_cache_is_no_page() -> None:
    """There is nothing to be shown."""
    with pytest.raises(hc.ConfigurationError, match="at least one cache"):
        app({})
