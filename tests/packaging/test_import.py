"""What ``import hybridcore`` does, and what it leaves for later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "hybridcore" / "_native"

USE_MEMORY_ALONE = """
import asyncio, sys
import hybridcore as hc

hc.Cache(10).setdefault("k", "v")

async def awaited(store):
    return await store.aio.get("b")

with hc.HybridCache(hc.Memory(10), origin=lambda key: key) as store:
    assert store.get("a") == "a" and store.get("a") == "a"
    assert asyncio.run(awaited(store)) == asyncio.run(awaited(store)) == "b"
    store.put("c", 1)
    store.invalidate("c")
    store.stats()
print(*(name for name in sys.modules if name.startswith("hybridcore._native.")))
"""

IMPORT_AND_LOOK = """
import json, sys, threading
opened = []
def watch(event, args):
    if event == "open" and not str(args[0]).endswith((".py", ".pyc", ".so", ".pyd")):
        opened.append(str(args[0]))
    elif event.startswith(("socket.", "subprocess.", "os.fork")):
        opened.append(event)
sys.addaudithook(watch)
before = set(sys.modules)
import hybridcore
print(json.dumps({
    "modules": sorted(set(sys.modules) - before),
    "threads": threading.active_count(),
    "opened": opened,
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict:
    """What a fresh interpreter saw while it imported hybridcore."""
    run = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_AND_LOOK], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    "heavy",
    [
        "asyncio",
        "httpx",
        "lmdb",
        "msgspec",
        "numpy",
        "redis",
        "rich",
        "sqlalchemy",
        "starlette",
        "xxhash",
    ],
)
def test_import_leaves_heavy_modules_alone(imported: dict, heavy: str) -> None:
    """Someone who wants the memory tier alone does not pay for the others."""
    assert heavy not in {name.partition(".")[0] for name in imported["modules"]}


def test_import_loads_the_native_modules(imported: dict) -> None:
    """The watch sees imports: the compiled memory tier is among them."""
    assert "hybridcore._native.memory" in imported["modules"]


def test_import_starts_no_thread(imported: dict) -> None:
    """Nothing runs in the background until it is asked for."""
    assert imported["threads"] == 1


def test_import_opens_nothing(imported: dict) -> None:
    """No file but the modules themselves, no socket, no process."""
    assert imported["opened"] == []


@pytest.mark.skipif(not SOURCES.is_dir(), reason="the sources of the native modules are not here")
def test_memory_alone_needs_no_gil() -> None:
    """No module that a store without a disk loads has a free-threaded interpreter switch it on."""
    run = subprocess.run(
        [sys.executable, "-B", "-c", USE_MEMORY_ALONE], capture_output=True, text=True, check=True
    )
    loaded = [name.rpartition(".")[2] for name in run.stdout.split()]
    assert "memory" in loaded
    for name in loaded:
        source = (SOURCES / f"{name}.pyx").read_text("utf-8")
        assert source.startswith("# cython: freethreading_compatible=True\n"), name
