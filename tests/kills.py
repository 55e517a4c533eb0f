"""Processes that write to a queue until they are killed, and what became of their writes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.write_queue import Delivery, Redelivery, WriteQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridcore.disk.durability import Durability

KEYS = 20


@dataclass(frozen=True)
class Outcome:
    """What a target got of writes whose producers and workers were killed.

    - ``lost``: acknowledged, and neither they nor a newer one of their key arrived
    - ``phantom``: arrived, though nobody ever put them
    - ``renamed``: arrived again with another idempotency key, or shared one
    - ``disordered``: arrived after a newer one of their key
    - ``unlike_model``: keys whose last value is neither the last one acknowledged, nor a later one
      whose producer died before it could tell
    """

    kills: int
    acknowledged: int
    delivered: int
    redelivered: int
    lost: int
    phantom: int
    renamed: int
    disordered: int
    dead: int
    left: int
    unlike_model: int


def kill_and_judge(
    directory: Path,
    kills: int,
    *,
    seed: int = 7,
    durability: Durability = "process",
    coalesce: bool = True,
    timeout: float = 110.0,
) -> Outcome:
    """Kill so many producers and workers, bring out what they left, and compare with a model."""
    arguments = f"{str(directory)!r}, {kills}, {seed}, {durability!r}, {coalesce}"
    script = f"from {__name__} import kill_again_and_again as kill; kill({arguments})"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=timeout, cwd=Path.cwd())
    applied = _appending(directory, "applied")

    def target(batch: Sequence[Delivery]) -> None:
        for one in batch:
            _note(applied, one)

    with WriteQueue(directory / "queue", target, durability=durability, coalesce=coalesce) as queue:
        queue.flush(60)
        stats = queue.stats()
    os.close(applied)
    return judge(directory, kills, stats.dead, stats.depth, coalesce)


def kill_again_and_again(
    directory: str, kills: int, seed: int, durability: Durability, coalesce: bool
) -> None:
    """Run pairs of processes, each killed at a time of its own."""
    rng = random.Random(seed)
    for run in range(0, kills, 2):
        children = []
        for offset in (0, 1):
            child = os.fork()
            if child == 0:
                try:
                    _produce_and_drain(
                        Path(directory), run + offset, offset == 0, durability, coalesce
                    )
                finally:
                    os._exit(3)
            children.append((time.monotonic() + rng.uniform(0.01, 0.12), child))
        for at, child in sorted(children):
            time.sleep(max(0.0, at - time.monotonic()))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            assert os.WTERMSIG(status) == signal.SIGKILL, status


def _produce_and_drain(
    directory: Path, run: int, drains: bool, durability: Durability, coalesce: bool
) -> None:
    """Write until killed, and bring writes out if this is a process that does.

    What is about to be put goes to the file ``tried``, what is acknowledged to ``acked``, what the
    target has to ``applied``; a line is there when the write to its file has returned.
    """
    tried, acked, applied = (_appending(directory, name) for name in ("tried", "acked", "applied"))
    rng = random.Random(run)

    def target(batch: Sequence[Delivery]) -> dict[object, Exception]:
        for one in batch:
            _note(applied, one)
            if rng.random() < 0.02:
                time.sleep(0.003)
        return {one.key: OSError("now and then") for one in batch if rng.random() < 0.05}

    queue = WriteQueue(
        directory / "queue",
        target if drains else None,
        durability=durability,
        coalesce=coalesce,
        workers=2,
        redelivery=Redelivery(attempts=1000, wait=0.001, max_wait=0.002),
    )
    for step in range(10**9):
        key, value = 2 * rng.randrange(KEYS // 2) + (not drains), f"{run}.{step}"
        line = f"{key} {value}\n".encode()
        os.write(tried, line)
        queue.put(key, value)
        os.write(acked, line)


def _appending(directory: Path, name: str) -> int:
    return os.open(directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _note(file: int, delivery: Delivery) -> None:
    """Note what arrived."""
    os.write(file, f"{delivery.key} {delivery.value} {delivery.idempotency_key}\n".encode())


def judge(directory: Path, kills: int, dead: int, left: int, coalesce: bool) -> Outcome:
    """Count what the files that the processes wrote tell."""
    tried, acked = _by_key(directory / "tried"), _by_key(directory / "acked")
    arrived: dict[str, list[tuple[int, int]]] = defaultdict(list)
    names: dict[tuple[str, tuple[int, int]], set[str]] = defaultdict(set)
    owners: dict[str, set[tuple[str, tuple[int, int]]]] = defaultdict(set)
    numbers: dict[str, list[int]] = defaultdict(list)
    for line in (directory / "applied").read_text().splitlines():
        key, value, name = line.split()
        arrived[key].append(_moment(value))
        names[key, _moment(value)].add(name)
        owners[name].add((key, _moment(value)))
        numbers[key].append(int(name.rpartition("-")[2]))
    lost = unlike_model = 0
    for key, moments in acked.items():
        there = set(arrived[key])
        newest = max(there, default=(-1, -1))
        lost += sum(one > newest if coalesce else one not in there for one in moments)
        last = arrived[key][-1] if arrived[key] else None
        in_doubt = {one for one in tried[key] if one > moments[-1]}
        unlike_model += last != moments[-1] and last not in in_doubt
    delivered = sum(map(len, arrived.values()))
    return Outcome(
        kills=kills,
        acknowledged=sum(map(len, acked.values())),
        delivered=delivered,
        redelivered=delivered - len(names),
        lost=lost,
        phantom=sum(len(set(there) - set(tried[key])) for key, there in arrived.items()),
        renamed=sum(len(each) - 1 for each in (*names.values(), *owners.values())),
        disordered=sum(
            after < before for each in numbers.values() for before, after in pairwise(each)
        ),
        dead=dead,
        left=left,
        unlike_model=unlike_model,
    )


def _by_key(file: Path) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in file.read_text().splitlines():
        key, value = line.split()
        found[key].append(_moment(value))
    return found


def _moment(value: str) -> tuple[int, int]:
    """When a value was written: in which process, and at which step."""
    run, step = value.split(".")
    return int(run), int(step)
