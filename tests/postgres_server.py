"""A PostgreSQL of a test's own: on a free port, in a directory of its own, stopped by its pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import free_port

PATIENCE = 30.0


class PostgresServer:
    """A server that can be killed and started again; skips the test where there is none."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
        if initdb is None:
            pytest.skip("there is no PostgreSQL here: apt-get install postgresql")
        self._bin = Path(initdb).resolve().parent
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:  # as which it refuses to run
            import pwd

            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
            self._user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._directory = Path(tempfile.mkdtemp(prefix="hybridcore-pg-"))
        self._data = self._directory / "data"
        if self._user:
            os.chown(self._directory, self._user["user"], self._user["group"])
        self.port = free_port()
        self._run(initdb, "-D", self._data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, driver: str) -> str:
        """Where it is, for an SQLAlchemy driver."""
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                self._bin / "postgres",
                *("-D", self._data, "-p", str(self.port), "-c", "fsync=off"),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._directory,
            **self._user,
        )
        deadline = time.monotonic() + PATIENCE
        ready = [self._bin / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, "it ended"
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and the connections to it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None

    def remove(self) -> None:
        """End it and delete what it stored."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, *command: Any) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self._directory, **self._user)
