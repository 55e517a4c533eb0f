"""The store with everything that covers failures, against what a value may be at most: its age.

A value tells its key and when the origin had it. Loads in the background end when they like, so the
model knows bounds and not the one right answer: nothing is served that was not there, that is older
than ttl and stale together, or that was deleted or overwritten.
"""

import asyncio
import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import hybridcore as hc
from hybridcore.testing import SimulatedClock

from .conftest import FailingDisk, Source, wait_until

TTL, STALE, NEGATIVE = 10.0, 20.0, 5.0
KEYS = st.sampled_from(["a", "b", "c"])
FACES = st.sampled_from(["sync", "async"])


class FaultyDisk(FailingDisk):
    """A disk that fails while it is told to."""

    broken = False

    def fails(self):
        return self.broken


class ResilienceMachine(RuleBasedStateMachine):
    """Both faces at random; the origin and the disk fail and recover."""

    @initialize(
        tiers=st.sampled_from(["both", "memory", "disk"]),
        refresh_ahead=st.sampled_from([None, 0.5]),
        soft_timeout=st.sampled_from([None, 5.0]),
        throttle=st.sampled_from([0, 3.0]),
        breaker=st.booleans(),
        etags=st.booleans(),
    )
    def build(self, tiers, refresh_ahead, soft_timeout, throttle, breaker, etags):
        self.directory = tempfile.TemporaryDirectory()
        self.clock = SimulatedClock()
        self.source = Source(etags=etags)
        self.disk = None
        if tiers != "memory":
            self.disk = FaultyDisk(self.directory.name, clock=self.clock.nanoseconds)
        self.store = hc.HybridCache(
            None if tiers == "disk" else hc.Cache(100, timer=self.clock.seconds),
            self.disk,
            self.source,
            defaults=hc.EntryOptions(
                ttl=TTL,
                stale=STALE,
                refresh_ahead=refresh_ahead,
                soft_timeout=soft_timeout,
                throttle=throttle,
                negative_ttl=NEGATIVE,
            ),
            breaker=hc.Breaker(clock=self.clock.seconds, open_for=7) if breaker else None,
        )
        if self.disk is not None:
            self.store._engine.tiers.disk._clock = self.clock.seconds
        for remembered in (self.store._engine._missing, self.store._engine._failed):
            remembered._timer = self.clock.seconds  # without memory it would be real time
        self.loop = asyncio.new_event_loop()
        self.down = False
        self.written = {}  # key -> the event that last put, deleted or cleared it
        self.answers = {}  # value -> when an origin or a put last said so, and in which event
        self.absent_until = {}  # key -> until when the origin had it not
        self.serial = self.events = 0
        self.source.after_load = self.note

    def teardown(self):
        if hasattr(self, "store"):
            self.disk_recovers()
            self.store.close()
            self.directory.cleanup()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    def note(self, key):
        value = self.source.values.get(key)
        if value is not None:
            self.said(value)

    def said(self, value):
        """An origin or a put says so now."""
        self.events += 1
        self.answers[value] = self.clock.now, self.events

    def call(self, face, method, *args, **kw):
        if face == "sync":
            found = getattr(self.store, method)(*args, **kw)
        else:

            async def main():
                try:
                    return await getattr(self.store.aio, method)(*args, **kw)
                finally:
                    while self.store.aio._tasks:
                        await asyncio.sleep(0)

            found = self.loop.run_until_complete(main())
        wait_until(lambda: not self.store._engine._flights._flights)
        return found

    def check(self, key, value):
        """A value that was served: of this key, young enough, and not from before a write."""
        assert value in self.answers, f"{value} was nowhere"
        assert value[0] == key
        since, event = self.answers[value]
        assert self.clock.now - since < TTL + STALE
        assert event >= self.written.get(key, 0), "it was deleted or overwritten"

    def new_value(self, key):
        self.serial += 1
        return (key, self.serial)

    # -- the rules ---------------------------------------------------------------------------

    @rule(face=FACES, key=KEYS)
    def get(self, face, key):
        before = self.store.stats().origin
        try:
            value = self.call(face, "get", key)
        except (OSError, hc.BreakerOpenError):
            assert self.down or self.store.breaker is not None
            after = self.store.stats().origin
            assert after.errors > before.errors
            return
        if value is None:
            current = self.source.values.get(key)
            after = self.store.stats().origin
            known = after.negative_hits > before.negative_hits
            assert current is None or (
                known and self.clock.now - self.absent_until.get(key, 0) <= NEGATIVE
            )
        else:
            self.check(key, value)

    @rule(face=FACES)
    def get_many(self, face):
        try:
            found = self.call(face, "get_many", ["a", "b", "c"])
        except hc.PartialLoadError as error:
            found = error.found
            assert self.down or self.store.breaker is not None
        for key, value in found.items():
            self.check(key, value)

    @rule(face=FACES, key=KEYS, ttl=st.sampled_from([None, 3.0]))
    def put(self, face, key, ttl):
        value = self.new_value(key)
        self.said(value)
        self.written[key] = self.events
        self.call(face, "put", key, value, **({} if ttl is None else {"ttl": ttl}))
        assert self.call(face, "peek", key) == value or self.disk_alone_is_broken()

    @rule(face=FACES, key=KEYS)
    def put_if_version(self, face, key):
        entry = self.call(face, "entry", key)
        value = self.new_value(key)
        self.said(value)
        try:
            version = 0 if entry is None else entry.version
            self.call(face, "put", key, value, if_version=version)
        except hc.VersionConflictError:
            raise AssertionError("nobody wrote between") from None
        self.written[key] = self.events

    @rule(face=FACES, key=KEYS)
    def delete(self, face, key):
        self.call(face, "delete", key)
        self.forbid(key)
        assert self.call(face, "peek", key) is None
        assert self.call(face, "entry", key) is None

    @rule(face=FACES)
    def clear(self, face):
        self.call(face, "clear")
        for key in "abc":
            self.forbid(key)

    def forbid(self, key):
        """Nothing from before may be served."""
        self.events += 1
        self.written[key] = self.events

    @rule(face=FACES, key=KEYS)
    def look(self, face, key):
        before = self.store.stats().origin
        entry = self.call(face, "entry", key)
        if entry is not None:
            self.check(key, entry.value)
            assert entry.stale == (entry.ttl_left is not None and entry.ttl_left <= 0)
        assert self.call(face, "peek", key) == (
            None if entry is None or entry.stale else entry.value
        )
        assert self.call(face, "contains", key) == (entry is not None and not entry.stale)
        after = self.store.stats().origin
        assert after.loads == before.loads
        assert after.errors == before.errors

    @rule(key=KEYS)
    def the_origin_changes(self, key):
        if key not in self.source.values:
            self.absent_until[key] = self.clock.now
        self.source.values[key] = self.new_value(key)

    @rule(key=KEYS)
    def the_origin_loses(self, key):
        self.source.values.pop(key, None)

    @rule()
    def the_origin_fails_or_recovers(self):
        self.down = not self.down

        def refuse(*ignored):
            raise OSError("down")

        self.source.before_load = refuse if self.down else lambda key: None

    @rule()
    def the_disk_fails(self):
        if self.disk is not None:
            self.disk.broken = True

    @rule()
    def disk_recovers(self):
        if self.disk is not None:
            self.disk.broken = False

    def disk_alone_is_broken(self):
        return (
            self.disk is not None
            and self.store.memory is None
            and (self.disk.broken or self.store.health()["disk"].state == "down")
        )

    @rule(seconds=st.sampled_from([0.5, 2.9, 5.1, 9.9, 10.1, 19.0, 31.0]))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @rule()
    def memory_is_lost(self):
        if self.store.memory is not None and self.disk is not None:
            self.store.memory.clear()

    @invariant()
    def counters_add_up(self):
        if not hasattr(self, "store"):
            return
        wait_until(lambda: not self.store._engine._flights._flights)  # of refreshes as well
        origin = self.store.stats().origin
        assert origin.not_modified + origin.not_found <= origin.loads
        failed = origin.errors
        if self.store.breaker is not None:
            failed -= self.store.stats().guard.breaker.rejected
        assert len(self.source.asked) <= origin.loads + origin.errors
        assert failed >= 0
        assert not self.store._engine._flights._writers
        if self.store.memory is not None:
            self.store.memory.check()


TestResilience = ResilienceMachine.TestCase
TestResilience.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
