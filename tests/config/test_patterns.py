"""Key patterns: what matches, what is found in a key, and which of several counts."""

from __future__ import annotations

import threading
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hybridcore as hc
from hybridcore.patterns import KeyPattern, PatternTable


@pytest.mark.parametrize(
    ("pattern", "key", "found"),
    [
        ("repo:{owner}/{name}", "repo:a/b", {"owner": "a", "name": "b"}),
        ("repo:{owner}/{name}", "repo:a/b/c", None),
        ("repo:{owner}/{name}", "repo:a/", None),
        ("repo:{owner}/{name}", b"repo:a/b", None),
        ("me", "me", {}),
        ("me", "men", None),
        ("user:{id:int}", "user:-7", {"id": -7}),
        ("user:{id:int}", "user:007", None),
        ("user:{id:int}", "user:7\n", None),
        ("file/{rest:path}", "file/a/b:c\nd", {"rest": "a/b:c\nd"}),
        ("file/{rest:path}.txt", "file/a/b.txt.txt", {"rest": "a/b.txt"}),
        ("file/{rest:path}", "file/", None),
        ("session:*", "session:", {}),
        ("session:*", "session:a:b", {}),
        ("{a}-{b}.json", "p-q-r.json", {"a": "p-q", "b": "r"}),
        ("{{{x}}}", "{y}", {"x": "y"}),
        ("a.{x}", "abc", None),
        (("user", "{id:int}"), ("user", 7), {"id": 7}),
        (("user", "{id:int}"), ("user", True), None),
        (("user", "{id:int}"), ("user", "7"), None),
        (("user", "{id:int}"), ("user", 7, 8), None),
        (("user", "{id:int}"), ("user",), None),
        (("user", "{id:int}"), "user", None),
        (("user", "v{n:int}"), ("user", "v2"), {"n": 2}),
        (("{any}", None, 1), ((1, 2), None, 1), {"any": (1, 2)}),
        (("a", "{rest:path}"), ("a", 1, "x"), {"rest": (1, "x")}),
        (("a", "{rest:path}"), ("a",), None),
        (("a", "*"), ("a",), {}),
        (("a", "*"), ("a", 1, 2), {}),
        (("a", "*"), ("b", 1), None),
        (("a", "*"), (), None),
        (("*",), (), {}),
        (("",), ("",), {}),
    ],
)
def test_match(pattern, key, found):
    """A pattern matches whole keys, and gives what is in the fields; a table of it agrees."""
    assert KeyPattern(pattern).match(key) == found
    table = PatternTable[int]()
    table.add(pattern, 1)
    assert table.find(key) == (None if found is None else (1, found))


@given(
    st.text(st.characters(exclude_characters=":/"), min_size=1),
    st.integers(),
    st.text(min_size=1),
)
def test_what_is_written_is_found(name, number, rest):
    """A key made of arguments gives these arguments."""
    pattern = "x:{name}/{number:int}:{rest:path}"
    key = f"x:{name}/{number}:{rest}"
    assert KeyPattern(pattern).match(key) == {"name": name, "number": number, "rest": rest}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "expected to be a str"),
        ((), "or a tuple"),
        (5, "got 5"),
        ("a{b", "the { at 1 of 'a{b' has no counterpart; write {{"),
        ("a}b", "the } at 1 of 'a}b' has no counterpart; write }}"),
        ("{}", "has no name that an argument could have; write {name}, or *"),
        ("{1}", "has no name"),
        ("{class}", "has no name"),
        ("{a:float}", "of a kind that does not exist; write {a}, {a:int} or {a:path}"),
        ("{a}{b}", "the {b} at 3 of '{a}{b}' follows another field"),
        ("*{b}", "follows another field"),
        ("{a}-{a}", "the name 'a' is given twice"),
        (("{a}", "{a}"), "the name 'a' is given twice"),
        ("{a:path}/*", "the second one that may contain separators"),
        ("{a}-{b}-{c}", "the third field without a : or / between them"),
        (("*", "a"), "element 0 stands for any number of elements but is not the last"),
    ],
)
def test_malformed(pattern, message):
    """An error says what is wrong, where, and the way out."""
    with pytest.raises(hc.ConfigurationError) as error:
        KeyPattern(pattern)
    assert message in str(error.value)


ORDERED = [
    "user:me",
    "user:{id:int}:x",
    "user:{id:int}",
    "user:{id}",
    "user:{id:path}",
    "user:*",
    "{kind}:{id}",
    "{all:path}",
    "*",
]
"""From the most to the least specific; all match some key of the others."""


@pytest.mark.parametrize("first", range(len(ORDERED)))
def test_most_specific(first):
    """The most specific pattern counts, in whatever order they were added."""
    for order in (ORDERED, ORDERED[::-1], ORDERED[3:] + ORDERED[:3]):
        table = PatternTable[str]()
        for pattern in order:
            if ORDERED.index(pattern) >= first:
                table.add(pattern, pattern)
        for key in (
            "user:me",
            "user:7:x",
            "user:7",
            "user:ann",
            "user:a/b",
            "user:",
            "x:y",
            "zz",
            "",
        ):
            matching = [p for p in ORDERED[first:] if KeyPattern(p).match(key) is not None]
            found = table.find(key)
            assert (None if found is None else found[0]) == (matching[0] if matching else None)


def test_most_specific_of_tuples():
    """Whole elements count before their text, and tuples never meet str."""
    patterns = [
        ("user", "me"),
        ("user", "{id:int}"),
        ("user", "{id}"),
        ("{x}", "me"),
        ("user", "*"),
    ]
    keys = [("user", "me"), ("user", 7), ("user", "x"), ("group", "me"), ("user", 1, 2)]
    for order in permutations(patterns):
        table = PatternTable[tuple[str, ...]]()
        table.add("{all:path}", ())
        for pattern in order:
            table.add(pattern, pattern)
        assert [table.find(key)[0] for key in keys] == patterns


def test_same_keys_are_refused():
    """Two patterns that differ in names alone cannot be told apart; nothing is changed."""
    table = PatternTable[int]()
    table.add("repo:{owner}/{name}", 1)
    table.add(("1",), 2)
    table.add((1,), 3)
    with pytest.raises(hc.ConfigurationError, match="match the same keys"):
        table.add("repo:{a}/{b}", 4)
    with pytest.raises(hc.ConfigurationError):
        table.add("repo:{", 4)
    assert list(table) == [("repo:{owner}/{name}", 1), (("1",), 2), ((1,), 3)]
    assert table.find("repo:a/b") == (1, {"owner": "a", "name": "b"})


def test_remove():
    """What was removed no longer matches."""
    table = PatternTable[int]()
    for n, pattern in enumerate(("a:{x}", "a:me", "*")):
        table.add(pattern, n)
    assert table.remove("a:me") == 1
    assert table.find("a:me") == (0, {"x": "me"})
    with pytest.raises(KeyError):
        table.remove("a:me")
    assert table.remove("a:{x}") == 0
    assert table.remove("*") == 2
    assert table.find("a:me") is None
    assert len(table) == 0


def test_lookups_while_it_changes():
    """A lookup sees the table before or after a change, never between."""
    table = PatternTable[int]()
    table.add("a:{x}", 0)
    done = threading.Event()

    def change() -> None:
        for n in range(100):
            table.add(f"a:{{x}}/{n}", n)
        done.set()

    thread = threading.Thread(target=change)
    thread.start()
    while not done.is_set():
        assert table.find("a:b") == (0, {"x": "b"})
    thread.join()


def test_entry_options_are_inherited():
    """A call goes before a pattern and that before the cache; None is a value like any other."""
    rules = hc.config.Rules(
        hc.EntryOptions(ttl="5m", stale="1h", throttle=3),
        {"live:{id}": hc.EntryOptions(ttl=5), "kept:*": hc.EntryOptions(ttl=None)},
    )
    assert rules.of("else") == hc.EntryOptions(ttl=300, stale=3600, throttle=3)
    assert rules.of("live:1") == hc.EntryOptions(ttl=5, stale=3600, throttle=3)
    assert rules.of("kept:1") == hc.EntryOptions(ttl=None, throttle=3)
    call = rules.of("live:1", hc.EntryOptions(stale=0, jitter=0.1))
    assert (call.ttl, call.stale, call.throttle, call.jitter) == (5, 0, 3, 0.1)
    assert dict(rules)["live:{id}"] == rules.of("live:1")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hc.EntryOptions(ttl=None, stale=5), "stale=5 has no meaning without a ttl"),
        (lambda: hc.EntryOptions(ttl=None, jitter=0.5), "jitter=0.5 is a share of the ttl"),
        (lambda: hc.EntryOptions(refresh_ahead=0.5).check(), "refresh_ahead=0.5 is a share"),
        (lambda: hc.EntryOptions(ttl=5, soft_timeout=1).check(), "soft_timeout=1 has no meaning"),
        (lambda: hc.EntryOptions(soft_timeout=2, hard_timeout=2), "no shorter than hard_timeout"),
        (lambda: hc.EntryOptions(hard_timeout=0), "would let no load end"),
        (lambda: hc.EntryOptions(refresh_ahead=0), "or None for never"),
        (lambda: hc.EntryOptions(refresh_ahead=1), "from 0 to below 1, got 1"),
        (lambda: hc.EntryOptions(jitter=True), "from 0 to below 1, got True"),
        (lambda: hc.EntryOptions(ttl="x"), "ttl: expected a duration"),
        (lambda: hc.EntryOptions(stale=None), "stale: expected a duration"),
        (
            lambda: hc.EntryOptions(ttl=5, stale=5).merged(
                hc.EntryOptions(ttl=None, soft_timeout=1)
            ),
            "soft_timeout=1 has no meaning without stale",
        ),
        (
            lambda: hc.HybridCache(rules={"a": hc.EntryOptions(stale=5)}),
            "the rule for 'a': stale=5 has no meaning",
        ),
        (lambda: hc.HybridCache(rules={"a": 5}), "the rule for 'a' is expected to be EntryOptions"),
    ],
)
def test_contradictions(make, message):
    """Options that make no sense are refused where they are given, with an explanation."""
    with pytest.raises(hc.ConfigurationError) as error:
        make()
    assert message in str(error.value)


def test_what_is_pointless_is_dropped():
    """What an inherited option meant is dropped when what is given over it takes its sense."""
    cache = hc.EntryOptions(ttl=5, stale=6, soft_timeout=2, refresh_ahead=0.5)
    assert cache.merged(hc.EntryOptions(ttl=None)) == hc.EntryOptions(ttl=None)
    assert cache.merged(hc.EntryOptions(hard_timeout=1)) == hc.EntryOptions(
        ttl=5, stale=6, refresh_ahead=0.5, hard_timeout=1
    )
    assert cache.merged(hc.EntryOptions()) is cache
