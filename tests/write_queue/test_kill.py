"""Kill -9 at any point: what was acknowledged arrives, in order, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest

from hybridcore.write_queue import WriteQueue
from tests.kills import judge, kill_and_judge

KILLS = 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_random_points(tmp_path):
    """Fault 2, 3, 4: no acknowledged write is lost or made up, order and identity are kept."""
    outcome = kill_and_judge(tmp_path, KILLS)
    assert outcome.acknowledged > 10 * KILLS
    right = {"lost": 0, "phantom": 0, "renamed": 0, "disordered": 0, "unlike_model": 0}
    assert asdict(outcome) | right | {"dead": 0, "left": 0} == asdict(outcome)


@pytest.mark.parametrize(
    ("applied", "coalesce", "wrong"),
    [
        ("0 0.1 q-1, 0 0.3 q-3, 1 0.2 q-2", True, {}),
        ("0 0.1 q-1, 0 0.3 q-3, 0 0.3 q-3, 1 0.2 q-2", True, {"redelivered": 1}),
        ("0 0.1 q-1, 0 0.3 q-3, 1 0.2 q-2", False, {}),
        ("0 0.3 q-3, 1 0.2 q-2", True, {}),
        ("0 0.3 q-3, 1 0.2 q-2", False, {"lost": 1}),
        ("0 0.1 q-1, 1 0.2 q-2", True, {"lost": 1, "unlike_model": 1}),
        (
            "0 0.1 q-1, 0 0.3 q-3, 0 0.1 q-1, 1 0.2 q-2",
            True,
            {"redelivered": 1, "disordered": 1, "unlike_model": 1},
        ),
        ("0 0.1 q-1, 0 0.3 q-3, 1 0.2 q-2, 1 0.4 q-4", True, {}),
        ("0 0.1 q-1, 0 0.3 q-3, 1 0.2 q-2, 1 0.5 q-5", True, {"phantom": 1, "unlike_model": 1}),
        ("0 0.1 q-1, 0 0.1 q-2, 0 0.3 q-3, 1 0.2 q-2", True, {"renamed": 2, "redelivered": 1}),
    ],
)
def test_the_judge(tmp_path, applied, coalesce, wrong):
    """Each kind of what must not happen is told from the files; 0.4 was put, not acknowledged."""
    (tmp_path / "acked").write_text("0 0.1\n1 0.2\n0 0.3\n")
    (tmp_path / "tried").write_text("0 0.1\n1 0.2\n0 0.3\n1 0.4\n")
    (tmp_path / "applied").write_text(applied.replace(", ", "\n"))
    outcome = asdict(judge(tmp_path, 0, 0, 0, coalesce))
    counted = {"acknowledged": 3, "delivered": applied.count("q-")}
    assert {name: number for name, number in outcome.items() if number} == counted | wrong


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
