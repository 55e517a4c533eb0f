"""GitHubOrigin within GitHub's limits: the quota of the hour, its reserve, and what it bans for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from hybridcore import EntryOptions, HybridCache, Memory, OriginUnavailableError
from hybridcore.origins.github_quota import Limits
from hybridcore.testing.github import Rules
from tests.origins.github.conftest import TOKEN

MANY = {f"{number}.md": f"page {number}" for number in range(60)}


@pytest.fixture
def spent(start, clock):
    """A GitHub with a quota of 20 units an hour, by the clock of the origin."""
    return start(MANY, clock=clock, rules=Rules(hourly=20))


def keys(count, first=0):
    return [f"{number}.md" for number in range(first, first + count)]


def test_the_quota_is_used_up(spent, make, call, clock):
    """When nothing is left nothing is sent, and the error tells for how long."""
    origin = make(spent)
    for key in keys(20):
        call(origin, "load", key)
    with pytest.raises(OriginUnavailableError, match="0 are left") as caught:
        call(origin, "load", "30.md")
    assert 3600 <= caught.value.retry_after <= 3602
    assert spent.requests == 20
    clock.now += 3602
    assert call(origin, "load", "30.md").value == b"page 30"
    assert origin.usage().quota_used == 21
    assert origin.usage().errors == {"OriginUnavailableError": 1}


@pytest.mark.parametrize("reserve", [5, 0.25])
def test_the_reserve_is_kept_free(spent, make, call, clock, reserve):
    """Units in reserve, or a share of them, are left for others."""
    origin = make(spent, reserve=reserve)
    for key in keys(15):
        call(origin, "load", key)
    with pytest.raises(OriginUnavailableError, match="5 of them in reserve"):
        call(origin, "load", "30.md")
    assert spent.account(TOKEN).hour("core", clock.now).used == 15
    assert origin.usage().quota_left == 5


def test_many_at_a_time_keep_the_reserve(spent, make, clock):
    """Requests under way count as spent: however many threads there are, the reserve stays."""
    origin = make(spent, reserve=5, max_connections=8)
    origin.load("0.md")
    refused = []

    def load(key):
        try:
            origin.load(key)
        except OriginUnavailableError:
            refused.append(key)

    threads = [threading.Thread(target=load, args=(key,)) for key in keys(40, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spent.account(TOKEN).hour("core", clock.now).used <= 15
    assert len(refused) >= 26
    origin.close()


def test_the_first_of_many_goes_alone(start, make, call):
    """Threads that start together do not overdraw a quota of which nothing is known yet."""
    github = start(MANY, rules=Rules(hourly=20))
    other, origin = make(github), make(github, reserve=5, max_connections=8)
    for key in keys(14):
        call(other, "load", key)

    def load(key):
        with suppress(OriginUnavailableError):
            origin.load(key)

    threads = [threading.Thread(target=load, args=(key,)) for key in keys(8, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert github.units == {"core": 15}
    origin.close()


def test_others_spend_the_quota_too(spent, make, call, clock):
    """What another process spent of the same token's quota counts as soon as GitHub tells."""
    origin, other = make(spent, reserve=5), make(spent)
    call(origin, "load", "0.md")
    for key in keys(13, 1):
        call(other, "load", key)
    call(origin, "load", "20.md")  # whose answer tells of the other thirteen
    with pytest.raises(OriginUnavailableError):
        call(origin, "load", "21.md")
    assert spent.account(TOKEN).hour("core", clock.now).used == 15


def test_stale_copies_bridge_an_empty_quota(start, make):
    """A cache serves its copies while the quota is empty, and loses none."""
    github = start(MANY, rules=Rules(hourly=3))
    with HybridCache(
        Memory(100), origin=make(github), defaults=EntryOptions(ttl=0, stale="1h")
    ) as store:
        first = {key: store.get(key) for key in keys(3)}
        github.repository.commit(dict.fromkeys(keys(3), "new"))
        assert {key: store.get(key) for key in keys(3)} == first
        with pytest.raises(OriginUnavailableError):
            store.get("9.md")
        assert github.requests == 3


@pytest.mark.parametrize(
    ("status", "message", "headers", "pause"),
    [
        (403, "You have exceeded a secondary rate limit.", {"retry_after": "30"}, 30),
        (429, "Too many requests", {"retry_after": "30"}, 30),
        (403, "You have exceeded a secondary rate limit.", {}, 60),
    ],
)
def test_a_limit_in_the_middle(start, make, call, clock, status, message, headers, pause):
    """After a 403 or 429 nothing is sent before the time that GitHub named, or a minute."""
    github = start(MANY, clock=clock)
    origin = make(github)
    call(origin, "load", "0.md")
    github.fail(status, message, **headers)
    with pytest.raises(OriginUnavailableError) as caught:
        call(origin, "load", "1.md")
    assert caught.value.retry_after == pause
    with pytest.raises(OriginUnavailableError, match="left alone"):
        call(origin, "load", "2.md")
    assert github.requests == 2
    clock.now += pause
    assert call(origin, "load", "2.md").value == b"page 2"
    assert github.statuses == {200: 2, status: 1}


def test_a_short_pause_is_waited_out(start, make, call, clock):
    """A pause within max_wait is waited out, and the load succeeds."""
    github = start(MANY, clock=clock)
    github.fail(429, retry_after="3")
    assert call(make(github), "load", "0.md").value == b"page 0"
    assert 3 <= sum(clock.sleeps) < 4


def test_a_403_that_is_no_limit(start, make, call, clock):
    """A plain refusal stops nobody from asking for something else."""
    github = start(MANY, clock=clock)
    origin = make(github)
    github.fail(403, "Resource not accessible by integration")
    with pytest.raises(Exception, match="Resource not accessible") as caught:
        call(origin, "load", "0.md")
    assert not isinstance(caught.value, OriginUnavailableError)
    assert call(origin, "load", "0.md").value == b"page 0"


def test_points_are_paced(start, make, call, clock):
    """A thousand loads in a row never exceed the points of a minute: they wait their turn."""
    github = start(MANY, clock=clock)
    origin = make(github, max_wait="1m")
    began = clock.now
    for number in range(1000):
        call(origin, "load", f"{number % 60}.md")
    assert github.bans == 0
    assert github.statuses == {200: 1000}
    assert 60 <= clock.now - began < 120


def test_a_turn_that_is_far_off(start, make, call, clock):
    """Who would have to wait for longer than max_wait is told so at once."""
    origin = make(start(MANY, clock=clock), limits=Limits(points=3), max_wait="5s")
    for key in keys(3):
        call(origin, "load", key)
    with pytest.raises(OriginUnavailableError, match="secondary limits") as caught:
        call(origin, "load", "3.md")
    assert caught.value.retry_after == 60


def test_writes_are_paced(start, make, call, clock):
    """A hundred writes never exceed what GitHub takes in a minute, nor do six hundred an hour."""
    github = start({}, clock=clock)
    origin = make(github, max_wait="1h", writable=True)
    began = clock.now
    for number in range(100):
        call(origin, "load", f"{number}")
        call(origin, "store", f"{number}", b"x")
    assert github.bans == 0
    assert github.statuses[201] == 100
    assert clock.now - began >= 60


def test_few_are_under_way_at_a_time(start, make, front):
    """However many ask, GitHub sees no more requests at a time than it allows."""
    github = start(MANY)
    origin = make(github, limits=Limits(concurrent=3), max_connections=16, max_wait="30s")
    most = []
    respond = github.respond

    def counting(*request):
        most.append(front.under_way)
        return respond(*request)

    github.respond = counting

    async def load():
        answers = await asyncio.gather(*(origin.aload(key) for key in keys(30)))
        await origin.aclose()
        return answers

    assert len(asyncio.run(load())) == 30
    assert max(most) <= 3


def test_points_of_graphql_are_used_up(start, make, call, clock):
    """When GraphQL has no points left files are asked for by REST, which has a quota of its own."""
    github = start(MANY, clock=clock, rules=Rules(hourly=20))
    origin = make(github)
    for first in range(20):
        call(origin, "load_many", keys(2, first))
    assert github.units == {"graphql": 20}
    answers = call(origin, "load_many", keys(2, 40))
    assert answers["40.md"].value == b"page 40"
    assert github.units == {"graphql": 20, "core": 2}


def test_points_that_others_used_up(start, make, call, clock):
    """That GraphQL has no points left may come as an answer with status 200."""
    github = start(MANY, clock=clock, rules=Rules(hourly=3))
    other, origin = make(github), make(github)
    for first in range(3):
        call(other, "load_many", keys(2, first))
    answers = call(origin, "load_many", keys(2))
    assert answers["0.md"].value == b"page 0"
    assert github.units == {"graphql": 3, "core": 2}
