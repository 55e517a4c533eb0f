"""A queue of any options does what a list of writes by key does, whatever fails and restarts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hybridcore.errors import BreakerOpenError
from hybridcore.write_queue import Redelivery, WriteQueue

KEYS = ("a", "b", ("c", 1))
LEVELS = ("urgent", "normal", "low")
ATTEMPTS, LEASE = 3, 10


class Write(NamedTuple):
    """A write that was put, or came back ``again``: no two are equal."""

    key: object
    serial: int
    deletes: bool
    again: int = 0

    @property
    def value(self):
        return None if self.deletes else self.serial


class Claim(NamedTuple):
    """A write under way: until when, and whether this queue object claimed it."""

    delivery: object
    until: int
    ours: bool


class Letter(NamedTuple):
    """A write that died, and whether a newer one of its key was put."""

    write: Write
    superseded: bool


class Queue(RuleBasedStateMachine):
    """Every write waits, is claimed, was applied, was replaced, or is a dead letter."""

    @initialize(coalesce=st.booleans(), batch=st.integers(1, 4))
    def open(self, coalesce, batch):
        """Open the queue for the first time."""
        self.directory = Path(tempfile.mkdtemp())
        self.now = 10**12
        self.serial = 0
        self.lanes = {key: [] for key in KEYS}
        self.claims, self.late = {}, []
        self.letters = {}
        self.attempts, self.identities = {}, {}
        self.coalesce, self.batch = coalesce, batch
        self._open()

    def _open(self):
        self.queue = WriteQueue(
            self.directory / "q",
            durability="process",
            coalesce=self.coalesce,
            lease=LEASE,
            ageing=20,
            redelivery=Redelivery(attempts=ATTEMPTS, wait=4, max_wait=8),
            clock=lambda: self.now,
        )

    def _join(self, write):
        """A write takes the place of the last one of its key, if that waits and may be replaced."""
        lane = self.lanes[write.key]
        if self.coalesce and lane and lane[-1] not in self.claims:
            lane[-1] = write
        else:
            lane.append(write)

    def _supersede(self, key, before):
        for number, letter in self.letters.items():
            if letter.write.key == key and number < before:
                self.letters[number] = letter._replace(superseded=True)

    def _die(self, write, number):
        lane = self.lanes[write.key]
        assert lane.pop(0) == write
        self.letters[number] = Letter(write, superseded=bool(lane))

    @rule(
        key=st.sampled_from(KEYS),
        level=st.sampled_from(LEVELS),
        deletes=st.booleans(),
        waits=st.booleans(),
    )
    def put(self, key, level, deletes, waits):
        """A write joins the lane of its key; letters of the key are not to undo it."""
        self.serial += 1
        write = Write(key, self.serial, deletes)
        if deletes:
            self.queue.delete(key, level=level)
        elif waits:
            self.queue.put(key, write.value, level=level)
        else:
            self.queue.put_nowait(key, write.value, level=level)
            self.queue.sync()
        self._join(write)
        self._supersede(key, float("inf"))

    @rule()
    def take(self):
        """Only heads of lanes are claimed, each once, and its attempts are counted."""
        self._take(self.batch)

    def _take(self, most, done=()):
        self.queue._drain._looked = -1e9  # leases are looked at in each transaction
        for write, claim in list(self.claims.items()):
            if claim.until < self.now or not claim.ours:
                del self.claims[write]
                self.late.append((write, claim))
        taken = self.queue.take(most, done=done)
        for delivery in taken:
            write = self.lanes[delivery.key][0]
            assert (delivery.value, delivery.deletes) == (write.value, write.deletes)
            assert write not in self.claims
            self.attempts[write] = self.attempts.get(write, 0) + 1
            assert delivery.attempt == self.attempts[write] <= ATTEMPTS
            identity = self.identities.setdefault(write, delivery.idempotency_key)
            assert identity == delivery.idempotency_key
            self.claims[write] = Claim(delivery, self.now + LEASE * 10**9, ours=True)
        for letter in self.queue.dead_letters:
            if letter.id not in self.letters:
                assert letter.reason == "crashed"
                write = self.lanes[letter.key][0]
                assert self.attempts[write] == ATTEMPTS
                self._die(write, letter.id)
        return taken

    def _draw_claim(self, data):
        ours = sorted(
            (write for write, claim in self.claims.items() if claim.ours),
            key=lambda write: (write.serial, write.again),
        )
        return data.draw(st.sampled_from(ours)) if ours else None

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), takes=st.booleans())
    def ack(self, data, takes):
        """An applied write is gone, also when its lease was over and nobody has taken it since."""
        write = self._draw_claim(data)
        if write is None:
            return
        delivery = self.claims.pop(write).delivery
        assert self.lanes[write.key].pop(0) == write
        if takes:
            self._take(self.batch, [delivery])
        else:
            assert self.queue.ack([delivery]) == 1

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def late_ack(self, data):
        """Who comes after the lease settles that same write if it is claimed again, or none."""
        write, claim = data.draw(st.sampled_from(self.late))
        current = self.claims.get(write)
        settles = current is not None and current.ours
        assert self.queue.ack([claim.delivery]) == settles
        if settles:
            del self.claims[write]
            assert self.lanes[write.key].pop(0) == write

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), refused=st.booleans())
    def nack(self, data, refused):
        """A failed write waits, dies after its last attempt, or gives way to a newer one."""
        write = self._draw_claim(data)
        if write is None:
            return
        delivery = self.claims.pop(write).delivery
        error = BreakerOpenError("open", retry_after=3) if refused else OSError("no")
        self.queue.nack([delivery], error)
        if not refused and self.attempts[write] == ATTEMPTS:
            self._die(write, delivery.number)
        elif self.coalesce and len(self.lanes[write.key]) > 1:
            assert self.lanes[write.key].pop(0) == write
        elif refused:
            self.attempts[write] -= 1

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds):
        """Time passes."""
        self.now += seconds * 10**9

    @rule()
    def restart(self):
        """Closed and opened again everything is as it was; what was claimed is free again."""
        self.queue.close(0)
        self.claims = {write: claim._replace(ours=False) for write, claim in self.claims.items()}
        self._open()

    @precondition(lambda self: self.letters)
    @rule()
    def replay(self):
        """Letters come back as new writes, but for those that a newer write superseded."""
        done = 0
        for number, letter in sorted(self.letters.items()):
            if not self.letters[number].superseded:
                del self.letters[number]
                self._supersede(letter.write.key, number)
                self.serial += 1
                self._join(letter.write._replace(again=self.serial))
                done += 1
        assert self.queue.dead_letters.replay() == done

    @rule()
    def drain(self):
        """In the end everything is brought out, each key in its order."""
        for _ in range(100):
            if not any(self.lanes.values()):
                break
            self.now += 10**12
            taken = self._take(100)
            for delivery in taken:
                write = self.lanes[delivery.key].pop(0)
                del self.claims[write]
            assert self.queue.ack(taken) == len(taken)
        assert not any(self.lanes.values())

    @invariant()
    def everything_is_accounted_for(self):
        """`pending` tells the last of each lane; depth, claims and letters are exact."""
        for key, lane in self.lanes.items():
            newest = self.queue.pending(key)
            if lane:
                assert (newest.value, newest.deletes) == (lane[-1].value, lane[-1].deletes)
            else:
                assert newest is None
        stats = self.queue.stats()
        assert stats.depth == sum(map(len, self.lanes.values()))
        assert stats.running == len(self.claims)
        found = {one.id: (one.key, one.value, one.superseded) for one in self.queue.dead_letters}
        assert found == {
            number: (letter.write.key, letter.write.value, letter.superseded)
            for number, letter in self.letters.items()
        }

    def teardown(self):
        """Leave nothing behind."""
        if hasattr(self, "queue"):
            self.queue.close(0)
            shutil.rmtree(self.directory)


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
