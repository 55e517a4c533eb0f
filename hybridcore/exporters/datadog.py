"""`DogStatsdSink`: statistics as DogStatsD over UDP, or whatever the agent listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datadog.dogstatsd.base import DogStatsd

if TYPE_CHECKING:
    from collections.abc import Mapping


class DogStatsdSink:
    """Give it to `Push`. Metrics are called ``hybridcore.requests_total`` and so on.

    Args:
        host, port: where the agent listens.
        client: a ``DogStatsd`` of your own instead; its tags, namespace and socket hold.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 8125, *, client: DogStatsd | None = None
    ) -> None:
        self._client: Any = client or DogStatsd(
            host=host, port=port, disable_telemetry=True, disable_buffering=False
        )

    def count(self, name: str, increase: float, labels: Mapping[str, str]) -> None:
        """A ``c`` of DogStatsD."""
        self._client.increment(_dotted(name), increase, tags=_tags(labels))

    def gauge(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """A ``g`` of DogStatsD."""
        self._client.gauge(_dotted(name), value, tags=_tags(labels))

    def flush(self) -> None:
        """Send what is buffered."""
        self._client.flush()


def _dotted(name: str) -> str:
    return name.replace("_", ".", 1)


def _tags(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}:{text}" for name, text in labels.items()]
