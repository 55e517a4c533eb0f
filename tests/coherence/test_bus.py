"""Hosts that share a bus: what one of them invalidates, none of them serves."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import ExitStack, suppress

import pytest

from hybridcore import EntryOptions, HybridCache, Lmdb, Memory
from hybridcore.invalidation.bus import BusError, Message, packed
from hybridcore.invalidation.redis_bus import RedisBus
from hybridcore.testing.local_bus import LocalBus
from hybridcore.types import Loaded
from tests.redis_server import RedisServer


def eventually(condition, seconds=5.0):
    """Wait until something holds, and return how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not come to be"
        time.sleep(0.001)
    return time.monotonic() - started


@pytest.fixture
def host(tmp_path):
    """Opens a cache in a directory of its own: a host, or another process of it."""
    with ExitStack() as stack:

        def open_it(name, bus, origin):
            store = stack.enter_context(
                HybridCache(
                    Memory(1000),
                    Lmdb(tmp_path / name, max_bytes="8MiB"),
                    lambda key: Loaded(origin[key], tags=("all",)),
                    defaults=EntryOptions(ttl="1h"),
                    breaker=None,
                )
            )
            store.relay = store.connect(bus)
            eventually(lambda: store.relay.stats().gaps)
            return store

        yield open_it


@pytest.mark.parametrize("how", ["key", "tag", "clear", "prefix", "put"])
def test_what_is_invalidated_on_one_host_is_on_the_other(host, how):
    """A delete, tag, clear, prefix or put of one host takes effect on the other."""
    bus, origin = LocalBus(), {("a", 1): 1}
    one, other = host("one", bus, origin), host("other", bus, origin)
    key = ("a", 1)
    eventually(lambda: other.get(key) == 1 and one.get(key) == 1)
    origin[key] = 2
    if how == "key":
        one.delete(key)
    elif how == "tag":
        one.invalidate(tags=["all"])
    elif how == "clear":
        one.clear()
    elif how == "prefix":
        one.namespace("a").clear()
    else:
        one.put(key, 2)
    eventually(lambda: other.get(key) == 2)
    assert one.get(key) == 2


def test_no_values_are_on_the_bus(host):
    """Messages tell keys and tags, never what is cached (Fault 32)."""
    bus, origin = LocalBus(), {}
    one = host("one", bus, origin)
    one.put("k", "canary-7f3a", tags=["t"])
    one.invalidate(tags=["t"])
    eventually(lambda: one.relay.stats().published >= 2)
    assert not any(b"canary" in content for content in bus._arrived)


@pytest.mark.parametrize("seed", range(3))
def test_late_repeated_and_reordered_messages_converge(host, seed):
    """Messages may come late, twice and in another order: nothing stale stays (Fault 27)."""
    bus = LocalBus(delay=0.02, duplicates=0.5, seed=seed)
    origin = dict.fromkeys(range(8), 0)
    hosts = [host(name, bus, origin) for name in ("one", "two", "three")]
    for version in range(1, 15):
        for key in origin:
            store = hosts[(key + version) % 3]
            origin[key] = version
            store.delete(key) if version % 3 else store.invalidate(tags=["all"])
            hosts[(key + version + 1) % 3].get(key)
    eventually(lambda: all(store.get(key) == 14 for store in hosts for key in origin))
    assert sum(store.relay.stats().duplicates for store in hosts) > 0


def test_what_was_not_published_is_published_later_in_order(host):
    """While the bus is down the log keeps what is to be told (Fault 25)."""
    bus, origin = LocalBus(), {"a": 1}
    one, other = host("one", bus, origin), host("other", bus, origin)
    eventually(lambda: other.get("a") == 1)
    bus.is_down = True
    origin["a"] = 2
    one.delete("a")
    one.delete("b")
    eventually(lambda: not one.relay.stats().connected)
    assert other.get("a") == 1
    kept = one.stats().coherence.buses[bus.name]
    assert kept.waiting >= 2
    assert kept.waited > 0
    bus.is_down = False
    eventually(lambda: other.get("a") == 2)
    assert other.stats().coherence.buses[bus.name].applied >= 2
    eventually(lambda: one.stats().coherence.buses[bus.name].waiting == 0)
    keys = [entry.keys for entry in other.invalidation_log() if entry.cause == "bus"]
    assert keys[-2:] == [("a",), ("b",)]


def test_who_missed_trimmed_messages_loads_everything_anew(host):
    """A reader that the stream has left behind believes nothing it holds (Fault 26)."""
    bus, origin = LocalBus(), {"a": 1}
    one, other = host("one", bus, origin), host("other", bus, origin)
    eventually(lambda: other.get("a") == 1)
    receive, bus.receive = bus.receive, lambda position, seconds: _fail()
    origin["a"] = 2
    one.delete("a")
    eventually(lambda: one.relay.stats().published > 0)
    bus.receive = receive
    with bus._changed:
        bus._arrived.append(bus._under_way.pop()[2]) if bus._under_way else None
    bus.trim()
    eventually(lambda: other.get("a") == 2)


def _fail():
    time.sleep(0.01)
    raise BusError("no answer")


def test_what_a_crashed_server_lost_is_made_up_for(host):
    """Published, acknowledged and lost before anybody received it: all load anew (Fault 25)."""
    bus, origin = LocalBus(delay=100), {"a": 1}
    one, other = host("one", bus, origin), host("other", bus, origin)
    eventually(lambda: other.get("a") == 1)
    origin["a"] = 2
    one.delete("a")
    eventually(lambda: one.relay.stats().published > 0)
    bus.delay = 0.0
    bus.lose()
    eventually(lambda: other.get("a") == 2)


def test_a_message_that_nobody_understands_invalidates_everything(host):
    """A message of another version may mean anything, so it does."""
    bus, origin = LocalBus(), {"a": 1}
    one = host("one", bus, origin)
    eventually(lambda: one.get("a") == 1)
    for content in (b"\xc1 what", packed(Message(1, 1, 1, 1, "key", keys=(b"\xff",)))):
        origin["a"] += 1
        bus.publish([content])
        eventually(lambda: one.get("a") == origin["a"])


def test_a_message_does_not_undo_what_came_long_after_it(host):
    """What was stored a long time after an invalidation is not touched by its second message."""
    bus, origin = LocalBus(), {}
    one = host("one", bus, origin)
    one.put("k", "new")
    stamp = time.time_ns() - 3600 * 10**9
    old = one._engine.coherence._encode("k")
    bus.publish([packed(Message(1, 1, 1, stamp, "key", keys=(old,)))])
    eventually(lambda: one.relay.stats().applied == 1)
    assert one.get("k") == "new"


# -- with a real server and real processes --------------------------------------------------------


def serve(directory, url, origin, pipe):
    """A process of a host: does what it is told by the pipe."""
    with HybridCache(
        Memory(1000),
        Lmdb(directory, max_bytes="8MiB"),
        lambda key: origin[key],
        defaults=EntryOptions(ttl="1h", stale="1h"),
        breaker=None,
    ) as store:
        relay = store.connect(RedisBus(url))
        while True:
            what, *args = pipe.recv()
            if what == "end":
                return
            pipe.send(relay.stats() if what == "stats" else getattr(store, what)(*args))


class Worker:
    """The end of such a process that tells it."""

    def __init__(self, directory, url, origin):
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(directory, url, origin, other))
        self.process.start()

    def __getattr__(self, name):
        def call(*args):
            self._pipe.send((name, *args))
            assert self._pipe.poll(20), "the process does not answer"
            return self._pipe.recv()

        return call

    def end(self):
        with suppress(OSError):
            self._pipe.send(("end",))
        self.process.join(10)
        assert self.process.exitcode == 0


KEYS = 5


class Redis(RedisServer):
    programs = ("redis-server",)


class Valkey(RedisServer):
    programs = ("valkey-server",)


@pytest.fixture(params=[Redis, Valkey])
def world(tmp_path, request):
    """A server, an origin that all share, and two hosts of two processes each."""
    server = request.param(tmp_path / "redis")
    origin = multiprocessing.get_context("spawn").Array("q", KEYS)
    workers = []
    try:
        for name in ("one", "one", "other", "other"):
            Lmdb(tmp_path / name, max_bytes="8MiB").close()
            workers.append(Worker(tmp_path / name, server.url, origin))
        for worker in workers:
            eventually(lambda worker=worker: worker.stats().connected, 20)
        yield server, origin, workers
        for worker in workers:
            worker.end()
    finally:
        for worker in workers:
            worker.process.kill()
        server.kill()


def change(origin, worker, value):
    """Change everything at the origin, and say so to one process."""
    for key in range(KEYS):
        origin[key] = value
        worker.delete(key)


def settled(workers, value):
    return all(worker.get(key) == value for worker in workers for key in range(KEYS))


@pytest.mark.slow
def test_hosts_converge_whatever_becomes_of_redis(world):
    """Killed, hung, paused, trimmed: a second after it is back nothing is stale (Fault 25, 26)."""
    server, origin, workers = world
    eventually(lambda: settled(workers, 0))
    change(origin, workers[0], 1)
    assert eventually(lambda: settled(workers, 1)) < 1.0

    server.kill()  # and all it has is gone
    change(origin, workers[1], 2)
    assert settled(workers[:2], 2)
    server.start()
    assert eventually(lambda: settled(workers, 2)) < 1.0

    server.freeze()
    change(origin, workers[2], 3)
    time.sleep(0.3)
    server.thaw()
    assert eventually(lambda: settled(workers, 3)) < 1.0

    server.do("CLIENT", "PAUSE", 400)
    change(origin, workers[3], 4)
    assert eventually(lambda: settled(workers, 4)) < 1.4

    server.do("XTRIM", "hybridcore", "MAXLEN", 0)
    change(origin, workers[0], 5)
    assert eventually(lambda: settled(workers, 5)) < 1.0

    for value in range(6, 12):  # nothing that was on its way comes back
        change(origin, workers[value % 4], value)
        assert eventually(lambda value=value: settled(workers, value)) < 1.0


@pytest.mark.slow
def test_a_host_that_was_away_hears_what_it_missed(world, tmp_path):
    """A directory resumes after the message that it applied last, in whatever process."""
    server, origin, workers = world
    eventually(lambda: settled(workers, 0))
    for worker in workers[2:]:
        worker.end()
    change(origin, workers[0], 1)
    returned = Worker(tmp_path / "other", server.url, origin)
    try:
        eventually(lambda: settled([returned], 1))
        assert returned.stats().gaps == 0
        returned.end()
    finally:
        returned.process.kill()
        workers[2:] = []
