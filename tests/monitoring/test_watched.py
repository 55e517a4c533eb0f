"""How the caches of a directory are, as far as another process can know."""

from __future__ import annotations

import pytest

import hybridcore as hc
from hybridcore.monitoring.watched import WatchedDirectory, _health_in
from hybridcore.write_queue import Redelivery

UP = {"hybridcore_uptime_seconds": [(frozenset(), 1.0)]}


def samples(name: str, value: float, **labels: str):
    """A metric of a process that runs."""
    return {f"hybridcore_{name}": [(frozenset(labels.items()), value)]}


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (samples("breaker_state", 1, state="open"), "the breaker of the origin is open"),
        (
            samples("disk_bytes", 97, part="pages") | samples("disk_map_bytes", 100),
            "disk is degraded: pages in use take 97 bytes of 100",
        ),
        (
            samples("disk_readers", 95) | samples("disk_max_readers", 100),
            "disk is degraded: 95 of 100 slots of readers are taken",
        ),
        (samples("queue_oldest_seconds", 61), "the oldest write waits for 61 s"),
        (samples("queue_dead_letters", 2), "2 writes were given up"),
        (samples("coherence_lag_seconds", 31), "invalidations are heard of 31 s late"),
    ],
)
def test_what_metrics_tell(told, reason) -> None:
    """Each limit that `store.health()` knows makes the cache degraded, and is told."""
    state, reasons = _health_in(UP | told, None)
    assert state == "degraded"
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_what_is_within_its_limits() -> None:
    """A full queue that moves, and a map with room, are fine; no process is not known."""
    fine = samples("disk_bytes", 90, part="pages") | samples("disk_map_bytes", 100)
    fine |= samples("queue_oldest_seconds", 5) | samples("breaker_state", 0, state="open")
    assert _health_in(UP | fine, None) == ("ok", ())
    assert _health_in({}, None)[0] == "unknown"


def test_a_directory_with_dead_letters(tmp_path) -> None:
    """They are seen in the queue itself, whether or not a process tells of it."""
    with hc.WriteQueue(tmp_path, redelivery=Redelivery(attempts=1)) as queue:
        queue.put("k", 1)
        watched = WatchedDirectory(tmp_path)
        (seen,) = watched.look()
        assert (seen.state, seen.reasons) == ("ok", ())
        queue.nack(queue.take(), OSError())
        (seen,) = watched.look()
        assert seen.state == "degraded"
        assert "1 writes were given up" in seen.reasons[0]
        watched.close()
