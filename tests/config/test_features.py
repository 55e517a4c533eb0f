"""Feature flags: off anywhere is off, for whom it was said, and for as long."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import hybridcore as hc
from hybridcore import features
from hybridcore.features import FEATURES, Flags


@pytest.fixture(autouse=True)
def _all_on():
    yield
    hc.enable(*FEATURES)
    assert not features._blocks


def test_all_are_on():
    """Nothing is off unless somebody says so, and one attribute tells."""
    flags = Flags()
    assert flags.restricted is False
    assert all(flags.is_enabled(name) and hc.is_enabled(name) for name in FEATURES)
    assert flags.off() == frozenset()


def test_globally():
    """A feature is switched off and on for the caches there are and those to come."""
    before = Flags()
    hc.disable("warming", "disk")
    after = Flags()
    for flags in (before, after):
        assert flags.restricted
        assert flags.off() == {"warming", "disk"}
        assert flags.may_be_off("disk")
        assert not flags.may_be_off("stale")
    hc.enable("warming")
    assert before.off() == {"disk"}
    hc.enable("disk", "stale")
    assert not before.restricted
    assert not after.restricted


def test_per_cache():
    """What one cache has off concerns no other; off globally stays off."""
    mine, other = Flags({"warming": False, "disk": True}), Flags()
    assert mine.off() == {"warming"}
    assert mine.restricted
    assert not other.restricted
    assert other.is_enabled("warming")
    mine.disable("stale")
    assert mine.off() == {"warming", "stale"}
    mine.enable("warming", "stale")
    assert not mine.restricted
    hc.disable("stale")
    mine.enable("stale")
    assert not mine.is_enabled("stale")


def test_block():
    """A block has features off for what it calls, on top of the blocks around it."""
    flags = Flags()
    with hc.disabled("warming"):
        assert flags.off() == {"warming"}
        with hc.disabled("warming", "stale"):
            assert flags.off() == {"warming", "stale"}
        assert flags.off() == {"warming"}
        assert Flags().restricted
    assert flags.off() == frozenset()
    assert not flags.restricted
    with pytest.raises(KeyError), hc.disabled("disk"):
        raise KeyError
    assert hc.is_enabled("disk")


def test_block_concerns_its_thread():
    """Other threads are not affected by a block."""
    flags = Flags()
    with hc.disabled("disk"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(flags.is_enabled, "disk").result()
        assert flags.may_be_off("disk")
        assert not flags.is_enabled("disk")


def test_block_concerns_its_task():
    """Other tasks are not affected by a block that waits."""
    flags = Flags()

    async def within(go: asyncio.Event, entered: asyncio.Event) -> bool:
        with hc.disabled("disk"):
            entered.set()
            await go.wait()
            return flags.is_enabled("disk")

    async def main() -> None:
        go, entered = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(within(go, entered))
        await entered.wait()
        assert flags.is_enabled("disk")
        go.set()
        assert await task is False

    asyncio.run(main())
    assert not flags.restricted


def test_block_ends_for_its_tasks():
    """A task that a block started has the features back when the block ends."""
    flags = Flags()

    async def later(seen: list[bool], go: asyncio.Event) -> None:
        seen.append(flags.is_enabled("warming"))
        await go.wait()
        with hc.disabled("stale"):  # so that somebody has to look
            seen.append(flags.is_enabled("warming"))

    async def main() -> None:
        seen: list[bool] = []
        go = asyncio.Event()
        with hc.disabled("warming"):
            task = asyncio.create_task(later(seen, go))
            while not seen:
                await asyncio.sleep(0)
        go.set()
        await task
        assert seen == [False, True]

    asyncio.run(main())


def test_decorator():
    """A decorated function, sync or async, runs in a block of its own each time."""

    @hc.disabled("stale")
    def recursive(depth: int) -> bool:
        return hc.is_enabled("stale") or (depth > 0 and recursive(depth - 1))

    @hc.disabled("stale")
    async def waits() -> bool:
        await asyncio.sleep(0)
        return hc.is_enabled("stale")

    async def main() -> list[bool]:
        return await asyncio.gather(*(waits() for _ in range(5)))

    assert recursive(3) is False
    assert recursive.__name__ == "recursive"
    assert asyncio.run(main()) == [False] * 5
    assert hc.is_enabled("stale")
    with pytest.raises(hc.ConfigurationError, match="into it"):

        @hc.disabled("stale")
        def pieces():
            yield


def test_block_is_entered_once():
    """One block that several share would end for all with the first: it is refused."""
    block = hc.disabled("stale")
    with block:
        with pytest.raises(RuntimeError, match="make another"):
            block.__enter__()
        assert not hc.is_enabled("stale")
    with block:
        assert not hc.is_enabled("stale")
    assert hc.is_enabled("stale")


def test_unknown_names():
    """A name that does not exist is refused with the nearest one, and nothing is switched."""
    for call in (
        lambda: hc.disable("disk", "warmin"),
        lambda: hc.enable("warmin"),
        lambda: hc.disabled("warmin"),
        lambda: hc.is_enabled("warmin"),
        lambda: Flags({"warmin": False}),
        lambda: Flags().disable("warmin"),
    ):
        with pytest.raises(hc.ConfigurationError, match="'warmin'; did you mean 'warming'"):
            call()
    assert hc.is_enabled("disk")
    with pytest.raises(hc.ConfigurationError, match="there are memory, disk, origin"):
        hc.disable("xyzzy")
    with pytest.raises(hc.ConfigurationError, match="warming is expected to be True or False"):
        Flags({"warming": "off"})


def test_changes_are_told():
    """Who has to act when something is switched anywhere is told."""
    told = []
    flags = Flags(changed=lambda: told.append(flags.may_be_off("memory")))
    hc.disable("memory")
    hc.enable("memory")
    with hc.disabled("memory"):
        pass
    flags.disable("memory")
    assert told == [True, False, True, False, True]


def test_environment():
    """HYBRIDCORE_DISABLE names what is off from the start; a wrong name is an error."""
    code = "import hybridcore as hc; print(hc.is_enabled('disk'), hc.is_enabled('stale'))"

    def run(value: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "HYBRIDCORE_DISABLE": value}
        return subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True
        )

    assert run("disk, warming").stdout == "False True\n"
    assert run("").stdout == "True True\n"
    assert "HYBRIDCORE_DISABLE: there is no feature 'dsk'; did you mean" in run("dsk").stderr


def test_many_threads():
    """Blocks in many threads at once leave nothing behind."""
    flags = Flags()
    start = threading.Barrier(4)

    def work() -> bool:
        start.wait()
        right = True
        for _ in range(100):
            with hc.disabled("stale"):
                right &= flags.restricted and not flags.is_enabled("stale")
            right &= flags.is_enabled("stale")
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(future.result() for future in [pool.submit(work) for _ in range(4)])
    assert not flags.restricted
