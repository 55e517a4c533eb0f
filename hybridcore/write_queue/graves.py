"""What died: the database ``dead`` of a queue's journal, letters and the marks beside them."""

from __future__ import annotations

import time
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError, Struct
from msgspec.msgpack import decode, encode

from hybridcore.write_queue.records import NUMBER, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    import lmdb

    from hybridcore._native.writes import Tally, Write

    Txn = lmdb.Transaction[bytes]

_GRAVE = b"\xff"
_MOST_TEXT = 1 << 15
"""Characters that are kept of what an error tells, and of its traceback."""


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


class Graves:
    """Reads and writes one database, in transactions that others open."""

    dead: lmdb._Database

    def __init__(self) -> None:
        from xxhash import xxh3_128_digest

        self._digest = xxh3_128_digest
        self.buried: list[int] = []
        """Numbers of the writes that died in the transaction under way."""

    def bury(
        self,
        txn: Txn,
        write: Write,
        attempts: int,
        verdict: Verdict,
        tally: Tally,
        *,
        superseded: bool,
    ) -> None:
        """Keep a write that died of what the verdict says."""
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
            message=text_of(error),
            traceback=_text(lambda: _traceback(error)),
        )
        self._keep(txn, stone, write.payload, tally, superseded=superseded)

    def bury_damaged(
        self, txn: Txn, place: bytes, level: int, data: bytes, error: Exception, tally: Tally
    ) -> None:
        """Keep bytes that cannot be read."""
        number = int(NUMBER.unpack(place)[0])
        self._keep(txn, _damaged(number, level, error), data, tally, superseded=False)

    def _keep(
        self, txn: Txn, stone: Tombstone, payload: bytes, tally: Tally, *, superseded: bool
    ) -> None:
        number = NUMBER.pack(stone.number)
        head = encode(stone)
        value = len(head).to_bytes(4, "little") + head + payload
        txn.put(number, value, db=self.dead)
        txn.put(self._grave(stone, number), b"1" if superseded else b"", db=self.dead)
        self.buried.append(stone.number)
        tally.dead += 1
        tally.dead_bytes += len(value)

    def _grave(self, stone: Tombstone, number: bytes) -> bytes:
        return _GRAVE + self._digest(stone.key) + number

    def after(self, txn: Txn, number: int = 0, most: int = 1000) -> list[tuple[Tombstone, bytes]]:
        """Those with larger numbers, in their order, with their payloads."""
        found: list[tuple[Tombstone, bytes]] = []
        with txn.cursor(self.dead) as cursor:
            there = cursor.set_range(NUMBER.pack(number + 1))
            while there and len(found) < most and cursor.key()[:1] != _GRAVE:
                found.append(_exhumed(*cursor.item()))
                there = cursor.next()
        return found

    def get(self, txn: Txn, number: int) -> tuple[Tombstone, bytes] | None:
        """The one of this number."""
        name = NUMBER.pack(number)
        value = txn.get(name, db=self.dead)
        return None if value is None else _exhumed(name, value)

    def remove(self, txn: Txn, number: int, tally: Tally) -> bool:
        """Forget one; False if there is none of this number."""
        name = NUMBER.pack(number)
        value = txn.pop(name, db=self.dead)
        if value is None:
            return False
        txn.delete(self._grave(_exhumed(name, value)[0], name), db=self.dead)
        tally.dead -= 1
        tally.dead_bytes -= len(value)
        return True

    def shrink(self, txn: Txn, most: int, tally: Tally, at_once: int) -> int:
        """Forget the first ones until the rest takes so many bytes; returns how many."""
        removed = 0
        with txn.cursor(self.dead) as cursor:
            while tally.dead_bytes > most and removed < at_once and cursor.first():
                if not self.remove(txn, int(NUMBER.unpack(cursor.key())[0]), tally):
                    break
                removed += 1
        return removed

    def older(
        self, txn: lmdb.Transaction[Any], after: int, horizon: float, most: int
    ) -> tuple[list[int], int | None]:
        """Of the next ones those that died before; and where to go on, if there are more."""
        found: list[int] = []
        with txn.cursor(self.dead) as cursor:
            there = cursor.set_range(NUMBER.pack(after + 1))
            for _ in range(most):
                if not there or cursor.key()[:1] == _GRAVE:
                    return found, None
                stone, _ = _exhumed(*cursor.item())
                if stone.died < horizon:
                    found.append(stone.number)
                after = stone.number
                there = cursor.next()
        return found, after

    def is_superseded(self, txn: Txn, stone: Tombstone) -> bool:
        """Whether a newer write of its key was taken, before it died or since."""
        return bool(txn.get(self._grave(stone, NUMBER.pack(stone.number)), db=self.dead))

    def supersede(self, txn: Txn, form: bytes, before: int) -> None:
        """Mark those of a key with smaller numbers: a newer write of it was taken."""
        prefix = _GRAVE + self._digest(form)
        with txn.cursor(self.dead) as cursor:
            found = cursor.set_range(prefix)
            while found:
                key = cursor.key()
                if key[:17] != prefix or NUMBER.unpack(key[17:])[0] >= before:
                    break
                if not cursor.value():
                    cursor.put(key, b"1")
                found = cursor.next()


def _exhumed(number: bytes, value: bytes) -> tuple[Tombstone, bytes]:
    end = 4 + int.from_bytes(value[:4], "little")
    try:
        return decode(value[4:end], type=Tombstone), value[end:]
    except MsgspecError as error:
        return _damaged(int(NUMBER.unpack(number)[0]), 0, error), value


def _traceback(error: object) -> str:
    return "".join(format_exception(error)) if isinstance(error, BaseException) else ""


def text_of(error: object) -> str:
    """What an error says, as far as it can be stored."""
    return _text(lambda: str(error))


def _text(tell: Callable[[], str]) -> str:
    """What an error tells, as far as it can be stored: to bury a write must not fail."""
    try:
        text = tell()
    except Exception as failure:
        text = f"(no text: {type(failure).__name__})"
    if len(text) > _MOST_TEXT:
        text = text[: _MOST_TEXT // 2] + " ... " + text[-_MOST_TEXT // 2 :]
    return text.encode(errors="backslashreplace").decode()


def _damaged(number: int, level: int, error: Exception) -> Tombstone:
    said = type(error).__name__, str(error), ""
    return Tombstone(number, b"", level, 0, 0, False, 0, 0.0, time.time(), "damaged", *said)
