"""GitHubOrigin writing: commits that name what they started from, and what a conflict becomes."""

from __future__ import annotations

import pytest

from hybridcore import (
    ConflictError,
    HybridCache,
    Loaded,
    Memory,
    MemoryQueue,
    NotFound,
    OriginError,
)
from hybridcore.origins import github_rules as rules
from hybridcore.origins.github_conflicts import DELETED
from tests.origins.github.conftest import FILES


def there(github, path="README.md"):
    """What a file holds now."""
    file = github.repository.at().files.get(path)
    return None if file is None else file.data


@pytest.fixture
def others(github):
    """Somebody else who writes."""
    return lambda content, path="README.md": github.repository.commit({path: content})


def test_a_write_is_a_commit(github, make, call):
    """What was read is written over, and its validators are those of the new version."""
    origin = make(github, writable=True, message="{verb} {path}, please")
    call(origin, "load", "README.md")
    known = call(origin, "store", "README.md", "Mine")
    assert there(github) == b"Mine"
    assert rules.sha_of(known) == rules.blob_sha(b"Mine")
    assert github.repository.at().message == "Update README.md, please"
    assert call(origin, "store", "README.md", b"Again")
    assert there(github) == b"Again"


def test_a_file_is_created_and_deleted(github, make, call):
    """A new file needs no version; deleting what does not exist is no error."""
    origin = make(github, writable=True)
    call(origin, "store", "docs/new file?.md", "New")
    assert there(github, "docs/new file?.md") == b"New"
    call(origin, "delete", "docs/new file?.md")
    assert there(github, "docs/new file?.md") is None
    assert github.repository.at().message == "Delete docs/new file?.md"
    call(origin, "delete", "docs/new file?.md")
    call(origin, "delete", "never/was.md")


def test_writes_go_to_the_branch(github, make, call):
    """With a ref the commits are made on that branch."""
    github.repository.branch("draft")
    origin = make(github, "draft", writable=True)
    call(origin, "load", "README.md")
    call(origin, "store", "README.md", "Draft")
    assert github.repository.at("draft").files["README.md"].data == b"Draft"
    assert there(github) == FILES["README.md"].encode()


def test_a_conflict_is_raised(github, make, call, others):
    """A file that was changed since it was read is left alone."""
    origin = make(github, writable=True)
    call(origin, "load", "README.md")
    others("Theirs")
    with pytest.raises(ConflictError, match=r"was .* when read and is .* now"):
        call(origin, "store", "README.md", "Mine")
    with pytest.raises(ConflictError):
        call(origin, "delete", "README.md")
    assert there(github) == b"Theirs"
    call(origin, "load", "README.md")
    call(origin, "store", "README.md", "Mine")
    assert there(github) == b"Mine"


def test_nothing_is_written_over_unseen(github, make, call):
    """A file that this origin never saw is not written over either."""
    origin = make(github, writable=True)
    with pytest.raises(ConflictError, match="was not read before"):
        call(origin, "store", "README.md", "Mine")
    with pytest.raises(ConflictError, match="was not read before"):
        call(origin, "delete", "README.md")
    assert there(github) == FILES["README.md"].encode()
    call(origin, "store", "README.md", FILES["README.md"])  # it is so already


def test_a_file_that_appeared(github, make, call, others):
    """A file that did not exist when asked for, and does now, is a conflict."""
    origin = make(github, writable=True)
    assert call(origin, "load", "new.md") == NotFound()
    others("Theirs", "new.md")
    with pytest.raises(ConflictError, match="was not read before"):
        call(origin, "store", "new.md", "Mine")
    assert there(github, "new.md") == b"Theirs"


def test_a_file_that_was_deleted(github, make, call, others):
    """A file that was deleted since it was read is not created again unasked."""
    origin = make(github, writable=True)
    call(origin, "load", "README.md")
    others(None)
    with pytest.raises(ConflictError, match="does not exist any more"):
        call(origin, "store", "README.md", "Mine")
    call(origin, "delete", "README.md")
    assert there(github) is None


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        ("ours", b"Mine"),
        ("theirs", b"Theirs"),
        (lambda conflict: conflict.theirs + conflict.ours.encode(), b"TheirsMine"),
        (lambda conflict: DELETED, None),
    ],
)
def test_policies(github, make, call, others, policy, left):
    """The policy decides what is there, and the answer says what it is."""
    origin = make(github, writable=True, on_conflict=policy)
    call(origin, "load", "README.md")
    others("Theirs")
    written = call(origin, "store", "README.md", "Mine")
    assert there(github) == left
    if left is None:
        assert written == NotFound()
    elif left == b"Mine":
        assert rules.sha_of(written) == rules.blob_sha(left)
    else:
        assert isinstance(written, Loaded)
        assert written.value == left


@pytest.mark.parametrize("policy", ["ours", "theirs"])
def test_policies_for_what_was_deleted(github, make, call, others, policy):
    """A policy may create again what others deleted, or leave it so."""
    origin = make(github, writable=True, on_conflict=policy)
    call(origin, "load", "README.md")
    others(None)
    call(origin, "store", "README.md", "Mine")
    assert there(github) == (b"Mine" if policy == "ours" else None)


def test_the_policy_is_told(github, make, call, others):
    """A policy gets both values and versions."""
    told = []
    origin = make(github, writable=True, on_conflict=lambda conflict: told.append(conflict) or "M")
    before = rules.sha_of(call(origin, "load", "README.md").validators)
    others("Theirs")
    call(origin, "store", "README.md", "Mine")
    (conflict,) = told
    assert (conflict.key, conflict.ours, conflict.theirs) == ("README.md", "Mine", b"Theirs")
    assert (conflict.base, conflict.found) == (before, rules.blob_sha(b"Theirs"))
    assert "Mine" not in repr(conflict)


def test_a_policy_that_raises(github, make, call, others):
    """What a policy raises reaches the writer, and nothing is written."""

    def policy(conflict):
        raise LookupError("ask a person")

    origin = make(github, writable=True, on_conflict=policy)
    call(origin, "load", "README.md")
    others("Theirs")
    with pytest.raises(LookupError, match="ask a person"):
        call(origin, "store", "README.md", "Mine")
    assert there(github) == b"Theirs"


def test_others_who_never_stop(github, make, call, others):
    """A write that meets a change each time gives up at last."""
    changes = iter(range(100))

    def policy(conflict):
        others(f"Theirs {next(changes)}")
        return conflict.ours

    origin = make(github, writable=True, on_conflict=policy)
    call(origin, "load", "README.md")
    others("Theirs")
    with pytest.raises(ConflictError, match="all the time"):
        call(origin, "store", "README.md", "Mine")


def test_a_conflict_of_the_branch_alone(github, make, call):
    """A 409 that is about another file is no conflict: the write is made once more."""
    origin = make(github, writable=True)
    call(origin, "load", "README.md")
    github.fail(409, "is at 1234 but expected 5678", path="/repos/ada/notes/contents", times=1)
    call(origin, "store", "README.md", "Mine")
    assert there(github) == b"Mine"


def test_a_write_that_arrived_unheard(github, make, call):
    """A write whose answer was lost may be repeated: it is there already."""
    origin = make(github, writable=True)
    call(origin, "load", "README.md")
    github.repository.commit({"README.md": "Mine"})  # ours, as far as GitHub is concerned
    assert rules.sha_of(call(origin, "store", "README.md", "Mine")) == rules.blob_sha(b"Mine")


@pytest.mark.parametrize(("status", "said"), [(422, "refused to write"), (404, "answered 404")])
def test_a_write_that_is_refused(github, make, call, status, said):
    """What GitHub refuses for another reason is an error with what it said."""
    origin = make(github, writable=True)
    call(origin, "load", "README.md")
    github.fail(status, "path contains a malformed component", path="/repos/ada/notes/contents")
    with pytest.raises(OriginError, match=said) as caught:
        call(origin, "store", "README.md", "Mine")
    assert "malformed component" in str(caught.value)


def test_a_write_without_a_branch(github, make, call):
    """A tag or commit that is gone takes no writes."""
    origin = make(github, "gone", writable=True)
    with pytest.raises(OriginError, match="gone"):
        call(origin, "store", "new.md", "New")


@pytest.mark.parametrize("key", ["docs/", "rest:issues/1"])
def test_only_files_are_written(github, make, call, key):
    """Neither directories nor other resources take writes, nor do values that are no bytes."""
    origin = make(github, writable=True)
    with pytest.raises(OriginError, match="only files"):
        call(origin, "store", key, "x")
    call(origin, "load", "README.md")
    with pytest.raises(OriginError, match="bytes or str, got dict"):
        call(origin, "store", "README.md", {})
    assert github.requests == 1


class Cache:
    """A write-through cache, blocking or not."""

    def __init__(self, call, *tiers, **options):
        self.store = HybridCache(*tiers, strategy="write_through", **options)
        self.call = call

    def __getattr__(self, name):
        if self.call.loop is None:
            return getattr(self.store, name)
        method = getattr(self.store.aio, name)
        return lambda *args: self.call.loop.run_until_complete(method(*args))


def test_a_cache_starts_from_its_copy(github, make, call, others):
    """A cache's write starts from the copy that its reader saw, not from one that came later."""
    origin = make(github, writable=True)
    cache = Cache(call, Memory(10), origin=origin)
    cache.get("README.md")
    others("Theirs")
    call(origin, "load", "README.md")  # somebody else in this process saw the change
    with pytest.raises(ConflictError):
        cache.put("README.md", b"Mine")
    assert there(github) == b"Theirs"


def test_a_new_process_knows_what_its_cache_holds(github, make, call):
    """An origin that has seen nothing yet starts from the copy that the cache holds."""
    memory = Memory(10)
    first = Cache(call, memory, origin=make(github, writable=True))
    first.get("README.md")
    second = make(github, writable=True)
    first.store._engine.origin = second
    first.put("README.md", b"Mine")
    assert there(github) == b"Mine"


def test_a_cache_keeps_what_is_there(github, make, call, others):
    """After a conflict the cache holds what the policy chose, not what was to be written."""
    cache = Cache(call, Memory(10), origin=make(github, writable=True, on_conflict="theirs"))
    cache.get("README.md")
    others("Theirs")
    cache.put("README.md", b"Mine")
    assert cache.get("README.md") == b"Theirs"
    others(None)
    cache.put("README.md", b"Mine")
    assert cache.get("README.md") is None
    cache.put("docs/new.md", b"New")
    cache.delete("docs/new.md")
    assert there(github, "docs/new.md") is None


def test_a_write_that_waited_starts_from_what_was_held(github, make, others):
    """Under write_behind, too, a write starts from the copy held, and overwrites nobody."""
    origin = make(github, writable=True)
    queue = MemoryQueue(origin, retries=0)
    store = HybridCache(Memory(10), origin=origin, strategy="write_behind", queue=queue)
    store.get("README.md")
    store.put("README.md", b"Mine")
    assert store.flush()
    assert there(github) == b"Mine"
    others("Theirs", "docs/index.md")
    store.get("docs/guide.md")
    others("Theirs", "docs/guide.md")
    store.put("docs/guide.md", b"Mine")
    store.put("docs/index.md", b"Mine")  # never read here
    store.flush()
    store.close()
    assert there(github, "docs/guide.md") == there(github, "docs/index.md") == b"Theirs"
    assert store.stats().queue.dropped == 2
