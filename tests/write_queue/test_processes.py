"""Several processes over one queue: who puts need not be who brings out."""

from __future__ import annotations

import subprocess
import sys

from hybridcore.write_queue import WriteQueue


def test_a_worker_that_began_with_nothing_to_do(tmp_path):
    """A process that only brings writes out does so, although none waited when it began."""
    script = f"""
import sys
from hybridcore.write_queue import WriteQueue
with WriteQueue({str(tmp_path / "queue")!r}, lambda batch: None):
    print("ready", flush=True)
    sys.stdin.read()
"""
    pipe = subprocess.PIPE
    worker = subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe)
    with worker, WriteQueue(tmp_path / "queue") as queue:
        try:
            assert worker.stdout.readline() == b"ready\n"
            queue.put("k", 1)
            assert queue.flush(3)
        finally:
            worker.stdin.close()
            worker.wait(20)
