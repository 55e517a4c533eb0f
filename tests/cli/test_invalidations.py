"""``hybridcore invalidations`` tells what was invalidated in a directory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hybridcore import HybridCache, Lmdb
from hybridcore.cli import main


@pytest.fixture
def directory(tmp_path):
    where = tmp_path / "cache"
    with HybridCache(None, Lmdb(where, max_bytes="8MiB")) as store:
        store.put(("user", 7), 1)
        store.invalidate(tags=["team [1]"], hard=False, cause="deploy")
    return where


def test_log(directory, capsys):
    """The newest entries, as a table and as lines of JSON."""
    assert main(["invalidations", str(directory)]) == 0
    shown = capsys.readouterr().out
    assert "('user', 7)" in shown
    assert "tag 'team [1]'" in shown
    assert main(["invalidations", str(directory), "--json", "--last", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["tags"], told["hard"], told["cause"]) == (["team [1]"], False, "deploy")


def test_following(directory):
    """With ``--follow`` it goes on with what other processes add."""
    command = [sys.executable, "-m", "hybridcore.cli", "invalidations", str(directory)]
    with subprocess.Popen(
        [*command, "--json", "--follow"], stdout=subprocess.PIPE, text=True
    ) as process:
        for _ in range(2):
            process.stdout.readline()
        with HybridCache(None, Lmdb(directory, max_bytes="8MiB")) as store:
            store.delete("later")
        assert json.loads(process.stdout.readline())["keys"] == ["later"]
        process.kill()


def test_no_directory(tmp_path, capsys):
    """A directory without a disk tier is told, and none is made."""
    assert main(["invalidations", str(tmp_path / "none")]) == 2
    assert "no disk tier" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_trimming(directory, capsys):
    """Old entries are removed by number or by age, and nonsense is refused."""
    with HybridCache(None, Lmdb(directory, max_bytes="8MiB")) as store:
        for number in range(300):
            store.put("k", number)
    assert main(["invalidations", str(directory), "--trim", "100", "--last", "999", "--json"]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 100
    assert "202 entries removed" in shown.err
    assert main(["invalidations", str(directory), "--max-age", "1h", "--json"]) == 0
    assert "0 entries removed" in capsys.readouterr().err
    assert main(["invalidations", str(directory), "--trim", "5"]) == 2
    assert "at least 100 entries" in capsys.readouterr().err
