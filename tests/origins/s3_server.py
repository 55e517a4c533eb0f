"""An S3 service on loopback: moto's server, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY, SECRET = "AKCANARY", "canary"


class S3:
    """The service; ``options`` are those of an origin that may use it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.options: dict[str, Any] = {
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region": "us-east-1",
            "endpoint": endpoint,
        }
        self._buckets = 0

    def make_bucket(self) -> str:
        """A new bucket."""
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        httpx.put(f"{self.endpoint}/{name}").raise_for_status()
        return name

    @contextmanager
    def checking_credentials(self) -> Iterator[None]:
        """Meanwhile requests are refused that are not signed by a user that there is."""
        self._check_after("0")
        try:
            yield
        finally:
            self._check_after("inf")

    def _check_after(self, requests: str) -> None:
        url = f"{self.endpoint}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        httpx.post(url, content=requests, headers=headers).raise_for_status()


@contextmanager
def running() -> Iterator[S3]:
    """Start the service and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, "the S3 service did not start"
                assert time.monotonic() < deadline, "the S3 service did not answer"
                try:
                    httpx.get(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=1)
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield S3(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
