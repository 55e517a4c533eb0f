"""Makes `bench` importable from the clone; an installed package comes without it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if (ROOT / "bench").is_dir():
    sys.path.append(str(ROOT))
else:
    collect_ignore_glob = ["test_*.py"]
