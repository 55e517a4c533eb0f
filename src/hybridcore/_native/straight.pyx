# cython: freethreading_compatible=True
"""The straight way of a miss: a key that nobody else loads, from disk or origin into memory.

Where nothing makes the engine turn off, it is all there is: join, look up, ask, accept. What is not
plain (somebody who loads the key, a stale copy, an answer that is no value, an
origin that is left alone) is handed to the engine, with the flight as far as it has come.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from contextvars import ContextVar
from types import GeneratorType

from hybridcore.errors import ClosedError, DiskError, NotFoundError, ValueTooLargeError
from hybridcore.types import Loaded, NotFound, NotModified, Tier, is_plain

from hybridcore._native.generation cimport is_current
from hybridcore._native.histogram cimport c_record, end_timing, seconds_since, start_timing
from hybridcore._native.locks cimport KeyLock, is_held
from hybridcore._native.memory cimport MemoryStore, store_put_hashed
from hybridcore._native.objects cimport mix, object_hash, unlikely
from hybridcore._native.table cimport table_find

cimport cython

cdef extern from "Python.h":
    ctypedef struct AwaitSlots "PyAsyncMethods":
        void* am_await

    ctypedef struct AwaitType "PyTypeObject":
        AwaitSlots* tp_as_async

    unsigned long PyThread_get_thread_ident() noexcept
    AwaitType* Py_TYPE(PyObject* o) noexcept
    object PyContextVar_Set(object variable, object value)
    int PyContextVar_Get(object variable, PyObject* default, PyObject** value) except -1
    int PyContextVar_Reset(object variable, object token) except -1
    void Py_XDECREF(PyObject* o) noexcept

MISSING = object()
cdef double LONGEST = 3e9     # seconds
cdef object DECLINED = object()
cdef object NOTHING = MISSING
cdef tuple ANSWERS = (Loaded, NotModified, NotFound)
led_in_context = ContextVar("hybridcore_leading", default=())
cdef object LED = led_in_context
cdef object DISK = Tier.DISK
cdef object ORIGIN = Tier.ORIGIN


@cython.freelist(16)
cdef class Flight:
    """One load of one key. It has ended with a value, with MISSING, with an error, or lost."""

    def __init__(self, key, origin, options=None, /):
        self.key = key
        self.origin = origin
        self.options = options
        self.thread = <int64_t> PyThread_get_thread_ident()
        self.is_abandoned = bool
        self.value = NOTHING

    @property
    def waits_for(self):
        """Flights that the loader of this one waits for, to be changed."""
        if self.others is None:
            self.others = []
        return self.others

    @property
    def in_background(self):
        """Whether nobody leads it who would wait for it: a stale copy may be served meanwhile."""
        return self.thread == -1


cdef class Straight:
    """What lies on the straight way; the engine opens and closes it."""

    def __init__(self, MemoryStore store not None, tiers, events, rules, missing, failed, costs,
                 copy_of, histogram, served, /):
        self.copy_of = copy_of
        self.generation = tiers.coherence.generation
        self.store = store
        self.tiers = tiers
        self.disk = tiers.disk
        if tiers.disk is not None:
            self.fetch_plain = tiers.disk.disk.fetch_plain
            self.missed, self.outage = tiers.disk.owed, tiers.disk.failing
        self.memory_ttl = store.options()[2]
        self.events = events
        self.defaults = rules.defaults
        self.is_plain = is_plain_rule(self.defaults)
        self.rules = rules if rules.has_patterns else None
        self.missing = missing
        self.failed = failed
        self.costs = costs
        self.disk_hits = histogram("disk", "get", "hit")
        self.disk_misses = histogram("disk", "get", "miss")
        self.disk_stale = histogram("disk", "get", "stale")
        self.disk_errors = histogram("disk", "get", "error")
        self.disk_puts = histogram("disk", "put", "ok")
        self.loads_timed = histogram("origin", "load", "hit")
        self.hits = histogram("all", "get", "hit")
        self.misses = histogram("all", "get", "miss")
        self.served = served

    def attend(self, dict flights not None, list locks not None, /):
        """Register loads here, under these locks."""
        self.flights = flights
        self.locks = locks

    def open(self, bint loads, origin, function, afunction, resolve, guard, guarded, /):
        """Let lookups through, and if it ``loads`` on to the origin, or the function that it is.

        ``afunction`` is that for who awaits; ``resolve`` waits for what the other returns if that
        can be awaited; ``guarded`` is where the calls behind the guard are known.
        """
        self.is_open = False
        self.origin = origin
        self.function = function
        self.afunction = afunction
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

    def left(self, Flight flight not None, error, /):
        """The call of the origin has ended, with this error or None."""
        leave_call(self, flight, error)

    def land(self, Flight flight not None, answer, /):
        """End a flight with a mere value and keep it; False: the engine is to settle it."""
        return land(self, flight, answer)

    def part(self, Flight flight not None, /):
        """Leave a flight: if nobody has ended it, another one has to lead."""
        lose(self, flight)

    def took(self, Flight flight not None, /):
        """Seconds since the origin was asked."""
        return seconds_since(flight.asked)

    def counts(self):
        """(promoted, loads) so far."""
        return self.promoted, self.loaded


cdef object straight_get(Straight self, object front, object key, object default):
    """The value of a key that memory missed, or DECLINED before anything was done."""
    cdef Flight flight
    found = join(self, key)
    if found is None:
        return DECLINED
    if type(found) is tuple:
        return (<tuple> found)[0]
    flight = <Flight> found
    try:
        return led(self, front, flight, default)
    finally:
        if not flight.ended or flight.is_leased:
            lose(self, flight)


cdef object options_on_the_way(Straight self, object key):
    """The options of a key that may go this way, else None."""
    if not self.is_open or self.events.wanted_of_reads or not is_current(self.generation):
        return None
    options = self.defaults
    if self.rules is not None:
        options = self.rules.of(key)
    if not (self.is_plain if options is self.defaults else is_plain_rule(options)):
        return None
    if options is not self.defaults and options.strategy is not None:
        return None
    if self.missing._keys is not None and self.missing.of(key) is not None:
        return None
    return options


cdef bint is_plain_rule(object options) except -1:
    """Whether nothing but the ttl decides how long a copy is fresh."""
    return not options.is_winding


cdef object join(Straight self, object key):
    """A flight of the key that is registered; or the fresh value that the disk has, and now memory,
    as the first of a tuple; or None before anything was done.

    A copy on disk that is plain and fresh needs no flight: the lock of the key tells whether
    something was written since the disk was looked at.
    """
    cdef Flight flight
    cdef KeyLock lock
    cdef uint64_t writes = 0
    cdef int64_t started = start_timing()
    cdef Py_hash_t hash
    cdef bint looked_up = False
    cdef object record = None
    options = options_on_the_way(self, key)
    if options is None:
        return None
    hash = object_hash(<PyObject*> key)
    lock = <KeyLock> self.locks[hash & 63]
    if self.disk is not None and not self.outage and not self.missed and not is_held(lock):
        writes = lock.writes
        if not is_in_memory(self, key, hash):
            looked_up = True
            record = fetched(self, key, &looked_up)
            if type(record) is tuple:
                take_up(self, lock, writes, key, hash, <tuple> record, options)
                handed_out(self, started, DISK, (<tuple> record)[0])
                return record
    flight = Flight.__new__(Flight)
    flight.key = key
    flight.origin = self.origin
    flight.options = options
    flight.thread = <int64_t> PyThread_get_thread_ident()
    flight.is_abandoned = bool
    flight.value = NOTHING
    flight.since = self.generation.seen
    flight.started = started
    flight.hash = hash
    flight.flights = self.flights
    flight.lock = lock
    lock.c_acquire()
    try:
        if key in flight.flights:
            return None
        flight.flights[key] = flight
        if looked_up and lock.writes == writes:
            flight.looked_up = True
            flight.record = record
    finally:
        lock.c_release()
    return flight


cdef bint is_in_memory(Straight self, object key, Py_hash_t hash) except -1:
    """Whether memory holds a copy, fresh or not."""
    cdef int64_t i
    with cython.critical_section(self.store):
        i = table_find(&self.store.table, <PyObject*> key, mix(hash))
    return i >= 0


cdef int take_up(
    Straight self, KeyLock lock, uint64_t writes, object key, Py_hash_t hash, tuple record,
    object options,
) except -1:
    """Put what the disk has into memory, unless something was written meanwhile."""
    lock.c_acquire()
    try:
        if lock.writes == writes and is_current(self.generation):
            hold(self, key, hash, record[0], record[1], None, options, record[2])
            with cython.critical_section(self):
                self.promoted += 1
    finally:
        lock.c_release()
    return 0


cdef object led(Straight self, object front, Flight flight, object default):
    """What becomes of a flight that is registered."""
    cdef int where = look_up(self, flight)
    if where == FOUND:
        return flight.value
    if where == NOWHERE:
        where = may_load(self, flight)
        if where == FOUND:
            return default
        if where == NOWHERE:
            return loaded(self, front, flight, default)
    return front._led(flight, default, where != IN_MEMORY)


cdef int look_up(Straight self, Flight flight) except -1:
    """Where a tier has the key: FOUND and the flight has ended, NOWHERE, or a copy not so plain."""
    if unlikely(is_in_memory(self, flight.key, flight.hash)):  # it landed, or is stale
        return IN_MEMORY
    if self.disk is None:
        return NOWHERE
    if not flight.looked_up:
        return IN_MEMORY                    # as far as anybody knows: the engine looks it up
    record, flight.record = flight.record, None
    if record is None:
        return NOWHERE
    flight.copy = self.copy_of(record, flight.options)
    return STALE


cdef int handed_out(Straight self, int64_t started, object tier, object value) except -1:
    """Record a lookup that ended with a value."""
    end_timing(self.hits, started, 1)
    if self.served is not None:
        self.random = (
            self.random * <uint64_t> 6364136223846793005 + <uint64_t> 1442695040888963407
        )
        if not self.random >> 60:
            self.served(tier, value)
    return 0


cdef int may_load(Straight self, Flight flight) except -1:
    """NOWHERE if the origin is to be asked; FOUND and the flight has ended if there is none."""
    options = flight.options
    if not self.loads:
        return STALE
    if flight.origin is None:
        part(self, flight)
        end_timing(self.misses, flight.started, 1)
        return FOUND
    if (
        options.hard_timeout is not None
        or (self.circuit is not None and self.circuit._state != "closed")
    ):
        return STALE
    if self.disk is not None and options.lease is not None:
        if self.disk.lease(flight.key, options.lease):
            return STALE                    # another process loads it: the engine waits for that
        flight.is_leased = True
    return NOWHERE


cdef int lose(Straight self, Flight flight) except -1:
    """Leave a flight, which is lost if nobody has ended it."""
    if not flight.ended:
        flight.lost = True
    return part(self, flight)


cdef int part(Straight self, Flight flight) except -1:
    """Leave a flight, which has come to nothing if nobody has ended it."""
    if flight.is_leased:
        flight.is_leased = False
        try:
            self.disk.release(flight.key)
        except ClosedError:                 # and its leases are nobody's
            pass
    flight.lock.c_acquire()
    try:
        if not flight.ended:
            finish(flight)
    finally:
        flight.lock.c_release()
    return 0


cdef object fetched(Straight self, object key, bint* looked_up):
    """What the disk holds: None, a plain and fresh copy as a tuple, or the record."""
    cdef int64_t start = start_timing()
    try:
        record = self.fetch_plain(key)
    except DiskError as error:
        self.disk._fail(error)
        end_timing(self.disk_errors, start, 1)
        return None
    if record is None:
        end_timing(self.disk_misses, start, 1)
    elif type(record) is tuple:
        if unlikely(self.generation.raised):    # whether it is valid the engine knows
            looked_up[0] = False
            return None
        end_timing(self.disk_hits, start, 1)
    elif record.tag is not None or self.generation.raised or record.fresh:
        looked_up[0] = False
        return None
    else:
        end_timing(self.disk_stale, start, 1)
    return record


cdef object loaded(Straight self, object front, Flight flight, object default):
    """The value that the origin has, or what the engine makes of its answer."""
    cdef bint is_value = False
    try:
        answer = asked(self, flight)
    except StopIteration as error:          # which would end an iteration of the caller's
        answer = RuntimeError("the loader raised StopIteration")
        answer.__cause__ = error
    except Exception as error:
        answer = error
    else:
        is_value = land(self, flight, answer)
    if not is_value:
        front._settled(flight, answer, seconds_since(flight.asked))
    if flight.error is not None:
        raise flight.error
    return default if flight.value is NOTHING else flight.value


cdef bint land(Straight self, Flight flight, object answer) except -1:
    """End the flight if the origin answered a mere value, and keep that unless a write came."""
    cdef double took
    cdef int64_t start
    options = flight.options
    if flight.is_bare:
        if isinstance(answer, ANSWERS):
            return False
    elif is_plain(answer):
        answer = answer.value
    else:
        return False
    took = seconds_since(flight.asked)
    flight.value = answer
    flight.tier = ORIGIN
    if self.failed._keys is not None:
        self.failed.forget(flight.key)
    cost = 1.0 if self.rules is None else self.costs.of(options, took)
    flight.lock.c_acquire()
    try:
        if flight.flights.get(flight.key) is flight:
            flight.lock.writes += 1
            if self.missing._keys is not None:
                self.missing.forget(flight.key)
            if self.disk is None and not options.jitter and not self.generation.minds_loads:
                hold(self, flight.key, flight.hash, answer, options.ttl, options.ttl, options, cost)
            else:
                start = start_timing()
                try:
                    self.tiers.keep(
                        flight.key, answer, options.ttl, None, options, cost=cost, loaded=True,
                        since=flight.since,
                    )
                except ClosedError:         # while it loaded: handed out, not kept
                    pass
                else:
                    if self.disk is not None:
                        end_timing(self.disk_puts, start, 1)
        finish(flight)
    finally:
        flight.lock.c_release()
    with cython.critical_section(self):
        self.loaded += 1
    c_record(self.loads_timed, <uint64_t> (took * 1e9), 1)
    handed_out(self, flight.started, ORIGIN, answer)
    return True


cdef object asked(Straight self, Flight flight):
    """What the origin answers, or the value."""
    cdef object error = None
    token = enter_call(self, flight)
    try:
        return called(self, flight)
    except BaseException as failure:
        error = failure
        raise
    finally:
        PyContextVar_Reset(LED, token)
        leave_call(self, flight, error)


cdef object enter_call(Straight self, Flight flight):
    """The origin is about to be asked: a loader that asks back, in this context, is known."""
    leading = <tuple> current(LED)
    guard = self.guard
    flight.permit = None
    if guard is not None:
        flight.permit = self.circuit._generation
        for passage in <tuple> current(self.guarded):
            if passage.guard is guard and passage.running:
                flight.permit = None        # part of that call
        for passage in leading:
            if (<Flight> passage).guard is guard and (<Flight> passage).running:
                flight.permit = None
        flight.guard = guard
        flight.running = True
    flight.asked = start_timing()
    return PyContextVar_Set(LED, (leading + (flight,)) if leading else (flight,))


cdef int leave_call(Straight self, Flight flight, object error) except -1:
    """The call has ended: tell the breaker how."""
    if flight.guard is None:
        return 0
    flight.running = False
    if flight.permit is None:
        return 0
    circuit = flight.guard.circuit
    if error is None or isinstance(error, NotFoundError):
        if circuit._failures or circuit._window is not None or circuit._state != "closed":
            circuit.succeeded(flight.permit)
    elif isinstance(error, Exception):
        circuit.failed(flight.permit, error)
    else:
        circuit.abandoned(flight.permit)
    return 0


cdef object called(Straight self, Flight flight):
    """What the function returned, or what the origin answered."""
    if self.function is None:
        flight.is_bare = False
        return self.origin.load(flight.key, None)
    flight.is_bare = True
    try:
        answer = self.function(flight.key)
        if unlikely(may_be_awaited(answer)):
            answer = self.resolve(answer)
    except NotFoundError:
        return NotFound()
    return answer


cdef inline bint may_be_awaited(object answer):
    """Whether the value is, or might be, an awaitable."""
    cdef AwaitSlots* slots = Py_TYPE(<PyObject*> answer).tp_as_async
    return slots != NULL and slots.am_await != NULL or type(answer) is GeneratorType


cdef object current(object variable):
    """The value of a context variable that has a default."""
    cdef PyObject* found
    PyContextVar_Get(variable, NULL, &found)
    value = <object> found
    Py_XDECREF(found)
    return value


cdef int hold(
    Straight self, object key, Py_hash_t hash, object value, object left, object whole,
    object options, double cost,
) except -1:
    """Under the lock: put the value into memory, as `Tiers` does; no older one stays."""
    cdef int64_t ttl = 0
    cdef int64_t stale = 0
    try:
        if self.memory_ttl is None and is_current(self.generation):
            if left is not None:
                ttl = max(<int64_t> (min(<double> left, LONGEST) * 1e9), 1)
                stale = <int64_t> (min(<double> options.stale, LONGEST) * 1e9)
            store_put_hashed(self.store, key, mix(hash), value, -1, ttl, stale, cost, 1.0, NULL)
        else:
            self.tiers._put_in_memory(key, value, left, whole, None, options, cost, 1.0)
    except BaseException as error:
        self.store.discard(key)
        if not isinstance(error, ValueTooLargeError):
            raise
    return 0


cdef int finish(Flight flight) except -1:
    """Under the lock: tell the followers, and let the next one lead."""
    flight.ended = True
    if flight.future is not None and flight.successor is None and not flight.future.done():
        flight.future.set_result(None)
    if flight.flights.get(flight.key) is flight:   # last: comparing keys may raise
        del flight.flights[flight.key]
    return 0
