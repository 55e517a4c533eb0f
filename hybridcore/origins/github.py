"""The origin that is a GitHub repository: its files, directories and whatever its API tells."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from hybridcore.errors import NotFoundError, OriginError
from hybridcore.origins import github_batch as batch
from hybridcore.origins import github_rules as rules
from hybridcore.origins import http_rules
from hybridcore.origins.base import Origin, held_by_key
from hybridcore.origins.github_client import GitHubClient, apieces, pieces
from hybridcore.origins.github_conflicts import DELETED, Policy, checked_policy
from hybridcore.origins.github_writes import Commits, Versions, as_bytes
from hybridcore.origins.http_rules import Reply, Request
from hybridcore.types import Loaded, NotFound, NotModified

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from hybridcore.origins.github_quota import Limits
    from hybridcore.origins.transport import Steps
    from hybridcore.stats import OriginUsage
    from hybridcore.types import Answer, Validators, Written
    from hybridcore.units import Duration, Size


class GitHubOrigin(Origin[str, Any]):
    """Loads the files of a repository, its directories, and any resource of GitHub's REST API.

    ====================  =========================================================
    key                   value
    ====================  =========================================================
    ``docs/index.md``     the file, as bytes
    ``docs/``             the directory, as a list of name, path, type, size, sha
    ``rest:issues/1``     a resource of the repository, as parsed JSON
    ``rest:/users/ada``   any resource of the API
    ====================  =========================================================

    Requests never exceed GitHub's limits: they take their turn, and fail at once with
    `OriginUnavailableError` when the turn would be later than ``max_wait``. Each loaded entry has
    the units of quota that it took as its cost.

    A write names the version it started from: the one that this origin saw last. If the file has
    changed since, or was never read, ``on_conflict`` decides.

    Needs httpx: ``pip install hybridcore[github]``.

    Args:
        repo: ``"owner/name"``.
        ref: branch, tag or commit; None is the default branch. Writes need a branch.
        token: the token; a function that returns it, asked again when it has expired; None for
            the variable ``GITHUB_TOKEN``; "" for none, which leaves 60 units an hour.
        base_url: of GitHub Enterprise Server it is ``https://HOST/api/v3``.
        reserve: of the hourly quota, in units or as a share below 1, kept for others.
        on_conflict: ``"raise"`` a `ConflictError`, ``"ours"``, ``"theirs"``, or a function that
            gets the `Conflict` and returns the value that is to be there, or `DELETED`.
        writable: whether ``store`` and ``delete`` make commits.
        message: of these commits; ``{verb}`` is Create, Update or Delete, and ``{path}`` the path.
        decode, encode: make a value of a file's bytes and the other way round.
        max_body: larger files are refused while they arrive; `open` reads them in pieces.
        graphql: whether many files may be asked for by GraphQL, which needs a token.
        limits: the secondary limits to stay within.
        timeout, total_timeout, retries, max_wait, max_connections, name: as in `HttpOrigin`.

    Raises:
        ImportError: httpx is not installed.
        ConfigurationError: an option makes no sense.
    """

    def __init__(
        self,
        repo: str,
        ref: str | None = None,
        *,
        token: str | Callable[[], str] | None = None,
        base_url: str = rules.API,
        reserve: float = 0,
        on_conflict: Policy = "raise",
        writable: bool = False,
        message: str = "{verb} {path}",
        decode: Callable[[bytes], Any] = bytes,
        encode: Callable[[Any], bytes] = as_bytes,
        max_body: Size = "64MiB",
        graphql: bool = True,
        limits: Limits | None = None,
        timeout: Duration = "10s",
        total_timeout: Duration = "1m",
        retries: int = 2,
        max_wait: Duration = "5s",
        max_connections: int = 16,
        name: str | None = None,
    ) -> None:
        self.repo = rules.checked_repo(repo)
        self.ref = ref
        self.name = name or f"github:{repo}"
        self.parallel = max_connections
        policy = checked_policy(on_conflict)
        self._client = GitHubClient(
            base_url,
            token=token,
            reserve=reserve,
            limits=limits,
            retries=retries,
            name=self.name,
            timeout=timeout,
            total_timeout=total_timeout,
            max_body=max_body,
            max_wait=max_wait,
            max_connections=max_connections,
        )
        self._graphql = graphql and self._client.tokens.some
        self._decode = decode
        self._tree: batch.Tree | None = None
        self._versions = Versions()
        self._writable = writable
        self._commits = Commits(
            self._client, repo, ref, policy, message, decode, encode, self._versions
        )

    def load(self, key: str, held: Validators | None = None) -> Answer[Any]:
        return self._client.run(self._loading(key, held))

    async def aload(self, key: str, held: Validators | None = None) -> Answer[Any]:
        return await self._client.arun(self._loading(key, held))

    async def aload_many(self, keys: Iterable[str]) -> dict[str, Answer[Any] | Exception]:
        wanted = held_by_key(keys)
        files = {key: held for key, held in wanted.items() if _is_file(key)}
        others = {key: held for key, held in wanted.items() if key not in files}
        answers = await asyncio.gather(self._files(files), self._at_once(others))
        return {key: answers[key not in files][key] for key in wanted}

    def store(self, key: str, value: Any) -> Written[Any]:
        self._require_writable()
        return self._client.run(self._commits.write(key, value))

    async def astore(self, key: str, value: Any) -> Written[Any]:
        self._require_writable()
        return await self._client.arun(self._commits.write(key, value))

    def delete(self, key: str) -> None:
        self._require_writable()
        self._client.run(self._commits.write(key, DELETED))

    async def adelete(self, key: str) -> None:
        self._require_writable()
        await self._client.arun(self._commits.write(key, DELETED))

    @contextmanager
    def open(self, key: str) -> Iterator[Iterator[bytes]]:
        """Read a file of any size in pieces, whatever ``max_body`` says.

        Raises:
            NotFoundError: there is no such file.
            OriginError: it cannot be read, or, from the pieces, not to its end.
        """
        reply = self._client.run(self._opening(key))
        assert reply.stream is not None
        try:
            yield pieces(reply.stream)
        finally:
            reply.stream.close()
            self._client.meter.record(calls=0, bytes_in=reply.stream.num_bytes_downloaded)

    @asynccontextmanager
    async def aopen(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Twin of `open`."""
        reply = await self._client.arun(self._opening(key))
        assert reply.stream is not None
        try:
            yield apieces(reply.stream)
        finally:
            await reply.stream.aclose()
            self._client.meter.record(calls=0, bytes_in=reply.stream.num_bytes_downloaded)

    @property
    def writable(self) -> bool:
        return self._writable

    def usage(self) -> OriginUsage:
        return self._client.meter.usage()

    def started_from(self, key: str, held: Validators | None) -> None:
        """Hear of the copy that the next write of a key starts from."""
        if (sha := rules.sha_of(held)) is not None:
            self._versions.note(key, sha)

    def close(self) -> None:
        self._client.close()

    async def aclose(self) -> None:
        await self._client.aclose()

    def __repr__(self) -> str:
        return f"GitHubOrigin({self.repo!r}, {self.ref!r})"

    def _require_writable(self) -> None:
        if not self._writable:
            raise self._read_only("give it writable=True")

    # What to send and what the replies mean, the same for both faces.

    def _get(self, path: str, held: Validators | None = None, accept: str = rules.JSON) -> Request:
        headers = {"Accept": accept, **rules.conditions(held)}
        return Request("GET", self._client.base.geturl() + path, headers)

    def _loading(self, key: str, held: Validators | None) -> Steps[Answer[Any]]:
        place = rules.place_of(key)
        if place.kind == "file":
            answer = yield from self._loading_file(key, place.path, held)
        elif place.kind == "directory":
            answer = yield from self._listing(place.path, held)
        else:
            path = rules.rest(self.repo, place.path)
            http_rules.address(self._client.base, path)
            request = self._get(path, held)
            answer = yield from self._client.ask(
                request, lambda reply: rules.json_answer(request, reply, held)
            )
        if isinstance(answer, NotFound) and not self._client.seen:
            yield from self._client.ask(self._get(rules.rest(self.repo, "")), self._is_there)
        return answer

    def _is_there(self, reply: Reply) -> None:
        if reply.status in http_rules.MISSING:
            raise OriginError(
                f"GitHub knows no repository {self.repo}, or the token may not see it"
            )

    def _loading_file(self, key: str, path: str, held: Validators | None) -> Steps[Answer[Any]]:
        if rules.sha_of(held) and self._way({key: held}) == "tree":
            tree = yield from self._reading_tree()
            if isinstance(answer := batch.compared(tree, path, held), NotModified):
                self._versions.learn(key, answer, held)
                return answer
        request = self._get(rules.contents(self.repo, path, self.ref), held, rules.RAW)
        answer = yield from self._client.ask(
            request, lambda reply: rules.file_answer(request, reply, held, self._decode)
        )
        self._versions.learn(key, answer, held)
        return answer

    def _listing(self, path: str, held: Validators | None) -> Steps[Answer[Any]]:
        request = self._get(rules.contents(self.repo, path, self.ref), held, rules.OBJECT)
        answer = yield from self._client.ask(
            request, lambda reply: rules.json_answer(request, reply, held)
        )
        if not isinstance(answer, Loaded):
            return answer
        found, units = answer.value, 1
        if not isinstance(found, dict) or found.get("type") != "dir":
            raise OriginError(f"{request} is no directory: a file's key has no '/' at its end")
        entries = found.get("entries", [])
        if len(entries) >= rules.LISTED:
            whole = self._get(rules.tree(self.repo, found["sha"], recursive=False))
            entries = yield from self._client.ask(
                whole, lambda reply: rules.document(whole, reply)["tree"]
            )
            units = 2
        return Loaded(rules.listing(entries, path), None, answer.validators, cost=float(units))

    def _opening(self, key: str) -> Steps[Reply]:
        place = rules.place_of(key)
        if place.kind != "file":
            raise OriginError(f"only a file can be opened, got {key!r}")
        path = rules.contents(self.repo, place.path, self.ref)
        headers = {"Accept": rules.RAW, "Accept-Encoding": "identity"}
        url = self._client.base.geturl() + path
        request = Request("GET", url, headers, streamed=True)

        def opened(reply: Reply) -> Reply:
            if rules.is_missing(request, reply):
                raise NotFoundError(f"GitHub has no file {key!r}")
            rules.check_success(request, reply)
            rules.require_raw(request, reply)
            return reply

        return (yield from self._client.ask(request, opened))

    # -- many files ---------------------------------------------------------------------------

    def _way(self, files: Mapping[str, Validators | None]) -> batch.Way:
        held = [copy for copy in files.values() if copy is not None]
        return batch.cheapest(
            len(files) - len(held),
            len(held),
            graphql=self._may_query() and len(files) > 1,
            authorised=self._client.tokens.some,
            tree_held=self._tree is not None,
            tree_whole=self._tree is None or self._tree.whole,
            etags=sum(rules.etag_of(copy) is not None for copy in held),
        )

    def _may_query(self) -> bool:
        return self._graphql and self._client.quota.left("graphql") != 0

    async def _files(
        self, files: Mapping[str, Validators | None]
    ) -> dict[str, Answer[Any] | Exception]:
        way = self._way(files)
        if way == "each":
            return await self._at_once(files)
        answers: dict[str, Answer[Any] | Exception] = {}
        if way == "tree":
            try:
                tree = await self._client.arun(self._reading_tree())
            except OriginError as error:
                return dict.fromkeys(files, error)
            for key, held in files.items():
                answer = batch.compared(tree, rules.place_of(key).path, held)
                if answer is not None:
                    self._versions.learn(key, answer, held)
                    answers[key] = answer
        rest = [key for key in files if key not in answers]
        if self._may_query() and len(rest) > 1:
            size = batch.QUERY_FILES
            chunks = [rest[at : at + size] for at in range(0, len(rest), size)]
            found = await asyncio.gather(
                *(self._queried({key: files[key] for key in chunk}) for chunk in chunks)
            )
            for part in found:
                answers |= part
        rest = [key for key in files if key not in answers]
        return answers | await self._at_once({key: _with_etag(files[key]) for key in rest})

    def _reading_tree(self) -> Steps[batch.Tree]:
        known = self._tree
        request = self._get(rules.tree(self.repo, self.ref or "HEAD", recursive=True))
        if known is not None and known.etag is not None:
            headers = {**request.headers, "If-None-Match": known.etag}
            request = Request(request.method, request.url, headers)

        def judge(reply: Reply) -> batch.Tree:
            if reply.status == 304 and known is not None:
                self._client.meter.record(calls=0, not_modified=1)
                return known
            return batch.read_tree(request, reply)

        self._tree = yield from self._client.ask(request, judge)
        return self._tree

    async def _queried(
        self, files: Mapping[str, Validators | None]
    ) -> dict[str, Answer[Any] | Exception]:
        try:
            return await self._client.arun(self._querying(files))
        except OriginError as error:
            return dict.fromkeys(files, error)

    def _querying(
        self, files: Mapping[str, Validators | None]
    ) -> Steps[dict[str, Answer[Any] | Exception]]:
        """Ask for files by one query; those that it cannot tell are left out."""
        address = rules.graphql_address(self._client.base)
        paths = [rules.place_of(key).path for key in files]
        request = batch.query(address, self.repo, self.ref, paths)
        found, points = yield from self._client.ask(
            request, lambda reply: batch.read_files(request, reply, len(paths))
        )
        answers: dict[str, Answer[Any] | Exception] = {}
        for (key, held), file in zip(files.items(), found, strict=True):
            answer: Answer[Any]
            if file.missing:
                answer = NotFound()
            elif held is not None and file.sha == rules.sha_of(held):
                answer = NotModified()
            elif file.content is not None:
                try:
                    value = rules.decoded(request, file.content, self._decode)
                except OriginError as error:
                    answers[key] = error
                    continue
                share = points / len(files)
                answer = Loaded(value, None, rules.version(file.sha), cost=share)
            else:
                continue
            self._versions.learn(key, answer, held)
            answers[key] = answer
        return answers


def _is_file(key: object) -> bool:
    try:
        return rules.place_of(key).kind == "file"
    except OriginError:
        return False


def _with_etag(held: Validators | None) -> Validators | None:
    """Return the copy's validators if they can spare the file."""
    return held if rules.etag_of(held) is not None else None
