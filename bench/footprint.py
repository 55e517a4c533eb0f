"""How many bytes of memory a cache adds per entry, keys and values not counted.

Each cache has a process of its own, ``python -m bench.footprint PEER KIND ENTRIES``, and is in use
when it is measured: all its entries have been replaced by others once, and the newer ones read
through, so that what it remembers of evicted keys counts.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.operations import KEYS, compile_loop
from bench.peers import MEMORY, Peer

STATUS = Path("/proc/self/statm")


def bytes_per_entry(peer: Peer, kind: str, entries: int = 1_000_000) -> float | None:
    """Fill the cache in a new process; None where that fails or the system does not tell."""
    command = [sys.executable, "-m", "bench.footprint", peer.name, kind, str(entries)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(run.stdout) if run.returncode == 0 else None


def _resident() -> int:
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def use(peer: Peer, cache: Any, keys: list[Any]) -> None:
    """Fill the cache with the first half of the keys, replace them by the others, read those."""
    half = len(keys) // 2
    old, new = keys[:half], keys[half:]
    for statement, over, work in (
        (peer.statement("set") or peer.statements["get"], "k", old),
        (peer.statement("evict"), "k, old", zip(new, old, strict=True)),
        (peer.statement("read"), "k", new),
    ):
        compile_loop(statement, over)(cache, work, 1)


def main(name: str, kind: str, entries: int) -> None:
    """Print the growth of the resident memory per entry."""
    (peer,) = (peer for peer in MEMORY if peer.name == name)
    use(peer, peer.make(10), list(map(KEYS[kind], range(20))))  # what is loaded or started once
    keys = list(map(KEYS[kind], range(100, 100 + 2 * entries)))
    gc.collect()
    before = _resident()
    cache = peer.make(entries)
    use(peer, cache, keys)
    gc.collect()
    print((_resident() - before) / entries)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
