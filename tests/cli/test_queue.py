"""``hybridcore queue`` and ``dlq`` tell what waits and what died, and replay it."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

import hybridcore as hc
from hybridcore.cli import main
from hybridcore.codec import Codec, Codecs
from hybridcore.exporters.prometheus import PrometheusExporter
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


def test_rates_between_two_looks(directory, capsys, monkeypatch):
    """What came and left between two looks, divided by the time between them."""
    now = [100.0]

    def sleep(seconds):
        with WriteQueue(directory) as queue:
            for number in range(10):
                queue.put((now[0], number), 1)
            queue.ack(queue.take(4))
        now[0] += seconds

    monkeypatch.setattr(
        "hybridcore.cli.queue.time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0])
    )
    assert main(["queue", str(directory), "--over", "2s", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["came_per_second"], told["left_per_second"]) == (5.0, 2.0)
    assert main(["queue", str(directory), "--over", "2s"]) == 0
    assert "5.0 come and 2.0 leave a second" in capsys.readouterr().out


def test_what_processes_publish_of_a_queue(tmp_path, capsys):
    """The share of attempts that succeeded, and how long writes took, as processes told."""
    failed = []

    def fail_once(key, value):
        if not failed:
            failed.append(key)
            raise OSError("not yet")

    queue = WriteQueue(tmp_path / "q", redelivery=Redelivery(wait=0, max_wait=0))
    origin = hc.CallableOrigin({}.get, store=fail_once)
    with hc.HybridCache(
        hc.Memory(10), origin=origin, strategy="write_behind", queue=queue
    ) as store:
        for number in range(3):
            store.put(number, number)
        assert store.flush(20)
        exporter = PrometheusExporter({"c": store}, directory=tmp_path / "q" / "statistics")
        exporter.close()
        assert main(["queue", str(tmp_path / "q"), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)["processes"]
        assert (told["attempts"], told["success_rate"]) == (4, 0.75)
        assert told["seconds_until"].keys() == {"durable", "applied"}
        assert main(["queue", str(tmp_path / "q")]) == 0
        assert "75.00% of 4 attempts succeeded" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["--over", "0s"], ["--watch", "0s"], ["--statistics", "nowhere"]]
)
def test_queue_with_what_cannot_be(directory, capsys, wrong):
    """No time between looks, and statistics that are not there, are refused."""
    assert main(["queue", str(directory), *wrong]) == 2
    assert "expected" in (said := capsys.readouterr().err) or "no published" in said


@pytest.mark.parametrize(
    "wrong",
    [["replay", "--rate", rate] for rate in ("0", "-1", "nan", "inf")]
    + [["replay", "--id", "99"], ["purge", "--id", "99"]],
)
def test_dead_letters_stay_after_bad_input(directory, capsys, wrong):
    """A rate that is none, or a letter that is not there, is refused and no letter moves."""
    action, *rest = wrong
    assert main(["dlq", action, str(directory), *rest]) == 2
    said = capsys.readouterr().err
    assert "rate is expected" in said or "there is no dead letter 99" in said
    with WriteQueue(directory) as queue:
        assert (len(queue.dead_letters), queue.stats().depth) == (2, 2)


VALUES = {
    "json": {"name": "Ada", "tags": ["x"], "size": 1.5, "gone": None},
    "text": "two\nlines",
    "bytes": b"\x00\xff",
}


@pytest.fixture
def letters(tmp_path):
    """A queue with dead letters of all kinds, and their ids by key."""
    where = tmp_path / "letters"
    with WriteQueue(where, redelivery=Redelivery(attempts=1)) as queue:
        for key, value in VALUES.items():
            queue.put(key, value)
        queue.put("tuple", {"at": [(1, 2)]})
        queue.put("infinite", [float("inf")])
        queue.put("keys", {1: 2})
        queue.delete("delete")
        queue.nack(queue.take(), ValueError("no"))
        ids = {letter.key: str(letter.id) for letter in queue.dead_letters}
    return str(where), ids


@pytest.mark.parametrize(
    ("key", "edit", "expected"),
    [
        ("json", lambda raw: raw.replace(b"Ada", "Eve\u00e9".encode()), {"name": "Eve\u00e9"}),
        ("text", lambda raw: raw + b" more", "two\nlines more"),
        ("bytes", lambda raw: raw[::-1], b"\xff\x00"),
    ],
)
def test_dlq_edits_a_value(letters, capfdbinary, tmp_path, key, edit, expected):
    """What show prints of a value is what replay takes in its place, from a file."""
    directory, ids = letters
    assert main(["dlq", "show", directory, ids[key], "--value"]) == 0
    (tmp_path / "value").write_bytes(edit(capfdbinary.readouterr().out))
    edited = ["--id", ids[key], "--value", str(tmp_path / "value"), "--level", "urgent"]
    assert main(["dlq", "replay", directory, *edited]) == 0
    assert b"1 queued again, 6 dead letters left" in capfdbinary.readouterr().out
    with WriteQueue(directory) as queue:
        (delivery,) = queue.take()
    assert delivery.level == "urgent"
    if key == "json":
        expected = VALUES["json"] | expected
    assert delivery.value == expected


def test_dlq_takes_a_value_of_standard_input(letters, monkeypatch):
    """With - the value is what is piped in."""
    directory, ids = letters
    monkeypatch.setattr(
        "sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a": 12345678901234567890}'))
    )
    assert main(["dlq", "replay", directory, "--id", ids["json"], "--value", "-"]) == 0
    with WriteQueue(directory) as queue:
        (delivery,) = queue.take()
    assert delivery.value == {"a": 12345678901234567890}


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("json", b"{", "expected to be JSON"),
        ("json", b"[1]", "expected to be an object"),
        ("json", b'{"a": NaN}', "NaN is no JSON"),
        ("text", b"\xff", "expected to be text in UTF-8"),
        ("tuple", b"{}", "holds a tuple"),
        ("infinite", b"[]", "holds inf"),
        ("keys", b"{}", "holds the key 1"),
        ("delete", b"{}", "is a delete"),
        (None, b"{}", "--value is expected with --id"),
    ],
)
def test_dlq_refuses_a_value_that_does_not_fit(letters, capsys, tmp_path, key, content, said):
    """What is no value of the letter's kind is refused with the reason, and the letter stays."""
    directory, ids = letters
    (tmp_path / "value").write_bytes(content)
    which = [] if key is None else ["--id", ids[key]]
    assert main(["dlq", "replay", directory, *which, "--value", str(tmp_path / "value")]) == 2
    assert said in capsys.readouterr().err
    with WriteQueue(directory) as queue:
        assert len(queue.dead_letters) == 7
        assert queue.stats().depth == 0


def test_dlq_tells_why_a_letter_is_not_replayed(letters, capsys, tmp_path):
    """The one letter that was asked for is queued again, or the reason is told."""
    directory, ids = letters
    with WriteQueue(directory) as queue:
        queue.put("text", "newer")
    asked = ["dlq", "replay", directory, "--id", ids["text"]]
    assert main(asked) == 2
    assert "a newer write superseded" in capsys.readouterr().err
    assert main([*asked, "--force", "--error", "KeyError"]) == 2
    assert "died of ValueError" in capsys.readouterr().err
    assert main([*asked, "--value", str(tmp_path / "none")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert main([*asked, "--force"]) == 0


def test_dlq_shows_what_cannot_be_read(tmp_path, capsys):
    """Of a value of a type that is unknown here the reason is shown, and it cannot be edited."""
    kind = Codec(70, complex, lambda value: str(value).encode(), lambda raw: complex(raw.decode()))
    once = Redelivery(attempts=1)
    with WriteQueue(tmp_path / "q", codecs=Codecs(kind), redelivery=once) as queue:
        queue.put("k", 1j)
        queue.nack(queue.take(), ValueError("no"))
    shown = ["dlq", "show", str(tmp_path / "q"), "1"]
    assert main(shown) == 0
    assert "cannot be read here: codec 70 is unknown" in capsys.readouterr().out
    assert main([*shown, "--json"]) == 0
    assert "codec 70" in json.loads(capsys.readouterr().out)["unreadable"]
    assert main([*shown, "--value"]) == 2
    assert "edit it in Python" in capsys.readouterr().err


def test_dlq_prints_what_errors_say_as_plain_text(tmp_path, capsys, monkeypatch):
    """Errors of several lines take one in the list, and none changes the terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    with WriteQueue(tmp_path / "q", redelivery=Redelivery(attempts=1)) as queue:
        queue.put("k\x1b[2J", 1)
        queue.nack(queue.take(), ValueError("first\nsecond \x1b[31mred"))
    assert main(["dlq", "list", str(tmp_path / "q")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["dlq", "show", str(tmp_path / "q"), "1"]) == 0
    shown = capsys.readouterr().out
    assert "first\nsecond \\x1b[31mred" in shown
    assert "\x1b" not in shown
