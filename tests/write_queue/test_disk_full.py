"""A disk that is full: what was acknowledged stays, the error is clear, and space heals it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource")

FULL = """
import resource, sys, time
from hybridcore import DiskError
from hybridcore.write_queue import WriteQueue

directory, durability = sys.argv[1:]
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
queue = WriteQueue(directory, durability=durability, coalesce=False)
value = bytes(range(256)) * 16
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
acknowledged, error = [], None
try:
    for number in range(10_000):
        queue.put(number, value)
        acknowledged.append(number)
except DiskError as full:
    error = full
assert error is not None and acknowledged, (error, acknowledged)
assert directory in str(error), error
queue.put_nowait("accepted", value)
assert queue.pending(acknowledged[0]).value == queue.pending("accepted").value == value
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
queue.sync(60)
queue.put("after", value)
queue.close(0)

arrived = []
with WriteQueue(directory, lambda batch: arrived.extend(batch), durability=durability) as queue:
    assert queue.flush(60)
assert [one.key for one in arrived] == [*acknowledged, "accepted", "after"]
assert all(one.value == value and one.attempt == 1 for one in arrived)
print(type(error).__name__, error)
"""


@pytest.mark.parametrize("durability", ["power", "process"])
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path, durability):
    """What no page can be written for is refused; what was accepted follows when there is space."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "q"), durability],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "DiskError" in done.stdout or "FullError" in done.stdout
