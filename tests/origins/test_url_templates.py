"""URL templates and bulk endpoints: which address a key has, and how many keys share one."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridcore as hc
from hybridcore.errors import ConfigurationError, OriginError
from hybridcore.origins import HttpOrigin
from hybridcore.origins.url_template import UrlTemplate
from hybridcore.types import Loaded, NotFound, Validators


@pytest.mark.parametrize(
    ("template", "keys", "key", "address"),
    [
        ("https://h/x/{owner}/{name}", None, ("a b", "c/d"), "https://h/x/a%20b/c%2Fd"),
        ("https://h/x/{id}", None, "ü?#&%", "https://h/x/%C3%BC%3F%23%26%25"),
        ("https://h/x/{id}", None, 7, "https://h/x/7"),
        ("https://h/x/{id}", None, (7,), "https://h/x/7"),
        ("https://h/x/{id:int}.json", None, -7, "https://h/x/-7.json"),
        ("https://h/{path:path}?raw=1", None, "a/b c/d", "https://h/a/b%20c/d?raw=1"),
        (
            "https://h/items?id={id}&v={v:int}",
            None,
            ("a&v=9", 2),
            "https://h/items?id=a%26v%3D9&v=2",
        ),
        ("https://h/{a}/{b}/again/{a}", None, ("x", "y"), "https://h/x/y/again/x"),
        ("https://h/{{x}}/{id}", None, "k", "https://h/{x}/k"),
        ("https://h/%7Bx%7D/{id}", None, "k", "https://h/%7Bx%7D/k"),
        ("https://h/r/{owner}/{n}", "repo:{owner}/{n:int}", "repo:py/7", "https://h/r/py/7"),
        ("https://h/r/{n}", ("repo", "{owner}", "{n}"), ("repo", "py", "x"), "https://h/r/x"),
    ],
)
def test_addresses(template, keys, key, address):
    """Values stand where their fields are, percent-encoded; a key pattern names them."""
    assert UrlTemplate(template, keys).address(key) == address


@given(st.text(min_size=1), st.integers())
def test_values_come_back(text, number):
    """What a key has in its fields is what a service reads there, or the key is refused."""
    template = UrlTemplate("https://h/a/{text}/{number}?q={text}")
    try:
        address = urlsplit(template.address((text, number)))
    except OriginError:
        return
    assert (address.scheme, address.netloc, address.fragment) == ("https", "h", "")
    assert [unquote(part) for part in address.path.split("/")] == ["", "a", text, str(number)]
    assert parse_qs(address.query, strict_parsing=True) == {"q": [text]}


@pytest.mark.parametrize(
    "key",
    ["..", ".", "a/../b", "..\\x", "", None, 1.5, True, b"x", ("a", "b"), (), "\ud800", ("..",)],
)
def test_keys_without_an_address_are_not_sent(call, make, service, key):
    """Fault 30: a key that does not fit, is empty or leads elsewhere is refused."""
    with pytest.raises(OriginError):
        call(make(service.url + "{name}"), "load", key)
    assert service.seen == []


@pytest.mark.parametrize("key", ["repo:", "user:x", "repo:a/b", 5, ("repo:a",)])
def test_keys_that_the_pattern_does_not_mean(call, make, service, key):
    """With keys= a key that does not match is refused."""
    with pytest.raises(OriginError, match=r"does not match 'repo:\{name\}'"):
        call(make(service.url + "{name}", keys="repo:{name}"), "load", key)
    assert service.seen == []


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "https://{host}/x"},
        {"base_url": "https://h{port}/x"},
        {"base_url": "ftp://h/{x}"},
        {"base_url": "https://h/{x"},
        {"base_url": "https://h/{}"},
        {"base_url": "https://h/{0}"},
        {"base_url": "https://h/{x.y}"},
        {"base_url": "https://h/{x!r}"},
        {"base_url": "https://h/{x:float}"},
        {"base_url": "https://h/{x}", "keys": "repo:{y}"},
        {"base_url": "https://h/{x}", "keys": "repo:{x"},
        {"base_url": "https://h/", "keys": "repo:{x}"},
        {"base_url": "https://h/{x}", "key_to_path": str},
        {"base_url": "https://h/", "bulk": "items"},
        {"base_url": "https://h/", "bulk": "items?a={a}&ids={keys}"},
        {"base_url": "https://h/", "bulk": "https://other/items?ids={keys}"},
        {"base_url": "https://h/", "bulk": "http://h/items?ids={keys}"},
        {"base_url": "https://h/", "bulk": "items?ids={keys}", "bulk_size": 0},
    ],
)
def test_templates_that_make_no_sense(options):
    """A malformed template, one with a field for the host, or of another service is refused."""
    with pytest.raises(ConfigurationError):
        HttpOrigin(**options)


def test_a_templated_origin_reads_and_writes(call, make, service):
    """Load, store and delete go to the address of the template."""
    service.handler = lambda exchange: exchange.reply(200, b"v")
    origin = make(service.url + "{owner}/files/{path:path}?raw=1", writable=True)
    call(origin, "load", ("a b", "docs/x.md"))
    call(origin, "store", ("a b", "docs/x.md"), b"new")
    call(origin, "delete", ("a b", "docs/x.md"))
    assert [(e.command, e.path) for e in service.seen] == [
        (method, "/base/a%20b/files/docs/x.md?raw=1") for method in ("GET", "PUT", "DELETE")
    ]
    assert repr(origin).endswith("/base)")


# Bulk endpoints


@pytest.fixture
def rows(service):
    """A service of rows by id, each and in bulk."""
    import msgspec

    rows = {"1": "one", "b c": "two", "3": None}

    def handler(exchange):
        exchange.command = urlsplit(exchange.path)
        if exchange.command.path == "/items":
            ids = parse_qs(exchange.command.query)["ids"][0].split(",")
            body = {key: rows[key] for key in ids if key in rows}
        else:
            body = rows[unquote(exchange.command.path.rpartition("/")[2])]
        exchange.reply(
            200,
            msgspec.json.encode(body),
            Content_Type="application/json",
            Cache_Control="max-age=60",
            ETag='"all"',
        )

    service.handler = handler
    service.rows = rows
    return service


def test_bulk_asks_for_many_keys_at_once(call, make, rows):
    """One request has several keys; those that the reply lacks do not exist."""
    origin = make(rows.url + "{id}", bulk="/items?ids={keys}")
    answers = call(origin, "load_many", [1, "b c", "nope", "3"])
    assert {key: getattr(answer, "value", None) for key, answer in answers.items()} == {
        1: "one",
        "b c": "two",
        "nope": None,
        "3": None,
    }
    assert answers["nope"] == NotFound(pytest.approx(60, abs=1))
    assert answers["3"].ttl == pytest.approx(60, abs=1)
    assert answers["3"].validators is None  # those that came along are of the whole reply
    assert [exchange.path for exchange in rows.seen] == ["/items?ids=1,b%20c,nope,3"]


def test_bulk_comes_in_chunks(call, make, rows):
    """No request has more than bulk_size keys; a single key is asked for by itself."""
    origin = make(bulk="/items?ids={keys}", bulk_size=2)
    answers = call(origin, "load_many", ["1", "b c", "3", "x", "y"])
    assert len(answers) == 5
    assert sorted(len(unquote(e.path).split(",")) for e in rows.seen) == [1, 2, 2]
    call(origin, "load_many", {"1": Validators('"1"')})
    assert rows.seen[-1].path == "/base/1"
    assert rows.seen[-1].headers["If-None-Match"] == '"1"'


def test_one_failing_chunk_does_not_lose_the_others(call, make, rows):
    """A chunk that fails, or has a key without an address, is an error for each of its keys."""
    whole = rows.handler

    def handler(exchange):
        exchange.reply(400) if "x" in exchange.path else whole(exchange)

    rows.handler = handler
    origin = make(bulk="/items?ids={keys}", bulk_size=2)
    answers = call(origin, "load_many", ["1", "b c", "x", "3", "", "y"])
    assert [type(answer) for answer in answers.values()] == [Loaded, Loaded] + [OriginError] * 4


@pytest.mark.parametrize(
    ("split", "body", "values"),
    [
        ("id", b'[{"id": 2, "v": "b"}, {"id": 1, "v": "a"}]', {1: {"id": 1, "v": "a"}}),
        (lambda body, keys: dict(zip(keys, body, strict=False)), b"[10, 20]", {1: 10, 5: 20}),
        (None, b"[1, 2]", "an object"),
        ("id", b'{"1": 2}', "a list of objects with 'id'"),
        ("id", b'[{"name": 2}]', "a list of objects with 'id'"),
        (lambda body, keys: body, b"[1]", "a mapping of keys"),
        (None, b"{", "damaged"),
    ],
)
def test_how_a_bulk_reply_is_split(call, make, service, split, body, values):
    """By key, by a field of the items of a list, or by a function; all else is an error."""
    service.handler = lambda exchange: exchange.reply(200, body, Content_Type="application/json")
    answers = call(make(bulk="/items?ids={keys}", split=split), "load_many", [1, 5])
    if isinstance(values, dict):
        assert answers == {
            key: Loaded(values[key]) if key in values else NotFound() for key in (1, 5)
        }
    else:
        for error in answers.values():
            assert isinstance(error, OriginError)
            assert values in str(error)


def test_bulk_fills_the_tiers(call, make, rows, tmp_path):
    """get_many is one bulk request for what no tier has, the keys that are missing included."""
    with hc.HybridCache(
        hc.Cache(10), hc.Lmdb(tmp_path / "disk"), make(rows.url + "{id}", bulk="/items?ids={keys}")
    ) as store:
        get_many = store.get_many
        if call.loop is not None:

            def get_many(keys):
                return call.loop.run_until_complete(store.aio.get_many(keys))

        for _ in range(2):
            assert get_many(["1", "b c", "nope"]) == {"1": "one", "b c": "two"}
            store.memory.clear()
        assert [unquote(exchange.path) for exchange in rows.seen] == ["/items?ids=1,b c,nope"]


def test_a_bulk_endpoint_that_is_not_there(call, make, service):
    """A 404 of the bulk endpoint does not say that its keys do not exist."""
    service.handler = lambda exchange: exchange.reply(404)
    answers = call(make(bulk="/items?ids={keys}"), "load_many", ["a", "b"])
    for error in answers.values():
        assert isinstance(error, OriginError)
        assert "answered 404" in str(error)
