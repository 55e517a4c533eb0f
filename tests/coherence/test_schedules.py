"""Every order in which the steps of a few operations can come, on caches with one directory.

After an invalidation has returned nobody reads what is older, and whatever happened, in the end all
read what the origin has. The steps are those of the real caches: they stop before and after they
read or write the disk, announce, apply what others announced, and ask the origin.
"""

from __future__ import annotations

import os
from itertools import count

import pytest

import hybridcore as hc
from hybridcore import blocking
from hybridcore.types import Loaded
from tests.coherence.schedules import Schedule, explore

MORE = int(os.environ.get("HYBRIDCORE_SWITCHES", "1"))
"""How often an operation that could go on has to wait where there are three: 2 takes an hour."""
WAITS = hc.EntryOptions(ttl="1h", stale="1h", lease=None)
SERVES_STALE = hc.EntryOptions(ttl="1h", stale="1h", lease=None, soft_timeout=0.001)
"""With which a stale copy is served as soon as the load could be late."""


class SteppedLmdb(hc.Lmdb):
    """A disk tier that others can come before and after."""

    stop = staticmethod(lambda name: None)


def _stepped(name, before, after):
    plain = getattr(hc.Lmdb, name)

    def method(self, *args, **options):
        if before:
            self.stop(f"before {name}")
        result = plain(self, *args, **options)
        if after:
            self.stop(f"after {name}")
        return result

    return method


for _name in ("put", "offer", "delete", "outdate", "delete_from"):
    setattr(SteppedLmdb, _name, _stepped(_name, before=True, after=True))
for _name in ("fetch", "fetch_many"):
    setattr(SteppedLmdb, _name, _stepped(_name, before=False, after=True))
SteppedLmdb.clear = _stepped("clear", before=True, after=True)


class Node:
    """A cache as a process has it, whose steps stop at the points of the schedule of now."""

    def __init__(self, world, name, open_it):
        self.world, self.name, self._open = world, name, open_it
        self.start()

    def __repr__(self):
        return self.name

    def start(self):
        self.store = store = self._open(self.world.load, self.world.options)
        if store._engine.disk is not None:
            store._engine.disk.stop = self.world.point
        coherence = store._engine.coherence
        announce, apply = coherence.announce, coherence._apply

        def stepped_announce(number):
            self.world.point("before announce")
            announce(number)
            self.world.point("after announce")

        def stepped_apply(entries):
            others = any(entry.node != coherence.node for entry in entries)
            if others:
                self.world.point("before apply")
            apply(entries)
            if others:
                self.world.point("after apply")

        coherence.announce, coherence._apply = stepped_announce, stepped_apply

    def restart(self):
        self.store.close()
        self.start()

    def is_locked(self):
        return any(lock.is_mine for lock in self.store._engine._flights._locks)


class World:
    """Nodes, the origin behind them, and what has to be read of it."""

    def __init__(self, open_it, nodes, options):
        self.options = options
        self._runs = count()
        self.schedule = None
        self.truth = self.acked = 0
        self.nodes = [Node(self, name, open_it) for name in "ABC"[:nodes]]

    def point(self, name, ready=None):
        if self.schedule is not None:
            self.schedule.point(name, ready)

    def spawn(self, work):
        """Have something done at the same time, in the same node; False if nothing is stepped."""
        return self.schedule is not None and self.schedule.spawn(work)

    def load(self, key):
        if key[1] == "base":
            return None
        self.point("before the origin")
        version = self.truth
        self.point("after the origin")
        return Loaded(version, tags=(self.tag,), depends_on=(self.base,))

    def begin(self):
        """A key of its own for each schedule, so that nothing is left of the others."""
        run = next(self._runs)
        self.key, self.base, self.tag = (run, "k"), (run, "base"), f"tag {run}"
        self.truth = self.acked = 0

    def close(self):
        for node in self.nodes:
            node.store.close()

    # -- what is done ---------------------------------------------------------------------------

    def get(self, node):
        floor = self.acked
        found = node.store.get(self.key)
        assert found is not None
        assert found >= floor, f"{node} read {found} after {floor} was acknowledged"

    def change(self, node, how):
        """Change the origin, and say so; from the return on everybody has to know."""
        self.truth += 1
        version = self.truth
        store = node.store
        if how == "put":
            store.put(self.key, version, tags=[self.tag], depends_on=[self.base])
        elif how == "delete":
            store.delete(self.key)
        elif how == "expire":
            store.expire(self.key)
        elif how == "tag":
            store.invalidate(tags=[self.tag])
        elif how == "soft tag":
            store.invalidate(tags=[self.tag], hard=False)
        elif how == "dependency":
            store.put(self.base, version)
        elif how == "clear":
            store.clear()
        elif how == "soft clear":
            store.clear(soft=True)
        elif how == "prefix":
            store.clear_from(self.key[:1])
        if how in HARD or self.options is WAITS:
            self.acked = max(self.acked, version)


HARD = ("put", "delete", "tag", "dependency", "clear", "prefix")
SOFT = ("expire", "soft tag", "soft clear")
BEFORE = {
    "nothing": lambda world: None,
    "on disk": lambda world: (
        world.nodes[0].store.get(world.key),
        [node.store.memory.clear() for node in world.nodes],
    ),
    "in all memories": lambda world: [node.store.get(world.key) for node in world.nodes],
    "expired": lambda world: (
        [node.store.get(world.key) for node in world.nodes],
        world.nodes[0].store.expire(world.key),
    ),
}


@pytest.fixture(params=["disk", "name"])
def open_it(request, tmp_path, monkeypatch):
    """Opens a cache that is in step with the others."""
    if request.param == "disk":

        def make(load, options):
            disk = SteppedLmdb(tmp_path / "cache", max_bytes="8MiB", sweep=None)
            return hc.HybridCache(hc.Memory(100), disk, load, defaults=options, breaker=None)

    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

        def make(load, options):
            return hc.HybridCache(
                hc.Memory(100), origin=load, defaults=options, breaker=None, coherent="app"
            )

    return make


@pytest.fixture
def world(open_it, monkeypatch):
    """Makes nodes; what they do in the background, and wait for, are steps as well."""
    made = []

    def make(nodes, options=WAITS):
        made.append(World(open_it, nodes, options))
        return made[-1]

    wait_for, in_background = blocking._wait_for, blocking.in_background

    def stepped_wait(wait):
        done = wait.flight.future.done
        made[-1].point("waiting", done if wait.patience is None else None)
        if done():
            wait_for(wait)

    def stepped_in_background(work, *args):
        if not made[-1].spawn(lambda: work(*args)):
            in_background(work, *args)

    monkeypatch.setattr(blocking, "_wait_for", stepped_wait)
    monkeypatch.setattr(blocking, "in_background", stepped_in_background)
    yield make
    for one in made:
        one.close()


def check_all(world, before, operations, *, switches=3, crashes=0, puts=False):
    """Run the operations, ``(node, what)``, in every order; returns how many orders there were."""
    runs = 0

    def make(decisions):
        return Schedule(
            decisions,
            switches=switches,
            crashes=crashes,
            is_locked=Node.is_locked,
            crash=Node.restart,
        )

    for schedule, decisions in explore(make):
        runs += 1
        world.begin()
        BEFORE[before](world)
        for number, (node, what) in enumerate(operations):

            def work(node=world.nodes[node], what=what):
                world.get(node) if what == "get" else world.change(node, what)

            schedule.add(f"{number}: {what}", world.nodes[node], work)
        world.schedule = schedule
        try:
            schedule.run()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{decisions}\n" + "\n".join(schedule.trace)) from None
        finally:
            world.schedule = None
        if crashes:  # whoever died has told nobody, so the next change has to
            world.change(world.nodes[-1], "delete")
        told = "\n".join(schedule.trace)
        for _ in range(2):
            found = [node.store.get(world.key) for node in world.nodes]
            expected = found[0] if puts and found[0] else world.truth
            assert found == [expected] * len(found), f"{found}, not {world.truth}\n{told}"
            for node in world.nodes:
                node.store.memory.clear()
    return runs


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("how", HARD + SOFT)
def test_a_read_and_a_change(world, before, how):
    """A change here, or elsewhere, wins over the read or load that it comes between."""
    nodes = world(2)
    for writer in (0, 1):
        assert check_all(nodes, before, [(0, "get"), (writer, how)], switches=3) > 1


@pytest.mark.parametrize("how", HARD + SOFT)
def test_reads_on_three_nodes_and_a_change(world, how):
    """However reads and loads of several nodes, and of one, come between."""
    nodes = world(3)
    for reader in (0, 2):
        check_all(nodes, "on disk", [(0, "get"), (reader, "get"), (1, how)], switches=MORE)
    check_all(nodes, "nothing", [(0, "get"), (0, "get"), (1, how)], switches=MORE)


@pytest.mark.parametrize("how", HARD)
@pytest.mark.parametrize("writer", [0, 1])
def test_a_stale_copy_served_and_a_change(world, how, writer):
    """A hard change wins over a stale copy that is served while it is loaded in the background."""
    nodes = world(2, SERVES_STALE)
    check_all(nodes, "expired", [(0, "get"), (writer, how), (1, "get")], switches=MORE)


@pytest.mark.parametrize("one", ["delete", "tag", "dependency"])
@pytest.mark.parametrize("other", ["delete", "soft tag", "clear", "prefix"])
def test_two_changes_and_a_read(world, one, other):
    """Changes of two nodes at the same time are both taken note of."""
    check_all(world(3), "in all memories", [(0, one), (1, other), (2, "get")], switches=MORE)


@pytest.mark.parametrize("before", ["on disk", "in all memories", "expired"])
@pytest.mark.parametrize("how", HARD + SOFT)
def test_a_process_that_is_killed(world, before, how):
    """Whoever dies at any point leaves nothing behind that others could not do without."""
    nodes = world(2)
    for writer in (0, 1):
        check_all(nodes, before, [(0, "get"), (writer, how)], switches=MORE, crashes=1)


def test_two_puts_of_a_key(world):
    """All nodes have the same one of two values that were put at the same time."""
    nodes = world(2)
    check_all(nodes, "in all memories", [(0, "put"), (1, "put")], switches=4, puts=True)
