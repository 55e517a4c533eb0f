"""The native store of the memory tier: a bounded mapping with an O(1) policy."""

import math
from types import GenericAlias

from cpython.exc cimport PyErr_WriteUnraisable
from cpython.mem cimport PyMem_RawFree
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject, inquiry, traverseproc, visitproc
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.float cimport FLT_MAX
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from hybridcore._native.entry cimport NIL, Extra
from hybridcore._native.fastcall cimport (
    METH_FASTCALL, METH_KEYWORDS, PyMethodDef, add_method, default_argument, own_method,
)
from hybridcore._native.footprint cimport footprint
from hybridcore._native.invariants cimport check_table
from hybridcore._native.policy cimport (
    policy_colder, policy_hotter, policy_hottest, policy_victim,
)
from hybridcore._native.removals cimport (
    Removal, Removals, removal_at, removals_init, removals_next,
)
from hybridcore._native.table cimport (
    table_add, table_free, table_init, table_need_extras, table_need_wheel, table_remove,
    table_reserve,
)
from hybridcore._native.wheel cimport (
    DUE, TICK_BITS, wheel_add, wheel_advance, wheel_remove,
)

from hybridcore.errors import ValueTooLargeError
from hybridcore.types import EvictionCause
from hybridcore.units import seconds

cimport cython

cdef extern from "Python.h":
    PyObject* PyObject_CallFunctionObjArgs(object function, ...) noexcept

cdef enum:
    EXPIRE_PER_WRITE = 64   # due entries that one write removes at most
    ENTRY_BYTES = 60        # of the table itself, per entry, when sizes are footprints

# Causes, in the order of EvictionCause.
cdef enum:
    SIZE = 0
    EXPIRED = 1
    EXPLICIT = 2
    REPLACED = 3

cdef int64_t NO_LIMIT = INT64_MAX
cdef double MAX_SECONDS = 4.6e9     # on a clock, 146 years: half of what fits in nanoseconds
cdef tuple CAUSES = (
    EvictionCause.SIZE, EvictionCause.EXPIRED, EvictionCause.EXPLICIT, EvictionCause.REPLACED,
)
cdef object MISSING = object()


cdef int64_t to_ns(double value) noexcept:
    """Seconds as nanoseconds."""
    return <int64_t> (value * 1e9 + (0.5 if value >= 0 else -0.5))


cdef int64_t read_timer(object timer) except? -1:
    cdef double value = timer()
    if not -MAX_SECONDS < value < MAX_SECONDS:
        raise ValueError(f"timer is expected to return seconds, less than 146 years, got {value!r}")
    return to_ns(value)


cdef int64_t ttl_to_ns(object ttl) except -1:
    """A ttl argument: nanoseconds, 0 for no expiry, 1 for a ttl of 0."""
    cdef double value
    if type(ttl) is float or type(ttl) is int:
        value = ttl
        if not value >= 0:
            value = seconds(ttl)
    else:
        value = seconds(ttl)
    if value == math.inf:
        return 0
    return max(span_to_ns(value), 1)


cdef int64_t span_to_ns(double value) noexcept:
    """A span of time in nanoseconds, what lasts longer than any clock clamped."""
    return INT64_MAX if value >= 2 * MAX_SECONDS else to_ns(value)


cdef class MemoryStore:
    """The table, its bounds and its clock. `hybridcore.Cache` is the class to use."""

    def __cinit__(self, *args, **kwargs):
        self.limit = NO_LIMIT
        table_init(&self.table)

    @classmethod
    def __class_getitem__(cls, parameters, /):
        return GenericAlias(cls, parameters)

    @classmethod
    def _own_get(cls):
        """Let the interpreter call ``get`` of a subclass as directly as of this class."""
        own_method(cls, &get_definition)

    def __init__(self, limit, sizer, ttl, timer, listener, estimates, /):
        cdef int64_t bound = NO_LIMIT if limit is None else limit
        cdef int64_t ttl_ns = 0 if ttl is None else ttl_to_ns(ttl)
        former = self.listener
        self.limit = bound
        self.sizer = sizer
        self.ttl = ttl_ns
        self.timer = timer
        self.listener = listener
        self.estimates = estimates
        if self.table.count:        # a second call starts anew
            self.removals[EXPLICIT] += self.table.count
            release_all(self, former)

    def __dealloc__(self):
        release_all(self, None)
        table_free(&self.table)

    # -- reading ----------------------------------------------------------------------------

    def __getitem__(self, key):
        cdef PyObject* value
        if lookup(self, <PyObject*> key, &value):
            return <object> value
        return self.__missing__(key)

    def __missing__(self, key):
        """Called by ``cache[key]`` when the key is not there; a subclass may return a value."""
        raise KeyError(key)

    def __contains__(self, key):
        return find_fresh(self, key) >= 0

    def __len__(self):
        expire(self)
        return self.table.count

    def __iter__(self):
        return StoreIterator.__new__(StoreIterator, self, KEYS)

    def iterate(self, int what, /):
        """Iterate over keys (0), values (1) or items (2) without touching the entries."""
        return StoreIterator.__new__(StoreIterator, self, what)

    def peek(self, key, default=None, /):
        """Return the value without counting a lookup or moving the entry."""
        cdef int64_t i = find_fresh(self, key)
        return <object> self.table.entries[i].value if i >= 0 else default

    def get_many(self, keys, /):
        """Return a dict of the keys that are there; every key counts as a lookup."""
        cdef dict found = {}
        cdef PyObject* value
        for key in keys:
            if lookup(self, <PyObject*> key, &value):
                found[key] = <object> value
        return found

    def ttl_left(self, key, /):
        """Return the seconds until the entry expires, None if it never does.

        Raises:
            KeyError: the key is not there.
        """
        cdef int64_t now = 0
        if self.table.wheel != NULL:
            now = clock(self)
        cdef int64_t i = find_fresh(self, key)
        if i < 0:
            raise KeyError(key)
        if self.table.extras == NULL or self.table.extras[i].deadline == 0:
            return None
        return max(self.table.extras[i].deadline - now, 0) / 1e9

    def coldest(self, Py_ssize_t n=1, /):
        """Return up to ``n`` keys, the next to be evicted first."""
        cdef list keys = []
        expire(self)
        cdef uint32_t i = policy_victim(&self.table.policy, self.table.entries)
        while i != NIL and len(keys) < n:
            keys.append(<object> self.table.entries[i].key)
            i = policy_hotter(self.table.entries, i)
        return keys

    def hottest(self, Py_ssize_t n=1, /):
        """Return up to ``n`` keys, the last to be evicted first."""
        cdef list keys = []
        expire(self)
        cdef uint32_t i = policy_hottest(&self.table.policy)
        while i != NIL and len(keys) < n:
            keys.append(<object> self.table.entries[i].key)
            i = policy_colder(self.table.entries, i)
        return keys

    # -- writing ----------------------------------------------------------------------------

    def __setitem__(self, key, value):
        store_put(self, key, value, -1, self.ttl, 0, 1.0, 1.0, NULL)

    def put(self, key, value, *, ttl=None, size=None, double cost=1.0, double importance=1.0):
        """Store a value.

        Args:
            ttl: seconds or a str such as "5m"; None: the cache's own; math.inf: no expiry; 0:
                expired at once.
            size: what the entry counts against ``maxsize``; None: ask ``getsizeof``.
            cost: of loading the value again, relative to 1.
            importance: to the application, relative to 1.

        Raises:
            ValueTooLargeError: the entry is larger than ``maxsize``; nothing was changed.
        """
        cdef int64_t ttl_ns = self.ttl if ttl is None else ttl_to_ns(ttl)
        check_weight("cost", cost)
        check_weight("importance", importance)
        store_put(
            self, key, value, -1 if size is None else checked_size(size), ttl_ns, 0,
            cost, importance, NULL,
        )

    def hold(self, key, value, note, ttl, stale, double cost=1.0, /):
        """Store a value that stays for ``stale`` seconds after its ``ttl``, for `held`."""
        store_put(
            self, key, value, -1, 0 if ttl is None else ttl_to_ns(ttl), span_to_ns(stale),
            cost, 1.0, NULL if note is None else <PyObject*> note,
        )

    def held(self, key, /):
        """Return ``(value, ttl_left, note)`` even if stale, None if absent; counts nothing.

        ``ttl_left`` is None for an entry that never expires, 0 or less for a stale one.
        """
        cdef int64_t now = clock(self) if self.table.wheel != NULL else 0
        cdef int64_t i = find(self, key)
        cdef Extra* extra
        if i < 0:
            return None
        value = <object> self.table.entries[i].value
        if self.table.extras == NULL:
            return value, None, None
        if has_ended(self, i, now):
            return None
        extra = &self.table.extras[i]
        return (
            value,
            (extra.deadline - now) / 1e9 if extra.deadline else None,
            <object> extra.note if extra.note != NULL else None,
        )

    def setdefault(self, key, /, default=None):
        """Return the value of the key, storing ``default`` first if it is not there."""
        cdef PyObject* value
        if lookup(self, <PyObject*> key, &value):
            return <object> value
        self[key] = default
        return default

    def __delitem__(self, key):
        if remove(self, find_fresh(self, key)) is MISSING:
            raise KeyError(key)

    def pop(self, key, /, default=MISSING):
        """Remove the entry and return its value, or ``default`` when it is not there.

        Raises:
            KeyError: the key is not there and no default was given.
        """
        value = remove(self, find_fresh(self, key))
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def discard(self, key, /):
        """Remove the entry, expired or not; return whether it was there."""
        return remove(self, find(self, key)) is not MISSING

    def popitem(self):
        """Remove the entry that would be evicted next and return its ``(key, value)``.

        Raises:
            KeyError: the cache is empty.
        """
        cdef Removals removals
        expire(self)
        cdef uint32_t i = policy_victim(&self.table.policy, self.table.entries)
        if i == NIL:
            raise KeyError(f"popitem(): {type(self).__name__} is empty") from None
        # A new tuple may run the garbage collector, and that any code: after the entry is out.
        key = <object> self.table.entries[i].key
        value = <object> self.table.entries[i].value
        removals_init(&removals)
        take_out(self, i, EXPLICIT, &removals)
        release(self, &removals)
        return key, value

    def clear(self):
        """Remove every entry."""
        self.removals[EXPLICIT] += self.table.count
        release_all(self, self.listener)

    def touch(self, key, ttl=None, /):
        """Make the entry the hottest and renew its expiry; return whether it was there.

        Args:
            ttl: a new one; None renews the one it was stored with.
        """
        cdef int64_t ttl_ns = -1 if ttl is None else ttl_to_ns(ttl)
        cdef int64_t now = clock(self) if self.table.wheel != NULL or ttl_ns > 0 else 0
        cdef int64_t i = find_fresh(self, key)
        if i < 0:
            return False
        if ttl_ns > 0:
            table_need_extras(&self.table)
            table_need_wheel(&self.table, now)
        policy_touch(&self.table.policy, self.table.entries, <uint32_t> i)
        if self.table.extras != NULL:
            if ttl_ns < 0:
                ttl_ns = self.table.extras[i].ttl
            schedule(self, <uint32_t> i, now, ttl_ns, 0)
        return True

    def expire(self):
        """Remove the expired entries and return how many there were."""
        return expire(self)

    def resize_to(self, limit, /):
        """Set a new bound and evict down to it."""
        cdef Removals removals
        cdef int64_t bound = NO_LIMIT if limit is None else limit
        expire(self)
        self.limit = bound
        removals_init(&removals)
        evict_down(self, &removals)
        release(self, &removals)

    # -- knowing ----------------------------------------------------------------------------

    @property
    def currsize(self):
        """Total size of the entries."""
        return self.size

    def counters(self):
        """Return hits, misses, insertions, updates and the removals by cause."""
        return (
            self.hits, self.misses, self.insertions, self.updates,
            self.removals[SIZE], self.removals[EXPIRED],
            self.removals[EXPLICIT], self.removals[REPLACED],
        )

    def options(self):
        """Return what the store was made with: limit, sizer, ttl, timer, listener, estimates."""
        return (
            None if self.limit == NO_LIMIT else self.limit, self.sizer,
            self.ttl / 1e9 if self.ttl else None, self.timer, self.listener, self.estimates,
        )

    def entries(self):
        """Return ``(key, value, ttl, ttl_left, size, cost, importance)`` of each, coldest first.

        ``ttl`` and ``ttl_left`` are nanoseconds, 0 without an expiry.
        """
        cdef list rows = []
        cdef int64_t now
        cdef Extra* extra
        expire(self)
        now = clock(self)
        cdef uint64_t version = self.table.version
        cdef uint32_t i = policy_victim(&self.table.policy, self.table.entries)
        while i != NIL:
            key = <object> self.table.entries[i].key
            value = <object> self.table.entries[i].value
            if self.table.extras == NULL:
                rows.append((key, value, 0, 0, 1, 1.0, 1.0))
            else:
                extra = &self.table.extras[i]
                rows.append((
                    key, value, extra.ttl, max(extra.deadline - now, 1) if extra.deadline else 0,
                    extra.size, extra.cost, extra.importance,
                ))
            if version != self.table.version:
                raise RuntimeError("the cache was changed while its entries were read")
            i = policy_hotter(self.table.entries, i)
        return rows

    def restore(self, rows, /):
        """Put back what `entries` returned."""
        cdef int64_t i
        for key, value, ttl, left, size, cost, importance in rows:
            store_put(self, key, value, size, left, 0, cost, importance, NULL)
            i = find_fresh(self, key) if ttl else -1
            if i >= 0 and self.table.extras != NULL:
                self.table.extras[i].ttl = ttl

    def memory_bytes(self):
        """Return the bytes of the table itself; keys and values are not in it."""
        cdef size_t total = (<size_t> self.table.mask + 1) * sizeof(self.table.slots[0])
        total += self.table.room * sizeof(self.table.entries[0])
        if self.table.extras != NULL:
            total += self.table.room * sizeof(self.table.extras[0])
        if self.table.wheel != NULL:
            total += sizeof(self.table.wheel[0])
        return total

    def check(self):
        """Assert every invariant of the table; for tests.

        Raises:
            AssertionError: naming the one that is broken.
        """
        check_table(&self.table, self.size, <uint64_t> self.limit)


# -- methods by plain fastcall --------------------------------------------------------------

cdef object store_get(object self, PyObject* const* args, Py_ssize_t count, PyObject* names):
    cdef PyObject* value
    cdef PyObject* default = default_argument(args, count, names)
    if likely(lookup(<MemoryStore> self, args[0], &value)):
        return <object> value
    return <object> default


cdef PyMethodDef get_definition = PyMethodDef(
    ml_name="get",
    ml_meth=<void*> store_get,
    ml_flags=METH_FASTCALL | METH_KEYWORDS,
    ml_doc=(
        "get($self, key, /, default=None)\n--\n\n"
        "Return the value of the key, or ``default`` when it is not there."
    ),
)
add_method(MemoryStore, &get_definition)


# -- the steps ------------------------------------------------------------------------------

cdef int64_t clock(MemoryStore store) except? -1:
    """Nanoseconds on the store's clock."""
    return coarse_ns() if store.timer is None else read_timer(store.timer)


cdef int64_t find(MemoryStore store, object key) except -2:
    """Index of the entry, expired or not; -1 when it is not there."""
    return table_find(&store.table, <PyObject*> key, mix(object_hash(<PyObject*> key)))


cdef int64_t find_fresh(MemoryStore store, object key) except -2:
    """Index of the entry if it is there and has not expired, -1 otherwise; counts nothing."""
    cdef int64_t now = clock(store) if store.table.wheel != NULL else 0
    cdef int64_t i = find(store, key)
    if i >= 0 and store.table.extras != NULL:
        if store.table.extras[i].deadline and now >= store.table.extras[i].deadline:
            return -1
    return i


cdef inline bint has_ended(MemoryStore store, int64_t i, int64_t now) noexcept:
    """Whether the entry is past its ttl and the time it was to be kept stale."""
    return (
        store.table.extras != NULL and store.table.extras[i].deadline != 0
        and store.table.extras[i].until <= now
    )


cdef int check_weight(str name, double value) except -1:
    if not 0 <= value <= FLT_MAX:
        raise ValueError(f"{name} is expected to be a number from 0 to 3.4e38, got {value}")
    return 0


cdef int64_t checked_size(object size) except -1:
    """A size that came from outside."""
    cdef int64_t value
    try:
        value = PyNumber_Index(size)
    except (TypeError, OverflowError):
        raise TypeError(
            f"the size of an entry is expected to be an int below 2**63, got {size!r}"
        ) from None
    if value < 0:
        raise ValueError(f"the size of an entry is expected to be at least 0, got {value}")
    return value


cdef int64_t measure(MemoryStore store, object key, object value) except -1:
    """What the entry counts; may run the user's code."""
    if store.sizer is not None:
        return checked_size(store.sizer(value))
    if store.estimates:
        return footprint(key) + footprint(value) + ENTRY_BYTES
    return 1


cdef bint take_out(
    MemoryStore store, uint32_t i, int cause, Removals* removals
) noexcept:
    """Move an entry from the table to the removals; False when memory is out."""
    cdef Removal* removal = removals_next(removals)
    if removal == NULL:
        return False
    removal.key = store.table.entries[i].key
    removal.value = store.table.entries[i].value
    removal.note = NULL
    removal.cause = <uint8_t> cause
    if store.table.extras != NULL:
        removal.note = store.table.extras[i].note
        store.size -= store.table.extras[i].size
    else:
        store.size -= 1
    store.removals[cause] += 1
    table_remove(&store.table, i)
    return True


cdef int release(MemoryStore store, Removals* removals) except -1:
    """Tell the listener of what was removed and let it go. User code runs here, and only here."""
    cdef uint32_t i
    cdef Removal* removal
    cdef PyObject* listener = <PyObject*> store.listener
    if removals.count == 0:
        return 0
    Py_INCREF(<object> listener)
    for i in range(removals.count):
        removal = removal_at(removals, i)
        if listener != <PyObject*> None and removal.key != NULL:
            notify(<object> listener, removal.key, removal.value, removal.cause)
        Py_XDECREF(removal.key)
        Py_XDECREF(removal.value)
        Py_XDECREF(removal.note)
    Py_XDECREF(listener)
    PyMem_RawFree(removals.many)
    return 0


cdef void notify(object listener, PyObject* key, PyObject* value, int cause) noexcept:
    """Call the listener; what it raises goes to sys.unraisablehook."""
    # Cython's own way to ignore an exception prints it first, and that exits on SystemExit.
    cdef PyObject* answer = PyObject_CallFunctionObjArgs(
        listener, key, value, <PyObject*> CAUSES[cause], NULL
    )
    if answer == NULL:
        PyErr_WriteUnraisable(listener)
    Py_XDECREF(answer)


cdef int expire(MemoryStore store) except -1:
    """Remove what has expired; returns how many entries."""
    cdef Removals removals
    cdef uint32_t count
    cdef int64_t now = clock(store) if store.table.wheel != NULL else 0
    if store.table.wheel == NULL:       # also when the timer cleared the cache
        return 0
    removals_init(&removals)
    wheel_advance(store.table.wheel, store.table.extras, now)
    take_due(store, NIL, &removals)
    count = removals.count
    release(store, &removals)
    return count


cdef void take_due(MemoryStore store, uint32_t most, Removals* removals) noexcept:
    while store.table.wheel.heads[DUE] != NIL and removals.count < most:
        if not take_out(store, store.table.wheel.heads[DUE], EXPIRED, removals):
            break


cdef void evict_down(MemoryStore store, Removals* removals) noexcept:
    """Evict until the bound holds; what is known to have expired goes first."""
    cdef uint32_t i
    cdef int cause
    while store.size > <uint64_t> store.limit:
        cause = EXPIRED
        i = store.table.wheel.heads[DUE] if store.table.wheel != NULL else NIL
        if i == NIL:
            cause = SIZE
            i = policy_victim(&store.table.policy, store.table.entries)
        if i == NIL or not take_out(store, i, cause, removals):
            break


cdef void schedule(
    MemoryStore store, uint32_t i, int64_t now, int64_t ttl, int64_t stale
) noexcept:
    """Give the entry a new deadline; 0 is none."""
    cdef Extra* extra = &store.table.extras[i]
    if store.table.wheel != NULL:
        wheel_remove(store.table.wheel, store.table.extras, i)
    extra.ttl = ttl
    extra.deadline = 0
    extra.until = 0
    if ttl > 0:
        extra.deadline = now + min(ttl if ttl > 1 else 0, INT64_MAX - max(now, 0))
        if extra.deadline == 0:     # 0 means none, and a clock may well start at or below it
            extra.deadline = -1
        extra.until = extra.deadline + min(stale, INT64_MAX - max(extra.deadline, 0))
        wheel_add(store.table.wheel, store.table.extras, i, now)


cdef int store_put(
    MemoryStore store, object key, object value, int64_t size, int64_t ttl, int64_t stale,
    double cost, double importance, PyObject* note,
) except -1:
    """Insert or replace. All user code runs before the table is changed or after."""
    cdef Removals removals
    cdef Removal* replaced
    cdef uint32_t hash = mix(object_hash(<PyObject*> key))
    cdef int64_t now = 0
    cdef int64_t i
    cdef Extra* extra
    if size < 0:
        size = measure(store, key, value)
    if size > store.limit:
        raise ValueTooLargeError(
            f"an entry of size {size} does not fit in a cache of maxsize {store.limit}; "
            "nothing was changed. Raise maxsize, or do not cache this value."
        )
    if store.table.wheel != NULL or ttl > 0:
        now = clock(store)
    i = table_find(&store.table, <PyObject*> key, hash)
    # From here to release() nothing runs that could see or change the table.
    if store.table.extras == NULL and (
        ttl > 0 or size != 1 or cost != 1.0 or importance != 1.0 or note != NULL
    ):
        table_need_extras(&store.table)
    if ttl > 0:
        table_need_wheel(&store.table, now)
    removals_init(&removals)
    if i < 0:
        table_reserve(&store.table)
        Py_INCREF(key)
        Py_INCREF(value)
        i = table_add(&store.table, <PyObject*> key, <PyObject*> value, hash)
        store.insertions += 1
        store.size += size
    else:
        replaced = removals_next(&removals)
        replaced.value = store.table.entries[i].value
        replaced.note = NULL
        if has_ended(store, i, now):
            replaced.cause = EXPIRED
            store.insertions += 1
        else:
            replaced.cause = REPLACED
            store.updates += 1
        store.removals[replaced.cause] += 1
        replaced.key = NULL
        if store.listener is not None:
            replaced.key = store.table.entries[i].key
            Py_INCREF(<object> replaced.key)
        Py_INCREF(value)
        store.table.entries[i].value = <PyObject*> value
        policy_touch(&store.table.policy, store.table.entries, <uint32_t> i)
        store.size += size - (store.table.extras[i].size if store.table.extras != NULL else 1)
        if store.table.extras != NULL:
            replaced.note = store.table.extras[i].note
    if store.table.extras != NULL:
        extra = &store.table.extras[i]
        extra.size = size
        extra.cost = <float> cost
        extra.importance = <float> importance
        extra.note = note
        if note != NULL:
            Py_INCREF(<object> note)
        schedule(store, <uint32_t> i, now, ttl, stale)
        if store.table.wheel != NULL:
            if now >> TICK_BITS != store.table.wheel.tick:
                wheel_advance(store.table.wheel, store.table.extras, now)
            take_due(store, EXPIRE_PER_WRITE, &removals)
    if store.size > <uint64_t> store.limit:
        evict_down(store, &removals)
    release(store, &removals)
    return 0


cdef object remove(MemoryStore store, int64_t i):
    """Remove the entry and return its value; MISSING for index -1."""
    cdef Removals removals
    if i < 0:
        return MISSING
    value = <object> store.table.entries[i].value
    removals_init(&removals)
    take_out(store, <uint32_t> i, EXPLICIT, &removals)
    release(store, &removals)
    return value


# -- the garbage collector ------------------------------------------------------------------

cdef void release_all(MemoryStore store, object listener) noexcept:
    """Empty the table, then tell the listener, if any, and let the entries go."""
    cdef Table old = store.table
    cdef uint32_t i
    memset(&store.table, 0, sizeof(Table))
    try:
        table_init(&store.table)
    except MemoryError:
        store.table = old
        return
    store.table.version = old.version + 1
    store.size = 0
    for i in range(old.count):
        if listener is not None:
            notify(listener, old.entries[i].key, old.entries[i].value, EXPLICIT)
        Py_XDECREF(old.entries[i].key)
        Py_XDECREF(old.entries[i].value)
        if old.extras != NULL:
            Py_XDECREF(old.extras[i].note)
    table_free(&old)


ctypedef int (*traverse_function)(PyObject*, visitproc, void*) noexcept
ctypedef int (*clear_function)(PyObject*) noexcept

cdef traverse_function traverse_members = NULL
cdef clear_function clear_members = NULL


cdef int store_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef Table* table = &(<MemoryStore> self).table
    cdef uint32_t i
    cdef int stop
    for i in range(table.count):
        stop = visit(table.entries[i].key, arg)
        if stop:
            return stop
        stop = visit(table.entries[i].value, arg)
        if stop:
            return stop
        if table.extras != NULL and table.extras[i].note != NULL:
            stop = visit(table.extras[i].note, arg)
            if stop:
                return stop
    return traverse_members(self, visit, arg)


cdef int store_clear(PyObject* self) noexcept:
    if (<MemoryStore> self).table.count:
        release_all(<MemoryStore> self, None)
    return clear_members(self)


cdef void install_collector_support():
    """Let the garbage collector see through the table. Before any subclass is made."""
    global traverse_members, clear_members
    cdef PyTypeObject* store_type = <PyTypeObject*> MemoryStore
    traverse_members = <traverse_function> <void*> store_type.tp_traverse
    clear_members = <clear_function> <void*> store_type.tp_clear
    store_type.tp_traverse = <traverseproc> <void*> store_traverse
    store_type.tp_clear = <inquiry> <void*> store_clear


install_collector_support()


# -- iteration ------------------------------------------------------------------------------

cdef enum:
    KEYS = 0
    VALUES = 1
    ITEMS = 2


@cython.final
cdef class StoreIterator:
    """Walks the entries that are fresh when it starts."""

    cdef MemoryStore store
    cdef uint64_t version
    cdef uint32_t position
    cdef int what
    cdef int64_t now

    def __cinit__(self, MemoryStore store not None, int what):
        if store.table.wheel != NULL:
            expire(store)
            self.now = clock(store)
        self.store = store
        self.version = store.table.version
        self.what = what

    def __iter__(self):
        return self

    def __next__(self):
        cdef Table* table = &self.store.table
        cdef uint32_t i
        if self.version != table.version and self.position != NIL:
            raise RuntimeError(f"{type(self.store).__name__} changed size during iteration")
        while self.position < table.count:
            i = self.position
            self.position += 1
            if (
                table.extras != NULL and table.extras[i].deadline
                and table.extras[i].deadline <= self.now
            ):
                continue
            if self.what == KEYS:
                return <object> table.entries[i].key
            value = <object> table.entries[i].value
            if self.what == VALUES:
                return value
            key = <object> table.entries[i].key     # held before a new tuple runs the collector
            return key, value
        self.position = NIL         # the end stays the end, whatever comes into the cache later
        raise StopIteration

    def __length_hint__(self):
        return self.store.table.count - min(self.position, self.store.table.count)
