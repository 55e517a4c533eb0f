"""`Relay`: brings what a directory's log tells to a `Bus`, and what others tell into the log.

**Out.** The log is the outbox. What was committed is published, in order, by a thread that is woken
after the commit; how far it came is kept in the directory, so that what could not be published is
published later, by whichever process is there then. Two processes may publish the same entry.

**In.** Every process of a host receives. The directory remembers the position up to which messages
were applied, and moving it is part of the transaction that applies them: one process does, the
others find it done. An applied message is an entry of the log with the cause ``"bus"``. It reaches
the memory of all processes as any other entry does, and is not published again.

Who cannot know what was missed invalidates everything, softly: copies are loaded anew, and are
served only if the origin fails.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from contextlib import suppress
from random import getrandbits
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from msgspec import DecodeError, Struct
from msgspec.msgpack import decode, encode

from hybridcore.disk.keys import decode_key, lmdb_key
from hybridcore.disk.ledger import Ledger
from hybridcore.disk.meta import tags_of
from hybridcore.errors import ClosedError, DiskError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.invalidation.bus import (
    START,
    BusError,
    GapError,
    Message,
    message_of,
    packed,
    unpacked,
)
from hybridcore.invalidation.clock import MOST_AHEAD
from hybridcore.invalidation.facts import version_of
from hybridcore.invalidation.log import tag_of_key
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.stats import BusStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.disk import Lmdb
    from hybridcore.invalidation.bus import Bus
    from hybridcore.invalidation.coherence import SharedCoherence

log = RateLimitedLog(logging.getLogger("hybridcore"))

CAUSE = "bus"
_AT_ONCE = 500
"""Messages that are published at a time."""
_MOST_FIRST = 20_000
"""Entries of the log that a directory publishes which was on no bus before, the newest ones."""
_MOST_REMEMBERED = 10_000
"""Messages that are remembered so that a second one does nothing."""
_TICK = 1.0
"""Seconds between looks at what others left unpublished, and at the time to wait for messages."""
_LATELY = 60.0
"""Seconds for which it counts that a message came late."""
_PAUSE = 0.1
"""Seconds until a bus that failed is tried again."""
_COUNTED = ("published", "received", "applied", "duplicates", "gaps", "errors", "connected")


class _State(Struct, array_like=True):
    """What a directory knows of a bus."""

    host: int
    published: int
    published_at: str
    position: str


class Relay:
    """Two threads between a directory and a bus; closed with `close`.

    Args:
        coherence: of the directory.
        bus: closed with the relay.
        disk: the tier of the directory; None where nothing but the log is kept there.
    """

    def __init__(self, coherence: SharedCoherence, bus: Bus, disk: Lmdb[Any, Any] | None) -> None:
        self._coherence = coherence
        self._environment = coherence._environment
        self._disk = disk
        self._bus = bus
        self._name = b"bus " + bus.name.encode()
        self._host = 0
        self._emptied = False
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._late = self._late_at = 0.0
        self.start_afresh()
        coherence.on_announce = self.wake
        coherence.buses[bus.name] = self.stats
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Start the threads; also in a forked child."""
        self._closing = threading.Event()
        self._work = threading.Event()
        self._work.set()
        self._in_doubt = 0.0  # when to ask whether what was published is still there
        self._recent: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._answered_at = dict.fromkeys(("out", "in"), monotonic())
        self._start()

    def _start(self) -> None:
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(step, name),
                name=f"hybridcore-bus-{name}",
                daemon=True,
            )
            for name, step in (("out", self._publish), ("in", self._receive))
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be something to publish."""
        self._work.set()

    def stats(self) -> BusStats:
        """A snapshot of what was counted, and of what waits in the directory."""
        counts: dict[str, Any] = dict(self._counts)
        counts["connected"] = bool(counts["connected"])
        waiting, oldest = 0, 0.0
        with suppress(ClosedError, DiskError), self._environment.reading() as txn:
            self._coherence.bind()
            state = self._kept(txn)
            published = 0 if state is None else state.published
            first = next(self._coherence.log.since(txn, published), None)
            if first is not None:
                waiting = self._coherence.log.last(txn) - first.number + 1
                oldest = max(0.0, time() - first.at)
        now = monotonic()
        silent = now - min(self._answered_at.values())
        late = self._late if now < self._late_at + _LATELY else 0.0
        return BusStats(**counts, waiting=waiting, waited=oldest, lag=max(silent, late, oldest))

    def close(self, seconds: float = 2.0) -> None:
        """Publish what is left, if that can be done in time, and end the threads."""
        self._closing.set()
        self._work.set()
        publishing, receiving = self._threads
        publishing.join(seconds)
        self._bus.close()  # whoever waits for messages is told
        receiving.join(seconds)
        self._coherence.buses.pop(self._bus.name, None)

    def _run(self, step: Callable[[], None], way: str) -> None:
        closing = False
        while not closing:
            closing = self._closing.is_set()
            if closing:
                if step == self._receive:
                    return
                self._work.set()
            try:
                step()
                self._counts["connected"] = 1
                self._answered_at[way] = monotonic()
            except ClosedError:
                return
            except (BusError, DiskError) as error:
                if isinstance(error, BusError):
                    self._counts["connected"] = 0
                self._counts["errors"] += 1
                self._in_doubt = 0.0
                if self._closing.is_set():
                    continue
                log.warning("the bus is tried again: %s", raised_by(error), about=str(step))
                self._closing.wait(_PAUSE)
                self._work.set()
            except Exception as error:
                log.warning("the bus stumbled: %s", raised_by(error), about=str(step))
                self._closing.wait(_TICK)

    # -- out --------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Publish what is in the log and was not, then wait for more."""
        self._work.wait(_TICK)
        self._work.clear()
        state = self._state()
        if self._emptied:
            self._tell_all(state, hard=True)  # the log that told of it went, too
            self._emptied = False
        now = monotonic()
        if state.published_at and now >= self._in_doubt:
            if self._bus.has_lost(state.published_at):
                self._tell_all(state, hard=False)  # who received up to before it would never know
            self._in_doubt = now + _TICK
        while True:
            coherence = self._coherence
            with self._environment.reading() as txn:
                coherence.bind()
                first, last = coherence.log.first(txn), coherence.log.last(txn)
                entries = []
                for entry in coherence.log.since(txn, state.published):
                    entries.append(entry)
                    if len(entries) == _AT_ONCE:
                        break
            if last > state.published and first > state.published + 1 and state.published:
                self._tell_all(state, hard=False)  # the log does not go back so far
            messages = [
                packed(message_of(entry, state.host)) for entry in entries if entry.cause != CAUSE
            ]
            if messages:
                state.published_at = self._bus.publish(messages)
                self._counts["published"] += len(messages)
            if not entries:
                return
            state.published = entries[-1].number
            self._note(state)

    def _note(self, state: _State) -> None:
        """Keep how far it was published; another process may have come further."""

        def work(txn: Any) -> None:
            kept = self._kept(txn)
            if kept is None or kept.host != state.host or kept.published < state.published:
                position = "" if kept is None else kept.position
                self._keep(txn, _State(state.host, state.published, state.published_at, position))

        self._environment.write(work)

    def _tell_all(self, state: _State, *, hard: bool) -> None:
        """Publish that anything may have been invalidated."""
        stamp = self._coherence.clock.stamp()
        message = Message(
            state.host, -stamp, self._coherence.node, stamp, "all", hard=hard, cause="clear"
        )
        state.published_at = self._bus.publish([packed(message)])
        self._counts["published"] += 1

        def work(txn: Any) -> None:
            kept = self._kept(txn)
            if kept is not None:
                kept.published_at = state.published_at
                self._keep(txn, kept)

        self._environment.write(work)

    # -- in ---------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Wait for messages and apply them."""
        state = self._state()
        if not state.position:
            self._begin_anew(state)
            return
        try:
            arrived = self._bus.receive(state.position, _TICK)
        except GapError as error:
            log.warning("entries are invalidated: %s", error, about="gap")
            self._begin_anew(state)
            return
        if arrived:
            self._apply(state, arrived)

    def _begin_anew(self, state: _State) -> None:
        """Receive from now on, and believe nothing that is older."""
        position = self._bus.join()

        def work(txn: Any) -> int:
            kept = self._kept(txn)
            if kept is None or kept.position != state.position:
                return 0  # another process was faster
            kept.position = position
            self._keep(txn, kept)
            return self._append(txn, "all", hard=False)

        number = self._environment.write(work)
        if number:
            self._counts["gaps"] += 1
            self._coherence.announce(number)

    def _apply(self, state: _State, arrived: list[tuple[str, bytes]]) -> None:
        messages = []
        batch: set[tuple[int, int]] = set()
        for _, content in arrived:
            if content != START and (message := self._understood(content)).host != state.host:
                self._counts["received"] += 1
                place = message.host, message.number
                if place in self._recent or place in batch:
                    self._counts["duplicates"] += 1
                else:
                    batch.add(place)
                    messages.append(message)
        if messages:
            self._late = time() - messages[-1].stamp / 1e9
            self._late_at = monotonic()
        prefixes = [decode_key(m.keys[1]) for m in messages if m.scope == "prefix"]
        for prefix in prefixes:
            self._delete_from(prefix)
        numbers = self._change(
            lambda ledger: self._applied(ledger, state, arrived[-1][0], messages)
        )
        for prefix in prefixes:
            self._delete_from(prefix)  # what was stored by loads that began before
        if numbers is None:
            return  # another process was faster, perhaps with fewer of them
        self._counts["applied"] += len(numbers)
        if numbers:
            self._coherence.announce(numbers[-1])
        for message in messages:
            self._recent[message.host, message.number] = None
            if len(self._recent) > _MOST_REMEMBERED:
                self._recent.popitem(last=False)

    def _understood(self, content: bytes) -> Message:
        """The message; of one that nobody here understands, that it may mean anything."""
        try:
            message = unpacked(content)
            for form in message.keys:
                decode_key(form)
            self._coherence.clock.receive(message.stamp)
        except (DecodeError, ValueError, IndexError):
            log.warning("a message on the bus is not understood; everything is invalidated")
            stamp = self._coherence.clock.stamp()
            return Message(0, stamp, 0, stamp, "all", hard=False)
        return message

    def _applied(
        self, ledger: Any, state: _State, position: str, messages: list[Message]
    ) -> list[int] | None:
        """In one transaction: delete what is invalid, tell the log, and move the position.

        None: the position is another one by now, and nothing was done.
        """
        txn = ledger.txn
        self._coherence.bind()
        kept = self._kept(txn)
        if kept is None or kept.position != state.position:
            return None
        kept.position = position
        self._keep(txn, kept)
        numbers = []
        for message in messages:
            tags = message.tags
            if message.scope == "key":
                for form in message.keys:
                    self._remove(ledger, form, message.stamp)
                    if self._coherence.log.is_depended_on(txn, form):
                        tags = (*tags, tag_of_key(form))
            numbers.append(
                self._append(
                    txn,
                    message.scope,
                    keys=message.keys,
                    tags=tuple(dict.fromkeys(tags)),
                    hard=message.hard,
                    node=message.node,
                    stamp=message.stamp,
                )
            )
        return numbers

    def _remove(self, ledger: Any, form: bytes, stamp: int) -> None:
        """Delete the record of a key, unless it is newer however wrong the clocks are."""
        if self._disk is None:
            return
        name = lmdb_key(form)
        record = ledger.intact(name, form)
        if record is not None:
            version = version_of(tags_of(record))
            if version is not None and version > stamp:
                return  # versions settle who is newer
            if version is None and _stored_at(record) > stamp + MOST_AHEAD:
                return
        ledger.remove(name)

    def _append(self, txn: Any, scope: Any, *, node: int = 0, **options: Any) -> int:
        return self._coherence.append(txn, scope, cause=CAUSE, node=node, **options)

    def _delete_from(self, prefix: Any) -> None:
        if self._disk is not None:
            self._disk.delete_from(prefix)

    def _change(self, work: Callable[[Ledger], list[int] | None]) -> list[int] | None:
        if self._disk is not None:
            numbers: list[int] | None = self._disk._open().change(work)
            return numbers
        return self._environment.write(lambda txn: work(Ledger(self._environment, txn)))

    # -- what the directory knows -------------------------------------------------------------

    def _state(self) -> _State:
        """What the directory knows of the bus; noted first if it knows nothing."""
        with self._environment.reading() as txn:
            state = self._kept(txn)
        if state is None:
            state = self._environment.write(self._begin)
        self._host = state.host
        return state

    def _begin(self, txn: Any) -> _State:
        state = self._kept(txn)
        if state is None:
            self._coherence.bind()
            last = self._coherence.log.last(txn)
            self._emptied = self._host != 0
            host = self._host or getrandbits(62) + 1
            state = _State(host, max(0, last - _MOST_FIRST), "", "")
            self._keep(txn, state)
        return state

    def _kept(self, txn: Any) -> _State | None:
        kept = txn.get(self._name, db=self._environment.meta)
        return None if kept is None else decode(bytes(kept), type=_State)

    def _keep(self, txn: Any, state: _State) -> None:
        txn.put(self._name, encode(state), db=self._environment.meta)


def _stored_at(record: Any) -> int:
    from hybridcore.disk.ledger import times_of

    return times_of(record)[0]
