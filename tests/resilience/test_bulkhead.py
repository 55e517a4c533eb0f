"""The bulkhead: a bounded number of calls, in their order, threads and tasks together."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

import hybridcore as hc
from hybridcore.bulkhead import Bulkhead, Gate


def full_gate(**options) -> tuple[Gate, int]:
    gate = Gate(Bulkhead(max_concurrent=1, **options), "shop")
    return gate, gate.enter()


def test_threads_and_tasks_wait_in_one_line(wait_until) -> None:
    """A place goes to the one who waited longest, whether thread or task."""
    gate, place = full_gate(max_wait="20s")
    order: list[int] = []

    def thread(number: int) -> None:
        mine = gate.enter()
        order.append(number)
        gate.leave(mine)

    def task(number: int) -> None:
        async def main() -> None:
            mine = await gate.aenter()
            order.append(number)
            gate.leave(mine)

        asyncio.run(main())

    threads = []
    for number in range(8):
        threads.append(threading.Thread(target=(thread, task)[number % 2], args=(number,)))
        threads[-1].start()
        wait_until(lambda n=number: gate.waiting == n + 1)
    assert gate.try_enter() is None
    gate.leave(place)
    for one in threads:
        one.join()
    assert order == list(range(8))
    assert (gate.running, gate.waiting, gate.waited, gate.refused) == (0, 0, 8, 0)


@pytest.mark.parametrize("options", [{"max_wait": "5ms"}, {"max_wait": 0}, {"max_waiting": 0}])
def test_who_waits_in_vain_is_refused(options) -> None:
    """After ``max_wait``, or behind ``max_waiting`` others, a call is refused, and forgotten."""
    gate, place = full_gate(**options)
    with pytest.raises(hc.BulkheadFullError, match="shop has 1 calls under way"):
        gate.enter()
    with pytest.raises(hc.BulkheadFullError):
        asyncio.run(gate.aenter())
    assert (gate.running, gate.waiting, gate.refused) == (1, 0, 2)
    gate.leave(place)
    assert gate.running == 0


def test_cancellations_at_any_moment_lose_no_place() -> None:
    """Tasks are cancelled while they wait, as they are woken, and while they run."""
    draw = random.Random(6)

    async def main() -> None:
        gate = Gate(Bulkhead(max_concurrent=3, max_wait="20s", max_waiting=1000))
        most = 0

        async def work() -> None:
            nonlocal most
            place = await gate.aenter()
            try:
                most = max(most, gate.running)
                await asyncio.sleep(0)
            finally:
                gate.leave(place)

        for _ in range(200):
            tasks = [asyncio.create_task(work()) for _ in range(20)]
            for _ in range(draw.randrange(6)):
                await asyncio.sleep(0)
            for task in draw.sample(tasks, 12):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (gate.running, gate.waiting) == (0, 0)
        assert most == 3

    asyncio.run(main())


def test_a_waiter_whose_loop_was_closed_is_passed_over() -> None:
    """A place that nobody can take any more goes to the next."""
    gate, place = full_gate()
    loop = asyncio.new_event_loop()
    waiting = gate.aenter()
    task = loop.create_task(waiting)
    loop.run_until_complete(asyncio.sleep(0))
    assert gate.waiting == 1
    loop.close()
    gate.leave(place)
    assert (gate.running, gate.waiting) == (0, 0)
    task._log_destroy_pending = False
    waiting.close()
    assert gate.running == 0


def test_an_interrupted_wait_is_forgotten(monkeypatch) -> None:
    """A KeyboardInterrupt in a waiting thread leaves nothing behind."""
    gate, place = full_gate()

    def interrupted(self, timeout):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gate.enter()
    assert gate.waiting == 0
    gate.leave(place)
    assert gate.running == 0


def test_places_of_before_a_fork_are_not_left_twice() -> None:
    """Who held a place before the gate started afresh has none to hand on."""
    gate, place = full_gate()
    gate.start_afresh()
    gate.leave(place)
    assert gate.running == 0


@pytest.mark.parametrize("options", [{"max_concurrent": 0}, {"max_waiting": -1}, {"max_wait": -1}])
def test_nonsense_is_refused(options) -> None:
    """An option that makes no sense is a ConfigurationError."""
    with pytest.raises(hc.ConfigurationError):
        Bulkhead(**options)
