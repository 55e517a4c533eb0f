"""The journal of a durable queue: what waits, is under way or died, in one LMDB environment.

Every method of `Journal` that takes a transaction changes nothing outside of it. Databases:

    ========  =============================================  ====================================
    name      key                                            value
    ========  =============================================  ====================================
    data      place                                          header, key form, payload
    lanes     xxh3-128 of the key form, place                nothing
    ready     level, place                                   what became of earlier attempts
    delayed   due, place                                     what became of earlier attempts
    claims    place                                          owner, end of lease, lane, attempts
    dead      number                                         a `Tombstone`, payload
              0xff, xxh3-128 of the key form, number         whether a newer write came since
    meta      ``format``, ``next``, ``tally``, ``levels``,   of the directory as a whole
              ``identity``, ``boot``, ``booted`` (the first
              place since the machine did)
    ========  =============================================  ====================================

A *place* is a number, 8 bytes big-endian, in the order in which writes came. The places of one
key are its *lane*; only the first of a lane is ready, delayed or claimed, so that writes of one
key are brought out one after the other. Times are of the monotonic clock, which all processes of
a host share until it boots.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from traceback import format_exception
from typing import TYPE_CHECKING, NamedTuple

from msgspec import MsgspecError, Struct
from msgspec.msgpack import decode, encode

from hybridcore.disk.durability import boot_id
from hybridcore.disk.layout import Layout
from hybridcore.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import lmdb

    from hybridcore.disk.environment import Environment

    Txn = lmdb.Transaction[bytes]

LAYOUT = Layout(
    "queue",
    1,
    ("data", "meta", "lanes", "ready", "delayed", "claims", "dead"),
    has_marks=False,
    disposable=False,
    settles_later=True,  # an acknowledgement that is lost is a delivery more, a write is not
)
MOST_LEVELS = 16
MOST_ERROR = 400
"""Bytes of an error's text that are kept until the write has come through or died."""

_HEADER = struct.Struct("<QQqqBBBxI")
"""Checksum of what follows, number of the write, when it was taken (monotonic, wall clock; ns),
level, flags, codec, size of the key form."""
_NUMBER = struct.Struct(">Q")
_CLAIM = struct.Struct("<QqI16sB")
"""Owner, end of the lease, size of the write, digest of its key form, level; `_PAST` follows."""
_PAST = struct.Struct("<QH")
"""The number of a write, how often it was tried; its last error follows. Empty: not yet."""
_TALLY = struct.Struct(f"<{2 * MOST_LEVELS + 2}q")
_LEVEL_AT = 32
_GRAVE = b"\xff"
_BEYOND = b"\xff" * 8
_DELETES = 0x80
_MOVED_AT_ONCE = 1000
"""Delayed writes that become ready, or leases that are taken back, in one transaction."""


class Write:
    """A write as it is stored: key and value encoded, numbered when it is taken."""

    __slots__ = (
        "codec",
        "deletes",
        "flags",
        "form",
        "instead",
        "level",
        "mono",
        "payload",
        "size",
        "waited",
        "wall",
    )

    def __init__(
        self, form: bytes, level: int, codec: int, flags: int, payload: bytes, deletes: bool
    ) -> None:
        self.form = form
        self.level = level
        self.codec = codec
        self.flags = flags
        self.payload = payload
        self.deletes = deletes
        self.mono = self.wall = 0
        self.size = _HEADER.size + len(form) + len(payload)
        """Bytes that it takes in ``data``."""
        self.waited = False
        """Whether somebody waits to be told that it is stored."""
        self.instead: Write | None = None
        """The one that it replaced, if that was accepted without being stored."""


class Stored(NamedTuple):
    """A write as it was found."""

    place: int
    number: int
    mono: int
    wall: int
    level: int
    flags: int
    codec: int
    deletes: bool
    form: bytes
    payload: bytes
    size: int


class Claimed(NamedTuple):
    """A write under way: what it is, which attempt this is, and what the last one failed of."""

    write: Stored
    attempt: int
    error: str


class Verdict(NamedTuple):
    """What became of an attempt.

    ``again_in`` seconds it is to be tried again, never if None; ``counts`` is whether it was an
    attempt at all. No ``error`` means that the target has it.
    """

    place: int
    number: int
    attempt: int = 0
    error: BaseException | None = None
    again_in: float | None = None
    counts: bool = True
    reason: str = ""


class Tombstone(Struct, frozen=True, array_like=True):
    """What is known of a write that died, beside its payload.

    ``key`` is its form, ``taken`` and ``died`` are seconds since the epoch.
    """

    number: int
    key: bytes
    level: int
    flags: int
    codec: int
    deletes: bool
    attempts: int
    taken: float
    died: float
    reason: str
    error: str
    message: str
    traceback: str


@dataclass(slots=True)
class Tally:
    """How many writes there are, and of how many bytes: by level, and dead."""

    items: list[int]
    sizes: list[int]
    dead: int
    dead_bytes: int

    @property
    def depth(self) -> int:
        """Writes that wait or are under way."""
        return sum(self.items)

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(self.sizes)

    @classmethod
    def none(cls) -> Tally:
        """Nothing."""
        return cls([0] * MOST_LEVELS, [0] * MOST_LEVELS, 0, 0)

    @classmethod
    def unpack(cls, data: bytes | None) -> Tally:
        """What was stored; nothing, if nothing was."""
        if data is None:
            return cls.none()
        numbers = _TALLY.unpack(data)
        return cls(
            list(numbers[:MOST_LEVELS]),
            list(numbers[MOST_LEVELS : 2 * MOST_LEVELS]),
            *numbers[2 * MOST_LEVELS :],
        )

    def pack(self) -> bytes:
        """What to store."""
        return _TALLY.pack(*self.items, *self.sizes, self.dead, self.dead_bytes)


class Journal:
    """Reads and writes the databases of one environment, in transactions that others open."""

    data: lmdb._Database
    meta: lmdb._Database
    lanes: lmdb._Database
    ready: lmdb._Database
    delayed: lmdb._Database
    claims: lmdb._Database
    dead: lmdb._Database

    def __init__(
        self, environment: Environment, *, coalesce: bool, clock: Callable[[], int]
    ) -> None:
        from xxhash import xxh3_64_intdigest, xxh3_128_digest

        self._environment = environment
        self._bound: lmdb.Environment | None = None
        self.buried: list[int] = []
        """Numbers of the writes that died in the transaction under way."""
        self._coalesce = coalesce
        self._clock = clock
        self._lowest = 0
        self._booted = 0
        self._digest = xxh3_128_digest
        self._checksum = xxh3_64_intdigest

    def bind(self, env: lmdb.Environment) -> None:
        """Use the databases as they are open now: after a fork they are opened anew."""
        if env is not self._bound:
            for name in LAYOUT.databases:
                setattr(self, name, getattr(self._environment, name))
            self._bound = env

    # -- all of it --------------------------------------------------------------------------

    def tally(self, txn: Txn) -> Tally:
        """What there is."""
        return Tally.unpack(txn.get(b"tally", db=self.meta))

    def save(self, txn: Txn, tally: Tally) -> None:
        """Store what there is, if it has changed: a transaction that changes nothing is free."""
        packed = tally.pack()
        if txn.get(b"tally", db=self.meta) != packed:
            txn.put(b"tally", packed, db=self.meta)

    def start(self, txn: Txn) -> None:
        """Make ready what waited for a time of a clock that has started anew with the machine."""
        boot = boot_id().encode()
        if txn.get(b"boot", db=self.meta) != boot:
            txn.put(b"boot", boot, db=self.meta)
            txn.put(b"booted", _NUMBER.pack(self.next_place(txn)), db=self.meta)
            for key, past in _rows(txn, self.delayed):
                self._make_ready(txn, key[8:], past)
            txn.drop(self.delayed, delete=False)
            for place, claim in _rows(txn, self.claims):
                self._make_ready(txn, place, claim[_CLAIM.size :])
            txn.drop(self.claims, delete=False)
        self._booted = _NUMBER.unpack(txn.get(b"booted", db=self.meta) or bytes(8))[0]

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
            return _NUMBER.unpack(cursor.key())[0] if cursor.first() else None

    def next_place(self, txn: Txn) -> int:
        """The place of the write that comes next."""
        known = txn.get(b"next", db=self.meta)
        return 1 if known is None else int(_NUMBER.unpack(known)[0])

    def last_of(self, txn: Txn, form: bytes) -> Stored | None:
        """The newest write of a key that waits or is under way."""
        with txn.cursor(self.lanes) as lanes:
            place = _last_place(lanes, self._digest(form))
        data = None if place is None else txn.get(place, db=self.data)
        if data is None:
            return None
        assert place is not None
        found = self.unpack(place, data)
        return found if found.form == form else None

    # -- taking -----------------------------------------------------------------------------

    def accept(
        self, txn: Txn, writes: list[Write], tally: Tally, window: int = 0, again: int = 0
    ) -> int:
        """Store writes; returns how many took the place of one of their key that waits.

        Within ``window`` ns of coming they are not ready. They supersede dead letters of their
        keys: all, or if they come ``again`` those older than the letter of that number.
        """
        number = self.next_place(txn)
        rows, lane_rows, heads = [], [], []
        taken: set[bytes] = set()
        coalesced = 0
        any_dead = tally.dead > 0
        with txn.cursor(self.lanes) as lanes:
            for write in writes:
                digest = self._digest(write.form)
                last = _last_place(lanes, digest)
                if any_dead:
                    self._supersede_dead(txn, digest, again or number)
                if (
                    last is not None
                    and self._coalesce
                    and self._replace(txn, last, write, number, tally)
                ):
                    coalesced += 1
                    number += 1
                    continue
                place = _NUMBER.pack(number)
                rows.append((place, self._packed(write, number)))
                lane_rows.append((digest + place, b""))
                if last is None and digest not in taken:
                    heads.append((write.level, place))
                taken.add(digest)
                tally.items[write.level] += 1
                tally.sizes[write.level] += write.size
                number += 1
        if rows:
            with txn.cursor(self.data) as cursor:
                cursor.putmulti(rows, append=True)
            with txn.cursor(self.lanes) as cursor:
                cursor.putmulti(lane_rows)
            if window:
                due = _NUMBER.pack(self._clock() + window)
                first = [(due + place, b"") for _, place in heads]
                with txn.cursor(self.delayed) as cursor:
                    cursor.putmulti(first)
            else:
                with txn.cursor(self.ready) as cursor:
                    cursor.putmulti([(bytes((level,)) + place, b"") for level, place in heads])
        txn.put(b"next", _NUMBER.pack(number), db=self.meta)
        return coalesced

    def _replace(self, txn: Txn, place: bytes, write: Write, number: int, tally: Tally) -> bool:
        """Put a write in the place of one that waits; False if that one is under way."""
        if txn.get(place, db=self.claims) is not None:
            return False
        data = txn.get(place, db=self.data)
        if data is None or len(data) < _HEADER.size:
            return False
        _, _, mono, wall, level, _, _, _ = _HEADER.unpack_from(data)
        write.mono, write.wall = mono, wall  # it has waited for so long
        level = min(level, self._lowest)
        more_urgent = min(level, write.level)
        if more_urgent != level:
            past = txn.pop(bytes((level,)) + place, db=self.ready)
            if past is not None:
                txn.put(bytes((more_urgent,)) + place, past, db=self.ready)
        write.level = more_urgent
        txn.put(place, self._packed(write, number), db=self.data)
        tally.items[level] -= 1
        tally.sizes[level] -= len(data)
        tally.items[more_urgent] += 1
        tally.sizes[more_urgent] += write.size
        return True

    def _packed(self, write: Write, number: int) -> bytes:
        flags = write.flags | (_DELETES if write.deletes else 0)
        rest = (
            _HEADER.pack(
                0,
                number,
                write.mono,
                write.wall,
                write.level,
                flags,
                write.codec,
                len(write.form),
            )[8:]
            + write.form
            + write.payload
        )
        return self._checksum(rest).to_bytes(8, "little") + rest

    def unpack(self, place: bytes, data: bytes) -> Stored:
        """A write as it was stored.

        Raises:
            DecodeError: the bytes are damaged.
        """
        if len(data) < _HEADER.size or self._checksum(data[8:]) != int.from_bytes(
            data[:8], "little"
        ):
            raise DecodeError(f"the write at place {_NUMBER.unpack(place)[0]} is damaged")
        _, number, mono, wall, level, flags, codec, length = _HEADER.unpack_from(data)
        end = _HEADER.size + length
        return Stored(
            _NUMBER.unpack(place)[0],
            number,
            mono,
            wall,
            level,
            flags & ~_DELETES,
            codec,
            bool(flags & _DELETES),
            data[_HEADER.size : end],
            data[end:],
            len(data),
        )

    # -- bringing out -----------------------------------------------------------------------

    def wake(self, txn: Txn, now: int) -> int | None:
        """Make ready what was delayed until now; returns when the next one is due."""
        with txn.cursor(self.delayed) as cursor:
            for _ in range(_MOVED_AT_ONCE):
                if not cursor.first():
                    return None
                key = cursor.key()
                due = int(_NUMBER.unpack_from(key)[0])
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
            for place, claim in _rows(txn, self.claims)
            if is_over(_NUMBER.unpack(place)[0], *_CLAIM.unpack_from(claim)[:2])
        ]
        for place, claim in over:
            txn.delete(place, db=self.claims)
            level = _CLAIM.unpack_from(claim)[-1]
            txn.put(bytes((level,)) + place, claim[_CLAIM.size :], db=self.ready)
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
        prefix = bytes((level,))
        claims: list[tuple[bytes, bytes]] = []
        with txn.cursor(self.ready) as cursor:
            found = cursor.set_range(prefix)
            while found and len(claimed) < most:
                key = cursor.key()
                if key[0] != level:
                    break
                place, past = key[1:], cursor.value()
                data = txn.get(place, db=self.data)
                if data is None:
                    found = cursor.delete() and bool(cursor.key())
                    continue
                try:
                    write = self.unpack(place, data)
                except DecodeError as error:
                    cursor.delete()
                    self._bury_damaged(txn, place, level, data, error, tally)
                    found = cursor.set_range(prefix)
                    continue
                if least_age and self._waited(write.place, write.mono, write.wall) < least_age:
                    break
                found = cursor.delete() and bool(cursor.key())
                number, attempts = _PAST.unpack_from(past) if past else (0, 0)
                if number != write.number:  # those were of a write that this one replaced
                    attempts, past = 0, b""
                attempts = min(attempts + 1, 0xFFFF)
                said = past[_PAST.size :]
                claim = _CLAIM.pack(owner, until, write.size, self._digest(write.form), level)
                claims.append((place, claim + _PAST.pack(write.number, attempts) + said))
                claimed.append(Claimed(write, attempts, said.decode(errors="replace")))
        if claims:
            with txn.cursor(self.claims) as cursor:
                cursor.putmulti(claims)
        return claimed

    def age_of(self, txn: Txn, level: int) -> int | None:
        """Nanoseconds that the first ready write of a level has waited, if there is one."""
        with txn.cursor(self.ready) as cursor:
            if not cursor.set_range(bytes((level,))):
                return None
            key = cursor.key()
            if key[0] != level:
                return None
        place = key[1:]
        data = txn.get(place, db=self.data)
        if data is None or len(data) < _HEADER.size:
            return 0
        _, _, mono, wall, _, _, _, _ = _HEADER.unpack_from(data)
        return self._waited(_NUMBER.unpack(place)[0], mono, wall)

    def _waited(self, place: int, mono: int, wall: int) -> int:
        """Nanoseconds; of what was taken before the machine booted the wall clock has to tell."""
        return max(0, time.time_ns() - wall if place < self._booted else self._clock() - mono)

    def extend(self, txn: Txn, places: Iterable[int], owner: int, until: int) -> None:
        """Let the leases of an owner end later."""
        for place in map(_NUMBER.pack, places):
            claim = txn.get(place, db=self.claims)
            if claim is not None:
                whose, _, *rest = _CLAIM.unpack_from(claim)
                if whose == owner:
                    past = claim[_CLAIM.size :]
                    txn.put(place, _CLAIM.pack(owner, until, *rest) + past, db=self.claims)

    def settle(self, txn: Txn, verdict: Verdict, owner: int, tally: Tally) -> str:
        """Carry out a verdict; returns what became of the write.

        ``"applied"``, ``"delayed"``, ``"dead"``, ``"superseded"`` when a newer one of its key takes
        its place, or ``"lost"`` when the lease was over and somebody else has it.
        """
        place, error = _NUMBER.pack(verdict.place), verdict.error
        claim = txn.get(place, db=self.claims)
        if claim is None:
            return "lost"
        whose, _, size, digest, level = _CLAIM.unpack_from(claim)
        number, attempt = _PAST.unpack_from(claim, _CLAIM.size)
        if (
            whose != owner
            or number != verdict.number
            or (error is not None and attempt != verdict.attempt)
        ):
            return "lost"
        txn.delete(place, db=self.claims)
        if error is None:
            self._finish(txn, place, digest, level, size, tally)
            return "applied"
        if verdict.again_in is None:
            data = txn.get(place, db=self.data) or b""
            try:
                write = self.unpack(place, data)
            except DecodeError as damage:
                self._bury_damaged(txn, place, level, data, damage, tally)
                return "dead"
            self._bury(txn, write, digest, attempt, verdict, tally)
            self._finish(txn, place, digest, level, size, tally)
            return "dead"
        if self._coalesce and self._has_followers(txn, digest, place):
            self._finish(txn, place, digest, level, size, tally, verdict.again_in)
            return "superseded"
        said = f"{type(error).__name__}: {error}".encode(errors="replace")[:MOST_ERROR]
        past = _PAST.pack(number, attempt - (not verdict.counts)) + said
        self._delay(txn, place, verdict.again_in, past)
        return "delayed"

    def shed(self, txn: Txn, level: int, tally: Tally, verdict: Verdict) -> bool:
        """Let the newest ready write of a level die; False if there is none."""
        with txn.cursor(self.ready) as cursor:
            beyond = cursor.set_range(bytes((level + 1,)))
            if not (cursor.prev() if beyond else cursor.last()) or cursor.key()[0] != level:
                return False
            place = cursor.key()[1:]
            cursor.delete()
        data = txn.get(place, db=self.data) or b""
        try:
            write = self.unpack(place, data)
        except DecodeError as error:
            self._bury_damaged(txn, place, level, data, error, tally)
        else:
            digest = self._digest(write.form)
            self._bury(txn, write, digest, 0, verdict, tally)
            self._finish(txn, place, digest, level, write.size, tally)
        return True

    def _finish(
        self,
        txn: Txn,
        place: bytes,
        digest: bytes,
        level: int,
        size: int,
        tally: Tally,
        pause: float = 0.0,
    ) -> None:
        """Remove a write; the next one of its key is ready now, or after a pause."""
        txn.delete(place, db=self.data)
        with txn.cursor(self.lanes) as cursor:
            if cursor.set_key(digest + place):
                cursor.delete()  # the cursor is at the next one then
                key = cursor.key()
                if key[:16] == digest:
                    if pause:
                        self._delay(txn, key[16:], pause, b"")
                    else:
                        self._make_ready(txn, key[16:], b"")
        tally.items[level] -= 1
        tally.sizes[level] -= size

    def _has_followers(self, txn: Txn, digest: bytes, place: bytes) -> bool:
        """Whether a newer write of the key waits."""
        with txn.cursor(self.lanes) as cursor:
            return _last_place(cursor, digest) != place

    def _delay(self, txn: Txn, place: bytes, pause: float, past: bytes) -> None:
        due = self._clock() + int(pause * 1e9)
        txn.put(_NUMBER.pack(max(0, due)) + place, past, db=self.delayed)

    def _make_ready(self, txn: Txn, place: bytes, past: bytes) -> None:
        data = txn.get(place, db=self.data)
        if data is not None:
            level = data[_LEVEL_AT] if len(data) > _LEVEL_AT else self._lowest
            txn.put(bytes((min(level, self._lowest),)) + place, past, db=self.ready)

    # -- what died --------------------------------------------------------------------------

    def _bury(
        self,
        txn: Txn,
        write: Stored,
        digest: bytes,
        attempts: int,
        verdict: Verdict,
        tally: Tally,
    ) -> None:
        error = verdict.error
        stone = Tombstone(
            number=write.number,
            key=write.form,
            level=write.level,
            flags=write.flags,
            codec=write.codec,
            deletes=write.deletes,
            attempts=attempts,
            taken=write.wall / 1e9,
            died=time.time(),
            reason=verdict.reason,
            error=type(error).__name__,
            message=str(error),
            traceback="".join(format_exception(error)) if error is not None else "",
        )
        place = _NUMBER.pack(write.place)
        superseded = self._has_followers(txn, digest, place)
        self._entomb(txn, _NUMBER.pack(write.number), stone, write.payload, tally, superseded)

    def _bury_damaged(
        self, txn: Txn, place: bytes, level: int, data: bytes, error: DecodeError, tally: Tally
    ) -> None:
        """Keep the bytes that cannot be read; which key they were of only its lane tells."""
        number = int(_NUMBER.unpack(place)[0])
        stone = Tombstone(
            number, b"", level, 0, 0, False, 0, 0.0, time.time(), "damaged", *_said(error), ""
        )
        self._entomb(txn, place, stone, data, tally)
        with txn.cursor(self.lanes) as cursor:
            lane = next((key[:16] for key, _ in cursor if key[16:] == place), None)
        if lane is None:
            txn.delete(place, db=self.data)
        else:
            self._finish(txn, place, lane, level, len(data), tally)

    def _entomb(
        self,
        txn: Txn,
        number: bytes,
        stone: Tombstone,
        payload: bytes,
        tally: Tally,
        superseded: bool = False,
    ) -> None:
        head = encode(stone)
        value = len(head).to_bytes(4, "little") + head + payload
        txn.put(number, value, db=self.dead)
        grave = _GRAVE + self._digest(stone.key) + number
        txn.put(grave, b"1" if superseded else b"", db=self.dead)
        self.buried.append(stone.number)
        tally.dead += 1
        tally.dead_bytes += len(value)

    def dead_letters(
        self, txn: Txn, after: int = 0, most: int = 1000
    ) -> list[tuple[Tombstone, bytes]]:
        """Those with numbers beyond ``after``, in their order, with their payloads."""
        found: list[tuple[Tombstone, bytes]] = []
        with txn.cursor(self.dead) as cursor:
            there = cursor.set_range(_NUMBER.pack(after + 1))
            while there and len(found) < most and cursor.key()[:1] != _GRAVE:
                found.append(_exhumed(*cursor.item()))
                there = cursor.next()
        return found

    def dead_letter(self, txn: Txn, number: int) -> tuple[Tombstone, bytes] | None:
        """The one of this number."""
        value = txn.get(_NUMBER.pack(number), db=self.dead)
        return None if value is None else _exhumed(_NUMBER.pack(number), value)

    def remove_dead(self, txn: Txn, number: int, tally: Tally) -> bool:
        """Forget one; False if there is none of this number."""
        value = txn.pop(_NUMBER.pack(number), db=self.dead)
        if value is None:
            return False
        name = _NUMBER.pack(number)
        txn.delete(_GRAVE + self._digest(_exhumed(name, value)[0].key) + name, db=self.dead)
        tally.dead -= 1
        tally.dead_bytes -= len(value)
        return True

    def is_superseded(self, txn: Txn, stone: Tombstone) -> bool:
        """Whether a newer write of its key was taken, before it died or since."""
        grave = _GRAVE + self._digest(stone.key) + _NUMBER.pack(stone.number)
        return bool(txn.get(grave, db=self.dead))

    def _supersede_dead(self, txn: Txn, digest: bytes, before: int) -> None:
        prefix = _GRAVE + digest
        with txn.cursor(self.dead) as cursor:
            found = cursor.set_range(prefix)
            while found:
                key = cursor.key()
                if key[:17] != prefix or _NUMBER.unpack(key[17:])[0] >= before:
                    break
                if not cursor.value():
                    cursor.put(key, b"1")
                found = cursor.next()


def _exhumed(number: bytes, value: bytes) -> tuple[Tombstone, bytes]:
    end = 4 + int.from_bytes(value[:4], "little")
    try:
        return decode(value[4:end], type=Tombstone), value[end:]
    except MsgspecError as error:
        number = int(_NUMBER.unpack(number)[0])
        stone = Tombstone(number, b"", 0, 0, 0, False, 0, 0.0, 0.0, "damaged", *_said(error), "")
        return stone, value


def _said(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, str(error)


def _last_place(lanes: lmdb.Cursor[bytes], digest: bytes) -> bytes | None:
    """The last place of a lane."""
    found = lanes.set_range(digest + _BEYOND)
    if not (lanes.prev() if found else lanes.last()):
        return None
    key = lanes.key()
    return key[16:] if key[:16] == digest else None


def _rows(txn: Txn, database: lmdb._Database) -> list[tuple[bytes, bytes]]:
    """All of a small database."""
    with txn.cursor(database) as cursor:
        return list(cursor)
