"""The tests of cachetools itself, run against ours from an unpacked source distribution.

Wheels come without tests: ``pip download --no-deps --no-binary :all: cachetools==8.0.1``, unpack
it, and name the directory in ``CACHETOOLS_SOURCE``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = os.environ.get("CACHETOOLS_SOURCE", "")

RUN = """
import sys
import unittest

from hybridcore.compat import cachetools

for name in ("", ".func", ".keys"):
    sys.modules["cachetools" + name] = sys.modules[cachetools.__name__ + name]
directory = sys.argv[1]
unittest.main(None, argv=["", "discover", "-t", directory, "-s", directory + "/tests"])
"""


@pytest.mark.skipif(not SOURCE, reason="CACHETOOLS_SOURCE names no source of cachetools")
def test_its_own_tests_pass() -> None:
    """Every test of cachetools passes with our module in its place."""
    assert Path(SOURCE, "tests", "test_tlru.py").exists(), f"no tests of cachetools in {SOURCE}"
    run = subprocess.run(
        [sys.executable, "-c", RUN, SOURCE], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Ran 0 tests" not in run.stderr
