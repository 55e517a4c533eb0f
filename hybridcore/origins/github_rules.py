"""The rules of the GitHub origin as plain functions: what a key names, what a reply means."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, quote

from hybridcore.errors import ConfigurationError, OriginError, OriginUnavailableError
from hybridcore.origins import http_rules
from hybridcore.types import Loaded, NotFound, NotModified, Validators

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.origins.http_rules import Reply, Request
    from hybridcore.types import Answer

API = "https://api.github.com"
API_VERSION = "2022-11-28"

RAW = "application/vnd.github.raw+json"
OBJECT = "application/vnd.github.object+json"
JSON = "application/vnd.github+json"

LISTED = 1000
"""Entries that the contents API lists of a directory; the others it leaves out."""

SECONDARY_PAUSE = 60.0
"""Seconds to leave GitHub alone after a secondary limit that named no time, as it asks for."""

_REPO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/(?!\.{1,2}$)[A-Za-z0-9._-]+")

_SHA = "sha:"


@dataclass(frozen=True, slots=True)
class Place:
    """What a key names: a file or directory by its path, or an answer of the REST API."""

    kind: Literal["file", "directory", "rest"]
    path: str


def place_of(key: object) -> Place:
    """Return what a key names.

    >>> place_of("docs/index.md"), place_of("docs/").kind
    (Place(kind='file', path='docs/index.md'), 'directory')
    >>> place_of("rest:issues/1")
    Place(kind='rest', path='issues/1')

    Raises:
        OriginError: not a str, or a path that leads nowhere or out of its place.
    """
    if not isinstance(key, str):
        raise OriginError(
            f"a key of a GitHub origin is expected to be a str, got {type(key).__name__}"
        )
    if key.startswith("rest:"):
        return Place("rest", key.removeprefix("rest:"))
    path = key.removeprefix("/")
    kind: Literal["file", "directory"] = "directory" if path.endswith("/") or not path else "file"
    path = path.removesuffix("/")
    if any(segment in ("", ".", "..") for segment in path.split("/")) and path:
        raise OriginError(f"key {key!r} is no path: it has an empty segment, '.' or '..'")
    http_rules.path_of(path)
    return Place(kind, path)


def checked_repo(repo: str) -> str:
    """Return ``owner/name``.

    Raises:
        ConfigurationError: it is something else.
    """
    if not _REPO.fullmatch(repo):
        raise ConfigurationError(f'repo is expected to be "owner/name", got {repo!r}')
    return repo


def contents(repo: str, path: str, ref: str | None) -> str:
    """Return the path, below the API's address, of a file or directory."""
    address = f"repos/{repo}/contents/{quote(path, safe='/')}"
    return address if ref is None else f"{address}?ref={quote(ref, safe='')}"


def tree(repo: str, tree: str, *, recursive: bool) -> str:
    """Return the path of a tree by its sha, or of that of a ref."""
    address = f"repos/{repo}/git/trees/{quote(tree, safe='')}"
    return f"{address}?recursive=1" if recursive else address


def blob(repo: str, sha: str) -> str:
    """Return the path of a blob."""
    return f"repos/{repo}/git/blobs/{sha}"


def rest(repo: str, path: str) -> str:
    """Return the path of any resource: below the repository, or the API's root with a "/"."""
    if path.startswith("/"):
        return path.lstrip("/")
    return f"repos/{repo}/{path}" if path else f"repos/{repo}"


def graphql_address(base: SplitResult) -> str:
    """Return the address of the GraphQL API beside that of the REST API.

    >>> graphql_address(http_rules.checked_base("https://github.example.com/api/v3/"))
    'https://github.example.com/api/graphql'
    """
    path = base.path.removesuffix("/").removesuffix("/v3")
    return base._replace(path=f"{path}/graphql").geturl()


# -- versions: what is kept of an entry so that it can be checked, and written over ---------------


def blob_sha(content: bytes) -> str:
    """Return the name that git gives to a file's content.

    >>> blob_sha(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def version(sha: str, reply: Reply | None = None) -> Validators:
    """Return the validators of a file: the sha of its blob, and the ETag if there is one."""
    etag = reply.headers.get("etag") if reply is not None else None
    modified = reply.headers.get("last-modified") if reply is not None else None
    return Validators(f"{_SHA}{sha} {etag}" if etag else f"{_SHA}{sha}", modified)


def sha_of(held: Validators | None) -> str | None:
    """Return the sha of the blob that a copy was made from, if it is known."""
    if held is None or held.etag is None or not held.etag.startswith(_SHA):
        return None
    return held.etag.removeprefix(_SHA).partition(" ")[0]


def etag_of(held: Validators | None) -> str | None:
    """Return the ETag that GitHub gave to a copy, if it did."""
    if held is None or held.etag is None or not held.etag.startswith(_SHA):
        return None if held is None else held.etag
    return held.etag.partition(" ")[2] or None


def conditions(held: Validators | None) -> dict[str, str]:
    """Return the headers that ask only for what differs from the copy held."""
    if held is None:
        return {}
    modified = None if sha_of(held) and etag_of(held) is None else held.last_modified
    return http_rules.conditions(Validators(etag_of(held), modified))


# -- replies --------------------------------------------------------------------------------------


def check_limits(request: Request, reply: Reply) -> None:
    """Raise `OriginUnavailableError` for 5xx, 408, 429 and each 403 that is a rate limit."""
    http_rules.check_available(request, reply)
    if reply.status == 403 and "rate limit" in message_of(reply).lower():
        raise OriginUnavailableError(
            f"{request} answered 403: {message_of(reply)}", retry_after=SECONDARY_PAUSE
        )


def message_of(reply: Reply) -> str:
    """Return what GitHub says about an error, in at most 200 characters."""
    import msgspec

    try:
        document = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):  # msgspec raises both
        return ""
    message = document.get("message", "") if isinstance(document, dict) else ""
    return str(message)[:200]


def check_success(request: Request, reply: Reply) -> None:
    """Raise `OriginError`, with what GitHub says about it, unless the reply is a success."""
    if reply.status == 401:
        raise OriginError(f"{request} answered 401: the token is refused, it may have expired")
    if 200 <= reply.status < 300 and reply.status != 206:
        return
    said = message_of(reply)
    raise OriginError(f"{request} answered {reply.status}{said and ': ' + said}")


def is_missing(request: Request, reply: Reply) -> bool:
    """Whether the reply says that there is no such thing, and not that the ref is gone.

    Raises:
        OriginError: it is the ref that does not exist.
    """
    if reply.status not in http_rules.MISSING:
        return False
    said = message_of(reply)
    if "No commit found for the ref" in said:
        raise OriginError(f"{request} answered 404: {said}")
    return True


def file_answer(
    request: Request, reply: Reply, held: Validators | None, decode: Callable[[bytes], Any]
) -> Answer[Any]:
    """Return what the reply to a file's raw contents says."""
    if reply.status == 304 and held is not None:
        return NotModified()
    if is_missing(request, reply):
        return NotFound()
    check_success(request, reply)
    require_raw(request, reply)
    sha = blob_sha(reply.body)
    return Loaded(decoded(request, reply.body, decode), validators=version(sha, reply), cost=1.0)


def require_raw(request: Request, reply: Reply) -> None:
    """Raise `OriginError` unless the body is that of a file."""
    if "raw" not in reply.headers.get("content-type", ""):
        raise OriginError(
            f"{request} is no file: a directory is asked for with a '/' at the end of its key"
        )


def decoded(request: Request, body: bytes, decode: Callable[[bytes], Any]) -> Any:
    """Return the value of a file.

    Raises:
        OriginError: it cannot be decoded.
    """
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:
        raise OriginError(f"{request} answered with a file that is damaged: {error}") from error


def json_answer(request: Request, reply: Reply, held: Validators | None) -> Answer[Any]:
    """Return what the reply of any other resource says."""
    if reply.status == 304 and held is not None:
        return NotModified()
    if is_missing(request, reply):
        return NotFound()
    return Loaded(
        document(request, reply), validators=http_rules.validators(reply.headers), cost=1.0
    )


def document(request: Request, reply: Reply) -> Any:
    """Return the reply's JSON.

    Raises:
        OriginError: the reply is no success, or no JSON.
    """
    import msgspec

    check_success(request, reply)
    try:
        return msgspec.json.decode(reply.body)
    except (ValueError, RecursionError) as error:
        raise OriginError(f"{request} answered with JSON that is damaged: {error}") from error


_KINDS = {"tree": "dir", "commit": "submodule"}


def listing(entries: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """Return the entries of a directory alike, whether from its contents or from its tree."""
    found = []
    for entry in entries:
        name = entry.get("name") or entry["path"]
        kind = entry["type"]
        if entry.get("mode") == "120000":
            kind = "symlink"
        elif "mode" in entry:
            kind = _KINDS.get(kind, "file")
        found.append(
            {
                "name": name,
                "path": f"{path}/{name}" if path else name,
                "type": kind,
                "size": entry.get("size") or 0,
                "sha": entry["sha"],
            }
        )
    return sorted(found, key=lambda entry: entry["name"])
