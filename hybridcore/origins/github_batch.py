"""Many files at once: which way costs the least of GitHub's quota, and how its answers are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from hybridcore.errors import OriginError
from hybridcore.origins import github_rules as rules
from hybridcore.origins.http_rules import Request
from hybridcore.types import NotFound, NotModified

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hybridcore.origins.http_rules import Reply
    from hybridcore.types import Answer, Validators

QUERY_FILES = 100
"""Files that one GraphQL query asks for: it costs one point however many, but has ten seconds."""

Way = Literal["each", "query", "tree"]
"""How to load files: each by its contents, all by GraphQL, or what differs by the ref's tree."""


def cheapest(
    new: int,
    held: int,
    *,
    graphql: bool,
    authorised: bool,
    tree_held: bool,
    etags: int,
    tree_whole: bool = True,
) -> Way:
    """Return the way that costs the fewest units to load files of which copies are held or not.

    Copies are taken to be right still, and the ref to be where it was, which is the usual case.
    Of ways that cost the same the one with the fewest requests is chosen. O(1).

    Args:
        new: files of which no copy is held.
        held: files of which one is, ``etags`` of them with an ETag of their own.
        graphql: whether GraphQL may be used.
        authorised: whether a 304 is free.
        tree_held: whether the tree of the ref was read before, so that it may be a 304.
        tree_whole: whether GitHub shows all of it; what it leaves out cannot be checked.

    >>> cheapest(50, 0, graphql=True, authorised=True, tree_held=False, etags=0)
    'query'
    >>> cheapest(0, 50, graphql=True, authorised=True, tree_held=True, etags=50)
    'tree'
    """
    unchanged = 0 if authorised else 1  # what a 304 costs
    tree = unchanged if tree_held else 1
    blobs = _queries(new) if graphql else new
    costs: dict[Way, tuple[int, int]] = {}
    if tree_whole:
        costs["tree"] = (tree + blobs, 1 + blobs)
    costs["each"] = (new + (held - etags) + etags * unchanged, new + held)
    if graphql:
        costs["query"] = (_queries(new + held), _queries(new + held))
    return min(costs, key=lambda way: costs[way])


def _queries(files: int) -> int:
    return -(-files // QUERY_FILES)


# -- the tree of a ref ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tree:
    """The shas of what a ref held when its ETag was given; ``whole`` if nothing was left out."""

    etag: str | None
    shas: Mapping[str, str]
    whole: bool


def read_tree(request: Request, reply: Reply) -> Tree:
    """Return the tree that a reply holds."""
    if reply.status == 409:  # the repository is empty
        return Tree(None, {}, True)
    document = rules.document(request, reply)
    try:
        shas = {entry["path"]: entry["sha"] for entry in document["tree"]}
        return Tree(reply.headers.get("etag"), shas, not document["truncated"])
    except (KeyError, TypeError) as error:
        raise OriginError(f"{request} answered with what is no tree: {error!r}") from error


def compared(tree: Tree, path: str, held: Validators | None) -> Answer[Any] | None:
    """Return what a tree says of a file, None if the file has to be asked for."""
    sha = tree.shas.get(path)
    if sha is None:
        return NotFound() if tree.whole else None
    return NotModified() if sha == rules.sha_of(held) else None


# -- GraphQL --------------------------------------------------------------------------------------

_PLAIN = (0o100644, 0o100755)
"""Modes of files; the contents API follows a symbolic link, GraphQL does not."""

_QUERY = """\
query($owner: String!, $name: String!, $ref: String!) {
  rateLimit { cost }
  repository(owner: $owner, name: $name) {
    object(expression: $ref) { __typename ... on Commit { %s } }
  }
}"""

_FILE = "f%d: file(path: %s) { mode oid object { ... on Blob { isTruncated text } } }"


def query(address: str, repo: str, ref: str | None, paths: Sequence[str]) -> Request:
    """Return the request that asks for all these files."""
    owner, _, name = repo.partition("/")
    # a string of GraphQL is written like one of JSON
    files = (_FILE % (at, msgspec.json.encode(path).decode()) for at, path in enumerate(paths))
    variables = {"owner": owner, "name": name, "ref": f"{ref or 'HEAD'}^{{commit}}"}
    body = msgspec.json.encode({"query": _QUERY % " ".join(files), "variables": variables})
    return Request("POST", address, {"Content-Type": "application/json"}, body)


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found of a file; without ``content`` it has to be asked for by itself."""

    sha: str = ""
    content: bytes | None = None
    missing: bool = False


def read_files(request: Request, reply: Reply, count: int) -> tuple[list[Found], float]:
    """Return what a query found of each of so many files, and the points it cost.

    Text of another encoding comes transcoded, and long text cut off: the sha tells, and such a
    file is asked for by itself, as is one that GraphQL has an error about, or no points for.

    Raises:
        OriginError: it failed as a whole, or neither repository nor ref are to be seen.
    """
    document = rules.document(request, reply)
    try:
        errors = document.get("errors") or []
        repository = (document.get("data") or {}).get("repository")
        commit = repository["object"] if repository else None
        if errors and errors[0].get("type") == "RATE_LIMITED":
            return [Found()] * count, 0.0
        if not commit or commit["__typename"] != "Commit":
            said = errors[0]["message"] if errors else "there is no such ref"
            raise OriginError(f"{request} answered: {said[:200]}")
        failed = {error["path"][-1] for error in errors if error.get("path")}
        files = [Found() if f"f{at}" in failed else _found(commit[f"f{at}"]) for at in range(count)]
        return files, float(document["data"]["rateLimit"]["cost"])
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise OriginError(f"{request} answered with something else: {error!r}") from error


def _found(file: Any) -> Found:
    if file is None:
        return Found(missing=True)
    sha, text = file["oid"], (file["object"] or {}).get("text")
    if file["mode"] not in _PLAIN or text is None or file["object"].get("isTruncated"):
        return Found(sha)
    content = text.encode()
    return Found(sha, content if rules.blob_sha(content) == sha else None)
