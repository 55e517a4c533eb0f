"""Runs each task in a forked process of its own, some at a time.

What a task leaves behind (the state of a random generator, threads, memory) dies with it, so a
result does not depend on what ran before, and a task that crashes takes nothing with it.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection


def run_apart(work: Callable[[Any], Any], tasks: list[Any], jobs: int) -> Iterator[Any]:
    """Yield ``(task, result, error)`` as the tasks end; one of result and error is None."""
    context = multiprocessing.get_context("fork")
    running: dict[Any, tuple[Any, Any]] = {}
    waiting = list(reversed(tasks))
    while waiting or running:
        while waiting and len(running) < jobs:
            task = waiting.pop()
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(work, task, sender), daemon=True)
            process.start()
            sender.close()
            running[receiver] = task, process
        for receiver in wait(list(running)):
            task, process = running.pop(receiver)
            try:
                result, error = receiver.recv()
            except EOFError:
                result, error = None, "its process died"
            process.join()
            yield task, result, error


def _run(work: Callable[[Any], Any], task: Any, sender: Connection) -> None:
    try:
        sender.send((work(task), None))
    except Exception as error:
        sender.send((None, f"{type(error).__name__}: {error}"))
