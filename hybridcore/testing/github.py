"""A simulated GitHub: a repository behind its REST and GraphQL APIs, with its limits, on loopback.

```python
from hybridcore.testing.github import GitHub, Repository, serve

github = GitHub(Repository("ada/notes", {"docs/index.md": "Hello"}), tokens=["secret"])
with serve(github) as url:
    origin = GitHubOrigin("ada/notes", token="secret", base_url=url)
```

It answers as GitHub's published description says: contents, trees, blobs, issues, releases, the
rate limit, and the GraphQL query of `GitHubOrigin`; the quota of each hour, ETags that make a 304
free, bans for the secondary limits, conflicts of writes. `GitHub.respond` needs no sockets.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from base64 import b64decode
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hybridcore.testing import github_documents as documents
from hybridcore.testing.github_limits import Account, Rules
from hybridcore.testing.github_repository import Commit, File, Repository
from hybridcore.testing.serving import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Asked", "File", "GitHub", "Reply", "Repository", "Rules", "serve"]

EMBEDDED = 1_000_000
"""Bytes; the content of larger files is not embedded in JSON."""
LARGEST = 100_000_000
"""Bytes; larger files are refused."""
LISTED = 1000
"""Entries of a directory that are listed."""
TEXT = 512_000
"""Bytes; longer texts are cut off by GraphQL."""

_FILE = re.compile(r'(f\d+): file\(path: ("(?:[^"\\]|\\.)*")\)')


class Refusal(Exception):
    """An error to answer with."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; the body comes in ``pieces`` if it is a large file's."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    pieces: Iterable[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and its answer, as `GitHub.seen` keeps them."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    reply: Reply


@dataclass(slots=True)
class _Fault:
    status: int
    message: str
    headers: dict[str, str]
    path: str


@dataclass(slots=True)
class _Request:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    account: Account
    now: float
    cost: int = 1

    @property
    def wants(self) -> str:
        return self.headers.get("accept", "")

    def json(self) -> dict[str, Any]:
        try:
            document = json.loads(self.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Refusal(400, "Problems parsing JSON")
        return document


class GitHub:
    """One repository, and the accounts that ask for it.

    Args:
        repository: what it holds; may be changed at any time.
        tokens: those that it accepts; a mapping tells until when, in seconds since the epoch.
        rules: the limits.
        clock: seconds since the epoch.
        largest: bytes of a file; GitHub Enterprise may allow more.
        tree_limit: entries of a tree; the rest is cut off.
        private: whether it is hidden from who is not authorised.
        keep: whether `seen` keeps each request and its answer.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        tokens: Iterable[str] | Mapping[str, float] = (),
        rules: Rules | None = None,
        clock: Callable[[], float] = time.time,
        largest: int = LARGEST,
        tree_limit: int = 100_000,
        private: bool = False,
        keep: bool = False,
    ) -> None:
        self.repository = repository
        lasting = tokens if isinstance(tokens, Mapping) else dict.fromkeys(tokens, 1e12)
        self.tokens: dict[str, float] = dict(lasting)
        self.seen: list[Asked] = []
        self.statuses: Counter[int] = Counter()
        self.units: Counter[str] = Counter()
        self.under_way = 0
        self._rules = rules or Rules()
        self._clock = clock
        self._largest = largest
        self._tree_limit = tree_limit
        self._private = private
        self._keep = keep
        self._accounts: dict[str, Account] = {}
        self._faults: deque[_Fault] = deque()

    def account(self, token: str = "") -> Account:
        """Return what a token has spent; "" is everybody without one."""
        return self._accounts.setdefault(token, Account(self._rules, bool(token)))

    @property
    def requests(self) -> int:
        """How many came so far."""
        return self.statuses.total()

    @property
    def bans(self) -> int:
        """How many secondary limits were exceeded so far."""
        return sum(account.bans for account in self._accounts.values())

    def fail(
        self, status: int, message: str = "", *, times: int = 1, path: str = "", **headers: str
    ) -> None:
        """Answer the next requests, whose path begins with ``path``, with an error."""
        self._faults += [_Fault(status, message, headers, path) for _ in range(times)]

    def respond(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Reply:
        """Answer one request; ``headers`` by their names in lower case."""
        parts = urlsplit(target)
        path = re.sub(r"^/api(/v3)?(?=/)", "", parts.path)
        query = dict(parse_qsl(parts.query))
        reply = self._limited(method, path, query, headers, body)
        self.statuses[reply.status] += 1
        if self._keep:
            self.seen.append(Asked(method, path, query, dict(headers), body, reply))
        return reply

    def _limited(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Reply:
        now = self._clock()
        token = re.sub(r"^(Bearer|token) ", "", headers.get("authorization", ""))
        if token and self.tokens.get(token, 0) <= now:
            return _refused(Refusal(401, "Bad credentials"), {}, now)
        account = self.account(token)
        resource = "graphql" if path == "/graphql" else "core"
        writes = method not in ("GET", "HEAD") and resource == "core"
        request = _Request(method, path, query, headers, body, account, now)
        hour = account.hour(resource, now)
        try:
            for fault in self._faults:
                if path.startswith(fault.path):
                    self._faults.remove(fault)
                    raise Refusal(fault.status, fault.message or "Fault", **fault.headers)
            if account.exceeds(resource, writes, self.under_way, now):
                wait = max(1, round(account.banned_until - now))
                raise Refusal(
                    403, "You have exceeded a secondary rate limit.", retry_after=str(wait)
                )
            if hour.used >= hour.limit and resource == "graphql":
                said = {"type": "RATE_LIMITED", "message": "API rate limit exceeded for ada."}
                limited = _json({"errors": [said]})
                named = account.headers(resource, now)
                return Reply(200, limited.headers | named, limited.body)
            if hour.used >= hour.limit and path != "/rate_limit":
                raise Refusal(403, "API rate limit exceeded for ada.")
            reply = self._conditional(request, self._route(request))
        except Refusal as refusal:
            free = "rate limit" in str(refusal) or "retry_after" in refusal.headers
            if not free and refusal.status not in (401, 429):
                hour.used += 1
                self.units[resource] += 1
            return _refused(refusal, account.headers(resource, now), now)
        if path != "/rate_limit" and not (reply.status == 304 and account.authorised):
            hour.used += request.cost
            self.units[resource] += request.cost
        dated = {"Date": formatdate(now, usegmt=True), **account.headers(resource, now)}
        return Reply(reply.status, {**dated, **reply.headers}, reply.body, reply.pieces)

    def _route(self, request: _Request) -> Reply:
        path, method = request.path, request.method
        if path == "/graphql" and method == "POST":
            return self._graphql(request)
        if path == "/rate_limit":
            return _json(request.account.overview(request.now))
        if self._private and not request.account.authorised:
            raise Refusal(404, "Not Found")
        owned = f"/repos/{self.repository.name}"
        if path == owned:
            return _json(documents.repository(self.repository))
        if not path.startswith(f"{owned}/"):
            raise Refusal(404, "Not Found")
        part, _, rest = path[len(owned) + 1 :].partition("/")
        if part == "contents":
            where = unquote(rest)
            if method == "PUT":
                return self._put(request, where)
            if method == "DELETE":
                return self._delete(request, where)
            return self._contents(request, where)
        if rest.startswith("trees/"):
            return self._tree(request, unquote(rest.removeprefix("trees/")))
        if rest.startswith("blobs/"):
            return self._blob(request, rest.removeprefix("blobs/"))
        if part == "issues" and not rest:
            return _json(list(self.repository.issues.values()))
        if part == "issues" and rest.isdecimal() and int(rest) in self.repository.issues:
            return _json(self.repository.issues[int(rest)])
        if part == "releases" and not rest:
            return _json(self.repository.releases)
        raise Refusal(404, "Not Found")

    def _commit(self, ref: str | None) -> Commit:
        commit = self.repository.at(ref)
        if commit is None:
            raise Refusal(404, f"No commit found for the ref {ref}")
        return commit

    def _contents(self, request: _Request, path: str) -> Reply:
        ref = request.query.get("ref")
        commit, ref = self._commit(ref), ref or self.repository.default_branch
        found = commit.files.get(path)
        if found is not None and found.mode == "120000":
            base = path.rpartition("/")[0]
            target = found.data.decode()
            found = commit.files.get(f"{base}/{target}" if base else target, found)
        if found is not None:
            if found.size > self._largest:
                raise Refusal(403, "This API returns blobs up to 100 MB in size. Too large.")
            if "raw" in request.wants:
                return _raw(found)
            document = documents.file(self.repository, ref, path, found, EMBEDDED)
            return _json(document, last_modified=formatdate(found.at, usegmt=True))
        if commit.tree(path) is None:
            raise Refusal(404, "Not Found")
        document = documents.directory(self.repository, ref, path, commit, LISTED)
        if "object" in request.wants:
            return _json(document, x_github_media_type="github.v3; param=object; format=json")
        return _json(document["entries"])

    def _tree(self, request: _Request, name: str) -> Reply:
        commit, path = self.repository.at(name), ""
        if commit is None:
            place = self.repository.directory(name)
            if place is None:
                raise Refusal(404, "Not Found")
            commit, path = place
        if "recursive" in request.query and not path:
            nodes = commit.whole()
        else:
            below = len(path) + 1 if path else 0
            nodes = [
                type(node)(node.path[below:], node.mode, node.sha, node.size)
                for node in commit.tree(path) or []
            ]
        sha = commit.tree_sha(path)
        return _json(documents.tree(self.repository, sha, nodes, self._tree_limit))

    def _blob(self, request: _Request, sha: str) -> Reply:
        found = self.repository.blob(sha)
        if found is None:
            raise Refusal(404, "Not Found")
        if found.size > self._largest:
            raise Refusal(403, "This API returns blobs up to 100 MB in size. Too large.")
        return (
            _raw(found) if "raw" in request.wants else _json(documents.blob(self.repository, found))
        )

    def _put(self, request: _Request, path: str) -> Reply:
        document = request.json()
        there = self._writable(request, document).files.get(path)
        if there is not None and "sha" not in document:
            raise Refusal(422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
        if there is None and "sha" in document:
            raise Refusal(409, f"{path} does not match {document['sha']}")
        if there is not None and there.sha != document["sha"]:
            raise Refusal(409, f"{path} does not match {document['sha']}")
        commit = self.repository.commit(
            {path: b64decode(document["content"])},
            branch=document.get("branch"),
            message=document["message"],
        )
        body = documents.committed(self.repository, path, commit)
        return _json(body, 201 if there is None else 200)

    def _delete(self, request: _Request, path: str) -> Reply:
        document = request.json()
        there = self._writable(request, document).files.get(path)
        if there is None:
            raise Refusal(404, "Not Found")
        if there.sha != document.get("sha"):
            raise Refusal(409, f"{path} does not match {document.get('sha')}")
        commit = self.repository.commit(
            {path: None}, branch=document.get("branch"), message=document["message"]
        )
        return _json(documents.committed(self.repository, path, commit))

    def _writable(self, request: _Request, document: dict[str, Any]) -> Commit:
        if not request.account.authorised:
            raise Refusal(404, "Not Found")
        branch = document.get("branch", self.repository.default_branch)
        if branch not in self.repository.refs:
            raise Refusal(404, f"Branch {branch} not found")
        return self._commit(branch)

    def _graphql(self, request: _Request) -> Reply:
        if not request.account.authorised:
            raise Refusal(401, "This endpoint requires you to be authenticated.")
        document = request.json()
        variables, wanted = document.get("variables", {}), _FILE.findall(document.get("query", ""))
        name = f"{variables.get('owner')}/{variables.get('name')}"
        if name != self.repository.name:
            error = {
                "type": "NOT_FOUND",
                "path": ["repository"],
                "message": f"Could not resolve to a Repository with the name '{name}'.",
            }
            data = {"rateLimit": {"cost": 1}, "repository": None}
            return _json({"data": data, "errors": [error]})
        commit = self.repository.at(str(variables.get("ref")).removesuffix("^{commit}"))
        found: dict[str, Any] | None = None
        if commit is not None:
            found = {"__typename": "Commit"}
            found |= {alias: _entry(commit, json.loads(path)) for alias, path in wanted}
        return _json({"data": {"rateLimit": {"cost": 1}, "repository": {"object": found}}})

    def _conditional(self, request: _Request, reply: Reply) -> Reply:
        """Turn the reply into a 304 if it is what the caller has."""
        if request.method != "GET" or reply.status != 200:
            return reply
        known = request.headers.get("if-none-match")
        if known is not None:
            same = reply.headers["ETag"].removeprefix("W/") in [
                tag.strip().removeprefix("W/") for tag in known.split(",")
            ]
        else:
            since = request.headers.get("if-modified-since")
            modified = reply.headers.get("Last-Modified")
            same = bool(since and modified) and (
                parsedate_to_datetime(modified or "") <= parsedate_to_datetime(since or "")
            )
        if not same:
            return reply
        kept: dict[str, str] = {}
        for name in ("ETag", "Last-Modified"):
            if name in reply.headers:
                kept[name] = reply.headers[name]
        return Reply(304, kept)


def _entry(commit: Commit, path: str) -> dict[str, Any] | None:
    """Return what GraphQL tells of a file."""
    file = commit.files.get(path)
    if file is None:
        if commit.tree(path) is None:
            return None
        return {"mode": 0o40000, "oid": commit.tree_sha(path), "object": {}}
    data = b"".join(islice(file.pieces(), 1))[:TEXT]
    text = None
    if b"\0" not in data[:8000]:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    blob = {"isTruncated": file.size > TEXT, "text": text}
    return {"mode": int(file.mode, 8), "oid": file.sha, "object": blob}


def _raw(file: File) -> Reply:
    headers = {
        "Content-Type": "application/vnd.github.raw+json; charset=utf-8",
        "Content-Length": str(file.size),
        "ETag": f'"{hashlib.sha256(f"raw {file.sha}".encode()).hexdigest()}"',
        "Last-Modified": formatdate(file.at, usegmt=True),
    }
    if file.size > EMBEDDED:
        return Reply(200, headers, pieces=file.pieces())
    return Reply(200, headers, file.data)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-").title(): value for name, value in headers.items()}


def _json(document: Any, status: int = 200, **headers: str) -> Reply:
    body = json.dumps(document).encode()
    sent = {
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(body)),
        "ETag": f'W/"{hashlib.sha256(body).hexdigest()}"',
        "Cache-Control": "private, max-age=60, s-maxage=60",
    }
    return Reply(status, sent | _named(headers), body)


def _refused(refusal: Refusal, headers: dict[str, str], now: float) -> Reply:
    reply = _json(documents.error(str(refusal), refusal.status), refusal.status)
    del reply.headers["ETag"]
    named = {"Date": formatdate(now, usegmt=True)} | headers | _named(refusal.headers)
    return Reply(refusal.status, reply.headers | named, reply.body)
