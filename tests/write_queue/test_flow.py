"""A full queue: who has to wait, and what is refused at once."""

from __future__ import annotations

import time

import pytest

from hybridcore.errors import ConfigurationError, QueueFullError
from hybridcore.write_queue import WriteQueue


def test_what_is_larger_than_the_queue_is_refused_at_once(tmp_path):
    """A write that has no room even in an empty queue does not wait for it, and is told so."""
    with WriteQueue(tmp_path / "q", max_bytes="1KiB", block=1) as queue:
        started = time.monotonic()
        with pytest.raises(QueueFullError, match="max_bytes"):
            queue.put("k", bytes(5000))
        assert time.monotonic() - started < 0.5


def test_write_through_with_a_coroutine_function(tmp_path):
    """What only an event loop can call is not called by who puts: it is refused when bound."""

    async def target(batch):
        raise AssertionError

    with (
        pytest.raises(ConfigurationError, match="write_through"),
        WriteQueue(tmp_path / "q", target, workers=0, on_full="write_through"),
    ):
        pass
