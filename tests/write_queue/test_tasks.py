"""Workers as tasks of an event loop: they bring out what waits, and what is left stays on disk."""

from __future__ import annotations

import asyncio

import pytest

from hybridcore.errors import BreakerOpenError, ConfigurationError
from hybridcore.origins import CallableOrigin
from hybridcore.write_queue import Redelivery, WriteQueue, delivery_of


@pytest.fixture
def make(tmp_path):
    queues = []

    def open_queue(*args, **options):
        queue = WriteQueue(tmp_path / "q", *args, workers=0, **options)
        queues.append(queue)
        return queue

    yield open_queue
    for queue in queues:
        queue.close(0)


async def finished(task):
    """Cancel a task that works, and wait until it has ended."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_tasks_bring_writes_to_a_coroutine_function(make):
    """Failures are of single keys, and tried again; order per key is kept."""
    history, failures = [], {3: 2, 5: 1}

    async def target(batch):
        await asyncio.sleep(0)
        errors = {}
        for one in batch:
            if failures.get(one.key):
                failures[one.key] -= 1
                errors[one.key] = OSError("try again")
            else:
                history.append((one.key, one.value, one.attempt))
        return errors

    async def main():
        queue = make(target, coalesce=False, redelivery=Redelivery(wait=0, max_wait=0))
        working = asyncio.create_task(queue.work(3))
        for value in range(2):
            for key in range(10):
                await queue.aput(key, value)
        assert await queue.aflush(30)
        await finished(working)

    asyncio.run(main())
    assert sorted(history) == sorted(
        (key, value, {3: 3, 5: 2}.get(key, 1) if value == 0 else 1)
        for key in range(10)
        for value in range(2)
    )
    for key in range(10):
        assert [value for each, value, _ in history if each == key] == [0, 1]


def test_tasks_call_an_async_origin_in_their_loop(make):
    """``store`` runs in the loop of the application, knows its delivery, and overlaps."""
    rows, keys, running, most = {}, set(), 0, 0

    async def load(key):
        return rows[key]

    async def store(key, value):
        nonlocal running, most
        assert asyncio.get_running_loop() is loop
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        keys.add(delivery_of(key).idempotency_key)
        rows[key] = value

    async def main():
        nonlocal loop
        loop = asyncio.get_running_loop()
        queue = make(CallableOrigin(load, store=store), concurrency=4)
        for key in range(20):
            queue.put_nowait(key, key)
        working = asyncio.create_task(queue.work())
        assert await queue.aflush(30)
        await finished(working)

    loop = None
    asyncio.run(main())
    assert rows == {key: key for key in range(20)}
    assert (len(keys), most) == (20, 4)


def test_a_loop_that_closes_brings_out_what_is_ready(make):
    """``asyncio.run`` cancels the task at its end; what was taken before goes out all the same."""
    rows = {}

    async def target(batch):
        await asyncio.sleep(0.001)
        rows.update({one.key: one.value for one in batch})

    async def main():
        queue = make(target, batch_size=10)
        working = asyncio.create_task(queue.work())
        await asyncio.sleep(0)
        for key in range(100):
            queue.put_nowait(key, key)
        queue.sync()
        return queue, working

    queue, working = asyncio.run(main())
    assert working.cancelled()
    assert rows == {key: key for key in range(100)}
    assert queue.stats().depth == queue.stats().running == 0


def test_what_does_not_go_out_in_time_stays(make):
    """A target that hangs holds up the end of the loop for ``patience`` only; nothing is lost."""
    calls = 0

    async def target(batch):
        nonlocal calls
        calls += 1
        if calls == 1:
            started.set()
            await asyncio.Event().wait()
        raise BreakerOpenError("down", 60)

    async def main():
        nonlocal started
        started = asyncio.Event()
        queue = make(target)
        queue.put("k", 1)
        working = asyncio.create_task(queue.work(patience=0.05))
        await started.wait()
        return queue, working

    started = None
    queue, _ = asyncio.run(main())
    stats = queue.stats()
    assert (stats.depth, stats.dead, stats.running, stats.delayed) == (1, 0, 0, 1)
    assert (calls, queue.pending("k").value) == (2, 1)


def test_a_closed_queue_ends_the_tasks(make):
    """`aclose` from the same loop lets them finish."""
    rows = {}

    async def target(batch):
        rows.update({one.key: one.value for one in batch})

    async def main():
        queue = make(target)
        working = asyncio.create_task(queue.work(2))
        await queue.aput("k", 1)
        assert await queue.aflush(30)
        await queue.aclose()
        await asyncio.wait_for(working, 30)

    asyncio.run(main())
    assert rows == {"k": 1}


def test_tasks_and_threads_are_not_mixed(make, tmp_path):
    """A queue with threads has no tasks, one without a target none either; the errors say so."""

    async def target(batch):
        raise AssertionError

    with pytest.raises(ConfigurationError, match="workers=0"):
        WriteQueue(tmp_path / "other", target)
    with pytest.raises(ConfigurationError, match="no target"):
        asyncio.run(make().work())
    with (
        WriteQueue(tmp_path / "threads", lambda batch: None) as queue,
        pytest.raises(ConfigurationError, match="workers=1"),
    ):
        asyncio.run(queue.work())
    with pytest.raises(ConfigurationError, match="tasks"):
        asyncio.run(queue.work(0))
