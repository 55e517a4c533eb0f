"""Alerts and rules against servers: a real Alertmanager, a real Prometheus, one that hangs."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

import hybridcore as hc
from hybridcore.exporters.prometheus import PrometheusExporter
from hybridcore.monitoring.alerts import Alerts
from hybridcore.monitoring.prometheus import export
from hybridcore.monitoring.rules import BUILT_IN, RUNBOOKS, of_slos
from hybridcore.monitoring.sinks import Alertmanager, Webhook
from hybridcore.monitoring.slo import KINDS, Slo
from tests.prometheus_server import eventually, prometheus
from tests.redis_server import free_port


@pytest.fixture
def outage():
    """A cache with an open breaker, the alerts on it, and their time."""
    store = hc.HybridCache(origin=str.upper)
    now = [time.time() - 3600]
    made = []

    def watch(*sinks):
        made.append(Alerts({"shop": store}, sinks, clock=lambda: now[0]))
        return made[0]

    def tick(times=6):
        for _ in range(times):
            now[0] += 10
            made[0].evaluate()

    yield store, watch, tick
    made[0].close(0.2)
    store.close()


@pytest.fixture
def alertmanager(tmp_path):
    """The address of one of its own."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("there is no prometheus-alertmanager")
    config = tmp_path / "alertmanager.yml"
    config.write_text(json.dumps({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}))
    port = free_port()
    command = [
        program,
        f"--config.file={config}",
        f"--storage.path={tmp_path / 'alerts'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: fetch(url + "/-/ready") or True)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


def test_alertmanager_takes_alerts_and_that_they_are_over(outage, alertmanager) -> None:
    """By the API of a real one, with labels, annotations and the link to the runbook."""
    store, watch, tick = outage
    watch(Alertmanager(alertmanager))
    store.breaker.trip("1h")
    tick()

    def active():
        return json.loads(fetch(alertmanager + "/api/v2/alerts?active=true"))

    [alert] = eventually(active)
    assert alert["labels"] == {
        "alertname": "HybridcoreBreakerOpen",
        "cache": "shop",
        "severity": "page",
    }
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}#breakeropen"
    assert alert["status"]["state"] == "active"
    store.breaker.reset()
    tick()
    eventually(lambda: not active())


def test_a_webhook_that_hangs_delays_no_lookup_and_no_alert(outage) -> None:
    """While its request is under way lookups are answered, rules evaluated, and others told."""
    store, watch, tick = outage
    told = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        hook = Webhook(f"http://127.0.0.1:{server.getsockname()[1]}/", b"secret", timeout=60)
        alerts = watch(hook, lambda alert: told.set())
        store.breaker.trip("1h")
        tick()
        connection, _ = server.accept()  # it was called, and is not answered
        with connection:
            assert told.wait(20)
            store.breaker.reset()
            assert store.get("a") == "A"
            tick()
            assert alerts.firing() == []
            alerts.close(0.2)  # nor is the end of the process


@pytest.mark.slow
def test_a_real_prometheus_evaluates_every_rule(tmp_path) -> None:
    """Without an error, over a cache that it scrapes, and the recorded signals are there."""
    slos = [Slo(kind, 0.9, "50ms" if kind == "latency" else None) for kind in KINDS]
    rules = tmp_path / "rules.yml"
    rules.write_text(export([*BUILT_IN, *of_slos(slos)]))
    disk = hc.Lmdb(tmp_path / "cache", max_bytes="8MiB")
    with hc.HybridCache(disk=disk, origin=str.upper) as store:
        exporter = PrometheusExporter({"shop": store})
        for number in range(200):
            store.get(str(number % 50))
        store.breaker.trip("1h")
        with (
            exporter.serve() as endpoint,
            prometheus(
                tmp_path, {"shop": f"127.0.0.1:{endpoint.port}"}, interval="500ms", rules=[rules]
            ) as server,
        ):

            def evaluated():
                groups = server.fetch("rules")["groups"]
                found = [rule for group in groups for rule in group["rules"]]
                return found if all(rule["health"] != "unknown" for rule in found) else None

            found = eventually(evaluated)
            assert {rule["health"] for rule in found} == {"ok"}, found
            assert len(found) > len(BUILT_IN) + 12
            labels, value = eventually(lambda: server.query("hybridcore:breaker_open == 1"))[0]
            assert (labels["job"], labels["cache"], value) == ("shop", "shop", 1)
            assert eventually(lambda: server.query("hybridcore:disk_map_used > 0"))
            eventually(lambda: server.query('ALERTS{alertname="HybridcoreBreakerOpen"}'))
        exporter.close()
