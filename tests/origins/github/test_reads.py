"""GitHubOrigin reading: files, directories, other resources, versions, tokens, bad input."""

from __future__ import annotations

import logging
import traceback

import pytest

from hybridcore import (
    ConfigurationError,
    EntryOptions,
    GitHubOrigin,
    HybridCache,
    Memory,
    NotFound,
    NotFoundError,
    NotModified,
    OriginError,
    OriginUnavailableError,
    ReadOnlyOriginError,
)
from hybridcore.origins import github_rules as rules
from hybridcore.testing import github_documents as documents
from hybridcore.testing.github import File, Repository
from tests.origins.github.conftest import FILES, TOKEN


def used(github, token=TOKEN):
    """Units that a token has spent."""
    return sum(hour.used for hour in github.account(token).hours.values())


@pytest.mark.parametrize("path", FILES)
def test_a_file_by_its_path(github, make, call, path):
    """The value of a path is the file's bytes, whatever it holds, for one unit."""
    content = FILES[path]
    answer = call(make(github), "load", path)
    assert answer.value == (content.encode() if isinstance(content, str) else content)
    assert answer.cost == 1.0
    assert used(github) == 1
    assert rules.sha_of(answer.validators) == github.repository.at().files[path].sha


def test_a_renewal_is_free(github, make, call):
    """An unchanged file is answered with 304, which costs nothing of the quota."""
    origin = make(github)
    held = call(origin, "load", "README.md").validators
    assert call(origin, "load", "README.md", held) == NotModified()
    assert used(github) == 1
    usage = origin.usage()
    assert (usage.calls, usage.quota_used, usage.not_modified) == (2, 1.0, 1)
    assert usage.quota_left == 4999


def test_a_renewal_without_a_token_costs(start, make, call):
    """Who is not authorised pays for a 304."""
    github = start()
    origin = make(github, token="")
    held = call(origin, "load", "README.md").validators
    assert call(origin, "load", "README.md", held) == NotModified()
    assert used(github, "") == 2 == origin.usage().quota_used


def test_a_changed_file(github, make, call):
    """A file that was changed comes anew."""
    origin = make(github)
    held = call(origin, "load", "README.md").validators
    github.repository.commit({"README.md": "New"})
    assert call(origin, "load", "README.md", held).value == b"New"


def test_a_deleted_file(github, make, call):
    """A file that was deleted is not found, and leaves the cache."""
    origin = make(github)
    held = call(origin, "load", "README.md").validators
    github.repository.commit({"README.md": None})
    assert call(origin, "load", "README.md", held) == NotFound()


def test_a_moved_ref(github, make, call):
    """When a branch moves, what differs on it is loaded, and what does not is renewed."""
    github.repository.branch("next")
    origin = make(github, "next")
    held = {path: call(origin, "load", path).validators for path in ("README.md", "docs/index.md")}
    moved = github.repository.commit({"README.md": "Next"})
    github.repository.branch("next", moved.sha)
    answers = {path: call(origin, "load", path, known) for path, known in held.items()}
    assert answers["README.md"].value == b"Next"
    assert answers["docs/index.md"] == NotModified()


def test_a_ref_that_is_gone(github, make, call):
    """A ref that does not exist is an error, not a repository without files."""
    origin = make(github, "gone")
    with pytest.raises(OriginError, match="No commit found for the ref gone"):
        call(origin, "load", "README.md")
    with pytest.raises(OriginError):
        raise call(origin, "load_many", ["README.md", "docs/index.md"])["README.md"]


def test_a_repository_that_is_not_there(github, call):
    """A repository that cannot be seen is an error, not one without files."""
    origin = GitHubOrigin("ada/other", token=TOKEN, base_url=github.url)
    try:
        with pytest.raises(OriginError, match="no repository ada/other, or the token may not"):
            call(origin, "load", "README.md")
        error = call(origin, "load_many", ["README.md", "docs/index.md"])["README.md"]
        assert "Could not resolve to a Repository" in str(error)
    finally:
        call(origin, "close")


def test_a_private_repository(start, make, call):
    """Without a token a private repository is not found, which is told as an error."""
    github = start(private=True)
    with pytest.raises(OriginError, match="the token may not see it"):
        call(make(github, token=""), "load", "README.md")


def test_a_directory(github, make, call):
    """A key with a slash at its end is a directory, listed with names, types, sizes and shas."""
    origin = make(github)
    listed = call(origin, "load", "docs/")
    assert [(entry["path"], entry["type"], entry["size"]) for entry in listed.value] == [
        ("docs/deep", "dir", 0),
        ("docs/guide.md", "file", 5),
        ("docs/index.md", "file", 5),
    ]
    assert call(origin, "load", "docs/", listed.validators) == NotModified()
    assert [entry["name"] for entry in call(origin, "load", "/").value] == sorted(
        {path.partition("/")[0] for path in FILES}
    )
    assert call(origin, "load", "nope/") == NotFound()


def test_a_directory_that_is_long(start, make, call):
    """Of a directory of more than a thousand entries none is missing."""
    github = start({f"all/{number:04}": str(number) for number in range(1500)})
    answer = call(make(github), "load", "all/")
    assert [entry["path"] for entry in answer.value] == [f"all/{n:04}" for n in range(1500)]
    assert answer.cost == 2.0 == used(github)


@pytest.mark.parametrize(("key", "said"), [("docs", "is no file"), ("README.md/", "no directory")])
def test_a_file_is_no_directory(github, make, call, key, said):
    """Asking for a directory as a file, or the other way round, says how to ask."""
    with pytest.raises(OriginError, match=said):
        call(make(github), "load", key)


def test_a_symbolic_link(start, make, call):
    """A symbolic link has its target's content, alone and among many."""
    github = start({"docs/a.md": "A", "docs/b.md": File(b"a.md", mode="120000"), "c": "C"})
    origin = make(github)
    assert call(origin, "load", "docs/b.md").value == b"A"
    answers = call(origin, "load_many", ["docs/b.md", "c"])
    assert answers["docs/b.md"].value == b"A"


def test_other_resources(github, make, call):
    """Issues, releases and any other path of the API are JSON, with validators of their own."""
    repository = github.repository
    repository.issues[1] = documents.issue(repository, 1, "Typo", "In the guide", 1_700_000_000)
    repository.releases.append(documents.release(repository, 1, "v1", 1_700_000_000))
    origin = make(github)
    issue = call(origin, "load", "rest:issues/1")
    assert issue.value["title"] == "Typo"
    assert call(origin, "load", "rest:issues/1", issue.validators) == NotModified()
    repository.issues[1] = issue.value | {"title": "Typos"}
    assert call(origin, "load", "rest:issues/1", issue.validators).value["title"] == "Typos"
    assert [found["number"] for found in call(origin, "load", "rest:issues?state=all").value] == [1]
    assert call(origin, "load", "rest:releases").value[0]["tag_name"] == "v1"
    assert call(origin, "load", "rest:").value["full_name"] == "ada/notes"
    assert call(origin, "load", "rest:/rate_limit").value["rate"]["limit"] == 5000
    assert call(origin, "load", "rest:issues/2") == NotFound()


@pytest.mark.parametrize("key", ["../x", "a//b", "a/./b", 7, "rest:../../user", "a\ud800"])
def test_a_key_that_leads_nowhere(github, make, call, key):
    """A key that is no path, or leads out of its place, is refused before GitHub is asked."""
    origin = make(github)
    with pytest.raises(OriginError):
        call(origin, "load", key)
    answers = call(origin, "load_many", [key, "README.md"])
    assert isinstance(answers[key], OriginError)
    assert answers["README.md"].value == b"# Notes\n"
    assert github.requests == 1


def test_a_file_above_a_megabyte(start, make, call):
    """A file whose content GitHub puts in no JSON is loaded all the same, for one unit."""
    content = bytes(range(256)) * 10_000
    github = start({"big.bin": content})
    assert call(make(github), "load", "big.bin").value == content
    assert used(github) == 1


def test_a_file_over_the_limit(start, make, call):
    """A file over max_body is refused before it has arrived, and is not cached."""
    github = start({"huge.bin": File(1 << 30)}, largest=1 << 31)
    origin = make(github, max_body="1MiB")
    with pytest.raises(OriginError, match="max_body=1048576"):
        call(origin, "load", "huge.bin")
    assert origin.usage().bytes_in < 1 << 20


def test_a_file_that_github_refuses(start, make, call):
    """What is larger than GitHub serves is an error that says so, not a rate limit."""
    github = start({"huge.bin": File(1 << 30)})
    with pytest.raises(OriginError, match="up to 100 MB") as caught:
        call(make(github), "load", "huge.bin")
    assert not isinstance(caught.value, OriginUnavailableError)


@pytest.mark.slow
def test_a_file_of_a_gibibyte_is_streamed(start, make, call):
    """`open` reads a file of any size in pieces, of which few are in memory at a time."""
    github = start({"huge.bin": File(1 << 30), "docs/a.md": "A"}, largest=1 << 31)
    origin = make(github, max_body="1MiB")

    async def astream(key):
        async with origin.aopen(key) as pieces:
            return [len(piece) async for piece in pieces]

    def stream(key):
        if call.loop is not None:
            return call.loop.run_until_complete(astream(key))
        with origin.open(key) as pieces:
            return [len(piece) for piece in pieces]

    sizes = stream("huge.bin")
    assert sum(sizes) == 1 << 30
    assert max(sizes) <= 1 << 20
    assert origin.usage().bytes_in >= 1 << 30
    assert stream("docs/a.md") == [1]


def test_open_what_is_no_file(github, make):
    """`open` says what is missing, and what is no file."""
    origin = make(github)
    with pytest.raises(NotFoundError), origin.open("nope"):
        pass
    with pytest.raises(OriginError, match="only a file"), origin.open("docs/"):
        pass
    with pytest.raises(OriginError, match="is no file"), origin.open("docs"):
        pass


def test_what_is_left_of_a_stream_is_dropped(start, make, call):
    """A stream may be left before its end, and the origin goes on."""
    github = start({"big.bin": File(50_000_000)})
    origin = make(github)
    with origin.open("big.bin") as pieces:
        assert next(pieces)
    assert origin.load("big.bin").value == bytes(50_000_000)


def test_values_are_made_by_decode(github, make, call):
    """`decode` makes the values; a file that it refuses is an error."""
    origin = make(github, decode=lambda body: body.decode("utf-8"))
    assert call(origin, "load", "docs/index.md").value == "Index"
    with pytest.raises(OriginError, match="damaged"):
        call(origin, "load", "latin.txt")
    answers = call(origin, "load_many", ["docs/index.md", "latin.txt"])
    assert answers["docs/index.md"].value == "Index"
    assert isinstance(answers["latin.txt"], OriginError)


def test_an_expired_token_is_asked_for_again(start, make, call):
    """A function that gives tokens is asked once more when GitHub refuses the last one."""
    tokens = ["first", "second", "third"]
    github = start(tokens=["first", "second"])
    given = iter(tokens)
    origin = make(github, token=lambda: next(given))
    assert call(origin, "load", "README.md")
    del github.tokens["first"]
    assert call(origin, "load", "docs/index.md").value == b"Index"
    assert github.statuses == {200: 2, 401: 1}
    del github.tokens["second"]
    with pytest.raises(OriginError, match="token is refused"):
        call(origin, "load", "docs/index.md")
    assert github.statuses[401] == 3


def test_an_expired_token_serves_stale_copies(start, make):
    """A cache serves its copies while the token is refused."""
    github = start()
    with HybridCache(
        Memory(100), origin=make(github), defaults=EntryOptions(ttl=0, stale="1h")
    ) as store:
        assert store.get("README.md") == b"# Notes\n"
        github.tokens.clear()
        assert store.get("README.md") == b"# Notes\n"
        assert store.stats().origin.stale_served == 1


def test_the_token_comes_from_the_environment(github, make, call, monkeypatch):
    """Without an argument the token is that of GITHUB_TOKEN."""
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    call(make(github, token=None), "load", "README.md")
    assert used(github) == 1


def test_a_function_that_fails_to_give_a_token(github, make, call):
    """What it raised may hold secrets, so its class alone is told."""

    def token():
        raise ValueError(TOKEN)

    with pytest.raises(OriginError, match="token failed: ValueError") as caught:
        call(make(github, token=token), "load", "README.md")
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert github.requests == 0


def test_the_token_is_never_shown(start, make, call, caplog):
    """Neither reprs nor errors nor logs show the token."""
    caplog.set_level(logging.DEBUG)
    github = start(tokens=[])
    origin = make(github)
    shown = [repr(origin), str(origin.usage()), repr(vars(origin._client.tokens))]
    with pytest.raises(OriginError) as caught:
        call(origin, "load", "README.md")
    shown += traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    shown += [record.getMessage() for record in caplog.records]
    assert not [line for line in shown if TOKEN in line]


def test_github_enterprise(start, make, call):
    """A server of one's own has its APIs below /api, and GraphQL beside REST."""
    github = start()
    origin = make(github, base_url=f"{github.url}/api/v3")
    assert call(origin, "load", "README.md").value == b"# Notes\n"
    answers = call(origin, "load_many", ["docs/index.md", "docs/guide.md"])
    assert answers["docs/guide.md"].value == b"Guide"
    assert [asked.path for asked in github.seen][-1] == "/graphql"


def test_a_redirect_elsewhere_is_refused(service, call):
    """The token is sent to no other host."""
    service.handler = lambda exchange: exchange.reply(302, Location="http://127.0.0.2:1/x")
    origin = GitHubOrigin("ada/notes", token=TOKEN, base_url=service.url)
    try:
        with pytest.raises(OriginError, match="another service"):
            call(origin, "load", "README.md")
        assert len(service.seen) == 1
    finally:
        call(origin, "close")


@pytest.mark.parametrize(
    ("body", "length"), [(b"{", None), (b"\xff\xfe", None), (b"[1, 2]", 99), (b"[" * 10_000, None)]
)
def test_damaged_answers(service, call, body, length):
    """A body that is no JSON, no UTF-8 or too short is an error, never a value."""
    sized = {} if length is None else {"Content_Length": str(length)}
    service.handler = lambda exchange: (
        exchange.reply(200, body, Content_Type="application/json", **sized),
        setattr(exchange, "close_connection", True),
    )
    origin = GitHubOrigin("ada/notes", token=TOKEN, base_url=service.url, retries=0)
    try:
        for key in ("rest:issues/1", "docs/"):
            with pytest.raises(OriginError):
                call(origin, "load", key)
        answers = call(origin, "load_many", ["a", "b"])
        assert all(isinstance(answer, OriginError) for answer in answers.values())
    finally:
        call(origin, "close")


@pytest.mark.parametrize(
    "options",
    [
        {"repo": "notes"},
        {"repo": "ada/.."},
        {"base_url": "ftp://example.com"},
        {"token": "line\nbreak"},
        {"reserve": -1},
        {"on_conflict": "mine"},
        {"retries": -1},
        {"max_connections": 0},
    ],
)
def test_options_that_make_no_sense(options):
    """An option that makes no sense is refused at once."""
    with pytest.raises(ConfigurationError):
        GitHubOrigin(**({"repo": "ada/notes", "token": ""} | options))


def test_a_read_only_origin(github, make, call):
    """Writes have to be asked for."""
    origin = make(github)
    assert not origin.writable
    with pytest.raises(ReadOnlyOriginError, match="writable=True"):
        call(origin, "store", "README.md", b"x")
    with pytest.raises(ReadOnlyOriginError):
        call(origin, "delete", "README.md")
    assert github.requests == 0


def test_a_cache_of_a_repository(github, make, call):
    """A hybrid cache over the origin loads, renews, and tells the quota that it took."""
    store = HybridCache(Memory(100), origin=make(github), defaults=EntryOptions(ttl="1m"))

    def get(key):
        if call.loop is None:
            return store.get(key)
        return call.loop.run_until_complete(store.aio.get(key))

    assert get("docs/index.md") == get("docs/index.md") == b"Index"
    assert get("nope") is None
    assert store.stats().usage.quota_used == used(github) == 2


def test_the_simulated_repository_names_files_as_git_does():
    """The sha of a file is the one that git gives it."""
    assert Repository("ada/notes", {"a": ""}).at().files["a"].sha == rules.blob_sha(b"")
