"""What ``import hybridcore`` does, and what it leaves for later."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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
