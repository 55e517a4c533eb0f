"""What a hit costs: no Python frame of the package."""

import os
import sys

import pytest

import hybridcore as hc

from .conftest import Source

PACKAGE = os.path.dirname(hc.__file__)


def frames_of_the_package(work):
    """The functions of the package that run while the work is done, by two ways of looking."""
    seen = []

    def note(frame, event, argument):
        if frame.f_code.co_filename.startswith(PACKAGE):
            seen.append(frame.f_code.co_name)

    before = sys.gettrace(), sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before[1])
    sys.settrace(note)
    try:
        work()
    finally:
        sys.settrace(before[0])
    return seen


@pytest.mark.parametrize("ttl", [None, 1000])
def test_a_hit_runs_no_frame_of_ours(make_store, ttl):
    """get, with a default or without, and [] answer a hit from native code alone."""
    store = make_store(Source({"k": "v"}), ttl=ttl, memory=hc.Cache(10))
    store.get("k")

    def hits():
        for _ in range(3):
            assert store.get("k") == "v"
            assert store.get("k", 1) == "v"
            assert store["k"] == "v"

    assert frames_of_the_package(hits) == []
    assert frames_of_the_package(lambda: store.get("absent"))


def test_an_await_of_a_hit_makes_no_task(make_store):
    """``await store.aio.get(hit)`` ends without giving the event loop a turn."""
    store = make_store(Source({"k": "v"}))
    store.get("k")
    for coroutine in (store.aio.get("k"), store.aio.get_or_load("k", len), store.aio.get_many("k")):
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        assert done.value.value in ("v", {"k": "v"})


def test_a_lone_miss_makes_no_future(make_store):
    """Only a second caller costs a future."""
    flights = []

    def load(key):
        flights.extend(store._engine._flights._flights.values())
        return key

    store = make_store(load)
    store.get("k")
    assert [flight.future for flight in flights] == [None]
    assert not store._engine._flights._flights
