"""The whole store against an obvious model: a dict of what may be served, and for how long."""

import asyncio
import tempfile
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import hybridcore as hc
from hybridcore.testing import SimulatedClock

from .conftest import Source

TTL, STALE = 10.0, 20.0
KEYS = st.sampled_from(["a", "b", "c", ("d", 1)])
VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=3))
MOODS = st.sampled_from(["answers", "has nothing", "fails"])
MISSING = object()


@dataclass
class Entry:
    """What the model holds of a key."""

    value: object
    since: float
    ttl: float


class StoreMachine(RuleBasedStateMachine):
    """Both faces at random, over one store; memory may lose anything at any time."""

    @initialize(
        strategy=st.sampled_from(["read_through", "write_through", "cache_aside"]),
        tiers=st.sampled_from(["both", "memory", "disk"]),
        etags=st.booleans(),
    )
    def build(self, strategy, tiers, etags):
        self.directory = tempfile.TemporaryDirectory()
        self.clock = SimulatedClock()
        self.source = Source(etags=etags)
        self.strategy, self.tiers = strategy, tiers
        self.down = False
        self.model = {}
        self.loop = asyncio.new_event_loop()
        self.open()

    def open(self):
        self.store = hc.HybridCache(
            hc.Cache(100, timer=self.clock.seconds) if self.tiers != "disk" else None,
            hc.Lmdb(self.directory.name, clock=self.clock.nanoseconds, max_bytes="1MiB")
            if self.tiers != "memory"
            else None,
            self.source,
            strategy=self.strategy,
            defaults=hc.EntryOptions(ttl=TTL, stale=STALE, throttle=0),
            breaker=None,
        )

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.directory.cleanup()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    def call(self, face, method, *arguments, **kw):
        if face == "sync":
            return getattr(self.store, method)(*arguments, **kw)
        return self.loop.run_until_complete(getattr(self.store.aio, method)(*arguments, **kw))

    # -- what the model expects --------------------------------------------------------------

    def age(self, key):
        """ "fresh", "stale" or "gone"."""
        entry = self.model.get(key)
        if entry is None:
            return "gone"
        age = self.clock.now - entry.since
        return "fresh" if age < entry.ttl else "stale" if age < entry.ttl + STALE else "gone"

    def expect(self, key, loader=None):
        """The value that a lookup should find, MISSING, or an exception; updates the model."""
        age = self.age(key)
        if age == "fresh":
            return self.model[key].value
        if loader is None and self.strategy == "cache_aside":
            return MISSING
        answer = loader() if loader else self.source.values.get(key, MISSING)
        if loader is None and self.down:
            answer = OSError("down")
        if isinstance(answer, Exception):
            return self.model[key].value if age == "stale" else answer
        if answer is MISSING:
            self.model.pop(key, None)
        else:
            self.model[key] = Entry(answer, self.clock.now, TTL)
        return answer

    # -- the rules ---------------------------------------------------------------------------

    faces = st.sampled_from(["sync", "async"])

    @rule(face=faces, key=KEYS)
    def get(self, face, key):
        expected = self.expect(key)
        try:
            found = self.call(face, "get", key, MISSING)
        except OSError:
            assert isinstance(expected, OSError)
        else:
            assert found is expected or found == expected

    @rule(face=faces, keys=st.lists(KEYS, max_size=6))
    def get_many(self, face, keys):
        expected = {key: self.expect(key) for key in keys}
        values = {
            key: value
            for key, value in expected.items()
            if value is not MISSING and not isinstance(value, OSError)
        }
        errors = {key for key, value in expected.items() if isinstance(value, OSError)}
        if errors:
            with pytest.raises(hc.PartialLoadError) as caught:
                self.call(face, "get_many", keys)
            assert caught.value.found == values
            assert set(caught.value.errors) == errors
        else:
            found = self.call(face, "get_many", keys)
            assert found == values
            assert list(found) == [key for key in dict.fromkeys(keys) if key in values]

    @rule(face=faces, key=KEYS, value=VALUES, mood=MOODS)
    def get_or_load(self, face, key, value, mood):
        outcome = {"answers": value, "has nothing": MISSING, "fails": ValueError("loader")}[mood]

        def loader(key):
            if outcome is MISSING:
                raise hc.NotFoundError(key)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        expected = self.expect(key, lambda: outcome)
        try:
            found = self.call(face, "get_or_load", key, loader)
        except hc.NotFoundError:
            assert expected is MISSING
        except ValueError:
            assert isinstance(expected, ValueError)
        else:
            assert found == expected

    @rule(face=faces, key=KEYS, value=VALUES, ttl=st.sampled_from([None, 3.0, "1m"]))
    def put(self, face, key, value, ttl):
        through = self.strategy == "write_through"
        try:
            self.call(face, "put", key, value, **({} if ttl is None else {"ttl": ttl}))
        except OSError:
            assert through
            assert self.down
            return
        assert not (through and self.down)
        self.model[key] = Entry(value, self.clock.now, {None: TTL, "1m": 60.0}.get(ttl, ttl))

    @rule(face=faces, key=KEYS)
    def delete(self, face, key):
        there = self.age(key)
        try:
            found = self.call(face, "delete", key)
        except OSError:
            assert self.strategy == "write_through"
            assert self.down
            return
        if there != "gone":
            assert found
        elif key not in self.model:
            assert not found
        self.model.pop(key, None)

    @rule(face=faces, key=KEYS)
    def contains(self, face, key):
        assert self.call(face, "contains", key) == (self.age(key) == "fresh")

    @rule(face=faces)
    def clear(self, face):
        self.call(face, "clear")
        self.model.clear()

    @rule(key=KEYS, value=VALUES)
    def the_origin_changes(self, key, value):
        self.source.values[key] = value

    @rule(key=KEYS)
    def the_origin_loses(self, key):
        self.source.values.pop(key, None)

    @rule()
    def the_origin_fails_or_recovers(self):
        self.down = not self.down

        def refuse(*ignored):
            raise OSError("down")

        def accept(*ignored):
            pass

        self.source.before_load = self.source.before_store = refuse if self.down else accept
        self.source.before_delete = self.source.before_load

    @rule(seconds=st.sampled_from([1.0, 2.9, 9.9, 10.1, 19.0, 31.0]))
    def time_passes(self, seconds):
        self.clock.now += seconds

    @precondition(lambda self: self.tiers == "both")
    @rule()
    def memory_is_lost(self):
        self.store.memory.clear()

    @precondition(lambda self: self.tiers != "memory")
    @rule()
    def the_process_starts_again(self):
        self.store.close()
        self.open()

    @invariant()
    def the_memory_tier_is_sound(self):
        if hasattr(self, "store") and self.store.memory is not None:
            self.store.memory.check()

    @invariant()
    def nothing_is_left_under_way(self):
        if hasattr(self, "store"):
            assert not self.store._engine._flights._flights
            assert not self.store._engine._flights._writers


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
