"""A simulated GitHub to cache: the keys of a trace as files, in a real process with latency.

``python -m hybridcore.cli.demo_github --files FILE`` serves like `hybridcore.cli.demo_origin`. The
bytes of a file follow from its key as they do there. Its rules are GitHub's but for the limits,
which are so high that a replay of minutes meets none. ``GET /_stats`` counts what was served.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hybridcore.cli.demo_origin import Served, Service, arguments, listen
from hybridcore.testing.github import GitHub, Reply, Repository, Rules
from hybridcore.testing.serving import application

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REPO = "hybridcore/demo"
TOKEN = "demo"  # noqa: S105  # of nothing but the simulation
UNBOUNDED = 1_000_000_000


def file_of(key: str) -> str:
    """Return the path of a key's file.

    >>> file_of("a/../b")
    'files/k-a%2F..%2Fb'
    """
    return f"files/k-{quote(key, safe='')}"


class DemoGitHub(GitHub):
    """A simulated GitHub that counts what it serves as the demo origin does."""

    def __init__(self, service: Service, keys: Iterable[str]) -> None:
        files = {file_of(key): service.body(key) for key in keys}
        limits = Rules(UNBOUNDED, UNBOUNDED, UNBOUNDED, UNBOUNDED, concurrent=UNBOUNDED)
        super().__init__(Repository(REPO, files), tokens=[TOKEN], rules=limits)
        self._bytes = 0

    def respond(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Reply:
        if target == "/_stats":
            return Reply(200, {"Content-Type": "application/json"}, self._counted())
        reply = super().respond(method, target, headers, body)
        self._bytes += len(reply.body) if reply.status == 200 else 0
        return reply

    def _counted(self) -> bytes:
        statuses = self.statuses
        served = Served(
            requests=self.requests,
            ok=statuses[200],
            not_modified=statuses[304],
            not_found=statuses[404],
            limited=statuses[403] + statuses[429],
            bytes=self._bytes,
            quota=self.units.total(),
        )
        return json.dumps(asdict(served)).encode()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve as the command line says."""
    parser = arguments("hybridcore.cli.demo_github", __doc__)
    parser.add_argument("--files", type=Path, required=True, help="JSON: an array of the keys")
    options = parser.parse_args(argv)
    service = Service(**options.service)
    github = DemoGitHub(service, json.loads(options.files.read_bytes()))
    app = application(github, lambda: service.delay(github.requests))
    listen(app, options.port, until_stdin_ends=options.until_stdin_ends)


if __name__ == "__main__":
    main()
