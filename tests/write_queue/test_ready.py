"""Which writes of a queue are ready, listed or fresh: the oldest goes first, the newest is shed."""

from __future__ import annotations

import random

import pytest

from hybridcore.errors import QueueFullError
from hybridcore.write_queue import Redelivery, WriteQueue
from hybridcore.write_queue.records import Verdict

LEVELS = ("urgent", "normal", "low")


class Clock:
    """A monotonic clock that is advanced."""

    now = 10**12

    def __call__(self):
        return self.now


class Model:
    """What a queue that coalesces should do: a table of keys, their places, levels and states."""

    def __init__(self):
        self.rows = {}
        self.places = 0

    def put(self, key, level):
        row = self.rows.get(key)
        if row is None:
            self.places += 1
            self.rows[key] = [self.places, level, "ready"]
        else:
            row[1] = min(row[1], level)

    def take(self, most):
        ready = [(row[1], row[0], key) for key, row in self.rows.items() if row[2] == "ready"]
        taken = [key for _, _, key in sorted(ready)[:most]]
        for key in taken:
            self.rows[key][2] = "claimed"
        return taken

    def claimed(self):
        return [key for key, row in self.rows.items() if row[2] == "claimed"]

    def newest(self, level):
        of_level = [(r[0], key) for key, r in self.rows.items() if r[1:] == [level, "ready"]]
        return max(of_level)[1] if of_level else None


@pytest.mark.parametrize("seed", range(20))
def test_the_oldest_of_the_most_urgent_level_goes_first(tmp_path, seed):
    """Whatever is put, raised, taken, failed, delayed, shed or opened again meanwhile."""
    rng, clock, model = random.Random(seed), Clock(), Model()

    def opened():
        return WriteQueue(
            tmp_path / "q",
            durability="process",
            ageing="1000h",
            lease="1000h",
            clock=clock,
            redelivery=Redelivery(attempts=1000, wait=5, max_wait=5, jitter="none"),
        )

    queue, deliveries = opened(), {}
    likely = rng.choice([(1, 30, 1), (1, 1, 1), (0, 1, 0), (5, 1, 30)])
    for _ in range(400):
        act = rng.choices(
            ("put", "put many", "again", "take", "ack", "nack", "shed", "open"),
            (30, 10, 8, 20, 16, 8, 4, 1),
        )[0]
        if act in ("put", "put many"):
            for _ in range(1 if act == "put" else rng.randrange(40)):
                key, level = rng.randrange(10**9), rng.choices(range(3), likely)[0]
                queue.put_nowait(key, 0, level=LEVELS[level])
                model.put(key, level)
            queue.sync()
        elif act == "again":
            waiting = [key for key, row in model.rows.items() if row[2] != "claimed"]
            if waiting:
                key, level = rng.choice(waiting), rng.randrange(3)
                queue.put(key, 1, level=LEVELS[level])
                model.put(key, level)
        elif act == "take":
            most = rng.randrange(1, 12)
            taken = queue.take(most)
            assert [one.key for one in taken] == model.take(most)
            deliveries.update((one.key, one) for one in taken)
        elif act == "ack" and deliveries:
            keys = rng.sample(sorted(deliveries), rng.randint(1, len(deliveries)))
            assert queue.ack([deliveries.pop(key) for key in keys]) == len(keys)
            for key in keys:
                del model.rows[key]
        elif act == "nack" and deliveries:
            key = rng.choice(sorted(deliveries))
            queue.nack([deliveries.pop(key)], OSError("down"))
            model.rows[key][2] = "delayed"
            if rng.random() < 0.5:
                clock.now += 6 * 10**9
                for row in model.rows.values():
                    row[2] = row[2].replace("delayed", "ready")
        elif act == "shed":
            level = rng.randrange(3)
            key = model.newest(level)
            full = Verdict(0, 0, 0, QueueFullError("full"), reason="shed")
            shed = queue._committer.carry_out(
                lambda txn, tally, level=level: queue._journal.shed(txn, level, tally, full)  # noqa: B023
            )
            assert shed == (key is not None)
            if key is not None:
                assert queue.pending(key) is None
                del model.rows[key]
        elif act == "open" and not deliveries:
            queue.close()
            queue = opened()
        assert queue.stats().depth == len(model.rows)
    queue.ack(list(deliveries.values()))
    clock.now += 6 * 10**9
    for key in model.claimed():
        del model.rows[key]
    for row in model.rows.values():
        row[2] = "ready"
    left = queue.take(10**6)
    assert [one.key for one in left] == model.take(10**6)
    assert queue.ack(left) == len(left)
    queue.close()


def test_a_damaged_write_that_follows_another_stays_behind_it(tmp_path):
    """What follows it is not brought out before what it follows."""
    with WriteQueue(tmp_path / "q", durability="process", coalesce=False) as queue:
        queue.put("other", 0)
        for value in range(3):
            queue.put("k", value)
        queue.put("later", 0)

        def spoil(txn):
            place = (3).to_bytes(8, "big")
            data = bytearray(txn.get(place, db=queue._journal.data))
            data[35] = 1  # says that it was ready when it came
            txn.put(place, bytes(data), db=queue._journal.data)

        queue._environment.write(spoil, buffers=False)
        taken = queue.take()
        assert [(one.key, one.value) for one in taken] == [("other", 0), ("k", 0), ("later", 0)]
        queue.ack(taken)
        (last,) = queue.take()
        assert (last.key, last.value) == ("k", 2)
        assert [letter.reason for letter in queue.dead_letters] == ["damaged"]
