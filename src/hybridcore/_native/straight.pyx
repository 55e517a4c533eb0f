# cython: freethreading_compatible=True
"""The straight way of a miss: a key that nobody else loads, from disk or origin into memory.

It is the engine's own way where nothing makes it turn off, in one piece: join, look up, ask, accept.
Whatever is not plain (somebody who loads the key, a stale copy, an answer that is no value, an
origin that is left alone) is handed to the engine, with the flight as far as it has come.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from threading import get_ident
from time import perf_counter
from types import GeneratorType

from hybridcore.errors import ClosedError, DiskError, NotFoundError, ValueTooLargeError
from hybridcore.types import Loaded, NotFound, NotModified, Tier

from hybridcore._native.memory cimport MemoryStore, store_put_hashed
from hybridcore._native.objects cimport mix, object_hash, unlikely
from hybridcore._native.table cimport table_find

cimport cython

cdef extern from "Python.h":
    ctypedef struct AwaitSlots "PyAsyncMethods":
        void* am_await

    ctypedef struct AwaitType "PyTypeObject":
        AwaitSlots* tp_as_async

    AwaitType* Py_TYPE(PyObject* o) noexcept
    object PyContextVar_Set(object variable, object value)
    int PyContextVar_Get(object variable, PyObject* default, PyObject** value) except -1
    int PyContextVar_Reset(object variable, object token) except -1
    void Py_XDECREF(PyObject* o) noexcept

MISSING = object()
cdef object DECLINED = object()
cdef object NOTHING = MISSING
cdef tuple ANSWERS = (Loaded, NotModified, NotFound)
cdef object DISK = Tier.DISK
cdef object ORIGIN = Tier.ORIGIN


@cython.final
@cython.freelist(16)
cdef class Flight:
    """One load of one key. It has ended with a value, with MISSING, with an error, or lost."""

    def __init__(self, key, origin, options=None, /):
        self.key = key
        self.origin = origin
        self.options = options
        self.thread = get_ident()
        self.is_abandoned = bool
        self.waits_for = []
        self.value = NOTHING

    @property
    def in_background(self):
        """Whether nobody leads it who would wait for it: a stale copy may be served meanwhile."""
        return self.thread == -1


cdef Flight flight_of(object key, object origin, object options):
    cdef Flight flight = Flight.__new__(Flight)
    flight.key = key
    flight.origin = origin
    flight.options = options
    flight.thread = get_ident()
    flight.is_abandoned = bool
    flight.waits_for = []
    flight.value = NOTHING
    return flight


cdef class Straight:
    """What lies on the straight way; the engine opens and closes it."""

    def __init__(self, MemoryStore store not None, tiers, events, rules, missing, failed, costs,
                 led, /):
        self.store = store
        self.tiers = tiers
        self.disk = tiers.disk
        self.fetch = None if tiers.disk is None else tiers.disk.disk.fetch
        self.memory_ttl = store.options()[2]
        self.events = events
        self.defaults = rules.defaults
        self.rules = rules if rules.has_patterns else None
        self.missing = missing
        self.failed = failed
        self.costs = costs
        self.led = led

    def attend(self, dict flights not None, list locks not None, /):
        """Register loads here, under these locks."""
        self.flights = flights
        self.acquires = [lock.acquire for lock in locks]
        self.releases = [lock.release for lock in locks]

    def open(self, bint loads, origin, function, resolve, guard, guarded, /):
        """Let lookups through, and if it ``loads`` on to the origin, or the function that it is.

        ``resolve`` waits for what the function returns if that can be awaited, ``guarded`` is
        where the calls behind the guard are known.
        """
        self.is_open = False
        self.origin = origin
        self.function = function
        self.resolve = resolve
        self.guard = guard
        self.circuit = None if guard is None else guard.circuit
        if self.circuit is None:
            self.guard = None
        self.guarded = guarded
        self.loads = loads
        self.is_open = True

    def shut(self):
        """Let nobody through."""
        self.is_open = False

    def counts(self):
        """(promoted, loads) so far."""
        return self.promoted, self.loaded


cdef object straight_get(Straight self, object front, object key, object default):
    """The value of a key that memory missed, or DECLINED before anything was done."""
    cdef Py_hash_t hash
    cdef Flight flight
    if not self.is_open or self.events.wanted:
        return DECLINED
    options = self.defaults if self.rules is None else self.rules.of(key)
    if options is not self.defaults and options.strategy is not None:
        return DECLINED
    if options.refresh_ahead is not None:
        return DECLINED
    if self.missing._keys is not None and self.missing.of(key) is not None:
        return DECLINED
    hash = object_hash(<PyObject*> key)
    flights = self.flights
    flight = flight_of(key, self.origin, options)
    acquire, release = self.acquires[hash & 63], self.releases[hash & 63]
    acquire()
    try:
        if key in flights:
            return DECLINED
        flights[key] = flight
    finally:
        release()
    try:
        return led(self, front, flight, hash, default, flights, acquire, release)
    finally:
        if not flight.ended:
            flight.lost = True
            part(flight, flights, acquire, release)


cdef object led(
    Straight self, object front, Flight flight, Py_hash_t hash, object default,
    dict flights, object acquire, object release,
):
    """What becomes of a flight that is registered."""
    cdef object key = flight.key
    cdef int64_t i
    with cython.critical_section(self.store):
        i = table_find(&self.store.table, <PyObject*> key, mix(hash))
    if unlikely(i >= 0):                    # it has landed meanwhile, or is stale
        return front._led(flight, default, False)
    if self.disk is not None:
        record = fetched(self, key)
        if record is not None:
            if not record.fresh:
                return front._led(flight, default, True, record)
            promote(self, flight, record, mix(hash), flights, acquire, release)
            return flight.value
    if not self.loads:
        return front._led(flight, default, True)
    if flight.origin is None:
        part(flight, flights, acquire, release)
        return default
    options = flight.options
    if (
        options.hard_timeout is not None
        or (self.disk is not None and options.lease is not None)
        or (self.circuit is not None and self.circuit._state != "closed")
    ):
        return front._led(flight, default, True)
    return loaded(self, front, flight, mix(hash), default, flights, acquire, release)


cdef int part(Flight flight, dict flights, object acquire, object release) except -1:
    """End a flight that has come to nothing, or is lost."""
    acquire()
    try:
        if not flight.ended:
            finish(flight, flights)
    finally:
        release()
    return 0


cdef object fetched(Straight self, object key):
    """What the disk holds, as if nothing if it fails."""
    disk = self.disk
    if disk._reason is not None or disk._missed:
        return disk.fetch_many((key,)).get(key)
    try:
        return self.fetch(key)
    except DiskError as error:
        disk._fail(error)
        return None


cdef int promote(
    Straight self, Flight flight, object record, uint32_t hash, dict flights, object acquire,
    object release,
) except -1:
    """End the flight with what the disk has, and have memory hold it unless a write came between."""
    flight.value = record.value
    flight.tier = DISK
    acquire()
    try:
        if flights.get(flight.key) is flight:
            hold(
                self, flight, hash, record.value, record.ttl_left, record.validators,
                record.cost,
            )
            with cython.critical_section(self):
                self.promoted += 1
        finish(flight, flights)
    finally:
        release()
    return 0


cdef object loaded(
    Straight self, object front, Flight flight, uint32_t hash, object default,
    dict flights, object acquire, object release,
):
    """The value that the origin has, or what the engine makes of its answer."""
    cdef bint is_value = False
    cdef double started = perf_counter()
    try:
        answer = asked(self, flight, &is_value)
    except Exception as error:
        answer = error
    took = perf_counter() - started
    if not is_value:
        front._settled(flight, answer, took)
        if flight.error is not None:
            raise flight.error
        return default if flight.value is NOTHING else flight.value
    flight.value = answer
    flight.tier = ORIGIN
    options = flight.options
    if self.failed._keys is not None:
        self.failed.forget(flight.key)
    cost = 1.0 if self.rules is None else self.costs.of(options, took)
    acquire()
    try:
        if flights.get(flight.key) is flight:
            if self.missing._keys is not None:
                self.missing.forget(flight.key)
            if self.disk is None and not options.jitter:
                hold(self, flight, hash, answer, options.ttl, None, cost)
            else:
                try:
                    self.tiers.keep(
                        flight.key, answer, options.ttl, None, options, cost=cost, loaded=True
                    )
                except ClosedError:         # while it loaded: handed out, not kept
                    pass
        finish(flight, flights)
    finally:
        release()
    with cython.critical_section(self):
        self.loaded += 1
    return answer


cdef object asked(Straight self, Flight flight, bint* is_value):
    """What the origin answers, and whether that is a mere value."""
    cdef bint guarded = self.guard is not None
    cdef object permit = None
    cdef object error = None
    cdef object inside = None
    leading = current(self.led)
    token = PyContextVar_Set(self.led, (*leading, flight))
    try:
        if guarded:
            outer = current(self.guarded)
            for passage in outer:
                if passage.guard is self.guard and passage.running:
                    guarded = False         # part of that call
            flight.guard = self.guard
            flight.running = True
            inside = PyContextVar_Set(self.guarded, (*outer, flight))
            permit = self.circuit._generation
        try:
            answer = called(self, flight.key, is_value)
        except BaseException as failure:
            error = failure
            raise
        finally:
            if inside is not None:
                flight.running = False
                PyContextVar_Reset(self.guarded, inside)
            if guarded:
                tell(self.circuit, permit, error)
    finally:
        PyContextVar_Reset(self.led, token)
    return answer


cdef object called(Straight self, object key, bint* is_value):
    """What the function returned, or what the origin answered if it is more than one."""
    if self.function is None:
        answer = self.origin.load(key, None)
        if type(answer) is Loaded and answer == Loaded(answer.value):
            is_value[0] = True
            return answer.value
        return answer
    try:
        answer = self.function(key)
        if unlikely(may_be_awaited(answer)):
            answer = self.resolve(answer)
    except NotFoundError:
        return NotFound()
    is_value[0] = not isinstance(answer, ANSWERS)
    return answer


cdef inline bint may_be_awaited(object answer):
    """Whether the value is, or might be, an awaitable."""
    cdef AwaitSlots* slots = Py_TYPE(<PyObject*> answer).tp_as_async
    return slots != NULL and slots.am_await != NULL or type(answer) is GeneratorType


cdef int tell(object circuit, object permit, object error) except -1:
    """Tell the circuit how a call ended."""
    if error is None:
        if circuit._failures or circuit._window is not None or circuit._state != "closed":
            circuit.succeeded(permit)
    elif isinstance(error, Exception):
        circuit.failed(permit, error)
    else:
        circuit.abandoned(permit)
    return 0


cdef object current(object variable):
    """The value of a context variable that has a default."""
    cdef PyObject* found
    PyContextVar_Get(variable, NULL, &found)
    value = <object> found
    Py_XDECREF(found)
    return value


cdef int hold(
    Straight self, Flight flight, uint32_t hash, object value, object left, object validators,
    double cost,
) except -1:
    """Under the lock: put the value into memory, as `Tiers` does; no older one stays."""
    try:
        if left is None and self.memory_ttl is None and validators is None:
            store_put_hashed(
                self.store, flight.key, hash, value, -1, 0, 0, cost, 1.0, NULL
            )
        else:
            self.tiers._put_in_memory(
                flight.key, value, left, None, validators, flight.options, cost, 1.0
            )
    except BaseException as error:
        self.store.discard(flight.key)
        if not isinstance(error, ValueTooLargeError):
            raise
    return 0


cdef int finish(Flight flight, dict flights) except -1:
    """Under the lock: tell the followers, and let the next one lead."""
    flight.ended = True
    if flight.future is not None and flight.successor is None and not flight.future.done():
        flight.future.set_result(None)
    if flights.get(flight.key) is flight:   # last: comparing keys may raise
        del flights[flight.key]
    return 0
