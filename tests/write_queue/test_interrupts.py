"""Who puts may be interrupted at any moment, by Ctrl-C or SIGTERM, and the queue goes on."""

from __future__ import annotations

import random
import signal

import pytest

from hybridcore.write_queue import WriteQueue


class Interrupted(BaseException):
    """As KeyboardInterrupt, which pytest takes for its own."""


@pytest.fixture
def interrupts():
    """Makes the main thread raise after so many seconds."""

    def handler(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
def test_an_interrupted_put_leaves_the_lead_to_others(tmp_path, interrupts):
    """Whenever it is interrupted, commits go on, and what was acknowledged is there."""
    rng = random.Random(5)
    acknowledged = 0
    with WriteQueue(tmp_path / "q", durability="process") as queue:
        queue.put("k", acknowledged)
        for _ in range(150):
            try:
                interrupts(rng.uniform(0.0005, 0.002))
                while True:
                    queue.put("k", acknowledged + 1)
                    acknowledged += 1
            except Interrupted:
                assert queue.sync(1.5), "nobody commits"
                queue.put_nowait("other", acknowledged)
                assert queue.sync(1.5), "nobody commits"
                assert queue.pending("k").value >= acknowledged
