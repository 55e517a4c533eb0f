"""A Redis to cache: a real redis-server with the values of a trace, started on loopback.

``python -m hybridcore.cli.demo_redis --files FILE`` fills it with what `hybridcore.cli.demo_origin`
would serve. ``GET /_address`` tells where it is, ``GET /_stats`` what it served.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

from hybridcore.cli.demo_origin import Served, Service, arguments, listen
from hybridcore.cli.demo_side import free_port, side_application

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 10.0
"""Seconds that the server has to answer."""
_AT_ONCE = 1000


def start(directory: str, port: int) -> subprocess.Popen[bytes]:
    """Start a redis-server that keeps nothing on disk."""
    server = which("redis-server")
    if server is None:
        raise SystemExit("redis-server is not installed")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return subprocess.Popen(  # noqa: S603  # found in the path, with options of our own
        [server, *options, "--dir", directory],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def fill(url: str, service: Service, keys: list[str]) -> None:
    """Store the values of the keys, once the server answers."""
    from hybridcore.errors import OriginError
    from hybridcore.origins import RedisOrigin

    origin: Any = RedisOrigin(url)
    deadline = time.monotonic() + PATIENCE
    for first in range(0, len(keys), _AT_ONCE):
        items = {key: service.body(key) for key in keys[first : first + _AT_ONCE]}
        while errors := origin.store_many(items):
            error = next(iter(errors.values()))
            if not isinstance(error, OriginError) or time.monotonic() > deadline:
                raise error
            time.sleep(0.05)
    origin.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve as the command line says."""
    import redis

    parser = arguments("hybridcore.cli.demo_redis", __doc__)
    parser.add_argument("--files", type=Path, required=True, help="JSON: an array of the keys")
    options = parser.parse_args(argv)
    port = free_port()
    url = f"redis://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as directory:
        server = start(directory, port)
        try:
            fill(url, Service(**options.service), json.loads(options.files.read_bytes()))
            client = redis.Redis.from_url(url)
            client.config_resetstat()

            def served() -> dict[str, Any]:
                info: Any = client.info("stats")
                hits, misses = info["keyspace_hits"], info["keyspace_misses"]
                sent = info["total_net_output_bytes"]
                return asdict(Served(hits + misses, hits, not_found=misses, bytes=sent))

            app = side_application(url, served)
            listen(app, options.port, until_stdin_ends=options.until_stdin_ends)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
