"""A redis-server of a test's own: on a free port, in an empty directory, stopped by its pid."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from select import select
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 20.0


def free_port() -> int:
    """A port of loopback that nobody listens on, nor on the one 10000 above, which clusters use."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            return int(port)
    raise OSError("no free ports")


class RedisServer:
    """A server that can be killed and started again, with what it has saved."""

    programs: tuple[str, ...] = ("redis-server", "valkey-server")
    """The first of them that is here."""

    def __init__(self, directory: Path, *options: str, sentinel: bool = False) -> None:
        program = next(filter(None, map(shutil.which, self.programs)), None)
        if program is None:
            name = self.programs[0]
            pytest.skip(f"there is no {name} here: apt-get install {name}")
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._log = directory / "log"
        self._command = [program]
        if sentinel:
            config = directory / "sentinel.conf"
            config.touch()
            self._command += [str(config), "--sentinel"]
        else:
            self._command += ["--save", "", "--enable-debug-command", "yes"]
        self._command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)]
        self._command += options
        self._password = (
            options[options.index("--requirepass") + 1] if ("--requirepass" in options) else None
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is; without a password."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                self.do("PING")
            except OSError:
                assert time.monotonic() < deadline, "it does not answer"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it hang, its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def is_busy(self) -> bool:
        """Whether a script keeps it from answering."""
        import redis

        try:
            self.do("PING")
        except redis.ResponseError as error:
            return str(error).startswith("BUSY")
        return False

    def client(self) -> Any:
        """A client of redis-py, to be closed."""
        import redis

        return redis.Redis(port=self.port, password=self._password, retry=None)

    def do(self, *command: Any) -> Any:
        """Send one command past everything that is tested."""
        import redis

        with self.client() as client:
            try:
                return client.execute_command(*command)
            except redis.ConnectionError as error:
                raise OSError(str(error)) from error


class Proxy:
    """Forwards the connections of one server, and counts the round trips that are made over it.

    What a client sends is forwarded when it has been silent for a moment, as one round trip.
    """

    SILENCE = 0.03

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.round_trips = 0
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Break all connections."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += client, server
                for forward in self._ask, self._answer:
                    thread = threading.Thread(target=forward, args=(client, server))
                    self._threads.append(thread)
                    thread.start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                while select([client], [], [], self.SILENCE)[0]:
                    data += (more := client.recv(1 << 16))
                    if not more:
                        break
                self.round_trips += 1
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
