"""Four workers of gunicorn, and a real Prometheus that scrapes whichever answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.prometheus_server import eventually as until
from tests.prometheus_server import prometheus
from tests.redis_server import free_port

HERE = Path(__file__).parent


def fetch(url: str):
    """The JSON at a URL of this host, text if it is none."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith("{") else text


@contextmanager
def running(command, **options):
    """A process that ends with the block, and all those it started with it."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def service(tmp_path, *options, asked_before=0):
    """The service with four workers; gives its URL."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers=4", f"--bind=127.0.0.1:{port}"]
    command += ["--log-level=error", *options, "service:application"]
    environment = {
        **os.environ,
        "STATISTICS_DIRECTORY": str(tmp_path / "statistics"),
        "ASKED_BEFORE": str(asked_before),
    }
    with running(command, cwd=HERE, env=environment):
        url = f"http://127.0.0.1:{port}"
        until(lambda: fetch(url))
        yield url


def workers(url, among=()):
    """What each of four workers counted, by its number."""
    found: dict[int, dict] = {}

    def ask():
        told = fetch(url)
        found[told["pid"]] = told
        return len(found.keys() - set(among)) >= 4 - len(among) or None

    until(ask)
    return found


def scraped(url, result):
    """The sum that a scrape of any worker tells, of lookups in memory with this result."""
    for line in fetch(f"{url}/metrics").splitlines():
        if line.startswith("hybridcore_requests_total") and "memory" in line and result in line:
            return float(line.split()[-1])
    raise AssertionError("no such metric")


@pytest.mark.slow
def test_prometheus_sees_the_sum_of_all_workers(tmp_path) -> None:
    """Scraped by a real Prometheus, the counters are those of the workers added up."""
    with service(tmp_path) as url:
        for number in range(200):
            fetch(f"{url}/get/key{number % 20}")
        counted = workers(url)
        assert len(counted) == 4
        with prometheus(tmp_path, {"words": url.removeprefix("http://")}) as server:
            query = 'sum by (result) (hybridcore_requests_total{cache="words",tier="memory"})'
            wanted = {
                "hit": float(sum(told["hits"] for told in counted.values())),
                "miss": float(sum(told["misses"] for told in counted.values())),
            }
            assert sum(wanted.values()) == 200
            until(lambda: {of["result"]: value for of, value in server.query(query)} == wanted)


@pytest.mark.slow
def test_counters_outlive_workers(tmp_path) -> None:
    """What a worker counted stays when it ends, and what they have of the master counts once."""
    with service(tmp_path, "--preload", asked_before=7) as url:
        for number in range(60):
            fetch(f"{url}/get/key{number}")
        before = workers(url)
        assert sum(told["misses"] for told in before.values()) == 60
        until(lambda: scraped(url, "miss") == 67)
        ended = next(iter(before))
        os.kill(ended, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{ended}/stat").exists())
        until(lambda: ended not in workers(url, before.keys() - {ended}))
        for _ in range(20):
            assert scraped(url, "miss") == 67
        fetch(f"{url}/get/another")
        until(lambda: scraped(url, "miss") == 68)
