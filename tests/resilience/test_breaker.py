"""The state machine of the breaker, on a clock that is advanced by hand."""

from __future__ import annotations

import contextlib
import math
import os
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import hybridcore as hc
from hybridcore.breaker import Breaker, Circuit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def fail(circuit: Circuit, times: int = 1, error: Exception | None = None) -> None:
    for _ in range(times):
        circuit.failed(circuit.admit(), error or hc.OriginUnavailableError("down"))


def succeed(circuit: Circuit, times: int = 1) -> None:
    for _ in range(times):
        circuit.succeeded(circuit.admit())


def test_it_opens_after_five_failures_in_a_row(clock) -> None:
    """Five failures in a row open it; a success between them starts the count anew. Fault 24."""
    circuit = Circuit(Breaker(clock=clock))
    fail(circuit, 4)
    succeed(circuit)
    fail(circuit, 4)
    assert circuit.state == "closed"
    fail(circuit)
    assert circuit.state == "open"
    with pytest.raises(hc.BreakerOpenError) as caught:
        circuit.admit()
    assert caught.value.retry_after == 60
    assert circuit.stats().rejected == 1


def test_two_successes_of_probes_close_it(clock) -> None:
    """After 60 s one call at a time probes; the second success closes, and every step is told."""
    circuit = Circuit(Breaker(clock=clock))
    fail(circuit, 5)
    clock.now += 59.9
    with pytest.raises(hc.BreakerOpenError):
        circuit.check()
    clock.now += 0.1
    assert circuit.state == "half_open"
    probe = circuit.admit()
    with pytest.raises(hc.BreakerOpenError):
        circuit.admit()
    circuit.succeeded(probe)
    succeed(circuit)
    assert circuit.state == "closed"
    assert [(change.before, change.after, change.at) for change in circuit.history] == [
        ("closed", "open", 1000),
        ("open", "half_open", 1060),
        ("half_open", "closed", 1060),
    ]
    assert "5 failures in a row" in circuit.history[0].reason


def test_a_failed_probe_opens_it_again(clock) -> None:
    """One failure while half open takes another 60 s."""
    circuit = Circuit(Breaker(clock=clock))
    fail(circuit, 5)
    clock.now += 60
    succeed(circuit)
    fail(circuit)
    assert circuit.state == "open"
    assert circuit.retry_after == 60


def test_an_abandoned_probe_frees_its_place(clock) -> None:
    """A cancelled probe says nothing, and another may take its place."""
    circuit = Circuit(Breaker(clock=clock, successes=1))
    circuit.trip()
    clock.now += 60
    for _ in range(10):
        circuit.abandoned(circuit.admit())
    assert circuit.state == "half_open"
    succeed(circuit)
    assert circuit.state == "closed"


def test_a_probe_that_hangs_does_not_keep_the_others_out(clock) -> None:
    """After ``open_for`` a probe is not waited for, and what becomes of it does not count."""
    circuit = Circuit(Breaker(clock=clock, successes=1))
    circuit.trip()
    clock.now += 60
    hangs = circuit.admit()
    clock.now += 59
    with pytest.raises(hc.BreakerOpenError):
        circuit.check()
    clock.now += 1
    probe = circuit.admit()
    circuit.failed(hangs, hc.OriginTimeoutError("late"))
    assert circuit.state == "half_open"
    circuit.succeeded(probe)
    assert circuit.state == "closed"


@pytest.mark.parametrize("asked", [math.inf, 1e9])
def test_retry_after_extends_it_within_bounds(clock, asked) -> None:
    """``Retry-After`` keeps it open for longer, but no longer than ``max_open_for``. Fault 22."""
    circuit = Circuit(Breaker(clock=clock, max_open_for="10m"))
    fail(circuit, 4)
    fail(circuit, 1, hc.OriginUnavailableError("busy", retry_after=300))
    assert circuit.retry_after == 300
    circuit.ended_late(hc.OriginUnavailableError("busier", retry_after=asked))
    assert circuit.retry_after == 600
    circuit.reset()
    fail(circuit, 5)
    assert circuit.retry_after == 60


def test_patience_asked_for_before_it_opened_is_kept(clock) -> None:
    """A ``Retry-After`` of an earlier failure counts when it opens."""
    circuit = Circuit(Breaker(clock=clock))
    fail(circuit, 1, hc.OriginUnavailableError("busy", retry_after=300))
    clock.now += 10
    fail(circuit, 4, hc.OriginUnavailableError("busy", retry_after=math.nan))
    assert circuit.retry_after == 290


def test_a_rate_over_a_window_opens_it(clock) -> None:
    """Half of at least ten calls within a minute have to fail; what is older has slid out."""
    circuit = Circuit(Breaker(clock=clock, error_rate=0.5, min_calls=10, window="60s"))
    fail(circuit, 9)
    assert circuit.state == "closed"
    clock.now += 70
    succeed(circuit, 6)
    fail(circuit, 5)
    assert circuit.state == "closed"
    fail(circuit)
    assert circuit.state == "open"
    assert "6 of 12 calls failed" in circuit.history[0].reason


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (hc.OriginUnavailableError("x"), True),
        (hc.BreakerOpenError("x"), True),
        (hc.OriginTimeoutError("x"), True),
        (ConnectionResetError(), True),
        (RuntimeError(), True),
        (hc.OriginError("4xx"), False),
        (hc.NotFoundError("x"), False),
        (KeyError("x"), True),
        (KeyboardInterrupt(), False),
    ],
)
def test_which_errors_count(error, counts) -> None:
    """The nearest class that was named decides; an origin that refuses has answered."""
    assert Breaker().counts(error) is counts
    assert not Breaker(failure_on=(OSError,)).counts(RuntimeError())


def test_what_began_before_a_transition_does_not_count(clock) -> None:
    """An old success does not close it, an old failure does not open it again."""
    circuit = Circuit(Breaker(clock=clock, successes=1))
    old = [circuit.admit() for _ in range(10)]
    fail(circuit, 5)
    for permit in old[:5]:
        circuit.failed(permit, ConnectionError())
    clock.now += 60
    probe = circuit.admit()
    circuit.succeeded(old[5])
    assert circuit.state == "half_open"
    circuit.succeeded(probe)
    circuit.failed(old[6], ConnectionError())
    assert circuit.state == "closed"
    assert circuit.stats().failures == 11


def test_it_is_tripped_and_reset_by_hand(clock) -> None:
    """``trip(inf)`` holds until ``reset``."""
    circuit = Circuit(Breaker(clock=clock), "shop")
    circuit.trip(math.inf, reason="deploying")
    clock.now += 1e9
    with pytest.raises(hc.BreakerOpenError, match=r"shop is left alone .* deploying"):
        circuit.check()
    circuit.reset()
    succeed(circuit)
    assert [change.reason for change in circuit.history] == ["deploying", "reset by hand"]


def test_listeners_hear_in_order_and_may_use_the_circuit(clock, caplog) -> None:
    """A listener that trips it again or raises harms nobody; the history is bounded."""
    circuit = Circuit(Breaker(clock=clock))
    heard: list[str] = []

    def listen(change) -> None:
        heard.append(change.after)
        if change.after == "closed":
            circuit.trip()

    def broken(change) -> None:
        raise RuntimeError

    circuit.on_transition(broken)
    stop = circuit.on_transition(listen)
    circuit.trip()
    circuit.reset()
    assert heard == ["open", "closed", "open"]
    assert "a listener of the breaker" in caplog.text
    stop()
    for _ in range(100):
        circuit.trip()
    assert len(heard) == 3
    assert len(circuit.history) == 64


def test_threads_open_it_once_and_get_one_probe(clock) -> None:
    """However many threads fail at once: one transition, and then one probe."""
    circuit = Circuit(Breaker(clock=clock))
    start = threading.Barrier(8)
    got: list[int] = []

    def work() -> None:
        start.wait()
        for _ in range(200):
            try:
                circuit.failed(circuit.admit(), ConnectionError())
            except hc.BreakerOpenError:
                break
        start.wait()
        if start.wait() == 0:
            clock.now += 60
        start.wait()
        with contextlib.suppress(hc.BreakerOpenError):
            got.append(circuit.admit())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [change.after for change in circuit.history] == ["open", "half_open"]
    assert len(got) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_finds_locks_open_and_probes_free(clock) -> None:
    """After a fork the state is kept, but nobody waits for a probe of the parent."""
    circuit = Circuit(Breaker(clock=clock, successes=1))
    circuit.trip()
    clock.now += 60
    probe = circuit.admit()
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with circuit._lock:
            locked.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    child = os.fork()
    if not child:
        try:
            circuit.succeeded(probe)
            kept = circuit.state == "half_open"
            circuit.succeeded(circuit.admit())
            os._exit(0 if kept and circuit.state == "closed" else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    release.set()
    holder.join()


@pytest.mark.parametrize(
    "options",
    [
        {"failures": 0},
        {"probes": True},
        {"open_for": 0},
        {"open_for": "2h"},
        {"error_rate": 0},
        {"error_rate": 1.5},
        {"failure_on": (int,)},
        {"ignore": ("NotFoundError",)},
    ],
)
def test_nonsense_is_refused(options) -> None:
    """An option that makes no sense is a ConfigurationError."""
    with pytest.raises(hc.ConfigurationError):
        Breaker(**options)


class Machine(RuleBasedStateMachine):
    """The circuit against a model that keeps every call in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.circuit = Circuit(Breaker(failures=3, probes=2, clock=self.clock))
        self.heard: list[tuple[str, str]] = []
        self.circuit.on_transition(lambda change: self.heard.append((change.before, change.after)))
        self.state = "closed"
        self.until = 0.0
        self.row = self.good = self.rejected = self.failures = 0
        self.calls: list[tuple[int, bool]] = []  # the permit, whether it still counts
        self.last_probe = 0.0

    def enter(self, state: str) -> None:
        self.state, self.row, self.good = state, 0, 0
        self.calls = [(permit, False) for permit, _ in self.calls]

    def open(self, length: float = 60) -> None:
        self.enter("open")
        self.until = self.clock.now + length

    @rule()
    def admit(self) -> None:
        now = self.clock.now
        probing = sum(counts for _, counts in self.calls)
        if self.state == "open" and now >= self.until:
            through = True
        elif self.state == "half_open":
            through = probing < 2 or now >= self.last_probe + 60
        else:
            through = self.state == "closed"
        try:
            permit = self.circuit.admit()
        except hc.BreakerOpenError as error:
            waits = error.retry_after > 0
            self.rejected += 1
            refused = True
        else:
            waits = refused = False
        assert (refused, waits) == (not through, not through)
        if refused:
            return
        assert through
        if self.state == "open":
            self.enter("half_open")
        elif self.state == "half_open" and probing == 2:
            self.calls = [(permit, False) for permit, _ in self.calls]
        self.last_probe = now
        self.calls.append((permit, True))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(["succeeds", "fails", "refuses", "is cancelled"]))
    def end(self, data, how) -> None:
        at = data.draw(st.integers(0, len(self.calls) - 1))
        permit, counts = self.calls.pop(at)
        if how == "is cancelled":
            self.circuit.abandoned(permit)
        elif how == "succeeds":
            self.circuit.succeeded(permit)
        elif how == "refuses":
            self.circuit.failed(permit, hc.NotFoundError("x"))
        else:
            self.circuit.failed(permit, ConnectionError())
            self.failures += 1
        if not counts or how == "is cancelled":
            return
        if self.state == "closed":
            self.row = self.row + 1 if how == "fails" else 0
            if self.row == 3:
                self.open()
        elif how == "fails":
            self.open()
        else:
            self.good += 1
            if self.good == 2:
                self.enter("closed")

    @rule(step=st.sampled_from([1, 29, 59, 60, 200]))
    def advance(self, step) -> None:
        self.clock.now += step

    @rule(length=st.sampled_from([1, 60, 300]))
    def trip(self, length) -> None:
        self.circuit.trip(length)
        self.open(length)

    @rule()
    def reset(self) -> None:
        self.circuit.reset()
        self.enter("closed")

    @invariant()
    def agrees(self) -> None:
        due = self.state == "open" and self.clock.now >= self.until
        stats = self.circuit.stats()
        assert stats.state == ("half_open" if due else self.state)
        assert (stats.rejected, stats.failures) == (self.rejected, self.failures)
        left = max(0, self.until - self.clock.now) if self.state == "open" else 0
        assert stats.retry_after == pytest.approx(left)
        assert all(
            one[1] == after[0] for one, after in zip(self.heard, self.heard[1:], strict=False)
        )


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
