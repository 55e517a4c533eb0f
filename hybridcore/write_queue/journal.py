"""The journal of a durable queue: what waits, is under way or died, in one LMDB environment.

Every method of `Journal` that takes a transaction changes nothing outside of it. Databases:

    ========  =============================================  ====================================
    name      key                                            value
    ========  =============================================  ====================================
    data      place                                          header, key form, payload
    lanes     LMDB key of the key form                       the last place of its lane, which may
                                                             be over
    followers place                                          the next place of its lane
    ready     level, place; but for those that are fresh,    what became of earlier attempts
              see `Ready`
    delayed   due, place                                     what became of earlier attempts
    claims    place                                          owner, end of lease, attempts
    dead      number                                         a `Tombstone`, payload
              0xff, xxh3-128 of the key form, number         whether a newer write came since
    meta      ``format``, ``levels``, ``identity``,          of the directory as a whole
              ``boot``, ``booted`` (the first place since
              the machine did)
    ========  =============================================  ====================================

The tally is in the database that lists these, whose one page every commit writes anyway.

A *place* is a number, 8 bytes big-endian, in the order in which writes came. The places of one
key are its *lane*; only the first of a lane is ready, delayed or claimed, so that writes of one
key are brought out one after the other. A lane whose last place has nothing in ``data`` is over;
its row is left behind, since removing it would touch a page of its own, and swept with many others.
Times are of the monotonic clock, which all processes of a host share until it boots.
"""

from __future__ import annotations

import struct
import time
from itertools import islice
from typing import TYPE_CHECKING

from hybridcore._native.writes import (
    Tally,
    Write,
    claim_all,
    finish_all,
    lane_of,
    lay_out,
)
from hybridcore.disk.durability import boot_id
from hybridcore.disk.keys import lmdb_key
from hybridcore.disk.layout import Layout
from hybridcore.errors import DecodeError
from hybridcore.write_queue.graves import Graves, text_of
from hybridcore.write_queue.ready import Ready
from hybridcore.write_queue.records import HEADER, LEVEL_AT, NUMBER, Verdict
from hybridcore.write_queue.rows import all_of, get_all, put_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import lmdb

    from hybridcore._native.writes import Claimed
    from hybridcore.disk.environment import Environment
    from hybridcore.write_queue.delivery import Delivery

    Txn = lmdb.Transaction[bytes]

LAYOUT = Layout(
    "queue",
    3,
    ("data", "meta", "lanes", "followers", "ready", "delayed", "claims", "dead"),
    has_marks=False,
    disposable=False,
    settles_later=True,  # an acknowledgement that is lost is a delivery more, a write is not
)
MOST_ERROR = 400
"""Bytes of an error's text that are kept until the write has come through or died."""

_CLAIM = struct.Struct("<QqIBQH")
"""Owner, end of the lease, size of the write, level, and what `_PAST` has."""
_PAST = struct.Struct("<QH")
"""The number of a write, how often it was tried; its last error follows. Empty: not yet."""
_PAST_AT = _CLAIM.size - _PAST.size
_MOVED_AT_ONCE = 1000
"""Delayed writes that become ready, or leases that are taken back, in one transaction."""


_FEW = 4
"""Writes whose followers are looked for without asking whether there are any."""
_LANES_LEFT = 4096
"""Lanes that are over for which no sweep is made."""
_SWEEP_AFTER = 256
"""Writes that are finished between two looks whether a sweep is due."""
_SWEPT_AT_ONCE = 8
"""Lanes looked at for each write that is finished, while a sweep is due."""


class Journal:
    """Reads and writes the databases of one environment, in transactions that others open."""

    data: lmdb._Database
    meta: lmdb._Database
    lanes: lmdb._Database
    followers: lmdb._Database
    delayed: lmdb._Database
    claims: lmdb._Database
    main: lmdb._Database

    def __init__(
        self, environment: Environment, *, coalesce: bool, clock: Callable[[], int]
    ) -> None:
        self._environment = environment
        self._bound: lmdb.Environment | None = None
        self._coalesce = coalesce
        self._clock = clock
        self._lowest = 0
        self._booted = 0
        self._swept = b""
        self._finished = 0
        self.ready = Ready()
        self.graves = Graves()

    def bind(self, env: lmdb.Environment) -> None:
        """Use the databases as they are open now: after a fork they are opened anew."""
        if env is not self._bound:
            for name in ("data", "meta", "lanes", "followers", "delayed", "claims", "main"):
                setattr(self, name, getattr(self._environment, name))
            self.ready.data = self.data
            self.ready.listed = self._environment.ready  # type: ignore[attr-defined]
            self.graves.dead = self._environment.dead  # type: ignore[attr-defined]
            self._bound = env

    # -- all of it --------------------------------------------------------------------------

    def tally(self, txn: Txn) -> Tally:
        """What there is."""
        return Tally.unpack(txn.get(b"tally", None, self.main))

    def save(self, txn: Txn, tally: Tally) -> None:
        """Store what there is, if it has changed: a transaction that changes nothing is free."""
        packed = tally.packed_anew()
        if packed is not None:
            txn.put(b"tally", packed, db=self.main)

    def start(self, txn: Txn) -> None:
        """Make ready what waited for a time of a clock that has started anew with the machine."""
        boot = boot_id().encode()
        if txn.get(b"boot", db=self.meta) != boot:
            txn.put(b"boot", boot, db=self.meta)
            txn.put(b"booted", NUMBER.pack(self.tally(txn).next), db=self.meta)
            for key, past in all_of(txn, self.delayed):
                self._make_ready(txn, key[8:], past)
            txn.drop(self.delayed, delete=False)
            for place, claim in all_of(txn, self.claims):
                self._make_ready(txn, place, claim[_PAST_AT:])
            txn.drop(self.claims, delete=False)
        self._booted = NUMBER.unpack(txn.get(b"booted", db=self.meta) or bytes(8))[0]

    def levels(self, txn: Txn, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names of the levels of the directory, which are those given if it has none."""
        known = txn.get(b"levels", db=self.meta)
        if known is None:
            txn.put(b"levels", "\n".join(names).encode(), db=self.meta)
        else:
            names = tuple(known.decode().split("\n"))
        self._lowest = len(names) - 1
        return names

    def identity(self, txn: Txn) -> str:
        """What the idempotency keys of this directory begin with."""
        known = txn.get(b"identity", db=self.meta)
        if known is None:
            from secrets import token_hex

            known = token_hex(8).encode()
            txn.put(b"identity", known, db=self.meta)
        return known.decode()

    def oldest(self, txn: Txn) -> int | None:
        """The first place at which something waits or is under way."""
        with txn.cursor(self.data) as cursor:
            return NUMBER.unpack(cursor.key())[0] if cursor.first() else None

    def last_of(self, txn: Txn, form: bytes) -> Write | None:
        """The newest write of a key that waits or is under way."""
        place = txn.get(lmdb_key(form), db=self.lanes)
        data = None if place is None else txn.get(place, db=self.data)
        if place is None or data is None:
            return None
        found = Write.stored(place, data)
        return found if found.form == form else None

    # -- taking -----------------------------------------------------------------------------

    def accept(
        self, txn: Txn, writes: list[Write], tally: Tally, window: int = 0, again: int = 0
    ) -> int:
        """Store writes; returns how many took the place of one of their key that waits.

        Within ``window`` ns of coming they are not ready. They supersede dead letters of their
        keys: all, or if they come ``again`` those older than the letter of that number.
        """
        names = [lane_of(write.form) for write in writes]
        if tally.dead:
            for write in writes:
                self.graves.supersede(txn, write.form, again or tally.next)
        known = get_all(txn, self.lanes, names)
        left: list[Write] = writes
        tails: dict[bytes, bytes] = {}
        if known:
            left, names, tails = self._join(txn, writes, names, known, tally)
        rows, lanes, follows, heads = lay_out(left, names, tails, tally, not window)
        put_all(txn, self.lanes, lanes)
        put_all(txn, self.followers, follows)
        put_all(txn, self.data, rows, append=True)
        if window:
            due = NUMBER.pack(self._clock() + window)
            put_all(txn, self.delayed, [(due + head[1:], past) for head, past in heads])
        else:
            put_all(txn, self.ready.listed, heads)
        return len(writes) - len(left)

    def _join(
        self,
        txn: Txn,
        writes: list[Write],
        names: list[bytes],
        known: dict[bytes, bytes],
        tally: Tally,
    ) -> tuple[list[Write], list[bytes], dict[bytes, bytes]]:
        """Put writes in the place of those that wait; returns the others, and where they follow."""
        left: list[tuple[bytes, Write]] = []
        tails: dict[bytes, bytes] = {}
        for name, write in zip(names, writes, strict=True):
            last = known.get(name)
            data = None if last is None else txn.get(last, db=self.data)
            if last is not None and data is not None:
                if self._coalesce and self._replace(txn, last, data, write, tally):
                    continue
                tails[name] = last
            left.append((name, write))
        return [write for _, write in left], [name for name, _ in left], tails

    def _replace(self, txn: Txn, place: bytes, data: bytes, write: Write, tally: Tally) -> bool:
        """Put a write in the place of one that waits; False if that one is under way."""
        if len(data) < HEADER.size or txn.get(place, db=self.claims) is not None:
            return False
        _, _, mono, wall, level, _, _, _ = HEADER.unpack_from(data)
        write.mono, write.wall = mono, wall  # it has waited for so long
        level = min(level, self._lowest)
        more_urgent = min(level, write.level)
        is_fresh = tally.is_fresh(NUMBER.unpack(place)[0], data)
        if more_urgent != level:
            self.ready.move(txn, place, level, more_urgent, is_fresh=is_fresh)
            is_fresh = False
        write.level = more_urgent
        txn.put(place, write.row(tally.next, is_fresh), db=self.data)
        tally.next += 1
        tally.add(level, -1, -len(data))
        tally.add(more_urgent, 1, write.size)
        return True

    # -- bringing out -----------------------------------------------------------------------

    def wake(self, txn: Txn, now: int) -> int | None:
        """Make ready what was delayed until now; returns when the next one is due."""
        with txn.cursor(self.delayed) as cursor:
            for _ in range(_MOVED_AT_ONCE):
                if not cursor.first():
                    return None
                key = cursor.key()
                due = int(NUMBER.unpack_from(key)[0])
                if due > now:
                    return due
                past = cursor.value()
                cursor.delete()
                self._make_ready(txn, key[8:], past)
        return now

    def take_back(self, txn: Txn, is_over: Callable[[int, int, int], bool]) -> int:
        """Make ready what was claimed by owners whose lease is over; returns how many."""
        over = [
            (place, claim)
            for place, claim in all_of(txn, self.claims)
            if is_over(NUMBER.unpack(place)[0], *_CLAIM.unpack_from(claim)[:2])
        ]
        for place, claim in over:
            txn.delete(place, db=self.claims)
            level = _CLAIM.unpack_from(claim)[3]
            self.ready.put(txn, level, place, claim[_PAST_AT:])
        return len(over)

    def claim(
        self,
        txn: Txn,
        level: int,
        most: int,
        owner: int,
        until: int,
        tally: Tally,
        least_age: int = 0,
    ) -> list[Claimed]:
        """Claim up to ``most`` ready writes of a level, the oldest first.

        It ends before the first that has waited for less than ``least_age`` ns. The attempt is
        counted now: who dies of it has had it.
        """
        claimed: list[Claimed] = []
        damaged: list[tuple[bytes, bytes, DecodeError]] = []

        def is_too_young(write: Write) -> bool:
            return self._age(write) < least_age

        first = listed, fresh = self.ready.first(txn, tally, level, most)
        found = dict(fresh)
        rows = [(place, b"") for place, _ in fresh]
        if listed:
            found.update(get_all(txn, self.data, [place for place, _ in listed]))
            rows = sorted(rows + listed)[:most]
        taken, claims = claim_all(
            rows,
            found,
            level,
            owner,
            until,
            claimed,
            damaged,
            is_too_young if least_age else None,
        )
        if taken:
            self.ready.pass_by(txn, tally, level, first, rows[taken - 1][0])
        put_all(txn, self.claims, claims)
        for place, row, damage in damaged:
            if not fresh or not self._is_elsewhere(txn, place):
                self._bury_damaged(txn, place, level, row, damage, tally)
        if damaged and len(claimed) < most:  # what follows those is ready now
            left = most - len(claimed)
            claimed += self.claim(txn, level, left, owner, until, tally, least_age)
        return claimed

    def _is_elsewhere(self, txn: Txn, place: bytes) -> bool:
        """Whether a place is claimed, delayed, listed as ready, or follows another."""
        return (
            txn.get(place, db=self.claims) is not None
            or any(key[8:] == place for key, _ in all_of(txn, self.delayed))
            or any(key[1:] == place for key, _ in all_of(txn, self.ready.listed))
            or any(following == place for _, following in all_of(txn, self.followers))
        )

    def age_of(self, txn: Txn, level: int, tally: Tally) -> int | None:
        """Nanoseconds that the first ready write of a level has waited, if there is one."""
        listed, fresh = self.ready.first(txn, tally, level, 1)
        if not (listed or fresh):
            return None
        place = min(place for place, _ in listed + fresh)
        data = txn.get(place, db=self.data)
        if data is None or len(data) < HEADER.size:
            return 0
        _, _, mono, wall, _, _, _, _ = HEADER.unpack_from(data)
        return self._waited(NUMBER.unpack(place)[0], mono, wall)

    def taken_at(self, write: Write) -> int:
        """When a write was taken, by the monotonic clock; before the machine booted, if it was."""
        return write.mono if write.place >= self._booted else self._clock() - self._age(write)

    def _age(self, write: Write) -> int:
        return self._waited(write.place, write.mono, write.wall)

    def _waited(self, place: int, mono: int, wall: int) -> int:
        """Nanoseconds; of what was taken before the machine booted the wall clock has to tell."""
        return max(0, time.time_ns() - wall if place < self._booted else self._clock() - mono)

    def extend(self, txn: Txn, places: Iterable[int], owner: int, until: int) -> None:
        """Let the leases of an owner end later."""
        for place in map(NUMBER.pack, places):
            claim = txn.get(place, db=self.claims)
            if claim is not None:
                whose, _, *rest = _CLAIM.unpack_from(claim)
                if whose == owner:
                    said = claim[_CLAIM.size :]
                    txn.put(place, _CLAIM.pack(owner, until, *rest) + said, db=self.claims)

    def finish(self, txn: Txn, done: Sequence[Delivery], owner: int, tally: Tally) -> int:
        """Remove writes that their target has; returns how many were still claimed by the owner."""
        finished: list[bytes] = []
        with txn.cursor(self.claims) as claims, txn.cursor(self.data) as data:
            finish_all(claims, data, done, owner, tally, finished)
        if len(finished) <= _FEW or txn.stat(self.followers)["entries"]:
            for place in finished:
                self._let_follow(txn, place)
        return len(finished)

    def sweep(self, txn: Txn, tally: Tally, finished: int) -> None:
        """Remove lanes that are over, when most are; a share for each write that was finished."""
        self._finished += finished
        if self._finished < _SWEEP_AFTER:
            return
        finished, self._finished = self._finished, 0
        if txn.stat(self.lanes)["entries"] <= 2 * tally.depth + _LANES_LEFT:
            return
        if not tally.depth:
            txn.drop(self.lanes, delete=False)
            return
        looked = _SWEPT_AT_ONCE * finished
        oldest = NUMBER.pack(self.oldest(txn) or 0)
        with txn.cursor(self.lanes) as cursor:
            rows = list(islice(cursor, looked)) if cursor.set_range(self._swept or b"\0") else []
            for name, place in rows:
                if place < oldest or txn.get(place, db=self.data) is None:
                    cursor.set_key(name)
                    cursor.delete()
        self._swept = rows[-1][0] if len(rows) == looked else b""

    def settle(self, txn: Txn, verdict: Verdict, owner: int, tally: Tally) -> str:
        """Carry out a verdict; returns what became of the write.

        ``"delayed"``, ``"dead"``, ``"superseded"`` when a newer one of its key takes its place, or
        ``"lost"`` when the lease was over and somebody else has it.
        """
        place = NUMBER.pack(verdict.place)
        claim = txn.get(place, db=self.claims)
        if claim is None:
            return "lost"
        whose, _, size, level, number, attempt = _CLAIM.unpack_from(claim)
        if whose != owner or number != verdict.number or attempt != verdict.attempt:
            return "lost"
        txn.delete(place, db=self.claims)
        if verdict.again_in is None:
            data = txn.get(place, db=self.data) or b""
            try:
                write = Write.stored(place, data)
            except DecodeError as damage:
                self._bury_damaged(txn, place, level, data, damage, tally)
                return "dead"
            self._bury(txn, write, attempt - (not verdict.counts), verdict, tally)
            self._remove(txn, place, level, size, tally)
            return "dead"
        if self._coalesce and self._is_followed(txn, place):
            self._remove(txn, place, level, size, tally, verdict.again_in)
            return "superseded"
        said = f"{type(verdict.error).__name__}: {text_of(verdict.error)}".encode()
        past = _PAST.pack(number, attempt - (not verdict.counts)) + said[:MOST_ERROR]
        self._delay(txn, place, verdict.again_in, past)
        return "delayed"

    def shed(self, txn: Txn, level: int, tally: Tally, verdict: Verdict) -> bool:
        """Let the newest ready write of a level die; False if there is none."""
        place = self.ready.pop_last(txn, tally, level)
        if place is None:
            return False
        data = txn.get(place, db=self.data) or b""
        try:
            write = Write.stored(place, data)
        except DecodeError as error:
            self._bury_damaged(txn, place, level, data, error, tally)
        else:
            self._bury(txn, write, 0, verdict, tally)
            self._remove(txn, place, level, write.size, tally)
        return True

    def _remove(
        self, txn: Txn, place: bytes, level: int, size: int, tally: Tally, pause: float = 0.0
    ) -> None:
        """Remove a write; the next one of its key is ready now, or after a pause."""
        txn.delete(place, db=self.data)
        self._let_follow(txn, place, pause)
        tally.add(level, -1, -size)

    def _let_follow(self, txn: Txn, place: bytes, pause: float = 0.0) -> None:
        follower = txn.pop(place, self.followers)
        if follower is not None and pause:
            self._delay(txn, follower, pause, b"")
        elif follower is not None:
            self._make_ready(txn, follower, b"")

    def _is_followed(self, txn: Txn, place: bytes) -> bool:
        """Whether a newer write of the key waits."""
        return txn.get(place, db=self.followers) is not None

    def _delay(self, txn: Txn, place: bytes, pause: float, past: bytes) -> None:
        due = self._clock() + int(pause * 1e9)
        txn.put(NUMBER.pack(max(0, due)) + place, past, db=self.delayed)

    def _make_ready(self, txn: Txn, place: bytes, past: bytes) -> None:
        data = txn.get(place, db=self.data)
        if data is not None:
            level = data[LEVEL_AT] if len(data) > LEVEL_AT else self._lowest
            self.ready.put(txn, min(level, self._lowest), place, past)

    def _bury(self, txn: Txn, write: Write, attempts: int, verdict: Verdict, tally: Tally) -> None:
        superseded = self._is_followed(txn, NUMBER.pack(write.place))
        self.graves.bury(txn, write, attempts, verdict, tally, superseded=superseded)

    def _bury_damaged(
        self, txn: Txn, place: bytes, level: int, data: bytes, error: DecodeError, tally: Tally
    ) -> None:
        """Keep the bytes that cannot be read."""
        self.graves.bury_damaged(txn, place, level, data, error, tally)
        self._remove(txn, place, level, len(data), tally)
