"""GitHubOrigin and many files at once: the cheapest way, and that each way tells the truth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore import HybridCache, Memory, NotFound, NotModified, OriginError, PartialLoadError
from hybridcore.origins import github_batch as batch
from hybridcore.origins import github_rules as rules
from hybridcore.testing.github import File
from tests.origins.github.conftest import TOKEN

MANY = {f"docs/{number:03}.md": f"page {number}" for number in range(250)}


def used(github, token=TOKEN):
    return {name: hour.used for name, hour in github.account(token).hours.items() if hour.used}


def test_many_new_files_are_one_query(start, make, call):
    """Files of which no copy is held cost one point a hundred, and share it as their cost."""
    github = start(MANY)
    answers = call(make(github), "load_many", list(MANY))
    assert {key: answer.value.decode() for key, answer in answers.items()} == MANY
    assert used(github) == {"graphql": 3}
    assert sum(answer.cost for answer in answers.values()) == pytest.approx(3)


def test_many_renewals_are_one_tree(start, make, call):
    """Copies are checked by the tree of the ref, which is free while the ref does not move."""
    github = start(MANY)
    origin = make(github)
    held = {key: answer.validators for key, answer in call(origin, "load_many", list(MANY)).items()}
    github.account(TOKEN).hours.clear()
    assert set(call(origin, "load_many", held).values()) == {NotModified()}
    assert used(github) == {"core": 1}
    assert set(call(origin, "load_many", held).values()) == {NotModified()}
    assert used(github) == {"core": 1}
    assert github.statuses[304] == 1
    github.repository.commit({"docs/000.md": "new", "docs/001.md": "new", "docs/002.md": None})
    answers = call(origin, "load_many", held)
    assert answers["docs/000.md"].value == answers["docs/001.md"].value == b"new"
    assert answers["docs/002.md"] == NotFound()
    assert sum(answer == NotModified() for answer in answers.values()) == 247
    assert used(github) == {"core": 2, "graphql": 1}


def test_one_renewal_of_a_batch_is_free_too(start, make, call):
    """A copy that came in a batch, without an ETag, is checked by the tree."""
    github = start(MANY)
    origin = make(github)
    answers = call(origin, "load_many", ["docs/000.md", "docs/001.md"])
    held = answers["docs/000.md"].validators
    assert rules.etag_of(held) is None
    assert call(origin, "load", "docs/000.md", held) == NotModified()
    assert call(origin, "load", "docs/000.md", held) == NotModified()
    assert used(github) == {"graphql": 1, "core": 1}
    github.repository.commit({"docs/000.md": "new"})
    assert call(origin, "load", "docs/000.md", held).value == b"new"
    assert used(github) == {"graphql": 1, "core": 3}


def test_many_files_without_a_token(start, make, call):
    """Who is not authorised has no GraphQL and pays for each 304, so the tree pays earlier."""
    github = start(MANY)
    origin = make(github, token="")
    keys = ["docs/000.md", "docs/001.md", "docs/002.md"]
    held = {key: answer.validators for key, answer in call(origin, "load_many", keys).items()}
    assert used(github, "") == {"core": 3}
    assert set(call(origin, "load_many", held).values()) == {NotModified()}
    assert used(github, "") == {"core": 4}


@pytest.mark.parametrize("graphql", [True, False])
def test_every_kind_of_file(start, make, call, graphql):
    """Binary, transcoded, long, linked and missing files, and directories, come out the same."""
    files = {
        "text.md": "text",
        "empty": "",
        "latin.txt": "café".encode("latin-1"),
        "logo.png": b"\x89PNG\0",
        "long.txt": "x" * 600_000,
        'quo"te\\.md': "quoted",
        "docs/a.md": "A",
        "link.md": File(b"text.md", mode="120000"),
    }
    github = start(files)
    origin = make(github, graphql=graphql)
    answers = call(origin, "load_many", [*files, "nope", "docs"])
    single = {key: call(origin, "load", key) for key in (*files, "nope")}
    for key, answer in single.items():
        assert getattr(answers[key], "value", None) == getattr(answer, "value", None), key
    assert answers["nope"] == NotFound()
    assert isinstance(answers["docs"], OriginError)
    held = {key: single[key].validators for key in files}
    assert set(call(origin, "load_many", held).values()) == {NotModified()}


def test_a_tree_that_is_cut_off(start, make, call):
    """Of a tree that GitHub cut off, what is missing is asked for, not taken for deleted."""
    github = start(MANY, tree_limit=10)
    origin = make(github)
    held = {key: answer.validators for key, answer in call(origin, "load_many", list(MANY)).items()}
    assert set(call(origin, "load_many", held).values()) == {NotModified()}
    assert used(github) == {"core": 1, "graphql": 6}
    assert set(call(origin, "load_many", held).values()) == {NotModified()}
    assert used(github) == {"core": 1, "graphql": 9}
    key, known = held.popitem()
    assert call(origin, "load", key, known).value == MANY[key].encode()


def test_a_repository_without_files(start, make, call):
    """An empty repository has no file."""
    github = start({})
    assert set(call(make(github), "load_many", ["a", "b"]).values()) == {NotFound()}


def test_a_failing_batch_fails_by_key(start, make, call):
    """When a query fails, each of its keys gets the error, and other keys their answers."""
    github = start(MANY)
    github.fail(502, times=9, path="/graphql")
    answers = call(make(github, retries=0), "load_many", ["docs/000.md", "docs/001.md", "docs/"])
    assert isinstance(answers["docs/000.md"], OriginError)
    assert isinstance(answers["docs/001.md"], OriginError)
    assert len(answers["docs/"].value) == 250


def test_a_cache_asks_for_many(start, make):
    """`get_many` of a cache is one query, and what failed does not lose the rest."""
    github = start({**MANY, "docs/bad.md": b"\0"})
    store = HybridCache(Memory(1000), origin=make(github, decode=lambda body: body.decode("ascii")))
    assert len(store.get_many(list(MANY))) == 250
    assert used(github) == {"graphql": 3}
    github.fail(404, path="/repos/ada/notes/contents/docs/bad.md", times=1)
    assert store.get_many(["docs/bad.md", "docs/001.md"]) == {"docs/001.md": "page 1"}
    github.fail(500, path="/repos", times=9)
    with pytest.raises(PartialLoadError) as caught:
        store.get_many(["docs/other.md", "docs/000.md"])
    assert caught.value.found == {"docs/000.md": "page 0"}


@given(
    new=st.integers(0, 500),
    held=st.integers(0, 500),
    graphql=st.booleans(),
    authorised=st.booleans(),
    tree_held=st.booleans(),
    share=st.floats(0, 1),
)
def test_the_cheapest_way_is_chosen(new, held, graphql, authorised, tree_held, share):
    """No other way would cost fewer units, counted here request by request."""
    etags = int(held * share)
    way = batch.cheapest(
        new,
        held,
        graphql=graphql,
        authorised=authorised,
        tree_held=tree_held,
        etags=etags,
    )
    same = [0 if authorised else 1]
    each = [1] * new + [1] * (held - etags) + same * etags
    blobs = [1] * (len(range(0, new, 100)) if graphql else new)
    ways = {"each": each, "tree": (same if tree_held else [1]) + blobs}
    if graphql:
        ways["query"] = [1] * len(range(0, new + held, 100))
    assert sum(ways[way]) == min(map(sum, ways.values()))
