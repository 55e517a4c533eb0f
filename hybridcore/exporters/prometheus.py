"""`PrometheusExporter`: the statistics of caches, to be scraped by Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector, CollectorRegistry

from hybridcore.exporters.metrics import BOUNDS, Buckets, Family
from hybridcore.exporters.processes import Shared
from hybridcore.exporters.sources import HasStats, Sources

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

_LE = (*map(str, BOUNDS), "+Inf")


class PrometheusExporter(Collector):
    """Tells Prometheus of caches when it asks; until then nothing is done.

    It is a collector, ``registry.register(exporter)``, or serves its own caches alone by `serve`,
    `wsgi` or `asgi`. No key is ever a label.

    >>> from hybridcore import HybridCache
    >>> exporter = PrometheusExporter({"users": HybridCache()})
    >>> print(exporter.text().splitlines()[2])
    hybridcore_requests_total{cache="users",result="hit",tier="memory"} 0.0

    Args:
        caches: by the name that becomes the label ``cache``.
        directory: where the processes of a service, such as the workers of gunicorn, add up what
            they count, so that whichever is scraped tells of all; see `Shared`. Each time that the
            service starts it should be empty. None: this process alone.
        interval: seconds after which what a process counted is seen by the others.
    """

    def __init__(
        self,
        caches: Mapping[str, HasStats],
        *,
        directory: str | os.PathLike[str] | None = None,
        interval: float = 1.0,
    ) -> None:
        self._sources = Sources(caches)
        self._shared = None if directory is None else Shared(self._sources, directory, interval)

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on the tiers, and registering takes no snapshot."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics as of now."""
        shared = self._shared
        families = self._sources.families() if shared is None else shared.families()
        return map(_metric, families)

    def registry(self) -> CollectorRegistry:
        """A registry of these caches alone."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def text(self) -> str:
        """What a scrape gets, in the text format of Prometheus."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry()).decode()

    def serve(self, port: int = 0, host: str = "127.0.0.1") -> Endpoint:
        """Answer scrapes over HTTP in a thread; port 0 is any that is free.

        Raises:
            OSError: the port is taken.
        """
        from prometheus_client import start_http_server

        server, thread = start_http_server(port, host, self.registry())
        return Endpoint(server, thread)

    def wsgi(self) -> Callable[..., Any]:
        """A WSGI application, to be mounted where Prometheus looks for it."""
        from prometheus_client import make_wsgi_app

        return make_wsgi_app(self.registry())

    def asgi(self) -> Callable[..., Any]:
        """An ASGI application, to be mounted where Prometheus looks for it."""
        from prometheus_client import make_asgi_app

        return make_asgi_app(self.registry())

    def close(self) -> None:
        """Publish what this process has counted, where there is a directory, and end doing so."""
        if self._shared is not None:
            self._shared.close()


class Endpoint:
    """An HTTP server that answers scrapes."""

    def __init__(self, server: Any, thread: Any) -> None:
        self._server, self._thread = server, thread

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_KINDS: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _metric(family: Family) -> Metric:
    labels = sorted(name for name, _ in next(iter(family.samples)))
    metric = _KINDS[family.kind](family.name, family.help, labels=labels)
    for sample, value in family.samples.items():
        texts = [text for _, text in sorted(sample)]
        if isinstance(value, Buckets):
            metric.add_metric(texts, list(zip(_LE, value.counts, strict=True)), value.sum)
        else:
            metric.add_metric(texts, value)
    return metric  # type: ignore[no-any-return]
