"""The demo origin is a real process whose every byte can be foretold."""

from __future__ import annotations

import json
import signal
import socket
import statistics
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from hybridcore.cli.demo_origin import Service
from hybridcore.cli.processes import RunFailedError, demo_origin


def test_values_are_drawn_from_the_seed():
    """Bodies, lifetimes and latencies follow from seed and key, and from seed and number."""
    one, same, other = Service(seed=1), Service(seed=1), Service(seed=2)
    assert one.body("k") == same.body("k") != other.body("k")
    assert one.body("k") != one.body("l")
    assert one.delay(7) == same.delay(7) != other.delay(7)


def test_values_follow_the_stated_distributions():
    """Latencies and sizes have the stated medians, and a stated share of keys is brief."""
    service = Service(latency=0.02, size=1000, brief_age=3, brief_share=0.25)
    delays = [service.delay(number) for number in range(2000)]
    sizes = [len(service.body(str(number))) for number in range(500)]
    ages = [service.fresh_for(str(number)) for number in range(2000)]
    assert statistics.median(delays) == pytest.approx(0.02, rel=0.1)
    assert statistics.median(sizes) == pytest.approx(1000, rel=0.2)
    assert ages.count(3) / len(ages) == pytest.approx(0.25, abs=0.05)
    assert set(ages) == {3, 3600}


@contextmanager
def client_of(service):
    with demo_origin(service) as url, httpx.Client(base_url=url) as client:
        yield client


def test_serves_keys_with_validators():
    """A key is its foretold bytes with an ETag, a copy held is renewed, and all is counted."""
    service = Service(latency=0, keys=100)
    with client_of(service) as client:
        first = client.get("/v/42")
        assert first.content == service.body("42")
        assert first.headers["cache-control"] == f"max-age={service.fresh_for('42')}"
        again = client.get("/v/42", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for missing in ("100", "-1", "x"):
            assert client.get(f"/v/{missing}").status_code == 404
        assert client.get("/_stats").json() == {
            "requests": 5,
            "ok": 1,
            "not_modified": 1,
            "not_found": 3,
            "limited": 0,
            "bytes": len(first.content),
            "quota": 0,
        }


def test_any_key_exists_unless_numbered():
    """Without a number of keys, every path is a key."""
    service = Service(latency=0)
    with client_of(service) as client:
        assert client.get("/v/a%20b/c%2Fd").content == service.body("a b/c/d")


def test_rate_limit_answers_429_with_the_time_to_wait():
    """Beyond the rate, requests are refused and told when to come again."""
    with client_of(Service(latency=0, rate=2)) as client:
        replies = [client.get("/v/k") for _ in range(8)]
        assert [reply.status_code for reply in replies[:2]] == [200, 200]
        limited = [reply for reply in replies if reply.status_code == 429]
        assert limited
        assert {reply.headers["retry-after"] for reply in limited} == {"1"}
        assert client.get("/_stats").json()["limited"] == len(limited)


@contextmanager
def started(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "hybridcore.cli.demo_origin", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ending", ["sigterm", "stdin"])
def test_stops_when_told(ending):
    """SIGTERM ends it, and so does the end of its standard input when that was asked for."""
    with started("--port", "0", "--until-stdin-ends") as (process, port):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        if ending == "sigterm":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
            process.stdin = None
        process.wait(10)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)


def test_outlives_its_standard_input_unless_told_otherwise():
    """Started by hand with no standard input, it serves until it is stopped."""
    with started("--service", json.dumps({"latency": 0})) as (process, port):
        process.stdin.close()
        process.stdin = None
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{port}/v/k").status_code == 200
        assert process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="other loopback addresses exist on Linux only")
def test_listens_on_one_loopback_address_only():
    """Fault 29: no other address of the machine reaches it."""
    with started() as (_, port), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=10)


def test_a_server_that_does_not_start_is_told(capfd):
    """Options that it does not know end it, and whoever started it hears of that."""
    with pytest.raises(RunFailedError, match="did not start"), demo_origin(Service(rate="many")):
        pass
    assert "Traceback" in capfd.readouterr().err
