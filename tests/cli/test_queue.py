"""``hybridcore queue`` and ``dlq`` tell what waits and what died, and replay it."""

from __future__ import annotations

import json

import pytest

from hybridcore.cli import main
from hybridcore.write_queue import Redelivery, WriteQueue


@pytest.fixture
def directory(tmp_path):
    """A queue in which two writes wait and two died."""

    def fail(batch):
        raise ValueError(f"no {batch[0].key}")

    where = tmp_path / "queue"
    with WriteQueue(where, fail, redelivery=Redelivery(attempts=1), batch_size=1) as queue:
        queue.put("a", {"payload": [1]})
        queue.put(("b", 2), 2)
        assert queue.flush(20)
    with WriteQueue(where) as queue:
        queue.put("c", b"12345", level="low")
        queue.put("d", 2, level="urgent")
    return where


def test_queue(directory, capsys):
    """The levels with what waits in each, as a table and as JSON."""
    assert main(["queue", str(directory)]) == 0
    shown = capsys.readouterr().out
    assert "urgent" in shown
    assert "dead letters 2" in shown
    assert main(["queue", str(directory), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {name: level["items"] for name, level in told["levels"].items()} == {
        "urgent": 1,
        "normal": 0,
        "low": 1,
    }
    assert (told["depth"], told["dead"]) == (2, 2)


def test_dlq_list_and_show(directory, capsys):
    """The letters with their errors; one with its payload and traceback."""
    assert main(["dlq", "list", str(directory), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["key"], first["error"], first["reason"]) == ("a", "ValueError", "attempts")
    assert second["key"] == ["b", 2]
    assert main(["dlq", "list", str(directory), "--error", "KeyError", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["dlq", "list", str(directory)]) == 0
    assert "ValueError: no a" in capsys.readouterr().out
    assert main(["dlq", "show", str(directory), str(first["id"])]) == 0
    shown = capsys.readouterr().out
    assert "{'payload': [1]}" in shown
    assert "Traceback" in shown
    assert main(["dlq", "show", str(directory), str(first["id"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == {"payload": [1]}
    assert main(["dlq", "show", str(directory), "999"]) == 2


def test_dlq_replay_and_purge(directory, capsys):
    """Replayed letters wait again; purged ones are gone, but none without saying which."""
    with WriteQueue(directory) as queue:
        first, second = (letter.id for letter in queue.dead_letters)
    assert main(["dlq", "replay", str(directory), "--id", str(first)]) == 0
    assert "1 queued again, 1 dead letters left" in capsys.readouterr().out
    assert main(["dlq", "purge", str(directory)]) == 2
    assert "--all" in capsys.readouterr().err
    assert main(["dlq", "purge", str(directory), "--older-than", "1h"]) == 0
    assert "0 purged" in capsys.readouterr().out
    assert main(["dlq", "purge", str(directory), "--id", str(second)]) == 0
    with WriteQueue(directory) as queue:
        assert len(queue.dead_letters) == 0
        assert {one.key for one in queue.take()} == {"a", "c", "d"}


def test_no_queue(tmp_path, capsys):
    """A directory without a queue is named, and nothing is made there."""
    assert main(["queue", str(tmp_path / "none")]) == 2
    assert "no write queue" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
