"""``hybridcore replay``, the real command with small numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from hybridcore import __version__
from hybridcore.cli import main, processes

COMMAND = [sys.executable, "-m", "hybridcore.cli"]
QUICK = ["--latency", "1ms", "--workers", "4"]
ROOT = Path(__file__).parents[2]


def hybridcore(*arguments):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False
    )


def trace_of(path, keys):
    path.write_text("".join(f"{key}\n" for key in keys))
    return path


def test_whole_comparison_adds_up(tmp_path):
    """Cold, warm, lru_cache and no cache: every request is accounted for, every value right."""
    numbers = tmp_path / "numbers.json"
    done = hybridcore("replay", "--requests", 300, "--memory", 20, "--json", numbers, *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "1,200 values were read and compared with the origin's: 0 failed or wrong" in done.stdout
    report = json.loads(numbers.read_bytes())
    assert report["requests"] == 300
    cold, warm, lru, bare = report["runs"]
    for run in report["runs"]:
        result, outcomes = run["result"], run["result"]["outcomes"]
        assert result["requests"] == sum(outcomes.values()) == sum(result["first"].values()) == 300
        assert result["wrong"] == outcomes["failed"] == 0
        assert run["served"]["requests"] == result["origin_requests"]
        assert run["served"]["bytes"] == result["bytes_in"]
        assert run["served"]["ok"] == outcomes["loaded"]
        assert run["served"]["not_modified"] == outcomes["renewed"]
    assert cold["result"]["outcomes"]["loaded"] == report["distinct_keys"]
    assert warm["result"]["outcomes"]["disk"] > 250
    assert warm["result"]["outcomes"]["loaded"] == 0
    assert lru["title"] == "lru_cache"
    assert lru["result"]["outcomes"]["disk"] == 0
    assert bare["result"]["outcomes"]["loaded"] == 300


def test_a_simulated_github(tmp_path):
    """With GitHub as the origin the quota is counted, 304s are free, and the saving is told."""
    numbers = tmp_path / "numbers.json"
    keys = ["a/../b", "docs/x.md", "odd ?#%", *map(str, range(40))] * 3
    trace = trace_of(tmp_path / "t.txt", keys)
    done = hybridcore("replay", trace, "--origin", "github-sim", "--json", numbers, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "units of quota that the trace takes without a cache" in done.stdout
    report = json.loads(numbers.read_bytes())
    assert report["origin"] == "github-sim"
    cold, warm, _, bare = report["runs"]
    for run in report["runs"]:
        assert run["served"]["quota"] == run["result"]["quota"]
        assert run["served"]["ok"] == run["served"]["quota"]
    assert cold["served"]["quota"] == 43
    assert warm["served"]["quota"] == 0
    assert bare["served"]["quota"] == 129


@pytest.mark.parametrize("origin", ["redis", "s3-sim"])
def test_other_origins(tmp_path, origin):
    """A redis-server and a simulated S3 serve the same values, and are counted."""
    if origin == "redis" and shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server here")
    numbers = tmp_path / "numbers.json"
    keys = ["a/../b", "docs/x.md", "odd ?#%", *map(str, range(40))] * 3
    trace = trace_of(tmp_path / "t.txt", keys)
    done = hybridcore("replay", trace, "--origin", origin, "--json", numbers, *QUICK)
    assert done.returncode == 0, done.stderr
    cold, warm, _, bare = json.loads(numbers.read_bytes())["runs"]
    assert cold["served"]["ok"] == 43
    assert warm["served"]["ok"] == 0
    assert bare["served"]["ok"] == 129


def test_an_origin_that_there_is_not():
    """An unknown origin is refused, with those that there are."""
    done = hybridcore("replay", "--origin", "ftp")
    assert done.returncode == 2
    assert "'github-sim'" in done.stderr


@pytest.mark.slow
def test_warm_run_renews_what_has_expired(tmp_path):
    """Entries that expired on disk are renewed by a 304, the others are plain hits."""
    numbers = tmp_path / "numbers.json"
    keys = [f"key/{number}" for number in range(150)]
    trace = trace_of(tmp_path / "t.txt", keys)
    arguments = ["--no-compare", "--ttl", "1s", "--workers", "1", "--latency", "10ms"]
    done = hybridcore("replay", trace, "--json", numbers, *arguments)
    assert done.returncode == 0, done.stderr
    _, warm = (run["result"]["outcomes"] for run in json.loads(numbers.read_bytes())["runs"])
    assert warm["renewed"] > 0
    assert warm["disk"] > 100
    assert warm["loaded"] == 0


@pytest.mark.slow
def test_size_in_bytes_and_rate_limit(tmp_path):
    """A memory tier in bytes is compared with memory alone; refused requests are repeated."""
    numbers = tmp_path / "numbers.json"
    trace = trace_of(tmp_path / "t.csv", [number % 40 for number in range(80)])
    done = hybridcore(
        "replay", trace, "--memory", "1MiB", "--rate-limit", 60, "--json", numbers, *QUICK
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads(numbers.read_bytes())["runs"]
    assert [run["title"] for run in runs][2] == "memory alone"
    assert runs[2]["result"]["outcomes"]["memory"] + runs[2]["result"]["outcomes"]["loaded"] == 80
    assert sum(run["served"]["limited"] for run in runs) > 0
    assert "refused with 429" in done.stdout


@pytest.mark.slow
def test_directory_is_kept_and_nothing_else_touched(tmp_path):
    """--directory keeps the disk tier below it; what else is there stays as it was."""
    (tmp_path / "mine").write_text("precious")
    arguments = ["replay", "--requests", 20, "--no-compare", "--directory", tmp_path, *QUICK]
    for _ in range(2):
        done = hybridcore(*arguments)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hybridcore-replay", "mine"]
    assert (tmp_path / "hybridcore-replay").stat().st_mode & 0o077 == 0


def test_symlinked_directory_is_not_emptied(tmp_path):
    """Fault 30: a link in the place of the disk tier is refused, and its target left alone."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "hybridcore-replay").symlink_to(tmp_path / "precious")
    done = hybridcore("replay", "--requests", 20, "--directory", tmp_path)
    assert done.returncode == 2
    assert "symbolic link" in done.stderr
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.parametrize("origin", ["http", "github-sim"])
def test_wrong_values_are_noticed(monkeypatch, capsys, origin):
    """When the origin's values are not the expected ones, the exit code is 1."""
    honest = processes.demo_origin
    monkeypatch.setattr(
        processes,
        "demo_origin",
        lambda service, *more: honest(replace(service, seed=service.seed + 1), *more),
    )
    arguments = ["replay", "--requests", "20", "--no-compare", "--latency", "1ms"]
    arguments += ["--origin", origin]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "40 failed or wrong" in captured.out
    assert "a wrong value from loaded" in captured.err


def test_failing_requests_are_noticed(tmp_path, capsys):
    """A key that cannot be asked for is a failure, told, and the exit code is 1."""
    trace = trace_of(tmp_path / "t.txt", ["a", "../b"])
    assert main(["replay", str(trace), "--no-compare"]) == 1
    captured = capsys.readouterr()
    assert "2 failed or wrong" in captured.out
    assert "../b: OriginError" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/file"], "cannot read the trace no/such/file: No such file or directory"),
        (["--json", "no/such/directory/file"], "cannot write no/such/directory/file: No such file"),
        (["--directory", __file__], "cannot use the directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, message):
    """A bad path is told in one line, before any work, and the exit code is 2."""
    done = hybridcore("replay", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"hybridcore: error: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--requests", "0"], "expected a whole number of at least 1, got '0'"),
        (["--workers", "-3"], "--workers"),
        (["--memory", "lots"], "expected a size such as"),
        (["--memory", "0"], "at least 1"),
        (["--disk", "1 zebra"], "expected a size such as"),
        (["--latency", "soon"], "expected a duration such as"),
        (["--ttl", "-1s"], "--ttl"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys):
    """An option that makes no sense is told by name, and the exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        main(["replay", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_version_and_help(capsys):
    """--version tells the version, --help every option and its default."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"hybridcore {__version__}\n"
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option in ("--requests", "--memory", "--disk", "--directory", "--ttl", "--json"):
        assert option in text
    assert "(default: 5ms)" in text


def test_missing_extras_are_named(monkeypatch, capsys):
    """Without the packages of the extra, the command says what to install."""
    monkeypatch.setattr("hybridcore.cli.replay.NEEDED", ("httpx", "no_such_package"))
    assert main(["replay"]) == 2
    assert "needs no_such_package: pip install hybridcore[demo]" in capsys.readouterr().err


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path, ending):
    """Interrupted or killed, the command takes its origin and its run along."""
    with subprocess.Popen(
        [*COMMAND, "replay", "--latency", "50ms", "--directory", tmp_path],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them, and so this, ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as command:
        _until(lambda: len(_children(command.pid)) == 2)
        _until((tmp_path / "hybridcore-replay").exists)
        children = _children(command.pid)
        command.send_signal(ending)
        _, errors = command.communicate(timeout=30)
        if ending == signal.SIGINT:
            assert (command.returncode, errors) == (130, "hybridcore: interrupted\n")
        _until(lambda: not any(map(_is_alive, children)))


def _serving(*arguments):
    """The replay with its page, once that is told; gives the process and the address."""
    command = subprocess.Popen(
        [*COMMAND, "replay", "--serve", "--port", "0", "--no-compare", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in command.stdout:
        if line.startswith("page "):
            return command, line.split()[1]
    raise AssertionError(command.communicate(timeout=20))


def _shown(address):
    with httpx.stream("GET", f"{address}events", timeout=30) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        for line in lines:
            yield json.loads(line.removeprefix("data: "))["cache"]


@pytest.mark.parametrize("ending", [signal.SIGINT, None])
def test_the_live_page_is_there_during_the_replay_and_after_it(tmp_path, ending):
    """The cache while it goes, the warm one when it is over; it ends when told to."""
    more = [] if ending else ["--serve-for", "3s"]
    command, address = _serving("--requests", 400, "--directory", tmp_path, *QUICK, *more)
    try:
        assert httpx.get(address).status_code == 200
        _until(lambda: any(cache["tiers"] for cache in _shown(address)))
        for line in command.stdout:
            if line.startswith("The page stays"):
                break
        else:
            raise AssertionError(command.communicate(timeout=20))
        warm = next(cache for cache in _shown(address) if cache["curve"] and cache["state"] == "ok")
        assert warm["name"] == "replay"
        assert warm["tiers"][0]["entries"] > 300
        assert warm["curve"]["recommended"] > 0
        if ending:
            command.send_signal(ending)
        _, errors = command.communicate(timeout=30)
        assert (command.returncode, errors) == (0, "")
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
    finally:
        if command.poll() is None:
            command.kill()
            command.communicate()


def test_a_page_that_cannot_be_had_is_told(tmp_path, capsys):
    """A port that is taken, and a duration without a page, end with one line before any work."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["replay", "--serve", "--port", str(port), "--directory", str(tmp_path)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address" in capsys.readouterr().err
    assert main(["replay", "--serve-for", "3s"]) == 2
    assert "give --serve, too" in capsys.readouterr().err


@pytest.mark.skipif(not (ROOT / "run").exists(), reason="needs the source tree")
def test_run_without_a_python_says_so(tmp_path):
    """./run on a machine without a Python that will do names what is missing."""
    shutil.copy(ROOT / "run", tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "env"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = subprocess.run(
        [tmp_path / "run"], env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("run: no Python 3.10 or newer found")
    assert Counter(path.name for path in tmp_path.iterdir()) == Counter(["run", "tools"])
    assert not os.path.exists(tmp_path / ".venv")
