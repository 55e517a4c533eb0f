"""Where alerts go: the log, a signed webhook, Alertmanager; or any function."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
import urllib.request
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridcore.monitoring.alerts import Alert

log = logging.getLogger("hybridcore.alerts")


def to_log(alert: Alert) -> None:
    """Log it: pages as errors, tickets as warnings, what is over as information."""
    level = logging.ERROR if alert.severity == "page" else logging.WARNING
    if alert.state == "resolved":
        level = logging.INFO
    log.log(level, "%s: %s of %s: %s", alert.state, alert.rule, alert.cache, alert.summary)


class Webhook:
    """Posts each alert as JSON, signed with HMAC-SHA256 as `signature` tells.

    Args:
        url: http or https.
        secret: shared with the receiver.
        timeout: seconds for the connection, and for each answer.
    """

    def __init__(self, url: str, secret: bytes, *, timeout: float = 5.0) -> None:
        _check(url)
        if not secret:
            raise ConfigurationError("secret is expected to have at least a byte")
        self._url, self._secret, self._timeout = url, secret, timeout

    def __call__(self, alert: Alert) -> None:
        body = json.dumps(alert.as_dict()).encode()
        now = str(int(time.time()))
        signed = signature(self._secret, now, body)
        headers = {"X-Hybridcore-Timestamp": now, "X-Hybridcore-Signature": signed}
        _post(self._url, body, headers, self._timeout)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What the header ``X-Hybridcore-Signature`` holds; compare by `hmac.compare_digest`."""
    signed = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return "sha256=" + signed.hexdigest()


class Alertmanager:
    """Posts alerts to the API v2 of an Alertmanager, at ``http://host:9093`` or the like.

    An alert is told once; ``lasting`` are the seconds for which it holds unless it is resolved.
    """

    def __init__(self, url: str, *, lasting: float = 86400.0, timeout: float = 5.0) -> None:
        _check(url)
        self._url = url.rstrip("/") + "/api/v2/alerts"
        self._lasting, self._timeout = lasting, timeout

    def __call__(self, alert: Alert) -> None:
        ends = alert.at if alert.state == "resolved" else alert.at + self._lasting
        told: dict[str, Any] = {
            "labels": {
                "alertname": f"Hybridcore{alert.rule}",
                "cache": alert.cache,
                "severity": alert.severity,
            },
            "annotations": {"summary": alert.summary, "runbook_url": alert.runbook},
            "startsAt": _rfc3339(alert.since),
            "endsAt": _rfc3339(ends),
        }
        _post(self._url, json.dumps([told]).encode(), {}, self._timeout)


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat()


def _check(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"expected an URL of http or https, got {url!r}")


def _post(url: str, body: bytes, headers: dict[str, str], timeout: float) -> None:
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - checked when made
    with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
        pass
