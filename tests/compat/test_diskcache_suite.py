"""The tests of diskcache itself, run against ours from an unpacked source distribution.

Wheels come without tests: ``pip download --no-deps --no-binary :all: diskcache==5.6.3``, unpack
it, and name the directory in ``DISKCACHE_SOURCE``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = os.environ.get("DISKCACHE_SOURCE", "")
FILES = ("test_core.py", "test_deque.py", "test_fanout.py", "test_index.py", "test_recipes.py")

CONFTEST = """
import sys
from hybridcore.compat import diskcache
from hybridcore.compat.diskcache import core

sys.modules["diskcache"] = diskcache
sys.modules["diskcache.core"] = core
"""

SQLITE = "it replaces diskcache's own connection to SQLite, or its Disk, by a mock"
FILE = "it looks at the files that diskcache keeps for large values"
DISK = "it gives a Disk of its own"
CULL = "it counts what cull_limit deletes per write, or how SQLite's file grows"
KEYS = "it has a list or a file for a key"
MOCK = "it replaces the cache of a Deque by a mock"

DIFFERENCES = {
    SQLITE: """
        core::pragma_error core::close_error core::set_timeout core::get_ioerror_fast_path
        core::pop_ioerror core::clear_timeout core::add_timeout core::pull_ioerror
        core::peek_ioerror core::peekitem_ioerror core::cull_timeout core::disk_reset
        core::init_makedirs fanout::set_timeout fanout::touch_timeout fanout::add_timeout
        fanout::incr_timeout fanout::decr_timeout fanout::get_timeout fanout::pop_timeout
        fanout::delete_timeout fanout::remove_timeout fanout::reset_timeout fanout::volume
    """,
    FILE: """
        core::get_keyerror4 core::set_twice core::path core::check core::integrity_check
        core::cleanup_dirs core::disk_write_os_error
    """,
    DISK: "core::custom_disk core::custom_filename_disk fanout::custom_filename_disk",
    CULL: """
        core::expire_rows core::least_recently_stored core::least_recently_used
        core::least_frequently_used core::size_limit_with_files core::size_limit_with_database
        core::cull_size_limit_0 fanout::size_limit_with_files fanout::size_limit_with_database
    """,
    KEYS: "core::getsetdel core::key_roundtrip fanout::getsetdel",
    MOCK: """
        deque::iter_keyerror deque::reversed_keyerror deque::remove_keyerror
        deque::rotate_indexerror deque::rotate_indexerror_negative
    """,
    "it replaces time.time, the tier asks time.time_ns": "core::expire",
    "it adds an eviction policy written in SQL": "core::custom_eviction_policy",
    "it expects the size limit to be spread over shards": "fanout::init",
}
"""Why a test of diskcache fails here, and which ones do."""


@pytest.mark.slow
@pytest.mark.skipif(not SOURCE, reason="DISKCACHE_SOURCE names no source of diskcache")
def test_its_own_tests_pass(tmp_path: Path) -> None:
    """Every test of diskcache passes with our package in its place, or is a known difference."""
    for name in FILES:
        shutil.copy(Path(SOURCE, "tests", name), tmp_path)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "."]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    named = re.findall(r"^(?:FAILED|ERROR) test_(\w+)\.py::test_(\w+)", run.stdout, re.MULTILINE)
    failed = {f"{file}::{name}" for file, name in named}
    assert failed == {name for names in DIFFERENCES.values() for name in names.split()}
    assert re.search(r"\d{3} passed", run.stdout), run.stdout
