"""Keeps the pages that LMDB maps of a queue's file from counting as memory of the process."""

from __future__ import annotations

from mmap import PAGESIZE
from typing import TYPE_CHECKING

from hybridcore._native.pages import let_go

if TYPE_CHECKING:
    from hybridcore.disk.environment import Environment
    from hybridcore.write_queue.journal import Journal

LET_GO_AFTER = 8 << 20
"""Bytes that come or leave until the pages are let go: each page is read about once."""


class Resident:
    """Lets go of the mapped pages after every so many bytes; the system has them in its cache."""

    def __init__(self, environment: Environment, journal: Journal) -> None:
        self._environment = environment
        self._journal = journal
        self._moved = 0

    def moved(self, size: int) -> None:
        """Note that so many bytes came or left."""
        self._moved += size
        if self._moved >= LET_GO_AFTER:
            self._moved = 0
            self.let_go()

    def let_go(self) -> bool:
        """Let go of all pages; False where the system or the file does not allow it."""
        with self._environment.reading() as txn:
            env = self._environment.current()
            self._journal.bind(env)
            tally, page_size = txn.get(b"tally", db=self._journal.main), env.stat()["psize"]
            if tally is None or page_size != PAGESIZE:
                return False
            info = env.info()
            pages = min(info["last_pgno"] + 1, info["map_size"] // page_size)
            return let_go(tally, page_size, pages)
