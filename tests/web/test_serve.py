"""``hybridcore serve``: directories of caches that other processes use, on a page of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

import hybridcore as hc
from hybridcore.cli import main
from hybridcore.exporters.prometheus import PrometheusExporter
from tests.web.conftest import until


@contextmanager
def served(*arguments, stop=signal.SIGTERM, **environment):
    """The command in a process of its own; gives its address, and ends it by a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hybridcore.cli", "serve", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("http://"), process.communicate(timeout=20)
        yield line.split()[0]
        process.send_signal(stop)
        _, errors = process.communicate(timeout=20)
        assert errors in ("", "hybridcore: interrupted\n")
        assert process.returncode in (0, -stop, 130, 128 + stop)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def event(lines):
    return json.loads(
        next(line for line in lines if line.startswith("data: ")).removeprefix("data: ")
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_directories_of_others_are_shown(store, tmp_path, stop) -> None:
    """What processes publish and what directories hold; it ends at once with a stream open."""
    exporter = PrometheusExporter(
        {"users": store}, directory=tmp_path / "users" / "statistics", interval=0.05
    )
    directories = (tmp_path / "users", tmp_path / "writes")
    with served(*directories, "--interval", "100ms", stop=stop) as address:
        assert httpx.get(address).status_code == 200
        with httpx.stream("GET", address + "events?cache=users", timeout=30) as stream:
            lines = stream.iter_lines()
            found = event(lines)
            assert [cache["name"] for cache in found["caches"]] == ["users", "writes"]
            assert found["cache"]["tiers"][0]["name"] == "memory"
            assert found["cache"]["invalidations"][0]["cause"] == "<b>cause</b>"
            until(lambda: store.get("more") and event(lines)["cache"]["rate"] > 0)
        with httpx.stream("GET", address + "events?cache=writes", timeout=30) as stream:
            lines = stream.iter_lines()
            assert len(event(lines)["cache"]["queue"]["letters"]) == 2
            exporter.close()


def test_a_letter_in_a_directory_is_replayed(queue, rows, tmp_path) -> None:
    """Whoever has the queue open with a target brings it out."""
    rows.refuses = False
    with served(tmp_path / "writes") as address:
        until(lambda: httpx.get(address).status_code == 200)
        until(lambda: replay(address, "writes").status_code == 200)
        until(lambda: rows.written.get("row 2") == 2)


def replay(address, cache):
    body = {"cache": cache, "letter": None}
    return httpx.post(address + "replay", json=body, headers={"X-Hybridcore": "page"}, timeout=30)


def test_a_directory_may_vanish_and_come_back(tmp_path) -> None:
    """It is said to be gone, nothing is made in its place, and its successor is shown."""
    directory = tmp_path / "cache"
    with hc.Lmdb(directory) as disk:
        disk["key"] = "value"
    with (
        served(directory, "--interval", "50ms") as address,
        httpx.stream("GET", address + "events", timeout=30) as stream,
    ):
        lines = stream.iter_lines()
        assert event(lines)["cache"]["tiers"][0]["entries"] == 1
        shutil.rmtree(directory)
        until(lambda: event(lines)["cache"]["state"] == "gone")
        assert not directory.exists()
        with hc.Lmdb(directory) as disk:
            disk.update({number: number for number in range(7)})
        until(lambda: [t["entries"] for t in event(lines)["cache"]["tiers"]] == [7])


def test_other_hosts_need_a_token(tmp_path, capsys, monkeypatch) -> None:
    """An address that others can reach is not listened on without one, from a file or variable."""
    hc.Lmdb(tmp_path / "cache").close()
    cache = str(tmp_path / "cache")
    monkeypatch.delenv("HYBRIDCORE_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "", "localhost.evil.example"):
        assert main(["serve", cache, "--host", host]) == 2
        assert "can be reached from other hosts" in capsys.readouterr().err
    (tmp_path / "token").write_text("short\n")
    assert main(["serve", cache, "--token-file", str(tmp_path / "token")]) == 2
    assert "at least 16 ASCII" in capsys.readouterr().err
    assert main(["serve", cache, "--token-file", str(tmp_path / "none")]) == 2
    assert "the token could not be read" in capsys.readouterr().err
    token = "a token that is long enough"
    with served(cache, "--host", "0.0.0.0", HYBRIDCORE_TOKEN=token) as address:
        port = address.rstrip("/").rpartition(":")[2]
        own = f"http://127.0.0.1:{port}/"
        assert httpx.get(own).status_code == 401
        assert httpx.get(own, auth=("", token)).status_code == 200
        assert httpx.get(own, auth=("", token), headers={"Host": "evil"}).status_code == 421


def test_what_cannot_be_served_is_told(tmp_path, capsys) -> None:
    """A directory without anything of ours, a port that is taken or none: one line each."""
    assert main(["serve", str(tmp_path)]) == 2
    assert "neither a disk tier, nor a write queue" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    hc.Lmdb(tmp_path / "cache").close()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", str(tmp_path / "cache"), "--port", port]) == 2
        assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "cache"), "--interval", "0"]) == 2
    assert "more than no time" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["serve", str(tmp_path / "cache"), "--port", "65536"])
    assert "from 0 to 65535" in capsys.readouterr().err
