"""A simulated GitHub on loopback; what is said to it and by it is held against the description."""

from __future__ import annotations

import asyncio

import pytest

from hybridcore import GitHubOrigin
from hybridcore.origins import github_quota, http_rules, transport
from hybridcore.testing.github import GitHub, Repository, serve
from tests.npm import NotToBeHadError
from tests.origins.github import description as published

TOKEN = "ghp_canary0123456789"  # nobody may ever see it

FILES = {
    "README.md": "# Notes\n",
    "docs/index.md": "Index",
    "docs/guide.md": "Guide",
    "docs/deep/er.md": "Deeper",
    "logo.png": b"\x89PNG\0\xff",
    "latin.txt": "café".encode("latin-1"),
    "odd name?.md": "odd",
}


class Clock:
    """Time that passes only when somebody sleeps; stands in for the module ``time``."""

    def __init__(self):
        self.now = 1_800_000_000.0
        self.sleeps = []

    def time(self):
        return self.now

    monotonic = perf_counter = time

    def sleep(self, duration):
        self.sleeps.append(duration)
        self.now += duration


class FakeAsyncio:
    """The module asyncio, but for its sleep, which the clock does."""

    def __init__(self, clock):
        self.clock = clock

    async def sleep(self, duration):
        self.clock.sleep(duration)

    def __getattr__(self, name):
        return getattr(asyncio, name)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (transport, http_rules, github_quota):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(transport, "asyncio", FakeAsyncio(clock))
    return clock


@pytest.fixture(scope="session")
def description(request):
    """GitHub's descriptions, or why they are not here."""
    try:
        return published.read(request.config.cache.mkdir("github-descriptions"))
    except NotToBeHadError as error:
        return error


@pytest.fixture
def described(description):
    if isinstance(description, Exception):
        pytest.skip(str(description))
    return description


class Front:
    """What is served all the time: the GitHub of the test that runs."""

    def __init__(self):
        self.github = None
        self.under_way = 0

    def respond(self, *request):
        self.github.under_way = self.under_way
        return self.github.respond(*request)


@pytest.fixture(scope="session")
def front():
    front = Front()
    with serve(front) as front.url:
        yield front


@pytest.fixture
def start(front, description):
    """Make the simulated GitHub of a test; when that is over its every exchange is checked."""
    started = []

    def start(files=None, *, clock=None, **options):
        times = {} if clock is None else {"clock": clock.time}
        repository = Repository("ada/notes", FILES if files is None else files, **times)
        options.setdefault("tokens", [TOKEN])
        github = front.github = GitHub(repository, keep=True, **times, **options)
        github.url = front.url
        started.append(github)
        return github

    yield start
    for github in started:
        if not isinstance(description, Exception):
            different = {(a.path, str(a.query), a.body, a.reply.body): a for a in github.seen}
            for asked in different.values():
                description.check(asked)


@pytest.fixture
def github(start):
    return start()


@pytest.fixture
def make(call):
    """Make origins of a simulated GitHub, closed when the test ends."""
    made = []

    def make(github, ref=None, **options):
        options.setdefault("token", TOKEN)
        options.setdefault("base_url", github.url)
        origin = GitHubOrigin("ada/notes", ref, **options)
        made.append(origin)
        return origin

    yield make
    for origin in made:
        call(origin, "close")
