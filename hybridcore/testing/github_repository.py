"""What a simulated GitHub holds of a repository: commits, branches, files, issues, releases."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class File:
    """A file of a commit; ``at`` is when it was last changed, in seconds since the epoch.

    ``content`` may be a number: so many zero bytes, that are never in memory at once.
    """

    content: bytes | int
    at: float = 0.0
    mode: str = "100644"
    sha: str = ""

    @property
    def size(self) -> int:
        return self.content if isinstance(self.content, int) else len(self.content)

    def pieces(self) -> Iterator[bytes]:
        """Return the content in parts."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        for at in range(0, self.content, PIECE):
            yield bytes(min(PIECE, self.content - at))

    @property
    def data(self) -> bytes:
        """The content as a whole."""
        return b"".join(self.pieces())

    def named(self, at: float) -> File:
        """Return it as it is committed."""
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        if isinstance(self.content, bytes):
            digest.update(self.content)  # a file of zeros is named by its size alone
        return File(self.content, at, self.mode, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Node:
    """An entry of a tree: a file or a directory."""

    path: str
    mode: str
    sha: str
    size: int | None = None

    @property
    def type(self) -> str:
        return {"040000": "tree", "160000": "commit"}.get(self.mode, "blob")


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: all files by path."""

    sha: str
    parent: str | None
    message: str
    at: float
    files: Mapping[str, File]
    trees: dict[str, list[Node]] = field(default_factory=dict)

    def tree(self, path: str = "") -> list[Node] | None:
        """Return the entries of a directory, sorted; None if there is no such directory."""
        return self._trees().get(path)

    def whole(self) -> list[Node]:
        """Return everything in it, directories included."""
        return sorted(
            (node for nodes in self._trees().values() for node in nodes),
            key=lambda node: node.path,
        )

    def tree_sha(self, path: str = "") -> str:
        """Return the sha of a directory."""
        return _sha(
            "tree", *(f"{node.mode} {node.path} {node.sha}" for node in self.tree(path) or ())
        )

    def _trees(self) -> dict[str, list[Node]]:
        if not self.trees:
            below: dict[str, list[Node]] = {"": []}
            for path, file in self.files.items():
                parent = path.rpartition("/")[0]
                below.setdefault(parent, []).append(Node(path, file.mode, file.sha, file.size))
                while parent:
                    parent = parent.rpartition("/")[0]
                    below.setdefault(parent, [])
            for path in sorted(below, key=lambda path: -path.count("/") if path else 1):
                below[path].sort(key=lambda node: node.path)
                if path:
                    node = Node(path, "040000", _tree_sha(below[path]))
                    below[path.rpartition("/")[0]].append(node)
            self.trees.update(below)
        return self.trees


def _tree_sha(nodes: list[Node]) -> str:
    return _sha("tree", *(f"{node.mode} {node.path} {node.sha}" for node in nodes))


def _sha(*parts: str) -> str:
    return hashlib.sha1("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


class Repository:
    """A repository with one branch to begin with.

    Args:
        name: ``"owner/name"``.
        files: of the first commit.
        branch: the default branch.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        files: Mapping[str, bytes | str | File] | None = None,
        *,
        branch: str = "main",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.default_branch = branch
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.issues: dict[int, dict[str, Any]] = {}
        self.releases: list[dict[str, Any]] = []
        self._clock = clock
        self.commit(dict(files or {}), message="Begin")

    def commit(
        self,
        changes: Mapping[str, bytes | str | File | None],
        *,
        branch: str | None = None,
        message: str = "Change",
    ) -> Commit:
        """Add a commit to a branch, in which None deletes a file."""
        branch = branch or self.default_branch
        parent = self.refs.get(branch)
        now = self._clock()
        files = dict(self.commits[parent].files) if parent else {}
        for path, content in changes.items():
            if content is None:
                files.pop(path, None)
                continue
            file = content if isinstance(content, File) else File(_bytes(content))
            files[path] = file.named(now)
        sha = _sha("commit", parent or "", message, repr(now), str(len(self.commits)))
        commit = self.commits[sha] = Commit(sha, parent, message, now, files)
        self.refs[branch] = sha
        return commit

    def branch(self, name: str, start: str | None = None) -> None:
        """Make a branch or tag, or move it."""
        commit = self.at(start)
        if commit is None:
            raise KeyError(start)
        self.refs[name] = commit.sha

    def at(self, ref: str | None = None) -> Commit | None:
        """Return the commit of a branch, tag or sha."""
        name = self.default_branch if ref in (None, "HEAD") else str(ref)
        return self.commits.get(self.refs.get(name, name))

    def blob(self, sha: str) -> File | None:
        """Return a file of any commit by its sha; O(all files)."""
        for commit in reversed(self.commits.values()):
            for file in commit.files.values():
                if file.sha == sha:
                    return file
        return None

    def directory(self, sha: str) -> tuple[Commit, str] | None:
        """Return where a tree is, by its sha; O(all directories)."""
        for commit in reversed(self.commits.values()):
            for path in commit._trees():
                if commit.tree_sha(path) == sha:
                    return commit, path
        return None


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content
