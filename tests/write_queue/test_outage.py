"""An origin that is down for long: the queue asks it now and then, at little cost."""

from __future__ import annotations

import time

from hybridcore import Breaker, HybridCache, Memory
from hybridcore.errors import OriginUnavailableError
from hybridcore.origins import Origin
from hybridcore.types import NotFound
from hybridcore.write_queue import Redelivery, WriteQueue

WRITES, ATTEMPTS, PROBES = 20, 4, 10


class Down(Origin):
    """Takes many at a time, when it is up again."""

    writable = True

    def __init__(self):
        self.calls, self.rows, self.is_up = 0, {}, False

    def load(self, key, held=None):
        return NotFound()

    def store(self, key, value):
        self.store_many({key: value})

    def store_many(self, values):
        self.calls += 1
        if not self.is_up:
            raise OriginUnavailableError("down")
        self.rows.update(values)
        return {}


def test_probes_of_a_breaker_spend_few_attempts(tmp_path):
    """While it fails to close, a breaker lets a write through at a time, and not a batch."""
    origin = Down()
    queue = WriteQueue(
        tmp_path / "q", redelivery=Redelivery(attempts=ATTEMPTS, wait=0.01, max_wait=0.02)
    )
    with HybridCache(
        Memory(99),
        origin=origin,
        strategy="write_behind",
        queue=queue,
        breaker=Breaker(failures=1, open_for=0.05),
    ) as cache:
        for number in range(WRITES):
            queue.put_nowait(number, number)
        deadline = time.monotonic() + 20
        while origin.calls < PROBES and queue.stats().depth and time.monotonic() < deadline:
            time.sleep(0.01)
        origin.is_up = True
        assert cache.flush(20)
        assert len(queue.dead_letters) <= 1 + PROBES // ATTEMPTS
        assert len(origin.rows) == WRITES - len(queue.dead_letters)
