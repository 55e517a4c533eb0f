"""Makes the pictures of docs/serve.md anew: python docs/screenshots.py.

Needs the extras serve and top, the group browser, and Chromium.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import sync_playwright

import hybridcore as hc
from hybridcore.cli.top_screen import Top
from hybridcore.monitoring.watched import WatchedStore
from hybridcore.monitoring.watcher import Watcher
from hybridcore.warming import Warmer
from hybridcore.web import app

IMAGES = Path(__file__).with_name("images")
SECONDS = 20
"""Of traffic that the pictures show."""


class Table:
    """An origin that takes a while, fails now and then, and refuses some writes."""

    def load(self, key: str) -> str:
        """A value, a few milliseconds later."""
        time.sleep(random.lognormvariate(-6, 0.5))
        if random.random() < 0.02:
            raise OSError("connection reset")
        return "x" * 200

    def store(self, key: str, value: str) -> None:
        """Keep nothing."""
        if "draft" in key:
            raise ValueError("column 'state' has no value 'draft'")


def work(store: hc.HybridCache[str, str], stop: threading.Event) -> None:
    """Ask as users do."""
    count = 0
    while not stop.is_set():
        with contextlib.suppress(OSError, hc.HybridCoreError):
            store.get(f"user {int(random.paretovariate(0.7)) % 20_000}")
        count += 1
        if count % 500 == 0:
            store.invalidate(f"user {count % 97}", tags=["orders"], cause="order placed")
        if count % 300 == 0:
            store.put(f"order {count}", "y" * 100)
        if count % 20 == 0:
            time.sleep(0.004)


def pictures(directory: Path) -> None:
    """Draw them."""
    table = Table()
    queue: hc.WriteQueue = hc.WriteQueue(
        directory / "orders", redelivery=hc.Redelivery(attempts=1), batch_delay=1.0
    )
    store: hc.HybridCache[str, str] = hc.HybridCache(
        hc.Memory(1500),
        hc.Lmdb(directory / "users", max_bytes="16MiB"),
        hc.CallableOrigin(table.load, store=table.store),
        strategy="write_behind",
        queue=queue,
        analytics=True,
        defaults=hc.EntryOptions(ttl="15s"),
    )
    for number in (7, 12, 31):
        store.put(f"draft order {number}", "z" * 100)
    store.flush(10)
    stop = threading.Event()
    working = threading.Thread(target=work, args=(store, stop))
    working.start()
    try:
        with Warmer(store) as warmer:
            warmer.warm(f"user {number}" for number in range(200))
            of_the_page(store)
            (directory / "top.svg").write_text(asyncio.run(of_the_terminal(store)))
            in_chromium(
                (directory / "top.svg").as_uri(), "top.png", {"width": 1020, "height": 1000}
            )
    finally:
        stop.set()
        working.join()
        store.close()


def of_the_page(store: hc.HybridCache[str, str]) -> None:
    """Serve it, and look at it."""
    page = app({"users": store}, interval="500ms")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(page, log_level="error", ws="none"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        try:
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            in_chromium(address, "serve.png", {"width": 1000, "height": 1060}, SECONDS)
        finally:
            page.state.watcher.close()
            server.should_exit = True
            serving.join()


async def of_the_terminal(store: hc.HybridCache[str, str]) -> str:
    """Show the screen; gives it as SVG."""
    watcher = Watcher([WatchedStore("users", store)], interval="500ms")
    screen = Top(watcher)
    async with screen.run_test(size=(100, 44)) as pilot:
        await pilot.pause(SECONDS / 2)
        picture = screen.export_screenshot(title="hybridcore top")
    watcher.close()
    return picture


def in_chromium(address: str, name: str, size: dict[str, int], wait: float = 0.5) -> None:
    """Have a browser draw an address."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=size, color_scheme="dark" if "top" in name else "light")
        page.goto(address)
        time.sleep(wait)
        page.screenshot(path=IMAGES / name)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        pictures(Path(directory))
