"""A simulated S3 to cache: moto's server with the values of a trace as objects, with latency.

``python -m hybridcore.cli.demo_s3 --files FILE`` fills it with what `hybridcore.cli.demo_origin`
would serve. ``GET /_address`` tells where it is, ``GET /_stats`` what it served.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hybridcore.cli.demo_origin import Served, Service, arguments, listen
from hybridcore.cli.demo_side import side_application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

BUCKET = "demo"
ACCESS = {
    "access_key_id": "demo",
    "secret_access_key": "demo",
    "region": "us-east-1",
}
"""Of nothing but the simulation."""


def object_of(key: str) -> str:
    """Return the name of a key's object.

    >>> object_of("a/../b")
    'k-a%2F..%2Fb'
    """
    return f"k-{quote(key, safe='')}"


class Counted:
    """A WSGI application that takes as long as the service, and is counted."""

    def __init__(self, app: Callable[..., Iterable[bytes]], service: Service) -> None:
        self._app = app
        self._service = service
        self._lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self.bytes = 0
        self.counts = False

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if not self.counts:
            return self._app(environ, start)
        time.sleep(self._service.delay(self.statuses.total()))

        def noted(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            length = next((value for name, value in headers if name == "Content-Length"), "0")
            with self._lock:
                self.statuses[status[:3]] += 1
                self.bytes += int(length) if status[:3] == "200" else 0
            return start(status, headers, *more)

        return self._app(environ, noted)

    def served(self) -> dict[str, Any]:
        """What was served so far."""
        with self._lock:
            statuses, sent = self.statuses.copy(), self.bytes
        return asdict(
            Served(statuses.total(), statuses["200"], statuses["304"], statuses["404"], bytes=sent)
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Serve as the command line says."""
    import httpx
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log_request(self, *of: Any) -> None:
            """Nothing."""

    parser = arguments("hybridcore.cli.demo_s3", __doc__)
    parser.add_argument("--files", type=Path, required=True, help="JSON: an array of the keys")
    options = parser.parse_args(argv)
    service = Service(**options.service)
    app = Counted(DomainDispatcherApplication(create_backend_app), service)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with httpx.Client(base_url=url, timeout=60) as client:
        client.put(f"/{BUCKET}").raise_for_status()
        for key in json.loads(options.files.read_bytes()):
            name = quote(object_of(key))
            client.put(f"/{BUCKET}/{name}", content=service.body(key)).raise_for_status()
    app.counts = True
    listen(
        side_application(url, app.served), options.port, until_stdin_ends=options.until_stdin_ends
    )


if __name__ == "__main__":
    main()
