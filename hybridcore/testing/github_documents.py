"""The JSON that a simulated GitHub answers with, in the form of its published description."""

from __future__ import annotations

from base64 import encodebytes
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridcore.testing.github_repository import Commit, File, Node, Repository

SITE = "https://github.com"
API = "https://api.github.com"
DOCS = "https://docs.github.com/rest"

_PEOPLE = (
    "followers", "gists", "starred", "subscriptions", "organizations", "repos", "events",
    "received_events", "following",
)  # fmt: skip
_PARTS = (
    "archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits",
    "compare", "contents", "contributors", "deployments", "downloads", "events", "forks",
    "git_commits", "git_refs", "git_tags", "hooks", "issue_comment", "issue_events", "issues",
    "keys", "labels", "languages", "merges", "milestones", "notifications", "pulls", "releases",
    "stargazers", "statuses", "subscribers", "subscription", "tags", "teams", "trees",
)  # fmt: skip


def when(at: float) -> str:
    """Return a time as GitHub writes it."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def error(message: str, status: int) -> dict[str, Any]:
    """An error."""
    return {"message": message, "documentation_url": DOCS, "status": str(status)}


def user(login: str) -> dict[str, Any]:
    """A user."""
    return {
        "login": login,
        "id": 1,
        "node_id": "U_1",
        "avatar_url": f"{SITE}/{login}.png",
        "gravatar_id": "",
        "url": f"{API}/users/{login}",
        "html_url": f"{SITE}/{login}",
        **{f"{part}_url": f"{API}/users/{login}/{part}" for part in _PEOPLE},
        "type": "User",
        "site_admin": False,
    }


def repository(of: Repository) -> dict[str, Any]:
    """A repository."""
    owner, _, name = of.name.partition("/")
    url, site = f"{API}/repos/{of.name}", f"{SITE}/{of.name}"
    commit = of.at()
    at = when(commit.at if commit else 0)
    return {
        "id": 1,
        "node_id": "R_1",
        "name": name,
        "full_name": of.name,
        "owner": user(owner),
        "private": False,
        "html_url": site,
        "description": None,
        "fork": False,
        "url": url,
        **{f"{part}_url": f"{url}/{part}" for part in _PARTS},
        "clone_url": f"{site}.git",
        "git_url": f"git://github.com/{of.name}.git",
        "ssh_url": f"git@github.com:{of.name}.git",
        "svn_url": site,
        "mirror_url": None,
        "homepage": None,
        "language": None,
        "license": None,
        **dict.fromkeys(("forks", "forks_count", "stargazers_count", "watchers"), 0),
        **dict.fromkeys(("watchers_count", "size", "network_count", "subscribers_count"), 0),
        "open_issues": len(of.issues),
        "open_issues_count": len(of.issues),
        "default_branch": of.default_branch,
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_downloads"), True),
        **dict.fromkeys(("has_pages", "has_discussions", "archived", "disabled"), False),
        **dict.fromkeys(("pushed_at", "created_at", "updated_at"), at),
    }


def issue(of: Repository, number: int, title: str, body: str, at: float) -> dict[str, Any]:
    """An issue."""
    url, site = f"{API}/repos/{of.name}/issues/{number}", f"{SITE}/{of.name}/issues/{number}"
    return {
        "id": number,
        "node_id": f"I_{number}",
        "url": url,
        "repository_url": f"{API}/repos/{of.name}",
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": site,
        "number": number,
        "state": "open",
        "title": title,
        "body": body,
        "user": user("ada"),
        "labels": [],
        "assignee": None,
        "milestone": None,
        "locked": False,
        "comments": 0,
        "closed_at": None,
        "created_at": when(at),
        "updated_at": when(at),
    }


def release(of: Repository, number: int, tag: str, at: float) -> dict[str, Any]:
    """A release."""
    url, site = f"{API}/repos/{of.name}/releases/{number}", f"{SITE}/{of.name}/releases/{tag}"
    return {
        "id": number,
        "node_id": f"RE_{number}",
        "url": url,
        "html_url": site,
        "assets_url": f"{url}/assets",
        "upload_url": f"{url}/assets{{?name,label}}",
        "tarball_url": f"{url}/tarball",
        "zipball_url": f"{url}/zipball",
        "tag_name": tag,
        "target_commitish": of.default_branch,
        "name": tag,
        "body": "",
        "draft": False,
        "prerelease": False,
        "created_at": when(at),
        "published_at": when(at),
        "author": user("ada"),
        "assets": [],
    }


def _entry(of: Repository, ref: str, path: str, sha: str, size: int, kind: str) -> dict[str, Any]:
    url = f"{API}/repos/{of.name}/contents/{path}?ref={ref}"
    part = "trees" if kind == "dir" else "blobs"
    git = f"{API}/repos/{of.name}/git/{part}/{sha}"
    html = f"{SITE}/{of.name}/blob/{ref}/{path}"
    return {
        "type": kind,
        "size": size,
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": sha,
        "url": url,
        "git_url": git,
        "html_url": html,
        "download_url": None if kind == "dir" else html.replace("/blob/", "/raw/"),
        "_links": {"self": url, "git": git, "html": html},
    }


def listed(of: Repository, ref: str, node: Node) -> dict[str, Any]:
    """An entry of a directory."""
    kind = "symlink" if node.mode == "120000" else "dir" if node.type == "tree" else "file"
    return _entry(of, ref, node.path, node.sha, node.size or 0, kind)


def directory(of: Repository, ref: str, path: str, commit: Commit, most: int) -> dict[str, Any]:
    """A directory as an object."""
    entries = [listed(of, ref, node) for node in (commit.tree(path) or [])[:most]]
    return {**_entry(of, ref, path, commit.tree_sha(path), 0, "dir"), "entries": entries}


def file(of: Repository, ref: str, path: str, found: File, embedded: int) -> dict[str, Any]:
    """A file, with its content if that is not too long to be embedded."""
    fits = found.size <= embedded
    return {
        **_entry(of, ref, path, found.sha, found.size, "file"),
        "encoding": "base64" if fits else "none",
        "content": encodebytes(found.data).decode() if fits else "",
    }


def committed(of: Repository, path: str, commit: Commit) -> dict[str, Any]:
    """What a write through the contents API answers."""
    there = commit.files.get(path)
    content = None
    if there is not None:
        content = _entry(of, of.default_branch, path, there.sha, there.size, "file")
    url = f"{API}/repos/{of.name}/git/commits"
    person = {"name": "ada", "email": "ada@example.com", "date": when(commit.at)}
    parents = [{"sha": commit.parent, "url": f"{url}/{commit.parent}", "html_url": SITE}]
    return {
        "content": content,
        "commit": {
            "sha": commit.sha,
            "node_id": f"C_{commit.sha}",
            "url": f"{url}/{commit.sha}",
            "html_url": f"{SITE}/{of.name}/commit/{commit.sha}",
            "author": person,
            "committer": person,
            "message": commit.message,
            "tree": {"sha": commit.tree_sha(), "url": f"{API}/repos/{of.name}/git/trees"},
            "parents": parents if commit.parent else [],
        },
    }


def tree(of: Repository, sha: str, nodes: list[Node], most: int) -> dict[str, Any]:
    """A tree; what is over ``most`` entries is left out."""
    entries = []
    for node in nodes[:most]:
        entry = {"path": node.path, "mode": node.mode, "type": node.type, "sha": node.sha}
        sized = {} if node.size is None else {"size": node.size}
        part = "trees" if node.type == "tree" else "blobs"
        entries.append({**entry, **sized, "url": f"{API}/repos/{of.name}/git/{part}/{node.sha}"})
    return {
        "sha": sha,
        "url": f"{API}/repos/{of.name}/git/trees/{sha}",
        "tree": entries,
        "truncated": len(nodes) > most,
    }


def blob(of: Repository, found: File) -> dict[str, Any]:
    """A blob."""
    return {
        "sha": found.sha,
        "node_id": f"B_{found.sha}",
        "url": f"{API}/repos/{of.name}/git/blobs/{found.sha}",
        "size": found.size,
        "encoding": "base64",
        "content": encodebytes(found.data).decode(),
    }
