"""Kill -9 at any point: what was acknowledged arrives, in order, and nothing else does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from hybridcore.write_queue import Delivery, Redelivery, WriteQueue

KEYS = 20
KILLS = 200


def produce_and_drain(directory: Path, run: int, *, drains: bool) -> None:
    """A process that writes until it is killed, and brings writes out if it is one that does.

    What is acknowledged goes to the file ``acked``, what the target has to ``applied``; a line in
    either is there when the write to it has returned.
    """
    acked = os.open(directory / "acked", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    applied = os.open(directory / "applied", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    rng = random.Random(run)

    def target(batch):
        for one in batch:
            note(applied, one)
            if rng.random() < 0.02:
                time.sleep(0.003)
        return {one.key: OSError("now and then") for one in batch if rng.random() < 0.05}

    queue = WriteQueue(
        directory / "queue",
        target if drains else None,
        durability="process",
        workers=2,
        redelivery=Redelivery(attempts=1000, wait=0.001, max_wait=0.002),
    )
    for step in range(10**9):
        key, value = 2 * rng.randrange(KEYS // 2) + (not drains), f"{run}.{step}"
        queue.put(key, value)
        os.write(acked, f"{key} {value}\n".encode())


def note(file: int, delivery: Delivery) -> None:
    """Note what arrived."""
    os.write(file, f"{delivery.key} {delivery.value} {delivery.idempotency_key}\n".encode())


def kill_again_and_again(directory: Path) -> None:
    """Run pairs of processes, each killed at a time of its own."""
    rng = random.Random(7)
    for run in range(0, KILLS, 2):
        children = []
        for offset in (0, 1):
            child = os.fork()
            if child == 0:
                try:
                    produce_and_drain(directory, run + offset, drains=offset == 0)
                finally:
                    os._exit(3)
            children.append((time.monotonic() + rng.uniform(0.01, 0.12), child))
        for at, child in sorted(children):
            time.sleep(max(0.0, at - time.monotonic()))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            assert os.WTERMSIG(status) == signal.SIGKILL, status


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_random_points(tmp_path):
    """Fault 2, 3, 4: no acknowledged write is lost or made up, order and identity are kept."""
    script = f"from {__name__} import *; kill_again_and_again(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=110, cwd=Path.cwd())
    applied_file = os.open(tmp_path / "applied", os.O_WRONLY | os.O_APPEND)

    def target(batch):
        for one in batch:
            note(applied_file, one)

    with WriteQueue(tmp_path / "queue", target, durability="process") as queue:
        assert queue.flush(60)
        assert len(queue.dead_letters) == 0
        assert queue.stats().depth == 0
    os.close(applied_file)

    acked = defaultdict(list)
    for line in (tmp_path / "acked").read_text().splitlines():
        key, value = line.split()
        acked[key].append(value)
    content, numbers, last = {}, defaultdict(list), {}
    for line in (tmp_path / "applied").read_text().splitlines():
        key, value, identity = line.split()
        assert content.setdefault(identity, (key, value)) == (key, value)
        numbers[key].append(int(identity.rpartition("-")[2]))
        last[key] = value
    assert sum(map(len, acked.values())) > 10 * KILLS
    for key, order in numbers.items():
        assert order == sorted(order), f"writes of {key} arrived out of order"
    for key, values in acked.items():
        # The last acknowledged write, or one after it whose process died before it could tell.
        assert last[key] == values[-1] or (
            last[key] not in values and moment(last[key]) > moment(values[-1])
        ), (key, last[key], values[-1])


def moment(value: str) -> tuple[int, int]:
    """When a value was written: in which process, and at which step."""
    run, step = value.split(".")
    return int(run), int(step)


def test_a_killed_worker_is_noticed_at_once(tmp_path):
    """What a worker had claimed is brought out again when it has died, not when its lease ends."""
    script = f"""
import os, signal
from hybridcore.write_queue import WriteQueue
queue = WriteQueue({str(tmp_path / "queue")!r}, lease="1h")
queue.put("k", 1)
assert len(queue.take()) == 1
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    with WriteQueue(tmp_path / "queue", lease="1h") as queue:
        (delivery,) = queue.take()
        assert (delivery.key, delivery.attempt) == ("k", 2)


def test_exit_brings_out_what_waits(tmp_path):
    """Fault 14: a process that ends without closing its queue has written it out."""
    script = f"""
import pathlib
from hybridcore.write_queue import WriteQueue
def target(batch):
    with pathlib.Path({str(tmp_path / "rows")!r}).open("a") as rows:
        rows.writelines(f"{{one.key}}\\n" for one in batch)
queue = WriteQueue({str(tmp_path / "queue")!r}, target)
for number in range(500):
    queue.put_nowait(number, number)
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)
    assert len((tmp_path / "rows").read_text().splitlines()) == 500


def test_sigterm_closes_queues(tmp_path):
    """With exit_on_sigterm a process that is asked to end stores what it had only accepted."""
    script = f"""
import os, signal, time
from hybridcore.write_queue import WriteQueue, exit_on_sigterm
exit_on_sigterm()
queue = WriteQueue({str(tmp_path / "queue")!r}, gather="1h")
queue.put_nowait("k", 1)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(30)
"""
    ended = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert ended.returncode == 128 + signal.SIGTERM
    with WriteQueue(tmp_path / "queue") as queue:
        assert queue.pending("k").value == 1


def test_sigterm_at_any_point(tmp_path):
    """A process that is asked to end while it holds a lock of the queue ends, and keeps all."""
    script = f"""
import os, signal
from hybridcore.write_queue import WriteQueue, exit_on_sigterm
exit_on_sigterm()
queue = WriteQueue({str(tmp_path / "queue")!r}, gather="1h")
queue.put_nowait("k", 1)
with queue._committer.lock:
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        pass
"""
    ended = subprocess.run([sys.executable, "-c", script], timeout=30, check=False)
    assert ended.returncode == 128 + signal.SIGTERM
    with WriteQueue(tmp_path / "queue") as queue:
        assert queue.pending("k").value == 1


def test_sigterm_where_somebody_handles_it(tmp_path):
    """A handler that was there decides how the process ends; queues are closed when it does."""
    script = f"""
import os, signal, sys
from hybridcore.write_queue import WriteQueue, exit_on_sigterm
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
exit_on_sigterm()
queue = WriteQueue({str(tmp_path / "queue")!r}, gather="1h")
queue.put_nowait("k", 1)
os.kill(os.getpid(), signal.SIGTERM)
"""
    ended = subprocess.run([sys.executable, "-c", script], timeout=30, check=False)
    assert ended.returncode == 7
    with WriteQueue(tmp_path / "queue") as queue:
        assert queue.pending("k").value == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("opened_in", ["parent", "child"])
def test_children_of_multiprocessing_close_queues(tmp_path, opened_in):
    """A worker process that ends stores what it had only accepted, whoever opened its queue."""
    script = f"""
import multiprocessing
from hybridcore.write_queue import WriteQueue
def opened():
    return WriteQueue({str(tmp_path / "queue")!r}, gather="1h")
def work(queue):
    queue = queue or opened()
    queue.put_nowait("k", 1)
queue = opened() if {opened_in == "parent"} else None
child = multiprocessing.get_context("fork").Process(target=work, args=(queue,))
child.start()
child.join()
assert child.exitcode == 0
"""
    subprocess.run([sys.executable, "-c", script], timeout=30, check=True)
    with WriteQueue(tmp_path / "queue") as queue:
        assert queue.pending("k").value == 1
