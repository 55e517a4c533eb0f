"""A cache with everything that there is to see, the page that shows it, and a browser."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

import hybridcore as hc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOSTILE = "<img src=x onerror=\"document.title='taken'\"></script>\x1b[31m\u202e\ud800"
"""A key that would like to be markup, an escape sequence, and no Unicode."""


class Rows:
    """What a queue writes to: refuses keys until they are allowed."""

    def __init__(self) -> None:
        self.refuses = True
        self.written: dict[Any, Any] = {}

    def take(self, deliveries: Any) -> dict[Any, Exception]:
        if self.refuses:
            return {each.key: ValueError("no <b>such</b> column") for each in deliveries}
        self.written |= {each.key: each.value for each in deliveries}
        return {}


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def queue(tmp_path: Any, rows: Rows) -> Iterator[hc.WriteQueue]:
    """A queue with two dead letters, one of a hostile key."""
    with hc.WriteQueue(
        tmp_path / "writes", rows.take, redelivery=hc.Redelivery(attempts=1)
    ) as queue:
        queue.put(HOSTILE, 1)
        queue.put("row 2", 2)
        assert queue.flush(20)
        yield queue


@pytest.fixture
def store(tmp_path: Any, queue: hc.WriteQueue) -> Iterator[hc.HybridCache[Any, Any]]:
    def load(key: Any) -> Any:
        if key == "broken":
            raise OSError("no origin")
        return f"value of {key!r}"

    with hc.HybridCache(
        hc.Memory(100),
        hc.Lmdb(tmp_path / "users"),
        hc.CallableOrigin(load, store=lambda key, value: None),
        strategy="write_behind",
        queue=queue,
        analytics=True,
        breaker=None,
    ) as store:
        for number in range(600):
            store.get(number % 150)
        store.invalidate(HOSTILE, tags=["<i>tag</i>"], cause="<b>cause</b>")
        yield store


@contextmanager
def running(page: Any) -> Iterator[str]:
    """Serve an ASGI application on loopback; gives its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(page, log_level="error", ws="none", timeout_graceful_shutdown=10)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def until(condition: Callable[[], Any], patience: float = 30.0) -> Any:
    """Wait for a condition; gives what it returned."""
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, as Debian has it."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs pip install --group browser"
    )
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium (on Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [],
        )
        yield browser
        browser.close()
