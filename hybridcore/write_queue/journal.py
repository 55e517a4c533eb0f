"""The journal of a durable queue: what waits, is under way or died, in one LMDB environment.

Every method of `Journal` that takes a transaction changes nothing outside of it. Databases:

    ========  =============================================  ====================================
    name      key                                            value
    ========  =============================================  ====================================
    data      place                                          header, key form, payload
    lanes     xxh3-128 of the key form, place                nothing
    ready     level, place                                   what became of earlier attempts
    delayed   due, place                                     what became of earlier attempts
    claims    place                                          owner, end of lease, earlier attempts
    dead      number                                         a `Tombstone`, payload
              0xff, xxh3-128 of the key form, number         whether a newer write came since
    meta      ``format``, ``next``, ``tally``, ``boot``      of the directory as a whole
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

from msgspec import Struct
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
_CLAIM = struct.Struct("<Qq")
_PAST = struct.Struct("<QH")
"""The number of a write, how often it was tried; its last error follows. Empty: not yet."""
_TALLY = struct.Struct(f"<{2 * MOST_LEVELS + 2}q")
_LEVEL_AT = 32
_LENGTH_AT = 36
_LENGTH = struct.Struct("<I")
_GRAVE = b"\xff"
_BEYOND = b"\xff" * 8
_DELETES = 0x80
_MOVED_AT_ONCE = 1000
"""Delayed writes that become ready, or leases that are taken back, in one transaction."""


class Write:
    """A write as it is stored: key and value encoded, numbered when it is taken."""

    __slots__ = ("codec", "deletes", "flags", "form", "level", "mono", "payload", "waited", "wall")

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
        self.waited = False

    @property
    def size(self) -> int:
        """Bytes that it takes in ``data``."""
        return _HEADER.size + len(self.form) + len(self.payload)


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
        """Store what there is."""
        txn.put(b"tally", tally.pack(), db=self.meta)

    def start(self, txn: Txn) -> None:
        """Make ready what waited for a time of a clock that has started anew with the machine."""
        boot = boot_id().encode()
        if txn.get(b"boot", db=self.meta) == boot:
            return
        txn.put(b"boot", boot, db=self.meta)
        for key, past in _rows(txn, self.delayed):
            self._make_ready(txn, key[8:], past)
        txn.drop(self.delayed, delete=False)
        for place, claim in _rows(txn, self.claims):
            self._make_ready(txn, place, claim[_CLAIM.size :])
        txn.drop(self.claims, delete=False)

    def levels(self, txn: Txn, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names of the levels of the directory, which are those given if it has none."""
        known = txn.get(b"levels", db=self.meta)
        if known is not None:
            return tuple(known.decode().split("\n"))
        txn.put(b"levels", "\n".join(names).encode(), db=self.meta)
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

    def accept(self, txn: Txn, writes: list[Write], tally: Tally, window: int = 0) -> int:
        """Store writes; returns how many took the place of one of their key that waits.

        Within ``window`` ns of coming they are not ready.
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
                    self._supersede_dead(txn, digest)
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
        if data is None:
            return False
        _, _, mono, wall, level, _, _, _ = _HEADER.unpack_from(data)
        write.mono, write.wall = mono, wall  # it has waited for so long
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
            if is_over(_NUMBER.unpack(place)[0], *_CLAIM.unpack_from(claim))
        ]
        for place, claim in over:
            txn.delete(place, db=self.claims)
            self._make_ready(txn, place, claim[_CLAIM.size :])
        return len(over)

    def claim(
        self, txn: Txn, level: int, most: int, owner: int, until: int, tally: Tally
    ) -> list[Claimed]:
        """Claim up to ``most`` ready writes of a level, the oldest first.

        The attempt is counted now: who dies of it has had it.
        """
        claimed: list[Claimed] = []
        prefix = bytes((level,))
        with txn.cursor(self.ready) as cursor:
            found = cursor.set_range(prefix)
            while found and len(claimed) < most and cursor.key()[:1] == prefix:
                place, past = cursor.key()[1:], cursor.value()
                found = cursor.delete() and bool(cursor.key())
                data = txn.get(place, db=self.data)
                if data is None:
                    continue
                try:
                    write = self.unpack(place, data)
                except DecodeError as error:
                    self._bury_damaged(txn, place, data, error, tally)
                    found = cursor.set_range(prefix)
                    continue
                number, attempts = _PAST.unpack_from(past) if past else (0, 0)
                if number != write.number:  # those were of a write that this one replaced
                    attempts, past = 0, b""
                attempts += 1
                said = past[_PAST.size :]
                past = _PAST.pack(write.number, min(attempts, 0xFFFF)) + said
                txn.put(place, _CLAIM.pack(owner, until) + past, db=self.claims)
                claimed.append(Claimed(write, attempts, said.decode(errors="replace")))
        return claimed

    def oldest_of(self, txn: Txn, level: int) -> tuple[int, int] | None:
        """Place of the ready write of a level that is to go first, and when it was taken."""
        prefix = bytes((level,))
        with txn.cursor(self.ready) as cursor:
            if not cursor.set_range(prefix) or cursor.key()[:1] != prefix:
                return None
            place = cursor.key()[1:]
        data = txn.get(place, db=self.data)
        mono = 0 if data is None else _HEADER.unpack_from(data)[2]
        return _NUMBER.unpack(place)[0], mono

    def age_of(self, txn: Txn, level: int, now: int) -> float:
        """Seconds that the first ready write of a level has waited; 0 if there is none."""
        first = self.oldest_of(txn, level)
        return 0.0 if first is None else max(0.0, (now - first[1]) / 1e9)

    def extend(self, txn: Txn, places: Iterable[int], owner: int, until: int) -> None:
        """Let the leases of an owner end later."""
        for place in map(_NUMBER.pack, places):
            claim = txn.get(place, db=self.claims)
            if claim is not None and _CLAIM.unpack_from(claim)[0] == owner:
                past = claim[_CLAIM.size :]
                txn.put(place, _CLAIM.pack(owner, until) + past, db=self.claims)

    def settle(self, txn: Txn, verdict: Verdict, owner: int, tally: Tally) -> str:
        """Carry out a verdict; returns what became of the write.

        ``"applied"``, ``"delayed"``, ``"dead"``, ``"superseded"`` when a newer one of its key takes
        its place, or ``"lost"`` when the lease was over and somebody else has it.
        """
        place = _NUMBER.pack(verdict.place)
        claim = txn.get(place, db=self.claims)
        if claim is None or _CLAIM.unpack_from(claim)[0] != owner:
            return "lost"
        txn.delete(place, db=self.claims)
        data = txn.get(place, db=self.data)
        if data is None:
            return "lost"
        if verdict.error is None:
            self._finish(txn, place, data, tally)
            return "applied"
        write, past = self.unpack(place, data), claim[_CLAIM.size :]
        pause = verdict.again_in
        if pause is None:
            attempts = _PAST.unpack_from(past)[1]
            self._bury(txn, write, attempts, verdict, tally)
            self._finish(txn, place, data, tally)
            return "dead"
        if self._coalesce and self._followers(txn, write):
            self._finish(txn, place, data, tally, pause)
            return "superseded"
        number, attempts = _PAST.unpack_from(past)
        said = f"{type(verdict.error).__name__}: {verdict.error}".encode(errors="replace")
        past = _PAST.pack(number, attempts - (not verdict.counts)) + said[:MOST_ERROR]
        self._delay(txn, place, pause, past)
        return "delayed"

    def shed(self, txn: Txn, level: int, tally: Tally, verdict: Verdict) -> bool:
        """Let the newest ready write of a level die; False if there is none."""
        with txn.cursor(self.ready) as cursor:
            beyond = cursor.set_range(bytes((level + 1,)))
            if not (cursor.prev() if beyond else cursor.last()) or cursor.key()[0] != level:
                return False
            place = cursor.key()[1:]
            cursor.delete()
        data = txn.get(place, db=self.data)
        if data is not None:
            write = self.unpack(place, data)
            self._bury(txn, write, 0, verdict, tally)
            self._finish(txn, place, data, tally)
        return True

    def _finish(
        self, txn: Txn, place: bytes, data: bytes, tally: Tally, pause: float = 0.0
    ) -> None:
        """Remove a write; the next one of its key is ready now, or after a pause."""
        end = _HEADER.size + _LENGTH.unpack_from(data, _LENGTH_AT)[0]
        digest = self._digest(data[_HEADER.size : end])
        level = data[_LEVEL_AT]
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
        tally.sizes[level] -= len(data)

    def _followers(self, txn: Txn, write: Stored) -> bool:
        """Whether a newer write of the key waits."""
        with txn.cursor(self.lanes) as cursor:
            return _last_place(cursor, self._digest(write.form)) != _NUMBER.pack(write.place)

    def _delay(self, txn: Txn, place: bytes, pause: float, past: bytes) -> None:
        due = self._clock() + int(pause * 1e9)
        txn.put(_NUMBER.pack(max(0, due)) + place, past, db=self.delayed)

    def _make_ready(self, txn: Txn, place: bytes, past: bytes) -> None:
        data = txn.get(place, db=self.data)
        if data is not None:
            level = _HEADER.unpack_from(data)[4]
            txn.put(bytes((level,)) + place, past, db=self.ready)

    # -- what died --------------------------------------------------------------------------

    def _bury(self, txn: Txn, write: Stored, attempts: int, verdict: Verdict, tally: Tally) -> None:
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
        self._entomb(txn, _NUMBER.pack(write.number), stone, write.payload, tally)

    def _bury_damaged(
        self, txn: Txn, place: bytes, data: bytes, error: DecodeError, tally: Tally
    ) -> None:
        """Keep the bytes that cannot be read; which key they were of only its lane tells."""
        level = min(data[_LEVEL_AT], MOST_LEVELS - 1) if len(data) > _LEVEL_AT else 0
        number = int(_NUMBER.unpack(place)[0])
        stone = Tombstone(
            number, b"", level, 0, 0, False, 0, 0.0, time.time(), "damaged", *_said(error), ""
        )
        self._entomb(txn, place, stone, data, tally)
        txn.delete(place, db=self.data)
        for key, _ in _rows(txn, self.lanes):
            if key[16:] == place:
                with txn.cursor(self.lanes) as cursor:
                    cursor.set_key(key)
                    cursor.delete()
                    if cursor.key()[:16] == key[:16]:
                        self._make_ready(txn, cursor.key()[16:], b"")
        tally.items[level] -= 1
        tally.sizes[level] -= len(data)

    def _entomb(
        self, txn: Txn, number: bytes, stone: Tombstone, payload: bytes, tally: Tally
    ) -> None:
        head = encode(stone)
        value = len(head).to_bytes(4, "little") + head + payload
        txn.put(number, value, db=self.dead)
        txn.put(_GRAVE + self._digest(stone.key) + number, b"", db=self.dead)
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
                found.append(_exhumed(cursor.value()))
                there = cursor.next()
        return found

    def dead_letter(self, txn: Txn, number: int) -> tuple[Tombstone, bytes] | None:
        """The one of this number."""
        value = txn.get(_NUMBER.pack(number), db=self.dead)
        return None if value is None else _exhumed(value)

    def remove_dead(self, txn: Txn, number: int, tally: Tally) -> bool:
        """Forget one; False if there is none of this number."""
        value = txn.pop(_NUMBER.pack(number), db=self.dead)
        if value is None:
            return False
        txn.delete(
            _GRAVE + self._digest(_exhumed(value)[0].key) + _NUMBER.pack(number), db=self.dead
        )
        tally.dead -= 1
        tally.dead_bytes -= len(value)
        return True

    def is_superseded(self, txn: Txn, stone: Tombstone) -> bool:
        """Whether a newer write of its key was taken since it died, or before and waits still."""
        grave = _GRAVE + self._digest(stone.key) + _NUMBER.pack(stone.number)
        return bool(txn.get(grave, db=self.dead)) or self.last_of(txn, stone.key) is not None

    def _supersede_dead(self, txn: Txn, digest: bytes) -> None:
        prefix = _GRAVE + digest
        with txn.cursor(self.dead) as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key()[:17] == prefix:
                if not cursor.value():
                    cursor.put(cursor.key(), b"1")
                found = cursor.next()


def _exhumed(value: bytes) -> tuple[Tombstone, bytes]:
    end = 4 + int.from_bytes(value[:4], "little")
    return decode(value[4:end], type=Tombstone), value[end:]


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
