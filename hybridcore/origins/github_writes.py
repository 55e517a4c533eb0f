"""Writes to a GitHub repository: commits that name the version they started from."""

from __future__ import annotations

from base64 import b64encode
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConflictError, OriginError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.origins import github_rules as rules
from hybridcore.origins.github_conflicts import DELETED, Conflict
from hybridcore.origins.http_rules import Reply, Request
from hybridcore.types import Loaded, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.origins.github_client import GitHubClient
    from hybridcore.origins.transport import Steps
    from hybridcore.types import Answer, Validators, Written

REMEMBERED = 100_000
"""Files whose last seen version is remembered for writes."""

ATTEMPTS = 5
"""Times that a write is tried when others write, too."""


class Versions:
    """The sha of each file as it was last seen here, None where there was none."""

    def __init__(self) -> None:
        self._shas: OrderedDict[str, str | None] = OrderedDict()
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        self._lock = Lock()

    def of(self, key: str) -> tuple[bool, str | None]:
        """Whether the file was seen, and its sha."""
        with self._lock:
            return key in self._shas, self._shas.get(key)

    def note(self, key: str, sha: str | None) -> None:
        with self._lock:
            self._shas[key] = sha
            self._shas.move_to_end(key)
            if len(self._shas) > REMEMBERED:
                self._shas.popitem(last=False)

    def learn(self, key: str, answer: Answer[Any], held: Validators | None) -> None:
        """Note what an answer says of a file."""
        if isinstance(answer, Loaded):
            held = answer.validators
        sha = None if isinstance(answer, NotFound) else rules.sha_of(held)
        if sha is not None or isinstance(answer, NotFound):
            self.note(key, sha)


class Commits:
    """Makes commits of single files through the contents API, and never one over another's."""

    def __init__(
        self,
        client: GitHubClient,
        repo: str,
        ref: str | None,
        policy: Callable[[Conflict], Any],
        message: str,
        decode: Callable[[bytes], Any],
        encode: Callable[[Any], bytes],
        versions: Versions,
    ) -> None:
        self._client = client
        self._repo = repo
        self._ref = ref
        self._policy = policy
        self._message = message
        self._decode = decode
        self._encode = encode
        self._versions = versions

    def write(self, key: str, value: Any) -> Steps[Written[Any]]:
        """Bring a file to a value, or to the one that the policy chooses."""
        place = rules.place_of(key)
        if place.kind != "file":
            raise OriginError(f"only files can be written, got {key!r}")
        path = place.path
        ours, known, base = value, *self._versions.of(key)
        if not known:
            base, theirs = yield from self._present(path)
            if base is not None and not self._are_same(ours, base):
                ours = self._policy(Conflict(key, ours, theirs, None, base))
                if self._are_same(ours, base):
                    return self._kept(key, value, ours, base)
        for _ in range(ATTEMPTS):
            if ours is DELETED and base is None:
                return self._kept(key, value, ours, None)
            sha, refusal = yield from self._put(path, ours, base)
            if refusal is None:
                return self._kept(key, value, ours, sha)
            found, theirs = yield from self._present(path)
            if self._are_same(ours, found):  # it had arrived before, or others wrote the same
                return self._kept(key, value, ours, found)
            if found != base:
                ours = self._policy(Conflict(key, ours, theirs, base, found))
                base = found
                if self._are_same(ours, found):
                    return self._kept(key, value, ours, found)
            elif refusal.status != 409:
                raise OriginError(
                    f"GitHub refused to write {key!r}, {refusal.status}: "
                    f"{rules.message_of(refusal)}"
                )
        raise ConflictError(f"{key!r} was not written: others changed {self._repo} all the time")

    def _put(self, path: str, value: Any, base: str | None) -> Steps[tuple[str, Reply | None]]:
        """Make one commit; returns the new sha, or the reply that refuses it."""
        import msgspec

        removes = value is DELETED
        verb = "Delete" if removes else "Create" if base is None else "Update"
        document = {"message": self._message.format(verb=verb, path=path)}
        if not removes:
            content = self._encode(value)
            document["content"] = b64encode(content).decode()
        if base is not None:
            document["sha"] = base
        if self._ref is not None:
            document["branch"] = self._ref
        address = self._client.base.geturl() + rules.contents(self._repo, path, None)
        headers = {"Content-Type": "application/json"}
        method = "DELETE" if removes else "PUT"
        request = Request(method, address, headers, msgspec.json.encode(document))

        def judge(reply: Reply) -> tuple[str, Reply | None]:
            if reply.status in (409, 422) or (removes and reply.status == 404):
                return "", reply
            rules.check_success(request, reply)
            return "" if removes else rules.blob_sha(content), None

        return (yield from self._client.ask(request, judge, once=True))

    def _present(self, path: str) -> Steps[tuple[str | None, Any]]:
        """Return the sha and the value of what is there now."""
        address = self._client.base.geturl() + rules.contents(self._repo, path, self._ref)
        request = Request("GET", address, {"Accept": rules.RAW})
        answer = yield from self._client.ask(
            request, lambda reply: rules.file_answer(request, reply, None, self._decode)
        )
        if isinstance(answer, Loaded):
            return rules.sha_of(answer.validators), answer.value
        return None, DELETED

    def _are_same(self, value: Any, sha: str | None) -> bool:
        if value is DELETED or sha is None:
            return value is DELETED and sha is None
        return rules.blob_sha(self._encode(value)) == sha

    def _kept(self, key: str, asked: Any, there: Any, sha: str | None) -> Written[Any]:
        """Say what is there now: what was asked for, or something else."""
        self._versions.note(key, sha or None)
        if there is DELETED:
            return NotFound()
        assert sha
        known = rules.version(sha)
        return known if there is asked else Loaded(there, validators=known)


def as_bytes(value: Any) -> bytes:
    """Return what a file of this value holds.

    Raises:
        OriginError: neither bytes nor str.
    """
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise OriginError(f"a file is expected to be bytes or str, got {type(value).__name__}")
