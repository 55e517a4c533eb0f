"""The processes that a replay starts: the demo origin, and one for each run."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from hybridcore.cli.run import Job, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybridcore.cli.demo_origin import Service

START = "import sys; sys.path = [p for p in sys.path if p]; from {0} import main; main()"
"""What a process runs; unlike with ``-m``, a package in the current directory is not taken."""

PATIENCE = 10
"""Seconds that a process has to end by itself."""


class RunFailedError(Exception):
    """A process of the replay ended before its time."""


@contextmanager
def demo_origin(
    service: Service, module: str = "hybridcore.cli.demo_origin", *more: str
) -> Iterator[str]:
    """Have a demo origin running; gives its address."""
    told = ["--until-stdin-ends", "--service", msgspec.json.encode(asdict(service)).decode()]
    with _started(module, *told, *more) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port.isdecimal():
            raise RunFailedError("the demo origin did not start")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def run_apart(job: Job, progress: Callable[[int], object]) -> Iterator[Result]:
    """Run a job in a fresh process, which has ended when this is left.

    ``progress`` hears how many requests are done.
    """
    with _started("hybridcore.cli.run") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(job).decode() + "\n")
        process.stdin.flush()
        for line in process.stdout:
            message = msgspec.json.decode(line)
            if "left" not in message:
                yield msgspec.convert(message, Result)
                return
            progress(job.requests - message["left"])
    raise RunFailedError(f"the run of {job.contender!r} ended with status {process.returncode}")


@contextmanager
def _started(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a module's main; when done with it, end its standard input, which ends the process.

    In a session of its own it hears no Ctrl-C: this process does, and then ends it.
    """
    process = subprocess.Popen(  # noqa: S603  # this very interpreter and our own modules
        [sys.executable, "-c", START.format(module), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
