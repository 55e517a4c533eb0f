"""Forked children of a process with a coherent cache are in step like any other process."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import ExitStack

import pytest

import hybridcore as hc
from hybridcore.invalidation.redis_bus import RedisBus
from tests.coherence.test_bus import eventually
from tests.redis_server import RedisServer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def serve(store, pipe):
    """A child: does what it is told by the pipe."""
    while True:
        what, *args = pipe.recv()
        if what == "end":
            return
        if what == "stats":
            pipe.send(store._engine.attached[0].stats())
        else:
            options = args.pop() if args and isinstance(args[-1], dict) else {}
            pipe.send(getattr(store, what)(*args, **options))


class Child:
    """A forked child, told by the parent what to do with the cache it was forked with."""

    def __init__(self, store):
        context = multiprocessing.get_context("fork")
        self._pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(store, other))
        self.process.start()

    def __getattr__(self, name):
        def call(*args):
            self._pipe.send((name, *args))
            assert self._pipe.poll(20), "the child does not answer"
            return self._pipe.recv()

        return call

    def end(self):
        self._pipe.send(("end",))
        self.process.join(20)
        if self.process.exitcode is None:
            self.process.kill()
        assert self.process.exitcode == 0


@pytest.fixture(params=["disk", "name"])
def store(request, tmp_path, monkeypatch):
    """A cache that is in step with others by its disk, or by its name."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    disk = hc.Lmdb(tmp_path / "cache", max_bytes="8MiB") if request.param == "disk" else None
    name = "app" if disk is None else None
    with hc.HybridCache(hc.Memory(100), disk, coherent=name, breaker=None) as made:
        yield made


def test_parent_and_child_are_in_step(store):
    """What either invalidates, the other one does not serve, from the first get on."""
    store.put("k", 1, tags=["t"])
    store.put("l", 1)
    assert store.get("k") == 1
    child = Child(store)
    try:
        assert child.get("k") == 1  # it has the parent's memory
        store.invalidate(tags=["t"])
        assert child.get("k") is None
        child.delete("l")
        assert store.get("l") is None
        for version in range(5):
            store.put("k", version, tags=["t"])
            assert child.get("k") in (version, None)
            child.invalidate({"tags": ["t"]})
            assert store.get("k") is None
        nodes = {entry.node for entry in store.invalidation_log()}
        assert len(nodes) == 2, "the child is a node of its own"
    finally:
        child.end()
    store.put("k", 9)
    assert store.get("k") == 9


@pytest.fixture
def stack():
    """What is ended after a test."""
    with ExitStack() as made:
        yield made


def test_a_fork_with_a_live_relay(tmp_path, stack):
    """The child has a relay of its own, and the parent's goes on."""
    server = RedisServer(tmp_path / "redis")
    stack.callback(server.kill)
    with (
        hc.HybridCache(hc.Memory(9), hc.Lmdb(tmp_path / "one", max_bytes="8MiB")) as store,
        hc.HybridCache(hc.Memory(9), hc.Lmdb(tmp_path / "two", max_bytes="8MiB")) as remote,
    ):
        relay, other = (one.connect(RedisBus(server.url)) for one in (store, remote))
        eventually(lambda: relay.stats().gaps and other.stats().gaps)
        store.put("k", 1)
        remote.put("k", 1)
        eventually(lambda: other.stats().applied)
        remote.put("k", 2)
        child = Child(store)
        try:
            eventually(lambda: child.stats().connected)
            child.delete("k")  # the child's entry is in the log, and the parent publishes it
            eventually(lambda: remote.get("k") is None)
            remote.put("m", 1)
            store.put("m", 1)
            eventually(lambda: remote.get("m") is None)
        finally:
            child.end()
