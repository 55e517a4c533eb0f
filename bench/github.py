"""Replays a trace as the files of a GitHub repository, and counts the quota that each way spends.

The trace's keys are paths. Requests come in groups at a steady rate, on a simulated clock; entries
live for a while, and now and then a commit changes some files. The simulated GitHub applies its
real rules: a unit for each answer, none for an authorised 304, one point for a GraphQL query, bans
for what exceeds its secondary limits. Every value is checked: none may be older than its ttl.

Compared are no cache, a TTLCache of cachetools (LRU), and a HybridCache of the same number of
entries in memory whose parts are switched on one after the other: its eviction, its disk,
conditional refresh, and batches.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import save
from bench.traces import SHIPPED, read_trace
from hybridcore import Cache, EntryOptions, GitHubOrigin, HybridCache, Lmdb, Loaded, Origin
from hybridcore.origins import github_quota, http_rules, transport
from hybridcore.testing.github import GitHub, Repository

if TYPE_CHECKING:
    import argparse

REPO, TOKEN = "ada/notes", "bench"
START = 1_800_000_000.0
STALE = "30d"


class Clock:
    """Time that passes only when it is told to, or when somebody waits; a module ``time``."""

    def __init__(self) -> None:
        self.now = START

    def time(self) -> float:
        return self.now

    monotonic = perf_counter = time

    def time_ns(self) -> int:
        return int(self.now * 1e9)

    def sleep(self, duration: float) -> None:
        self.now += duration


@dataclass(frozen=True)
class Plan:
    """What is replayed: the paths of each group, one group every ``pause`` seconds."""

    groups: list[list[str]]
    pause: float
    ttl: float
    memory: int
    commit_every: float
    changed: int
    seed: int

    @property
    def paths(self) -> list[str]:
        return sorted({path for group in self.groups for path in group})


@dataclass
class Spent:
    """What one way spent."""

    name: str
    http: int = 0
    core: int = 0
    points: int = 0
    renewed: int = 0
    bans: int = 0
    wrong: int = 0

    @property
    def units(self) -> int:
        return self.core + self.points


class Wire:
    """The simulated GitHub, its clock, and origins that reach it without sockets."""

    def __init__(self, plan: Plan) -> None:
        self.clock = Clock()
        self.versions: dict[str, list[tuple[float, bytes]]] = {}
        self._random = random.Random(plan.seed)
        self._paths = plan.paths
        self._plan = plan
        self._next_commit = START + plan.commit_every
        repository = Repository(
            REPO, {path: self._write(path) for path in self._paths}, clock=self.clock.time
        )
        self.github = GitHub(repository, tokens=[TOKEN], clock=self.clock.time)

    def _write(self, path: str) -> bytes:
        known = self.versions.setdefault(path, [])
        content = f"{path}, version {len(known)}\n".encode()
        known.append((self.clock.now, content))
        return content

    def advance(self) -> None:
        """Let the time between two groups pass, and whatever is committed in it."""
        until = self.clock.now + self._plan.pause
        while self._next_commit <= until:
            self.clock.now = max(self.clock.now, self._next_commit)
            chosen = self._random.sample(self._paths, min(self._plan.changed, len(self._paths)))
            self.github.repository.commit({path: self._write(path) for path in chosen})
            self._next_commit += self._plan.commit_every
        self.clock.now = max(self.clock.now, until)

    def is_right(self, path: str, value: bytes | None) -> bool:
        """Whether the value was that of the path at some time within the ttl."""
        known = self.versions[path]
        ends = [at for at, _ in known[1:]] + [float("inf")]
        oldest = self.clock.now - self._plan.ttl
        return any(
            content == value and end >= oldest
            for (_, content), end in zip(known, ends, strict=True)
        )

    def origin(self, *, graphql: bool) -> GitHubOrigin:
        origin = GitHubOrigin(REPO, token=TOKEN, graphql=graphql, max_wait="1h")

        def perform(step: Any) -> Any:
            if isinstance(step, float):
                self.clock.sleep(step)
                return None
            headers = {name.lower(): value for name, value in step.headers.items()}
            target = step.url.removeprefix("https://api.github.com")
            reply = self.github.respond(step.method, target, headers, step.content)
            named = {name.lower(): value for name, value in reply.headers.items()}
            origin._client.meter.record(bytes_in=len(reply.body))
            return http_rules.Reply(reply.status, named, reply.body)

        async def aperform(step: Any) -> Any:
            return perform(step)

        origin._client._perform = perform  # type: ignore[method-assign]
        origin._client._aperform = aperform  # type: ignore[method-assign]
        return origin


class Unconditional(Origin[str, Any]):
    """An origin whose copies cannot be checked, only loaded anew."""

    def __init__(self, origin: GitHubOrigin) -> None:
        self.origin = origin

    def load(self, key: str, held: object = None) -> Any:
        answer = self.origin.load(key)
        return Loaded(answer.value, cost=answer.cost) if isinstance(answer, Loaded) else answer

    def close(self) -> None:
        self.origin.close()


Get = Callable[[list[str]], "dict[str, Any]"]


@contextmanager
def no_cache(wire: Wire, plan: Plan) -> Iterator[Get]:
    origin = wire.origin(graphql=False)
    yield lambda group: {path: origin.load(path).value for path in group}
    origin.close()


@contextmanager
def lru_with_ttl(wire: Wire, plan: Plan) -> Iterator[Get]:
    from cachetools import TTLCache

    origin = wire.origin(graphql=False)
    cache: Any = TTLCache(plan.memory, plan.ttl, timer=wire.clock.time)

    def get(path: str) -> Any:
        value = cache.get(path)
        if value is None:
            value = cache[path] = origin.load(path).value
        return value

    yield lambda group: {path: get(path) for path in group}
    origin.close()


def hybrid(*, disk: bool = False, conditional: bool = False, batches: bool = False) -> Any:
    @contextmanager
    def run(wire: Wire, plan: Plan) -> Iterator[Get]:
        with ExitStack() as cleanup:
            tier = None
            if disk:
                directory = cleanup.enter_context(tempfile.TemporaryDirectory())
                tier = Lmdb(directory, max_bytes="1GiB", clock=wire.clock.time_ns)
            origin = wire.origin(graphql=batches)
            store = cleanup.enter_context(
                HybridCache(
                    Cache(plan.memory, timer=wire.clock.time),
                    tier,
                    origin if conditional else Unconditional(origin),
                    defaults=EntryOptions(ttl=plan.ttl, stale=STALE if conditional else 0),
                )
            )
            if batches:
                yield store.get_many
            else:
                yield lambda group: {path: store.get(path) for path in group}

    return run


WAYS: dict[str, Callable[[Wire, Plan], Any]] = {
    "no cache": no_cache,
    "memory LRU with ttl": lru_with_ttl,
    "+ eviction": hybrid(),
    "+ disk": hybrid(disk=True),
    "+ conditional refresh": hybrid(disk=True, conditional=True),
    "+ batches": hybrid(disk=True, conditional=True, batches=True),
}
"""From the third on each adds one part of a HybridCache to those before it."""


def replay(name: str, plan: Plan) -> Spent:
    """Replay all groups one way."""
    wire, spent = Wire(plan), Spent(name)
    modules = (transport, github_quota, http_rules)
    real = transport.time
    try:
        for module in modules:
            module.time = wire.clock  # type: ignore[attr-defined]
        with WAYS[name](wire, plan) as get:
            for group in plan.groups:
                values = get(group)
                spent.wrong += sum(not wire.is_right(path, values.get(path)) for path in group)
                wire.advance()
    finally:
        for module in modules:
            module.time = real  # type: ignore[attr-defined]
    github = wire.github
    spent.http, spent.bans, spent.renewed = github.requests, github.bans, github.statuses[304]
    spent.core, spent.points = github.units["core"], github.units["graphql"]
    return spent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench github``."""
    add = parser.add_argument
    add("traces", nargs="*", type=Path, metavar="TRACE", help="files (default: the shipped trace)")
    add("--limit", type=int, default=20_000, metavar="N", help="the first N requests of a trace")
    add("--group", type=int, default=10, metavar="N", help="files asked for at a time")
    add("--rate", type=float, default=1.0, metavar="N", help="files asked for in a second")
    add("--ttl", type=float, default=3600.0, metavar="SECONDS", help="how long entries are fresh")
    add("--memory", type=float, default=0.05, metavar="SHARE", help="of the files fit into memory")
    add("--commit-every", type=float, default=900.0, metavar="SECONDS", help="between commits")
    add("--changed", type=int, default=20, metavar="N", help="files that a commit changes")
    add("--seed", type=int, default=1)
    add("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Replay each trace every way, and print what was spent."""
    results = {}
    for path in options.traces or [SHIPPED]:
        trace = read_trace(path, options.limit)
        paths = [f"docs/{int(key) // 100:04}/{int(key) % 100:02}.md" for key in trace.keys]
        size = options.group
        groups = [list(dict.fromkeys(paths[at : at + size])) for at in range(0, len(paths), size)]
        plan = Plan(
            groups,
            size / options.rate,
            options.ttl,
            max(1, int(options.memory * trace.unique)),
            options.commit_every,
            options.changed,
            options.seed,
        )
        spent = [replay(name, plan) for name in WAYS]
        show(trace.name, plan, spent)
        results[trace.name] = [asdict(one) for one in spent]
    if options.json:
        options.traces = [path.name for path in options.traces] or [SHIPPED.name]
        save(options.json, options, ["cachetools"], results)


def show(name: str, plan: Plan, spent: list[Spent]) -> None:
    """Print one trace's table, and how it is reckoned."""
    total = sum(map(len, plan.groups))
    base = spent[1]
    hours = len(plan.groups) * plan.pause / 3600
    print(
        f"\n{name}: {total:,} requests for {len(plan.paths):,} files in groups, over "
        f"{hours:.1f} h; {plan.memory:,} entries in memory, ttl {plan.ttl:g} s, "
        f"{plan.changed} files changed every {plan.commit_every:g} s\n"
    )
    print(
        f"{'':24}{'HTTP':>9}{'304':>8}{'units':>9}{'points':>8}{'quota':>9}{'saved':>9}{'by it':>9}"
    )
    before = base
    for one in spent:
        saved = 1 - one.units / base.units
        step = (before.units - one.units) / base.units
        shown = f"{step:9.1%}" if one.name.startswith("+") else f"{'':9}"
        print(
            f"{one.name:24}{one.http:9,}{one.renewed:8,}{one.core:9,}{one.points:8,}"
            f"{one.units:9,}{saved:9.1%}{shown}"
        )
        before = one if one.name.startswith("+") else base
    last = spent[-1]
    print(
        "\nquota = units (an HTTP request each, 304s free) + points (a GraphQL query each);"
        f"\nsaved is of the {base.units:,} of {base.name}, and 'by it' what that part adds:"
        f"\n1 - {last.units:,} / {base.units:,} = {1 - last.units / base.units:.1%}. "
        f"HTTP requests: 1 - {last.http:,} / {base.http:,} = {1 - last.http / base.http:.1%}."
        f"\nSecondary limits exceeded: {sum(one.bans for one in spent)}. "
        f"Values older than their ttl: {sum(one.wrong for one in spent)}."
    )
