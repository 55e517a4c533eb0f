"""Memory and disk as one shelf: what they hold of a key, and what is put into both."""

from __future__ import annotations

import logging
from enum import Enum
from math import inf
from random import random
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakMethod

from hybridcore.errors import ClosedError, EncodeError, KeyEncodingError, ValueTooLargeError
from hybridcore.invalidation.adaptive_ttl import differs
from hybridcore.invalidation.facts import sliding_of
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.types import Tier, as_tags

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore._native import MemoryStore
    from hybridcore.config import EntryOptions
    from hybridcore.disk import Record
    from hybridcore.flights import Flights
    from hybridcore.invalidation.coherence import Change, Coherence
    from hybridcore.recovery import RecoveringDisk
    from hybridcore.types import Validators

log = RateLimitedLog(logging.getLogger("hybridcore"))

_DOUBTFUL = 1
"""An epoch that memory is never in: the entry has to be confirmed before it is fresh."""
_SLICE = 1 / 16
"""The share of its ttl within which an entry that slides is put off once."""
_AT_ONCE = 1e-6
"""Seconds until a refresh that is overdue is due."""


class State(Enum):
    """What may be done with a copy."""

    FRESH = "fresh"
    DUE = "due"
    """Fresh, but old enough to be loaded anew before it expires."""
    STALE = "stale"


class Note(NamedTuple):
    """What memory holds of an entry beside its value."""

    validators: Validators | None = None
    late: float = 0.0
    """Seconds for which it is fresh after memory finds it due."""
    whole: float | None = None
    """Seconds for which it is fresh in all."""
    version: int = 0
    until: float = 0.0
    """When it stops being fresh, in seconds of the tiers' clock; infinity: never."""
    clean: bool = True
    """Whether the disk has it, too."""
    tags: tuple[Any, ...] = ()
    number: int = 0
    """What was invalidated before it was begun."""


class Copy(NamedTuple):
    """What a tier holds of a key."""

    value: Any
    tier: Tier
    state: State
    left: float | None = None
    """Seconds for which it is fresh, None for ever, negative since it is not."""
    whole: float | None = None
    validators: Validators | None = None
    cost: float = 1.0
    version: int = 0
    tags: tuple[Any, ...] = ()


class Tiers:
    """The memory and disk of a hybrid cache, either of which may be absent.

    What is loaded goes to both, or, with ``spill``, to the disk when memory evicts it.
    """

    def __init__(
        self,
        memory: MemoryStore[Any, Any] | None,
        disk: RecoveringDisk | None,
        coherence: Coherence,
        *,
        spill: bool = False,
    ) -> None:
        self.memory = memory
        self.disk = disk
        self.coherence = coherence
        self.spills = 0
        self.refusals = 0
        """Values that were loaded and that the disk cannot store."""
        self._spill = spill and memory is not None and disk is not None
        if self._spill:
            assert memory is not None
            heir = WeakMethod(self._spilled)
            memory.bequeath_to(lambda *entry: _call(heir, *entry))
        self._memory_ttl = memory.options()[2] if memory is not None else None  # bounds all others
        self._timer = None if memory is None else memory.options()[3]

    def in_memory(self, key: Any) -> Copy | None:
        """What memory holds, fresh or not."""
        if self.memory is None:
            return None
        held = self.memory.held(key)
        if held is None:
            return None
        value, left, note = held
        valid = self._is_valid(key, note)
        if valid is False:
            return None
        if valid is None:
            state = State.STALE
        elif left is None or left > 0:
            state = State.FRESH
        else:
            state = State.DUE if note is not None and left + note.late > 0 else State.STALE
        if note is None:
            return Copy(value, Tier.MEMORY, state, left)
        if left is not None:
            left += note.late
        return Copy(
            value,
            Tier.MEMORY,
            state,
            left,
            note.whole,
            note.validators,
            version=note.version,
            tags=note.tags,
        )

    def _is_valid(self, key: Any, note: Note | None) -> bool | None:
        """Whether nothing has invalidated an entry of memory; None: it may be served as stale."""
        assert self.memory is not None
        epoch = self.memory.epoch  # before the barriers are looked at
        doubt = self.memory.doubted(key)
        if not doubt:
            return True
        valid = True if note is None else self.coherence.in_memory(note.number, note.tags)
        if doubt == 1 and valid:
            self.memory.confirm(key, epoch)
        return valid if doubt == 1 or valid is False else None

    def on_disk(self, keys: Any, options: Callable[[Any], EntryOptions]) -> dict[Any, Copy]:
        """What the disk holds of these keys, fresh or not."""
        if self.disk is None:
            return {}
        records = self.disk.fetch_many(keys)
        copies = {key: copy_of(record, options(key)) for key, record in records.items()}
        if not self.coherence.generation.raised:
            return copies
        for key, copy in list(copies.items()):
            valid = self.coherence.on_disk(copy.version, copy.tags)
            if valid is None:
                copies[key] = copy._replace(state=State.STALE)
            elif not valid:
                del copies[key]
        return copies

    def ends(self, max_ttl: float | None) -> int | None:
        """When what slides for so long at most ends, in ns of the clock."""
        return None if max_ttl is None else self._now() + int(max_ttl * 1e9)

    def slid(self, key: Any, copy: Copy, options: EntryOptions, flights: Flights) -> Copy | None:
        """A copy of memory that is due, put off if it slides; None if it is gone."""
        if sliding_of(copy.tags) is None:
            return copy
        with flights.lock(key):
            held = None if self.memory is None else self.memory.held(key)
            now = self.in_memory(key)
            if now is None or held is None or now.state is not State.DUE:
                return now
            note = held[2]
            slid = self.slid_on_disk(key, now)
            self._put_in_memory(
                key,
                slid.value,
                slid.left,
                slid.whole,
                slid.validators,
                options,
                1.0,
                1.0,
                clean=note.clean,
                tags=slid.tags,
                since=note.number,
            )
        return slid

    def slid_on_disk(self, key: Any, copy: Copy) -> Copy:
        """A fresh copy, put off, also on disk, if it slides and was not just now."""
        sliding = sliding_of(copy.tags)
        if sliding is None or copy.state is State.STALE or copy.left is None:
            return copy
        left = sliding.ttl
        if sliding.until is not None:
            left = min(left, (sliding.until - self._now()) / 1e9)
        if left <= copy.left * (1 + _SLICE):
            return copy
        if self.disk is not None:
            self.disk.put_off(key, left)
        return copy._replace(state=State.FRESH, left=left, whole=left)

    def _now(self) -> int:
        """The clock that what slides ends by, in ns."""
        if self.disk is not None:
            return self.disk.disk._clock()
        return time_ns() if self._timer is None else int(self._timer() * 1e9)

    def promote(self, key: Any, copy: Copy, options: EntryOptions, since: int) -> None:
        """Put what the disk has into memory."""
        if copy.state is not State.STALE:
            self._hold(
                key,
                copy.value,
                copy.left,
                copy.whole,
                copy.validators,
                options,
                copy.cost,
                tags=copy.tags,
                since=since,
            )

    def keep(
        self,
        key: Any,
        value: Any,
        ttl: float | None,
        validators: Validators | None,
        options: EntryOptions,
        *,
        cost: float = 1.0,
        importance: float = 1.0,
        loaded: bool = False,
        tags: tuple[Any, ...] = (),
        depends_on: tuple[Any, ...] = (),
        since: int | None = None,
    ) -> bool:
        """Put what the origin has into the tiers; one that cannot take it keeps nothing older.

        What was loaded is only offered to the disk, which writes what seems worth it. ``since`` is
        what was invalidated before that load began: if it was the key or a tag since then, nothing
        is kept, and False returned.
        """
        ttl = self.shortened(ttl, options)
        cause = "load" if loaded else "put"
        number = self.coherence.generation.seen if since is None else since
        change = self.coherence.change(key, cause, since=since, tags=tags, depends_on=depends_on)
        if loaded and self._spill:
            if not self._made_alone(change, key, differs=False):
                return False
            self._hold(
                key,
                value,
                ttl,
                ttl,
                validators,
                options,
                cost,
                importance,
                clean=False,
                tags=tags,
                since=number,
            )
            return True
        if self.disk is None:
            another = not loaded or self._held_another(key, value)
            if not self._made_alone(change, key, differs=another):
                return False
        else:
            try:
                self.disk.put(
                    key,
                    value,
                    offered=loaded,
                    ttl=ttl,
                    stale=options.stale if ttl is not None else 0.0,
                    validators=validators,
                    tag=tags or None,
                    cost=cost,
                    importance=importance,
                    change=change,
                )
            except (EncodeError, ValueTooLargeError) as error:
                self.refusals += isinstance(error, EncodeError)
                log.warning("a %s is not kept on disk: %s", type(value).__name__, raised_by(error))
                self.forget(key)
            if change is not None and change.off:
                if self.memory is not None:
                    self.memory.discard(key)
                return False
            if since is None:
                number = self.coherence.generation.seen
        self._hold(
            key,
            value,
            ttl,
            ttl,
            validators,
            options,
            cost,
            importance,
            tags=tags,
            since=number,
        )
        return True

    def put(
        self,
        key: Any,
        value: Any,
        ttl: float | None,
        options: EntryOptions,
        cost: float,
        importance: float,
        if_version: int | None = None,
        tags: tuple[Any, ...] = (),
        depends_on: tuple[Any, ...] = (),
    ) -> None:
        """Put a value into the tiers, all of them or none.

        Raises:
            KeyEncodingError, EncodeError: the disk cannot store it.
            ValueTooLargeError: no tier, or the disk, can keep it.
            VersionConflictError: the entry is not of that version.
        """
        ttl = self.shortened(ttl, options)
        change = self.coherence.change(key, "put", tags=tags, depends_on=depends_on)
        if self.disk is None:
            self._put_in_memory(
                key,
                value,
                ttl,
                ttl,
                None,
                options,
                cost,
                importance,
                tags=tags,
                since=self.coherence.generation.seen,
            )
            self._made_alone(change, key)
            return
        more: dict[str, Any] = {} if if_version is None else {"if_version": if_version}
        self.disk.put(
            key,
            value,
            ttl=ttl,
            stale=options.stale if ttl is not None else 0.0,
            tag=tags or None,
            cost=cost,
            importance=importance,
            change=change,
            **more,
        )
        self._hold(
            key,
            value,
            ttl,
            ttl,
            None,
            options,
            cost,
            importance,
            tags=tags,
            since=self.coherence.generation.seen,
        )

    def _spilled(self, key: Any, value: Any, note: Note) -> None:
        """Memory evicts an entry: the disk is to have it, unless it does already."""
        disk = self.disk
        left = None if note.until == inf else note.until - monotonic()
        if note.clean or disk is None or (left is not None and left <= 0):
            return
        self.spills += 1
        try:
            change = self.coherence.change(key, "load", since=note.number, tags=note.tags)
            disk.put(
                key,
                value,
                offered=True,
                ttl=left,
                validators=note.validators,
                tag=note.tags or None,
                change=change,
            )
        except (EncodeError, ValueTooLargeError, KeyEncodingError, ClosedError) as error:
            log.warning("a %s is not kept on disk: %s", type(value).__name__, raised_by(error))

    def forget(self, key: Any, cause: str = "delete", since: int | None = None) -> bool:
        """Delete a key from the tiers; return whether one had it.

        With ``since`` it is a load that says so: what others have written since then stays.
        """
        there = self.memory is not None and self.memory.discard(key)
        if self.disk is not None:
            change = self.coherence.change(key, cause, since=since)
            there = self.disk.delete(key, change) or there
        else:
            self._made_alone(self.coherence.change(key, cause), key)
        return there

    def outdate(self, key: Any, cause: str) -> None:
        """Let what the tiers hold of a key be stale, for everybody."""
        if self.memory is not None:
            self.memory.outdate(key)
        change = self.coherence.change(key, cause)
        if self.disk is None:
            self._made_alone(change, key)
        else:
            self.disk.outdate(key, change)

    def clear(self) -> None:
        """Empty the tiers."""
        if self.memory is not None:
            self.memory.clear()
        if self.disk is not None:
            self.disk.clear()

    def _held_another(self, key: Any, value: Any) -> bool:
        """Whether memory holds another value of the key."""
        held = None if self.memory is None else self.memory.held(key)
        return held is not None and held[0] is not value and differs(held[0], value)

    def _made_alone(self, change: Change | None, key: Any, *, differs: bool = True) -> bool:
        """Do what else a change does that is made in memory alone; False if it was called off."""
        if change is None:
            return True
        change.alone(differs=differs)
        if change.off and self.memory is not None:
            self.memory.discard(key)
        return not change.off

    def stamp(self, key: Any, version: int) -> None:
        """Give what memory holds a version, until it is replaced."""
        assert self.memory is not None
        held = self.memory.held(key)
        if held is not None:
            self.memory.annotate(key, (held[2] or Note())._replace(version=version))

    @staticmethod
    def shortened(ttl: float | None, options: EntryOptions) -> float | None:
        """The ttl, less the jitter."""
        if ttl is None or not options.jitter:
            return ttl
        return ttl * (1 - options.jitter * random())

    def _hold(
        self,
        key: Any,
        value: Any,
        left: float | None,
        whole: float | None,
        validators: Validators | None,
        options: EntryOptions,
        cost: float = 1.0,
        importance: float = 1.0,
        *,
        clean: bool = True,
        tags: tuple[Any, ...] = (),
        since: int = 0,
    ) -> None:
        """Put a value into memory if it fits; no older one stays in any case."""
        try:
            self._put_in_memory(
                key,
                value,
                left,
                whole,
                validators,
                options,
                cost,
                importance,
                clean=clean,
                tags=tags,
                since=since,
            )
        except BaseException as error:
            assert self.memory is not None
            self.memory.discard(key)
            if not isinstance(error, ValueTooLargeError):
                raise

    def _put_in_memory(
        self,
        key: Any,
        value: Any,
        left: float | None,
        whole: float | None,
        validators: Validators | None,
        options: EntryOptions,
        cost: float,
        importance: float,
        *,
        clean: bool = True,
        tags: tuple[Any, ...] = (),
        since: int = 0,
    ) -> None:
        if self.memory is None:
            return
        late = 0.0
        until = 0.0
        if not clean:
            until = inf if left is None else monotonic() + left
        if self._memory_ttl is not None:
            left = self._memory_ttl if left is None else min(left, self._memory_ttl)
        if left is not None and whole is not None and options.refresh_ahead is not None:
            due = max(left - (1 - options.refresh_ahead) * whole, _AT_ONCE)
            left, late = due, max(left - due, 0.0)
        elif left is not None and tags and sliding_of(tags) is not None:
            late = left * (1 - _SLICE)  # it is found due, and put off, when it is used after this
            left -= late
        stale = 0.0 if left is None else late + options.stale
        note = None
        if late or validators is not None or not clean or tags:
            note = Note(validators, late, whole, 0, until, clean, tags, since)
        epoch = self.memory.epoch if tags else 0
        if not self.coherence.generation.is_current:
            epoch = _DOUBTFUL  # others have invalidated something, which may be this
        self.memory.hold(key, value, note, left, stale, cost, importance, epoch)
        if tags and self.coherence.in_memory(since, tags) is not True:
            self.memory.discard(key)  # invalidated while it was on its way


def _call(method: WeakMethod[Any], *args: Any) -> None:
    found = method()
    if found is not None:
        found(*args)


def copy_of(record: Record, options: EntryOptions) -> Copy:
    """What the disk holds, as options would have it."""
    left, whole = record.ttl_left, None
    state = State.FRESH if record.fresh else State.STALE
    if record.fresh_until:
        whole = (record.fresh_until - record.stored_at) / 1e9
        if (
            state is State.FRESH
            and left is not None
            and options.refresh_ahead is not None
            and left <= (1 - options.refresh_ahead) * whole
        ):
            state = State.DUE
    return Copy(
        record.value,
        Tier.DISK,
        state,
        left,
        whole,
        record.validators,
        record.cost,
        record.version,
        () if record.tag is None else as_tags(record.tag),
    )
