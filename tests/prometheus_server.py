"""A Prometheus of its own for a test: on a free port, ended by its process id."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest

from tests.redis_server import free_port

PATIENCE = 30


class Prometheus:
    """What it can be asked."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def fetch(self, path, **parameters):
        """The data that its API answers."""
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """Label sets and values of an instant query."""
        found = self.fetch("query", query=expression)["result"]
        return [(row["metric"], float(row["value"][1])) for row in found]


@contextmanager
def prometheus(directory, targets, *, interval="200ms", rules=()):
    """One that scrapes ``targets``, by job ``host:port``, and evaluates rule files."""
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus")
    config = directory / "prometheus.yml"
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [target]}]}
        for job, target in targets.items()
    ]
    timing = {
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "evaluation_interval": interval,
    }
    told = {"global": timing, "scrape_configs": jobs, "rule_files": [str(rule) for rule in rules]}
    config.write_text(json.dumps(told))  # which is YAML, too
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    process = subprocess.Popen(command)
    try:
        server = Prometheus(port)
        eventually(lambda: server.query("vector(1)"))
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def eventually(condition):
    """What the condition returns, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
