"""A web service with a cache, for gunicorn: asks the cache, tells what its process counted."""

from __future__ import annotations

import json
import os

import hybridcore as hc
from hybridcore.exporters.prometheus import PrometheusExporter

store: hc.HybridCache = hc.HybridCache(origin=lambda key: key.upper())
exporter = PrometheusExporter(
    {"words": store}, directory=os.environ["STATISTICS_DIRECTORY"], interval=0.1
)
metrics = exporter.wsgi()
for number in range(int(os.environ.get("ASKED_BEFORE", "0"))):
    store.get(f"before {number}")


def own():
    """What this process counted."""
    stats = exporter._sources.stats()["words"]
    return {"pid": os.getpid(), "hits": stats.memory.hits, "misses": stats.memory.misses}


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/metrics":
        return metrics(environ, start_response)
    if path.startswith("/get/"):
        store.get(path.removeprefix("/get/"))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(own()).encode()]
