"""However a target fails, a write that fails holds up no other, and is told of."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hybridcore.errors import OriginUnavailableError
from hybridcore.origins import CallableOrigin
from hybridcore.write_queue import MemoryQueue, Redelivery, WriteQueue


class Speechless(Exception):
    def __str__(self):
        raise ValueError("no words")


def asking(error, patience):
    """An error of a library that tells in its own way when to come back."""
    error.retry_after = patience
    return error


ODD = {
    "text": "no such column",
    "class": OSError,
    "surrogates": OSError("\udcff"),
    "long": OSError("x" * 100_000),
    "retry_after text": asking(OSError(), "Mon, 23 Nov 2026 16:00:00 GMT"),
    "retry_after timedelta": asking(OSError(), timedelta(seconds=1)),
    "retry_after nan": asking(OSError(), float("nan")),
    "speechless": Speechless(),
    "ours, with text": OriginUnavailableError("busy", retry_after="1"),
}


@pytest.mark.parametrize("failure", ODD.values(), ids=ODD)
def test_an_odd_failure_is_a_failure(tmp_path, failure):
    """Errors that are none, or that cannot be told, are tried again and die like others."""
    rows = {}

    def target(batch):
        rows.update({one.key: one.value for one in batch if one.key != "odd"})
        return {one.key: failure for one in batch if one.key == "odd"}

    redelivery = Redelivery(attempts=2, wait=0, max_wait=0)
    with WriteQueue(tmp_path / "q", target, redelivery=redelivery) as queue:
        queue.put_nowait("odd", 1)
        queue.put_nowait("fine", 2)
        assert queue.flush(2)
        assert rows == {"fine": 2}
        (letter,) = queue.dead_letters
        assert (letter.key, letter.reason, letter.attempts) == ("odd", "attempts", 2)
        assert len(letter.message) < 40_000


@pytest.mark.parametrize("failure", [each for each in ODD.values() if isinstance(each, OSError)])
def test_in_memory_too(failure):
    """A queue in memory drops such a write after its last try, and goes on."""
    rows, dropped = {}, []

    def store(key, value):
        if key == "odd":
            raise failure
        rows[key] = value

    queue = MemoryQueue(
        CallableOrigin(rows.get, store=store),
        retries=1,
        base_delay=0,
        on_drop=lambda operation, error: dropped.append((operation.key, error)),
    )
    queue.put("odd", 1)
    queue.put("fine", 2)
    assert queue.flush(5)
    assert (rows, dropped) == ({"fine": 2}, [("odd", failure)])
    queue.close()
