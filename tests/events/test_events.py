"""Events: told off the path of the caller, in order, whatever listeners do."""

from __future__ import annotations

import gc
import logging
import os
import threading
from dataclasses import FrozenInstanceError
from weakref import ref

import pytest

from hybridcore.errors import ClosedError, ConfigurationError
from hybridcore.events import Event, EventBus, EventKind
from hybridcore.types import Tier


@pytest.fixture
def make():
    """Make buses, closed when the test ends."""
    made = []

    def make(*args, **options):
        made.append(EventBus(*args, **options))
        return made[-1]

    yield make
    for bus in made:
        bus.close(5)


def test_listener_hears_in_order(make):
    """Every event arrives, in order, in a thread that is not the caller's."""
    bus, heard = make(), []
    bus.subscribe(lambda event: heard.append((event, threading.current_thread())))
    for n in range(100):
        bus.emit(EventKind.LOAD, n, Tier.ORIGIN, 0.5, "why")
    assert bus.drain(5)
    assert [event.key for event, _ in heard] == list(range(100))
    event, thread = heard[0]
    assert event == Event(EventKind.LOAD, 0, Tier.ORIGIN, 0.5, "why", event.at)
    assert {thread for _, thread in heard} == {thread}
    assert thread.daemon
    assert thread is not threading.current_thread()
    with pytest.raises(FrozenInstanceError):
        event.key = 1


def test_nothing_runs_until_somebody_listens(make):
    """Without a subscription nothing is wanted, queued or started."""
    threads = threading.active_count()
    bus = make()
    assert not bus.wanted
    bus.emit(EventKind.LOAD, 1)
    assert bus.stats().waiting == bus.stats().dropped == 0
    assert threading.active_count() == threads
    bus.subscribe(print, ["hit"])
    assert bus.wanted == {EventKind.HIT}
    assert threading.active_count() == threads + 1


def test_kinds_are_chosen(make):
    """A listener hears the kinds that it asked for, by name or not, and nobody else's."""
    bus, heard = make(), []
    bus.subscribe(lambda event: heard.append(("a", event.kind)), ["load", EventKind.MISS])
    stop = bus.subscribe(lambda event: heard.append(("b", event.kind)), [EventKind.LOAD])
    bus.emit(EventKind.HIT)
    bus.emit(EventKind.LOAD)
    assert bus.drain(5)
    assert heard == [("a", "load"), ("b", "load")]
    stop()
    stop()
    assert bus.wanted == {EventKind.LOAD, EventKind.MISS}
    bus.emit(EventKind.MISS)
    bus.emit(EventKind.LOAD)
    assert bus.drain(5)
    assert heard[2:] == [("a", "miss"), ("a", "load")]


@pytest.mark.parametrize("kinds", [["lod"], "load", [None]])
def test_unknown_kinds_are_refused(make, kinds):
    """The error tells what there is; nothing was subscribed."""
    bus = make()
    with pytest.raises(ConfigurationError):
        bus.subscribe(print, kinds)
    with pytest.raises(ConfigurationError):
        bus.subscribe("no function")
    assert bus.stats().listeners == 0


def test_what_does_not_fit_is_dropped(make):
    """A slow listener costs events, never the caller's time."""
    bus, go_on, entered = make(5), threading.Event(), threading.Event()

    def slow(event):
        entered.set()
        assert go_on.wait(20)

    bus.subscribe(slow)
    bus.emit(EventKind.LOAD, 0)
    assert entered.wait(5)
    for n in range(20):
        bus.emit(EventKind.LOAD, n)
    go_on.set()
    assert bus.drain(5)
    stats = bus.stats()
    assert (stats.delivered, stats.dropped, stats.waiting) == (6, 15, 0)


@pytest.mark.parametrize("error", [ValueError("the-secret"), SystemExit(1)])
def test_listeners_that_raise_harm_nobody(make, error, caplog):
    """Failures are counted and told once per listener in a while, without what they say."""
    bus, heard = make(), []

    def fails(event):
        raise error

    bus.subscribe(fails)
    bus.subscribe(heard.append)
    bus.subscribe(lambda event: fails(event))
    for n in range(10):
        bus.emit(EventKind.LOAD, n)
    assert bus.drain(5)
    assert len(heard) == 10
    assert bus.stats().failed == 20
    records = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(records) == 2
    assert "the-secret" not in caplog.text
    assert type(error).__name__ in caplog.text
    assert "test_events.py" in caplog.text


def test_listeners_may_use_the_bus(make):
    """A listener may emit, subscribe, unsubscribe, and ask to drain or close, without harm."""
    bus, heard = make(), []

    def listener(event):
        heard.append((event.key, bus.drain(60)))
        stop()
        bus.subscribe(lambda event: heard.append(event.key))
        bus.emit(EventKind.LOAD, 2)

    stop = bus.subscribe(listener)
    bus.emit(EventKind.LOAD, 1)
    for _ in range(2):
        assert bus.drain(5)
    assert heard == [(1, False), 2]


def test_listener_may_close(make):
    """Closing in a listener takes no more events, and what waits is still delivered."""
    bus, heard, go_on = make(), [], threading.Event()

    def listener(event):
        assert go_on.wait(20)
        heard.append(event.key)
        if event.key == 1:
            assert not bus.close(60)

    bus.subscribe(listener)
    bus.emit(EventKind.LOAD, 1)
    bus.emit(EventKind.LOAD, 2)
    go_on.set()
    bus._thread.join(5)
    assert heard == [1, 2]


def test_close_delivers_what_waits(make):
    """After close the thread has ended, nothing is taken, and nobody can subscribe."""
    bus, heard = make(), []
    bus.subscribe(heard.append)
    for n in range(50):
        bus.emit(EventKind.LOAD, n)
    assert bus.close(5)
    assert len(heard) == 50
    assert not bus._thread.is_alive()
    bus.emit(EventKind.LOAD, 51)
    assert not bus.wanted
    assert bus.drain()
    assert bus.close()
    with pytest.raises(ClosedError):
        bus.subscribe(print)


def test_close_does_not_wait_for_ever(make):
    """A listener that hangs is left behind, and what waits for it is dropped."""
    bus, go_on, heard = make(), threading.Event(), []

    def slow(event):
        assert go_on.wait(20)
        heard.append(event.key)

    bus.subscribe(slow)
    bus.emit(EventKind.LOAD, 1)
    bus.emit(EventKind.LOAD, 2)
    assert not bus.close(0.02)
    go_on.set()
    bus._thread.join(5)
    assert not bus._thread.is_alive()
    assert heard == [1]


def test_forgotten_bus_leaves_no_thread():
    """A bus that nobody closed ends its thread when it is collected."""
    bus = EventBus()
    bus.subscribe(print, ["hit"])
    thread, gone = bus._thread, ref(bus)
    del bus
    gc.collect()
    assert gone() is None
    thread.join(5)
    assert not thread.is_alive()


def test_destructors_may_emit(make):
    """An object that dies anywhere, even while the bus works, may tell of it."""
    bus, heard = make(), []
    bus.subscribe(lambda event: heard.append(event.key), ["evicted"])

    class Dying:
        def __del__(self):
            bus.emit(EventKind.EVICTED, "dead")

    with bus._lock:
        Dying()
    assert bus.drain(5)
    assert heard == ["dead"]


def test_many_threads(make):
    """Events of one thread stay in their order; none is lost or told twice."""
    bus, heard = make(), []
    bus.subscribe(lambda event: heard.append(event.key))

    def emit(me):
        for n in range(200):
            bus.emit(EventKind.LOAD, (me, n))

    threads = [threading.Thread(target=emit, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bus.drain(5)
    assert len(heard) == 1600
    for me in range(8):
        assert [n for who, n in heard if who == me] == list(range(200))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fork(make):
    """The child has the listeners and none of the events; its thread starts with its first."""
    bus, heard, go_on, entered = make(), [], threading.Event(), threading.Event()

    def listener(event):
        entered.set()
        assert go_on.wait(20)
        heard.append(event.key)

    bus.subscribe(listener)
    bus.emit(EventKind.LOAD, "parent 1")
    bus.emit(EventKind.LOAD, "parent 2")
    assert entered.wait(5)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            go_on.set()
            assert threading.active_count() == 1
            assert bus.drain(0)
            bus.emit(EventKind.LOAD, "child")
            assert bus.drain(10)
            assert heard == ["child"]
            assert bus.close(10)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    assert bus.drain(5)
    assert heard == ["parent 1", "parent 2"]


@pytest.mark.parametrize("bad", [0, -1, "many"])
def test_bound_must_make_sense(bad):
    """A bus needs room for one event."""
    with pytest.raises(ConfigurationError):
        EventBus(bad)
