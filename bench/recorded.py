"""Recorded streams, judged by a local Prometheus that evaluates the exported rules over them."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.monitoring.rules import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hybridcore.monitoring.rules import Rule
    from hybridcore.monitoring.signals import Samples

STEP = 15
"""Seconds between two evaluations."""
_PATIENCE = 60.0


def needed(samples: Samples) -> Samples:
    """What rules look at."""
    text = " ".join(rule.promql() for rule in BUILT_IN)
    return {name: found for name, found in samples.items() if name in text}


def save(path: Path, kept: Iterable[tuple[float, Samples]]) -> None:
    """Write snapshots as OpenMetrics, one family after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {}
    for at, samples in kept:
        for name, found in samples.items():
            for labels, value in found:
                told = {**dict(labels), "job": "bench", "cache": path.stem}
                inside = ",".join(f'{label}="{text}"' for label, text in sorted(told.items()))
                lines.setdefault(name, []).append(f"{name}{{{inside}}} {value!r} {at:.3f}\n")
    with path.open("w", encoding="utf-8") as file:
        for name, written in lines.items():
            file.write(f"# TYPE {name} unknown\n")
            file.writelines(written)
        file.write("# EOF\n")


@contextmanager
def prometheus(file: Path) -> Iterator[str]:
    """Have a Prometheus with this file in its database; gives its address.

    Raises:
        FileNotFoundError: prometheus or promtool is missing.
        subprocess.CalledProcessError: the file cannot be read.
    """
    home = Path(tempfile.mkdtemp(prefix="hybridcore-prometheus-"))
    try:
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", file, home / "data"]
        subprocess.run(command, check=True, capture_output=True)
        (home / "config.yml").write_text("{}\n")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={home / 'config.yml'}",
                f"--storage.tsdb.path={home / 'data'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={address}",
                "--query.timeout=30m",
                "--query.max-samples=500000000",
                "--log.level=error",
            ]
        )
        try:
            _wait_for(f"http://{address}/-/ready")
            yield f"http://{address}"
        finally:
            server.terminate()
            server.wait(_PATIENCE)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait_for(url: str) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def fired(server: str, rule: Rule, begin: float, end: float) -> list[tuple[str, float, float]]:
    """When a rule fired: its name, and from when to when."""
    asked = {"query": rule.promql(), "start": begin, "end": end, "step": STEP}
    url = f"{server}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(url, timeout=1800) as answer:
        found = json.load(answer)["data"]["result"]
    stretches: list[list[float]] = []
    for at in sorted(at for series in found for at, _ in series["values"]):
        if stretches and at - stretches[-1][1] <= STEP:
            stretches[-1][1] = at
        else:
            stretches.append([at, at])
    return [
        (rule.name, begin + rule.lasting, end)
        for begin, end in stretches
        if end - begin >= rule.lasting
    ]


def refired(streams: dict[Path, tuple[float, float]]) -> list[list[tuple[str, float, float]]]:
    """What the exported rules tell of streams, by their files with their beginnings and ends."""
    told = []
    for file, (begin, end) in streams.items():
        with prometheus(file) as server:
            first = math.ceil(begin / STEP) * STEP
            told.append(
                [
                    one
                    for rule in BUILT_IN
                    for start in range(first, math.ceil(end), 10_000 * STEP)
                    for one in fired(server, rule, start, min(end, start + 9_999 * STEP))
                ]
            )
    return told
