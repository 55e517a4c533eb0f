"""One environment per directory and process, shared by all who open that directory.

LMDB must not be opened twice in a process, nor used by a child that was forked with it open.
So environments are counted here; around a fork each is closed, and parent and child open it
again when they next use it.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from hybridcore.disk.directory import data_file, prepare
from hybridcore.disk.environment import Environment
from hybridcore.disk.layout import DISK, Layout
from hybridcore.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path

    from hybridcore.disk.durability import Durability

_registry: dict[tuple[int, int], Environment] = {}
_registry_lock = threading.RLock()
_watching_forks = False


def acquire(
    directory: Path, map_size: int, durability: Durability = "process", layout: Layout = DISK
) -> Environment:
    """Open the directory's environment, or share the one that is open in this process.

    Raises:
        DiskError: the directory, its owner, its format or the disk forbid it.
    """
    with _registry_lock:
        _watch_forks()
        identity = prepare(directory)
        environment = _open_already(identity, data_file(directory))
        if environment is None:
            environment = Environment(directory, map_size, durability, layout)
            _registry[identity] = environment
        else:
            if environment.layout != layout:
                raise DiskError(
                    f"{str(directory)!r} is open as a {environment.layout.word}, not as a "
                    f"{layout.word}. Choose another directory"
                )
            environment.need(map_size, durability)
        environment.users += 1
        return environment


def _open_already(directory: tuple[int, int], file: tuple[int, int] | None) -> Environment | None:
    """The environment of this directory, or of this data file under another name."""
    for identity, environment in list(_registry.items()):
        if identity == directory or environment.identity == file:
            if environment.in_place():
                return environment
            del _registry[identity]
    return None


def release(environment: Environment) -> None:
    """Give a shared environment back; the last one closes it."""
    with _registry_lock:
        environment.users -= 1
        if environment.users:
            return
        closed = True
        try:
            closed = environment.close()
        finally:
            if closed:
                for identity, known in list(_registry.items()):
                    if known is environment:
                        del _registry[identity]


def _watch_forks() -> None:
    global _watching_forks
    if not _watching_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=_after_fork_in_parent,
            after_in_child=_after_fork_in_child,
        )
        _watching_forks = True


def _before_fork() -> None:
    _registry_lock.acquire()
    for environment in _registry.values():
        environment.before_fork()


def _after_fork_in_parent() -> None:
    for environment in _registry.values():
        environment.after_fork_in_parent()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    for environment in _registry.values():
        environment.after_fork_in_child()
