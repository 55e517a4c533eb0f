"""Two hosts and a bus, in every order in which changes, reads and messages can come.

Threads do not run: a test publishes, delivers, receives, and kills, a step at a time, and messages
come late, twice and in another order as it decides. A host that has received what another one
changed reads nothing older, and when all has been delivered all read what the origin has.
"""

from __future__ import annotations

import shutil
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hybridcore as hc
from hybridcore.invalidation.bus import START
from hybridcore.invalidation.relay import Relay
from hybridcore.types import Loaded
from tests.coherence.schedules import explore


class HandBus:
    """A bus on which messages arrive when a test delivers them."""

    name = "hand"

    def __init__(self):
        self.arrived, self.under_way = [], []

    def join(self):
        self.arrived.append(START)
        return str(len(self.arrived))

    def publish(self, contents):
        self.under_way += contents
        return "published"

    def receive(self, position, seconds):
        after = int(position)
        return [(str(after + n), content) for n, content in enumerate(self.arrived[after:], 1)]

    def has_lost(self, position):
        return False

    def close(self):
        """Nothing is open."""

    def deliver(self, n, *, again=False):
        self.arrived.append(self.under_way[n] if again else self.under_way.pop(n))


class StillRelay(Relay):
    """A relay that does what it is told, when it is told."""

    def _start(self):
        self._threads = []

    def close(self, seconds=0.0):
        """No thread runs."""

    def publish(self):
        self.wake()
        self._publish()

    def receive(self):
        self._receive()


class Host:
    """A directory with two caches, as of two processes, each of which hears of the bus."""

    def __init__(self, world, directory):
        self.world, self.directory = world, directory
        self.acked = {}
        self.heard = 0
        self.stores, self.relays = [None, None], [None, None]
        for n in (0, 1):
            self.start(n)

    def start(self, n):
        """Have a process, after one that died without a word."""
        if self.stores[n] is not None:
            self.stores[n].close()
        store = hc.HybridCache(
            hc.Memory(100),
            hc.Lmdb(self.directory, max_bytes="8MiB", sweep=None),
            self.world.load,
            defaults=hc.EntryOptions(ttl="1h", stale="1h", lease=None),
            breaker=None,
        )
        engine = store._engine
        self.stores[n] = store
        self.relays[n] = StillRelay(engine.coherence, self.world.bus, engine.disk)
        for _ in range(2):
            self.relays[n].receive()


class World:
    """Two hosts, and what the origin has of each key."""

    def __init__(self, directory):
        self.bus = HandBus()
        self._keys = count()
        self.truth = {}
        self.told = {}  # by position on the bus: what the origin had when it was published
        self.hosts = [Host(self, directory / name) for name in ("one", "two")]
        self.settle()

    def load(self, key):
        return Loaded(self.truth[key], tags=(f"tag {key}",), depends_on=(("base", key),))

    def new_key(self):
        key = next(self._keys)
        self.told.clear()
        self.truth[key] = 0
        for host in self.hosts:
            host.acked[key] = 0
            for store in host.stores:
                assert store.get(key) == 0
        self.settle()  # loads are told of, too
        return key

    def change(self, host, n, key, how):
        self.truth[key] += 1
        version = self.truth[key]
        store = host.stores[n]
        if how == "delete":
            store.delete(key)
        elif how == "put":
            store.put(key, version, tags=[f"tag {key}"], depends_on=[("base", key)])
        elif how == "tag":
            store.invalidate(tags=[f"tag {key}"])
        elif how == "dependency":
            store.put(("base", key), version)
        elif how == "expire":
            store.expire(key)
        elif how == "clear":
            store.clear()
        elif how == "soft clear":
            store.clear(soft=True)
        host.acked[key] = version

    def read(self, host, n, key):
        found = host.stores[n].get(key)
        assert found >= host.acked[key], f"read {found}, knows of {host.acked[key]}"

    def publish(self, host, n):
        before = len(self.bus.under_way)
        host.relays[n].publish()
        for content in self.bus.under_way[before:]:
            self.told[bytes(content)] = dict(host.acked)

    def receive(self, host, n):
        host.relays[n].receive()
        heard, host.heard = host.heard, len(self.bus.arrived)
        for content in self.bus.arrived[heard:]:
            for key, version in self.told.get(bytes(content), {}).items():
                if version > host.acked.get(key, 0):
                    host.acked[key] = version

    def settle(self):
        for _ in range(2):
            for host in self.hosts:
                for n in (0, 1):
                    self.publish(host, n)
            while self.bus.under_way:
                self.bus.deliver(0)
            for host in self.hosts:
                for n in (0, 1):
                    self.receive(host, n)

    def check(self, key):
        self.settle()
        for host in self.hosts:
            for n in (0, 1):
                assert host.stores[n].get(key) == self.truth[key]
        for host in self.hosts:
            host.stores[0].memory.clear()
            assert host.stores[0].get(key) == self.truth[key]

    def close(self):
        for host in self.hosts:
            for store in host.stores:
                store.close()


class Decisions:
    """What to do next, by decisions that `explore` makes."""

    def __init__(self, decisions):
        self._decisions = decisions
        self.taken = []

    def choose(self, alternatives):
        n = len(self.taken)
        chosen = self._decisions[n] if n < len(self._decisions) else 0
        self.taken.append((chosen, len(alternatives)))
        return alternatives[chosen]


def possible(world, left):
    """What can be done now: each thing at most as often as is left of it."""
    for what, times in left.items():
        if not times:
            continue
        if what[0] == "deliver":
            yield from ((what, n) for n in range(len(world.bus.under_way)))
        elif what[0] == "deliver again":
            yield from ((what, n) for n in range(min(1, len(world.bus.under_way))))
        else:
            yield what, None


def do(world, what, which, key):
    """Do one of these."""
    name, *args = what
    if name == "deliver":
        world.bus.deliver(which)
    elif name == "deliver again":
        world.bus.deliver(which, again=True)
    elif name == "restart":
        host, n = args
        world.hosts[host].start(n)
    elif name == "change":
        host, n, how = args
        world.change(world.hosts[host], n, key, how)
    else:
        host, n = args
        getattr(world, name)(world.hosts[host], n, *([key] if name == "read" else []))


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("how", "other"),
    [
        *((how, "delivered twice") for how in ("delete", "put", "tag", "clear")),
        *((how, "another change") for how in ("delete", "dependency")),
        *((how, "restart") for how in ("put", "tag", "expire")),
    ],
)
def test_every_order(world, how, other):
    """A change on one host, its message, and reads on the other, however they come."""
    things = {
        ("change", 0, 0, how): 1,
        ("publish", 0, 1): 1,
        ("deliver",): 2,
        ("receive", 1, 0): 1,
        ("read", 1, 1): 1,
    }
    if other == "delivered twice":
        things["deliver again",] = 1
    elif other == "another change":
        things["change", 1, 1, "delete"] = 1
    else:
        things["restart", 1, 0] = 1
    runs = 0
    for run, _ in explore(Decisions):
        key = world.new_key()
        left = dict(things)
        done = []
        while alternatives := list(possible(world, left)):
            what, which = run.choose(alternatives)
            left[what] -= 1
            done.append(what)
            try:
                do(world, what, which, key)
            except AssertionError as error:
                raise AssertionError(f"{error} after {done}") from None
        world.check(key)
        runs += 1
    assert runs > 50


CHANGES = ["delete", "put", "tag", "dependency", "expire", "clear", "soft clear"]
PLACES = st.tuples(st.integers(0, 1), st.integers(0, 1))
STEPS = st.one_of(
    st.tuples(st.just("change"), st.integers(0, 1), st.integers(0, 1), st.sampled_from(CHANGES)),
    PLACES.map(lambda place: ("publish", *place)),
    PLACES.map(lambda place: ("receive", *place)),
    PLACES.map(lambda place: ("read", *place)),
    PLACES.map(lambda place: ("read", *place)),
    PLACES.map(lambda place: ("restart", *place)),
    st.integers(0, 9).map(lambda n: ("deliver", n)),
    st.integers(0, 9).map(lambda n: ("deliver again", n)),
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(STEPS, st.integers(0, 2)), min_size=10, max_size=60))
def test_long_histories(tmp_path, steps):
    """The same with three keys, and any number of steps."""
    shutil.rmtree(tmp_path / "world", ignore_errors=True)
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world")
    try:
        keys = [world.new_key() for _ in range(3)]
        for (name, *args), n in steps:
            if name.startswith("deliver"):
                waiting = len(world.bus.under_way)
                if waiting:
                    do(world, (name,), args[0] % waiting, keys[n])
            else:
                do(world, (name, *args), None, keys[n])
        for key in keys:
            world.check(key)
    finally:
        world.close()
