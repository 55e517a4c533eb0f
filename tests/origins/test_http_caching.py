"""HttpOrigin and RFC 9111: what the headers of a reply say of how it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridcore as hc
from hybridcore.errors import ConfigurationError, OriginUnavailableError
from hybridcore.origins import HttpOrigin
from hybridcore.origins.http_caching import CachePolicy, Terms, directives
from hybridcore.origins.http_rules import Reply
from hybridcore.types import NotFound, NotModified, Validators

DATE = {"Date": "Tue, 15 Nov 1994 12:00:00 GMT"}
LATER = "Tue, 15 Nov 1994 12:01:00 GMT"
EARLIER = "Tue, 15 Nov 1994 11:00:00 GMT"
SILENT = Terms()
CHECKED = Terms(0.0, store=False, stale=0.0, must_revalidate=True)
NOT_KEPT = Terms(0.0, 0.0, store=False)
ETAG = {"ETag": '"1"'}


def terms(headers, seconds=0.0, **policy):
    """What headers say, of a reply that took some seconds."""
    lower = {name.lower().replace("_", "-"): text for name, text in headers.items()}
    return CachePolicy(**policy).terms(Reply(200, lower, b"", None, seconds))


def said(cache_control, **others):
    """Headers with this Cache-Control."""
    return {"Cache-Control": cache_control, **others}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, SILENT),
        (said("private"), SILENT),
        (said("public, max-age=60"), Terms(60.0)),
        (said('MAX-AGE="60"', Age="45"), Terms(15.0)),
        (said("max-age=60", Age="90"), Terms(0.0)),
        (said("max-age=60", Age="10, 50"), Terms(50.0)),
        (said("max-age=60", Age="soon"), Terms(60.0)),
        (said("max-age=60, s-maxage=600"), Terms(60.0)),
        (said("s-maxage=600"), SILENT),
        (said("max-age=-5"), Terms(0.0)),
        (said("max-age=1.5"), Terms(0.0)),
        (said("max-age"), Terms(0.0)),
        (said("max-age=60, max-age=5"), Terms(60.0)),
        (said("max-age=" + "9" * 400), Terms(1e10)),
        (said("max-age=60", Expires=EARLIER), Terms(60.0)),
        (said('x="no-store, max-age=1", max-age=60'), Terms(60.0)),
        ({"Expires": LATER, **DATE}, Terms(60.0)),
        ({"Expires": EARLIER, **DATE}, Terms(0.0)),
        ({"Expires": "0", **DATE}, Terms(0.0)),
        ({"Last-Modified": EARLIER, **DATE}, SILENT),
        (said("no-store, max-age=60", **ETAG), NOT_KEPT),
        (said("No-Store"), NOT_KEPT),
        (said("no-cache"), CHECKED),
        (said("no-cache, max-age=60", **ETAG), Terms(0.0, must_revalidate=True)),
        (said('no-cache="set-cookie", max-age=60'), Terms(60.0)),
        (said("max-age=60, must-revalidate"), Terms(60.0, 0.0, must_revalidate=True)),
        (said("max-age=60, must-revalidate", **ETAG), Terms(60.0, must_revalidate=True)),
        (said("max-age=60, proxy-revalidate"), Terms(60.0)),
        (said("max-age=60, stale-while-revalidate=30"), Terms(60.0, 30.0)),
        (said("stale-if-error=300, stale-while-revalidate=30"), Terms(None, 300.0)),
        (said("max-age=60, stale-if-error=300", Age="100"), Terms(0.0, 300.0)),
        (said("max-age=60, stale-if-error=much"), Terms(60.0, 0.0)),
        (
            said("max-age=60, stale-if-error=300, must-revalidate"),
            Terms(60.0, 0.0, must_revalidate=True),
        ),
        (said("max-age=60", Vary="Accept, Cookie"), Terms(60.0)),
        (said("max-age=60", Vary="Accept, *"), CHECKED),
        (said("max-age=60", Vary="*", **ETAG), Terms(0.0, must_revalidate=True)),
    ],
)
def test_terms_for_one_user(headers, expected):
    """Freshness, staleness and storage as of RFC 9111 and 5861, for a cache of one user."""
    assert terms(headers) == expected


@pytest.mark.parametrize(
    ("headers", "authorized", "expected"),
    [
        (said("max-age=60, s-maxage=600"), False, Terms(600.0, 0.0, must_revalidate=True)),
        (said("s-maxage=0"), False, Terms(0.0, 0.0, must_revalidate=True)),
        (said("max-age=60, private"), False, NOT_KEPT),
        (said('max-age=60, private="set-cookie"'), False, Terms(60.0)),
        (said("max-age=60, proxy-revalidate"), False, Terms(60.0, 0.0, must_revalidate=True)),
        (said("max-age=60"), True, NOT_KEPT),
        (said("max-age=60, public"), True, Terms(60.0)),
        (said("s-maxage=60"), True, Terms(60.0, 0.0, must_revalidate=True)),
        ({}, True, NOT_KEPT),
        ({}, False, SILENT),
    ],
)
def test_terms_for_several_users(headers, authorized, expected):
    """A shared cache heeds s-maxage, private, proxy-revalidate and Authorization."""
    assert terms(headers, shared=True, authorized=authorized) == expected


def test_the_way_counts_as_age():
    """The time that a reply took is part of its age, with Age or without."""
    assert terms(said("max-age=60"), seconds=4.0) == Terms(56.0)
    assert terms(said("max-age=60", Age="10"), seconds=4.0) == Terms(46.0)


def test_a_lifetime_is_guessed_only_on_demand():
    """With heuristic=, a share of the time since Last-Modified; never over a named lifetime."""
    headers = {"Last-Modified": EARLIER, **DATE}
    assert terms(headers, heuristic=0.1) == Terms(360.0)
    assert terms(headers | said("max-age=5"), heuristic=0.1) == Terms(5.0)
    ancient = {"Last-Modified": "Tue, 15 Nov 1904 12:00:00 GMT", **DATE}
    assert terms(ancient, heuristic=0.1) == Terms(86400.0)


def test_headers_may_be_ignored():
    """ttl_from_headers=False leaves everything to the cache's own options."""
    assert terms(said("no-store, max-age=5", Vary="*"), from_headers=False) == SILENT


@given(st.text())
def test_any_header_can_be_read(text):
    """Whatever a service sends, it is read, and the times are never negative."""
    for headers in (said(text), said("max-age=5", Age=text, Vary=text), {"Expires": text}):
        found = terms(headers, heuristic=0.5)
        assert (found.ttl or 0) >= 0
        assert (found.stale or 0) >= 0


@given(st.from_regex(r"[a-z]{1,5}(=[0-9]{1,3}|=\"[a-z, ]*\")?", fullmatch=True))
def test_every_directive_is_found_among_others(directive):
    """A directive is found with its argument wherever it stands."""
    name, _, argument = directive.partition("=")
    found = directives(f'zzzzzz, {directive} , zzzzzzz="a, b\\"c"')
    assert found.keys() == {"zzzzzz", name, "zzzzzzz"}
    assert found[name] == argument.strip('" \t')


# Over the wire, and through the tiers


def test_replies_carry_their_terms(call, make, service):
    """Values, renewals and missing keys are answered with what their headers say."""
    headers = {"Cache_Control": "max-age=60, must-revalidate", "ETag": '"1"', "Age": "20"}
    service.handler = lambda exchange: exchange.reply(200, b"v", **headers)
    origin = make()
    loaded = call(origin, "load", "k")
    assert loaded.ttl == pytest.approx(40, abs=1)
    assert loaded.validators == Validators('"1"', must_revalidate=True)
    service.handler = lambda exchange: exchange.reply(404, Cache_Control="max-age=7")
    assert call(origin, "load", "k") == NotFound(pytest.approx(7, abs=1))
    service.handler = lambda exchange: exchange.reply(304, Cache_Control="no-store")
    assert call(origin, "load", "k", loaded.validators) == NotModified(
        0.0, Validators('"1"'), 0.0, store=False
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"ETag": '"2"'}, Validators('"2"', "then", must_revalidate=True)),
        ({"Cache_Control": "max-age=9"}, Validators('"1"', "then")),
        ({"Cache_Control": "no-cache"}, None),
    ],
)
def test_a_304_replaces_the_validators_it_has(call, make, service, headers, expected):
    """What a 304 does not repeat stays as it was; with Cache-Control it says all anew."""
    service.handler = lambda exchange: exchange.reply(304, **headers)
    held = Validators('"1"', "then", must_revalidate=True)
    assert call(make(), "load", "k", held).validators == expected


@pytest.fixture
def make_store(call, make, tmp_path):
    """Make stores of both tiers over an origin of the service, their time standing still."""
    stores = []

    def make_store(clock, soft_timeout=None, **options):
        store = hc.HybridCache(
            hc.Cache(100, timer=lambda: clock[0]),
            hc.Lmdb(tmp_path / "disk", clock=lambda: 10**18 + int(clock[0] * 1e9)),
            make(retries=0, **options),
            defaults=hc.EntryOptions(ttl=1000, stale=1000, throttle=0, soft_timeout=soft_timeout),
            breaker=None,
        )
        stores.append(store)
        return store

    yield make_store
    for store in stores:
        store.close()


def down(exchange):
    exchange.reply(503)


@pytest.fixture
def get(call):
    """Look a key up, in one of the two faces."""
    if call.loop is None:
        return lambda store, key: store.get(key)
    return lambda store, key: call.loop.run_until_complete(store.aio.get(key))


def test_no_store_is_given_and_not_kept(get, make_store, service):
    """A no-store reply reaches the caller, and is asked for again each time."""
    service.handler = lambda exchange: exchange.reply(200, b"v", Cache_Control="no-store")
    store = make_store([0.0])
    assert get(store, "k") == get(store, "k") == b"v"
    assert len(service.seen) == 2
    assert (len(store.memory), len(store._engine.disk)) == (0, 0)


@pytest.mark.parametrize("tier", ["memory", "disk"])
def test_stale_if_error_ends(get, make_store, service, tier):
    """A copy is served for stale-if-error past its lifetime, and no longer."""
    clock = [0.0]
    store = make_store(clock)
    service.handler = lambda exchange: exchange.reply(
        200, b"v", Cache_Control="max-age=60, stale-if-error=30"
    )
    get(store, "k")
    if tier == "disk":
        store.memory.clear()
    service.handler = down
    clock[0] = 85.0
    assert get(store, "k") == b"v"
    clock[0] = 91.0
    with pytest.raises(OriginUnavailableError):
        get(store, "k")


@pytest.mark.parametrize("tier", ["memory", "disk"])
def test_must_revalidate_is_renewed_but_never_stale(get, make_store, service, tier):
    """A copy that must be revalidated is kept for a 304 and not served when there is none."""
    clock = [0.0]
    store = make_store(clock)
    headers = {"Cache_Control": "max-age=60, must-revalidate", "ETag": '"1"'}
    service.handler = lambda exchange: exchange.reply(200, b"v", **headers)
    get(store, "k")
    if tier == "disk":
        store.memory.clear()
    clock[0] = 61.0
    service.handler = down
    with pytest.raises(OriginUnavailableError):
        get(store, "k")
    service.handler = lambda exchange: exchange.reply(304, **headers)
    assert get(store, "k") == b"v"
    assert service.seen[-1].headers["If-None-Match"] == '"1"'
    service.handler = down
    assert get(store, "k") == b"v"


@pytest.mark.parametrize("said", ["stale-while-revalidate=30", "must-revalidate"])
def test_stale_while_revalidate_with_a_soft_timeout(get, make_store, service, said):
    """A slow service has its stale copy served meanwhile, if it allows that."""
    clock = [0.0]
    store = make_store(clock, soft_timeout=0.01)
    service.handler = lambda exchange: exchange.reply(
        200, b"old", Cache_Control=f"max-age=60, {said}", ETag='"1"'
    )
    get(store, "k")
    clock[0] = 61.0

    def slow(exchange):
        service.stopping.wait(0.2)
        exchange.reply(200, b"new", Cache_Control="max-age=60")

    service.handler = slow
    assert get(store, "k") == (b"old" if said.startswith("stale") else b"new")


def test_no_cache_is_checked_each_time(get, make_store, service):
    """A no-cache reply with an ETag is kept, and every lookup asks whether it is still right."""
    headers = {"Cache_Control": "no-cache", "ETag": '"1"'}

    def handler(exchange):
        known = exchange.headers["If-None-Match"] == '"1"'
        exchange.reply(304 if known else 200, b"" if known else b"v", **headers)

    service.handler = handler
    store = make_store([0.0])
    assert [get(store, "k") for _ in range(3)] == [b"v"] * 3
    assert store.stats().origin.not_modified == 2


@pytest.mark.parametrize("heuristic", [-0.1, 1.1])
def test_heuristics_that_make_no_sense(heuristic):
    """The share is one from 0 to 1."""
    with pytest.raises(ConfigurationError, match="from 0 to 1"):
        HttpOrigin("http://h/", heuristic=heuristic)
