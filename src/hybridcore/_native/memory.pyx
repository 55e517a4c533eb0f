# cython: freethreading_compatible=True
"""The native store of the memory tier: a bounded mapping with an O(1) policy."""

import math
from types import GenericAlias

from cpython.exc cimport PyErr_WriteUnraisable
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject, inquiry, traverseproc, visitproc
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.float cimport FLT_MAX
from libc.math cimport fmax, fmin, pow
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memset

from hybridcore._native.entry cimport NIL, Entry, Extra
from hybridcore._native.fastcall cimport (
    METH_FASTCALL, METH_KEYWORDS, PyMethodDef, add_method, default_argument, own_method,
)
from hybridcore._native.footprint cimport footprint
from hybridcore._native.ghosts cimport WAYS
from hybridcore._native.invariants cimport check_table
from hybridcore._native.learned cimport Lesson, now_of
from hybridcore._native.policy cimport (
    LEARNED, Policy, policy_bytes, policy_clear, policy_coldest, policy_evicted, policy_free,
    policy_frequency, policy_grade, policy_hotter, policy_init, policy_learn, policy_refuses,
    policy_resized, policy_set_frequency, policy_settle, policy_study, policy_value, policy_victim,
    policy_worth,
)
from hybridcore._native.removals cimport (
    Removal, Removals, removal_at, removals_init, removals_next,
)
from hybridcore._native.sections cimport Section, enter, hold, leave, take
from hybridcore._native.table cimport (
    gap_for, table_add, table_free, table_init, table_need_extras, table_need_wheel, table_probe_for, table_remove,
    table_replace, table_reserve,
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

    ctypedef struct PyMappingMethods:
        void* mp_ass_subscript

    ctypedef struct MappingType "PyTypeObject":
        PyMappingMethods* tp_as_mapping

cdef enum:
    EXPIRE_PER_WRITE = 64   # due entries that one write removes at most
    EVICT_PER_WRITE = 16    # entries that one write evicts at most on the way to low water
    BATCH = 1024            # entries evicted or released before other threads have a turn
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
        self.low_water = NO_LIMIT
        table_init(&self.table)

    @classmethod
    def __class_getitem__(cls, parameters, /):
        return GenericAlias(cls, parameters)

    @classmethod
    def _own_get(cls):
        """Let the interpreter call ``get`` of a subclass as directly as of this class."""
        own_method(cls, &get_definition)

    def __init__(
        self, limit, sizer, ttl, timer, listener, estimates, weights, adaptive, low_water, /
    ):
        cdef Policy policy
        cdef Table old
        cdef int64_t bound = NO_LIMIT if limit is None else limit
        cdef int64_t ttl_ns = 0 if ttl is None else ttl_to_ns(ttl)
        cdef bint counted = sizer is None and not estimates
        make_policy(&policy, weights, adaptive, bound if counted and limit is not None else 0)
        memset(&old, 0, sizeof(Table))
        with cython.critical_section(self):
            former = self.listener
            self.weights = weights
            self.adaptive = adaptive
            self.size_exponent = weights.size
            self.cost_exponent = weights.cost
            self.importance_exponent = weights.importance
            self.per_byte = adaptive is None or adaptive.objective != "byte_hit_ratio"
            self.low_share = low_water
            set_limit(self, bound)
            self.sizer = sizer
            self.ttl = ttl_ns
            self.timer = timer
            self.listener = listener
            self.estimates = estimates
            self.is_plain = counted and ttl_ns == 0 and listener is None
            if self.table.count and not take_all(self, &old):   # a second call starts anew
                raise MemoryError()
            policy_free(&self.table.policy)
            self.table.policy = policy
        let_go(&old, former)

    def __dealloc__(self):
        release_all(self)
        table_free(&self.table)

    # -- reading ----------------------------------------------------------------------------

    def __getitem__(self, key):
        cdef PyObject* value
        if lookup(self, <PyObject*> key, &value):
            return take(value)
        return self.__missing__(key)

    def __missing__(self, key):
        """Called by ``cache[key]`` when the key is not there; a subclass may return a value."""
        raise KeyError(key)

    @cython.critical_section
    def __contains__(self, key):
        return find_fresh(self, key) >= 0

    def __len__(self):
        return fresh_count(self)

    def __iter__(self):
        return StoreIterator.__new__(StoreIterator, self, KEYS)

    def iterate(self, int what, /):
        """Iterate over keys (0), values (1) or items (2) without touching the entries."""
        return StoreIterator.__new__(StoreIterator, self, what)

    @cython.critical_section
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
                found[key] = take(value)
        return found

    @cython.critical_section
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
        """Return up to ``n`` keys, the next to be evicted first.

        O(n) with fixed weights. The learned policy ranks all entries, O(n log n), but looks only
        at a sample of them when it evicts.
        """
        expire(self)
        return ordered_keys(self, n, False)

    def hottest(self, Py_ssize_t n=1, /):
        """Return up to ``n`` keys, the last to be evicted first. O(entries)."""
        expire(self)
        return ordered_keys(self, n, True)

    @cython.critical_section
    def worth(self, key, /):
        """Return what the learned policy thinks the entry is worth now, for the room it takes.

        Only the order of such numbers means something: the lowest go first.

        Raises:
            KeyError: the key is not there.
            TypeError: the cache has fixed weights.
        """
        cdef int64_t i = find_fresh(self, key)
        if i < 0:
            raise KeyError(key)
        if self.table.policy.rule != LEARNED:
            raise TypeError("worth() is what a cache with adaptive= learns; this one has weights")
        return policy_worth(
            &self.table.policy, self.table.entries, self.table.extras, <uint32_t> i
        )

    # -- writing ----------------------------------------------------------------------------

    def __setitem__(self, key, value):
        cdef uint32_t hash = mix(object_hash(<PyObject*> key))
        if not set_plain(self, <PyObject*> key, hash, <PyObject*> value):
            write(self, key, hash, value, -1, self.ttl, 0, 1.0, 1.0, NULL, NULL)

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

    def hold(self, key, value, note, ttl, stale, double cost=1.0, double importance=1.0, /):
        """Store a value that stays for ``stale`` seconds after its ``ttl``, for `held`."""
        store_put(
            self, key, value, -1, 0 if ttl is None else ttl_to_ns(ttl), span_to_ns(stale),
            cost, importance, NULL if note is None else <PyObject*> note,
        )

    @cython.critical_section
    def annotate(self, key, note, /):
        """Give the entry, fresh or stale, another note; return whether it is there."""
        cdef int64_t i = find(self, key)
        cdef PyObject* former
        if i < 0:
            return False
        table_need_extras(&self.table)
        former = self.table.extras[i].note
        Py_INCREF(note)
        self.table.extras[i].note = <PyObject*> note
        Py_XDECREF(former)
        return True

    @cython.critical_section
    def frequency(self, key, /):
        """How often the entry, fresh or stale, was used, as far as the policy counts; 0: absent."""
        cdef int64_t i = find(self, key)
        return 0 if i < 0 else policy_frequency(
            &self.table.policy, self.table.entries, <uint32_t> i
        )

    @cython.critical_section
    def bequeath_to(self, heir, /):
        """Have ``heir(key, value, note)`` called with what is evicted to make room and has a note.

        It runs where listeners do. None: nobody is called.
        """
        self.heir = heir

    @cython.critical_section
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
            return take(value)
        if sets_by_itself(self):
            value = NULL
            write(
                self, key, mix(object_hash(<PyObject*> key)), default, -1, self.ttl, 0, 1.0, 1.0,
                NULL, &value,
            )
            return take(value) if value != NULL else default
        self[key] = default
        return default

    def __delitem__(self, key):
        if remove(self, key, True) is MISSING:
            raise KeyError(key)

    def pop(self, key, /, default=MISSING):
        """Remove the entry and return its value, or ``default`` when it is not there.

        Raises:
            KeyError: the key is not there and no default was given.
        """
        value = remove(self, key, True)
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def discard(self, key, /):
        """Remove the entry, expired or not; return whether it was there."""
        return remove(self, key, False) is not MISSING

    def popitem(self):
        """Remove the entry that would be evicted next and return its ``(key, value)``.

        Raises:
            KeyError: the cache is empty.
        """
        cdef Removals removals
        cdef uint32_t i
        expire(self)
        removals_init(&removals)
        with cython.critical_section(self):
            i = victim(self, NIL)
            if i == NIL:
                raise KeyError(f"popitem(): {type(self).__name__} is empty") from None
            # A new tuple may run the garbage collector, and that any code: after the entry is out.
            key = <object> self.table.entries[i].key
            value = <object> self.table.entries[i].value
            take_out(self, i, EXPLICIT, &removals)
        release(self, &removals)
        return key, value

    def clear(self):
        """Remove every entry."""
        cdef Table old
        with cython.critical_section(self):
            listener = self.listener
            if not take_all(self, &old):
                raise MemoryError()
        let_go(&old, listener)

    @cython.critical_section
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
        cdef int64_t bound = NO_LIMIT if limit is None else limit
        cdef bint counted = self.sizer is None and not self.estimates
        expire(self)
        with cython.critical_section(self):
            set_limit(self, bound)
            policy_resized(&self.table.policy, bound if counted and limit is not None else 0)
            if self.size >= self.study_from and self.limit != NO_LIMIT:
                policy_study(&self.table.policy, capacity_of(self))
            self.shrinking += 1
        try:
            while self.size > <uint64_t> self.limit and evict_batch(
                self, BATCH, INT64_MAX, True
            ):
                pass
        finally:
            with cython.critical_section(self):
                self.shrinking -= 1

    def evict(self, n=1, /):
        """Evict ``n`` entries, those that the policy would evict next; return how many were.

        Other threads have a turn after every 1024.
        """
        cdef int64_t wanted = checked_amount("n", n)
        cdef int64_t evicted = 0
        cdef int64_t some = 1
        expire(self)
        while evicted < wanted and some:
            some = evict_batch(
                self, min(wanted - evicted, <int64_t> BATCH), INT64_MAX, False
            )
            evicted += some
        return evicted

    def evict_bytes(self, size, /):
        """Evict entries of this total size or more, as `evict` does; return what they counted."""
        cdef uint64_t wanted = checked_amount("size", size)
        cdef uint64_t before = self.removed_size[SIZE]
        expire(self)
        while self.removed_size[SIZE] - before < wanted and evict_batch(
            self, BATCH, <int64_t> (wanted - (self.removed_size[SIZE] - before)), False
        ):
            pass
        return self.removed_size[SIZE] - before

    @cython.critical_section
    def freeze(self, bint frozen=True, /):
        """Stop learning and go on with what is known, or learn again."""
        self.table.policy.learned.frozen = frozen

    # -- knowing ----------------------------------------------------------------------------

    @property
    def currsize(self):
        """Total size of the entries."""
        return self.size

    @cython.critical_section
    def counters(self):
        """Return hits, misses, insertions, updates, the removals by cause, and what else counts.

        That is the total size evicted, the values rejected as too large, and the insertions of
        keys that had been evicted not long before.
        """
        return (
            self.hits, self.misses, self.insertions, self.updates,
            self.removals[SIZE], self.removals[EXPIRED],
            self.removals[EXPLICIT], self.removals[REPLACED],
            self.removed_size[SIZE], self.rejections,
            self.table.policy.learned.readmitted,
        )

    @cython.critical_section
    def learned(self):
        """Return what the learned policy knows of itself, None with fixed weights.

        Lessons, vetoes, whether it is frozen, whether it is suspended, whether it is on target,
        the requests seen, the requests until the next lesson, the shares of requests that were
        kept and that LRU would have kept since the last lesson, and the ghosts there is room for.
        """
        cdef Policy* policy = &self.table.policy
        cdef Lesson* lesson
        if policy.rule != LEARNED:
            return None
        if policy.learned.knowledge == NULL:
            return 0, 0, policy.learned.frozen, False, False, policy.learned.requests, None, 0.0, 0.0, 0
        lesson = &policy.learned.knowledge.lesson
        return (
            lesson.lessons, lesson.vetoes, policy.learned.frozen, lesson.suspended > 0,
            lesson.on_target, policy.learned.requests,
            max(<int32_t> (lesson.due - now_of(&policy.learned)), 0), lesson.kept, lesson.recent,
            (<uint64_t> policy.learned.knowledge.graveyard.mask + 1) * WAYS,
        )

    @cython.critical_section
    def options(self):
        """Return what the store was made with, as ``__init__`` takes it."""
        return (
            None if self.limit == NO_LIMIT else self.limit, self.sizer,
            self.ttl / 1e9 if self.ttl else None, self.timer, self.listener, self.estimates,
            self.weights, self.adaptive, self.low_share,
        )

    def entries(self):
        """Return ``(key, value, ttl, ttl_left, size, cost, importance, frequency)`` of each entry.

        ``ttl`` and ``ttl_left`` are nanoseconds, 0 without an expiry. With fixed weights the next
        to be evicted comes first, else the least recently used.
        """
        cdef list rows = []
        cdef int64_t now
        cdef Extra* extra
        cdef Rank* ranks
        cdef uint32_t k, i
        cdef uint64_t version
        expire(self)
        with cython.critical_section(self):
            now = clock(self)
            version = self.table.version
            ranks = rank(self, BY_USE)
            try:
                for k in range(self.table.count):
                    i = ranks[k].entry
                    key = <object> self.table.entries[i].key
                    value = <object> self.table.entries[i].value
                    uses = policy_frequency(&self.table.policy, self.table.entries, i)
                    if self.table.extras == NULL:
                        rows.append((key, value, 0, 0, 1, 1.0, 1.0, uses))
                    else:
                        extra = &self.table.extras[i]
                        left = max(extra.deadline - now, 1) if extra.deadline else 0
                        rows.append((
                            key, value, extra.ttl, left, extra.size, extra.cost,
                            extra.importance, uses,
                        ))
                    if version != self.table.version:
                        raise RuntimeError("the cache was changed while its entries were read")
            finally:
                PyMem_RawFree(ranks)
        return rows

    def restore(self, rows, /):
        """Put back what `entries` returned."""
        cdef int64_t i
        for key, value, ttl, left, size, cost, importance, frequency in rows:
            store_put(self, key, value, size, left, 0, cost, importance, NULL)
            with cython.critical_section(self):
                i = find_fresh(self, key)
                if i < 0:
                    continue
                policy_set_frequency(
                    &self.table.policy, self.table.entries, <uint32_t> i, frequency
                )
                if ttl and self.table.extras != NULL:
                    self.table.extras[i].ttl = ttl

    @cython.critical_section
    def memory_bytes(self):
        """Return the bytes of the table itself; keys and values are not in it."""
        cdef size_t total = (<size_t> self.table.mask + 1) * sizeof(self.table.slots[0])
        total += self.table.room * sizeof(self.table.entries[0])
        if self.table.extras != NULL:
            total += self.table.room * sizeof(self.table.extras[0])
        if self.table.wheel != NULL:
            total += sizeof(self.table.wheel[0])
        return total + policy_bytes(&self.table.policy)

    @cython.critical_section
    def check(self):
        """Assert every invariant of the table; for tests.

        Raises:
            AssertionError: naming the one that is broken.
        """
        check_table(&self.table, self.size, NO_LIMIT if self.shrinking else self.limit)


# -- methods by plain fastcall --------------------------------------------------------------

cdef object store_get(object self, PyObject* const* args, Py_ssize_t count, PyObject* names):
    cdef PyObject* value
    cdef PyObject* default = default_argument(args, count, names)
    if likely(lookup(<MemoryStore> self, args[0], &value)):
        return take(value)
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
#
# Those that look into the table are called within the section of the store. The user's code is
# run outside of it by measure() and release(), and within it, where it may change the table as it
# may under the GIL, by clock() and find().

cdef int64_t clock(MemoryStore store) except? -1:
    """Nanoseconds on the store's clock."""
    return coarse_ns() if store.timer is None else read_timer(store.timer)


cdef int lookup_asking(
    MemoryStore store, PyObject* key, uint32_t hash, PyObject** value
) except -1:
    """`lookup` where the timer or a key's ``__eq__`` are Python code."""
    cdef int found
    with cython.critical_section(store):
        found = lookup_hashed(store, key, hash, value)
        if found:
            hold(value[0])
    return found


cdef int64_t find(MemoryStore store, object key) except -2:
    """Index of the entry, expired or not; -1 when it is not there."""
    return table_find(&store.table, <PyObject*> key, mix(object_hash(<PyObject*> key)))


cdef int64_t find_fresh(MemoryStore store, object key) except -2:
    """Index of the entry if it is there and has not expired, -1 otherwise; counts nothing."""
    cdef int64_t now = clock(store) if store.table.wheel != NULL else 0
    cdef int64_t i = find(store, key)
    return i if i >= 0 and is_fresh(store, i, now) else -1


cdef inline bint is_fresh(MemoryStore store, int64_t i, int64_t now) noexcept:
    return (
        store.table.extras == NULL or store.table.extras[i].deadline == 0
        or now < store.table.extras[i].deadline
    )


cdef inline bint has_ended(MemoryStore store, int64_t i, int64_t now) noexcept:
    """Whether the entry is past its ttl and the time it was to be kept stale."""
    return (
        store.table.extras != NULL and store.table.extras[i].deadline != 0
        and store.table.extras[i].until <= now
    )


cdef uint64_t capacity_of(MemoryStore store) noexcept:
    """How many entries fit, if those to come are like those that are there."""
    if store.sizer is None and not store.estimates and store.table.extras == NULL:
        return <uint64_t> store.limit
    return <uint64_t> (
        <double> store.table.count * store.limit / fmax(<double> store.size, 1)
    )


cdef void set_limit(MemoryStore store, int64_t limit) noexcept:
    store.limit = limit
    store.low_water = limit
    if limit != NO_LIMIT and store.low_share < 1:
        store.low_water = <int64_t> (limit * store.low_share)
    store.study_from = <uint64_t> NO_LIMIT + 1 if limit == NO_LIMIT else <uint64_t> (limit // 8)


cdef float value_of(MemoryStore store, int64_t size, double cost, double importance) noexcept:
    """What the weights make of an entry's size, cost and importance."""
    cdef double value = 1
    if size > 1 and store.per_byte:
        value = pow(<double> size, -store.size_exponent)
    if cost != 1:
        value *= fmin(pow(cost, store.cost_exponent), 1e30)
    if importance != 1:
        value *= fmin(pow(importance, store.importance_exponent), 1e30)
    return <float> fmax(fmin(value, 1e30), 1e-30)


cdef int make_policy(Policy* policy, weights, adaptive, uint64_t capacity) except -1:
    """The policy that the weights and the learning ask for."""
    policy_init(policy)
    if adaptive is not None and adaptive.enabled:
        policy_learn(
            policy, adaptive.learning_rate, adaptive.performance_target or 0, False,
            adaptive.seed, capacity,
        )
    elif weights.frequency or weights.size or weights.cost or weights.importance:
        if not policy_grade(policy, weights.recency, weights.frequency):
            raise MemoryError()
    return 0


cdef int64_t checked_amount(str name, object amount) except -1:
    cdef int64_t value
    try:
        value = PyNumber_Index(amount)
    except (TypeError, OverflowError):
        raise TypeError(f"{name} is expected to be an int below 2**63, got {amount!r}") from None
    if value < 0:
        raise ValueError(f"{name} is expected to be at least 0, got {value}")
    return value


# -- the order of eviction ------------------------------------------------------------------

cdef struct Rank:
    double key              # the lowest first
    uint32_t entry


cdef enum:
    BY_WORTH = 0
    BY_USE = 1


cdef int compare_ranks(const void* a, const void* b) noexcept nogil:
    cdef double difference = (<Rank*> a).key - (<Rank*> b).key
    return (difference > 0) - (difference < 0)


cdef Rank* rank(MemoryStore store, int by) except NULL:
    """All entries in the order of eviction, or, by the learned policy, of use; to be freed."""
    cdef Table* table = &store.table
    cdef Rank* ranks = <Rank*> PyMem_RawMalloc((<size_t> table.count + 1) * sizeof(Rank))
    cdef uint32_t k, i
    if ranks == NULL:
        raise MemoryError()
    if table.policy.rule == LEARNED:
        for i in range(table.count):
            ranks[i].entry = i
            if by == BY_WORTH:
                ranks[i].key = policy_worth(&table.policy, table.entries, table.extras, i)
            else:
                ranks[i].key = -<double> (
                    now_of(&table.policy.learned) - table.entries[i].policy.habit.last
                )
        qsort(ranks, table.count, sizeof(Rank), compare_ranks)
        return ranks
    i = policy_coldest(&table.policy)
    k = 0
    while i != NIL:
        ranks[k].entry = i
        k += 1
        i = policy_hotter(&table.policy, table.entries, i)
    return ranks


@cython.critical_section
cdef list ordered_keys(MemoryStore store, Py_ssize_t n, bint hottest_first):
    """Up to ``n`` keys in the order of eviction, or backwards."""
    cdef list keys = []
    cdef Rank* ranks
    cdef uint32_t k, i
    if store.table.policy.rule != LEARNED and not hottest_first:
        i = policy_coldest(&store.table.policy)
        while i != NIL and len(keys) < n:
            keys.append(<object> store.table.entries[i].key)
            i = policy_hotter(&store.table.policy, store.table.entries, i)
        return keys
    ranks = rank(store, BY_WORTH)
    try:
        for k in range(<uint32_t> max(min(n, store.table.count), 0)):
            i = ranks[store.table.count - 1 - k if hottest_first else k].entry
            keys.append(<object> store.table.entries[i].key)
    finally:
        PyMem_RawFree(ranks)
    return keys


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
        with cython.critical_section(store):    # a second __init__ lets go of it
            sizer = store.sizer
        return checked_size(sizer(value))
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
    cdef int64_t size = 1
    if store.table.extras != NULL:
        removal.note = store.table.extras[i].note
        size = store.table.extras[i].size
    store.size -= size
    store.removed_size[cause] += size
    store.removals[cause] += 1
    table_remove(&store.table, i)
    return True


cdef int release(MemoryStore store, Removals* removals) except -1:
    """Tell the listener of what was removed and let it go. User code runs here, and only here."""
    cdef uint32_t i
    cdef Removal* removal
    cdef PyObject* listener
    cdef PyObject* heir
    cdef Section section
    if removals.count == 0:
        return 0
    enter(&section, <PyObject*> store)
    listener = <PyObject*> store.listener
    hold(listener)
    heir = <PyObject*> store.heir
    hold(heir)
    leave(&section)
    for i in range(removals.count):
        removal = removal_at(removals, i)
        if heir != <PyObject*> None and removal.cause == SIZE and removal.note != NULL:
            bequeath(<object> heir, removal)
        if listener != <PyObject*> None and removal.key != NULL:
            notify(<object> listener, removal.key, removal.value, removal.cause)
        Py_XDECREF(removal.key)
        Py_XDECREF(removal.value)
        Py_XDECREF(removal.note)
    Py_XDECREF(listener)
    Py_XDECREF(heir)
    PyMem_RawFree(removals.many)
    return 0


cdef void bequeath(object heir, Removal* removal) noexcept:
    """Hand an evicted entry with a note on; what that raises goes to sys.unraisablehook."""
    cdef PyObject* answer = PyObject_CallFunctionObjArgs(
        heir, removal.key, removal.value, removal.note, NULL
    )
    if answer == NULL:
        PyErr_WriteUnraisable(heir)
    Py_XDECREF(answer)


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
    cdef int64_t now
    if store.table.wheel == NULL:
        return 0
    removals_init(&removals)
    with cython.critical_section(store):
        now = clock(store)
        if store.table.wheel == NULL:       # the timer cleared the cache
            return 0
        wheel_advance(store.table.wheel, store.table.extras, now)
        take_due(store, NIL, NIL, &removals)
    count = removals.count
    release(store, &removals)
    return count


cdef Py_ssize_t fresh_count(MemoryStore store) except -1:
    """How many entries have not expired. Those that have go, unless somebody iterates."""
    cdef Py_ssize_t count
    cdef int64_t now
    cdef uint32_t i
    if store.iterators == 0 or store.table.wheel == NULL:
        expire(store)
        return store.table.count
    with cython.critical_section(store):
        now = clock(store)
        count = store.table.count
        if store.table.wheel == NULL:       # the timer cleared the cache
            return count
        wheel_advance(store.table.wheel, store.table.extras, now)
        i = store.table.wheel.heads[DUE]
        while i != NIL:
            count -= 1
            i = store.table.extras[i].timer_next
    return count


cdef uint32_t take_due(
    MemoryStore store, uint32_t followed, uint32_t most, Removals* removals
) noexcept:
    """Take out what is due; returns where ``followed`` is then, NIL if it was among that."""
    cdef uint32_t i
    while store.table.wheel.heads[DUE] != NIL and removals.count < most:
        i = store.table.wheel.heads[DUE]
        if not take_out(store, i, EXPIRED, removals):
            break
        followed = follow(store, followed, i)
    return followed


cdef inline uint32_t follow(MemoryStore store, uint32_t followed, uint32_t removed) noexcept:
    """Where an entry is after another, or itself, was taken out: the last one fills the gap."""
    if followed == removed:
        return NIL
    return removed if followed == store.table.count else followed


cdef uint32_t victim(MemoryStore store, uint32_t spared) noexcept:
    """The entry that the policy would evict next, not ``spared``; NIL when there is no other."""
    return policy_victim(
        &store.table.policy, store.table.entries, store.table.extras, store.table.count, spared
    )


cdef inline bint is_large(MemoryStore store, uint32_t i) noexcept:
    """Whether the entry is larger than the average, and so would displace several."""
    return i != NIL and store.table.extras != NULL and (
        <uint64_t> store.table.extras[i].size > store.size // store.table.count
    )


cdef bint evict_one(MemoryStore store, uint32_t* spared, Removals* removals) noexcept:
    """Evict an entry, what is known to have expired first; False when there is none or no memory.

    ``spared`` is not evicted, and followed when it is moved.
    """
    cdef int cause = EXPIRED
    cdef uint32_t i = store.table.wheel.heads[DUE] if store.table.wheel != NULL else NIL
    if i == NIL:
        cause = SIZE
        i = spared[0]
        if not is_large(store, i) or not policy_refuses(
            &store.table.policy, store.table.entries, store.table.extras, store.table.count, i
        ):
            i = victim(store, i)
    if i == NIL:
        return False
    if cause == SIZE:
        policy_evicted(
            &store.table.policy, store.table.entries, store.table.count, &store.table.entries[i]
        )
    if not take_out(store, i, cause, removals):
        return False
    spared[0] = follow(store, spared[0], i)
    return True


cdef inline bint makes_way(MemoryStore store) noexcept:
    """Whether one entry goes, and no more, for each new one: all that is to be weighed is use."""
    return (
        store.table.extras == NULL and store.table.count > 0
        and store.size == <uint64_t> store.limit and store.low_water == store.limit
    )


cdef inline uint32_t swap(
    MemoryStore store, PyObject* key, PyObject* value, uint32_t hash, uint32_t gap, Entry* gone
) noexcept:
    """Evict an entry, ``gone``, and put a new one in its place, which is returned."""
    cdef uint32_t i = victim(store, NIL)
    gone[0] = store.table.entries[i]
    hold(key)
    hold(value)
    table_replace(&store.table, i, key, value, hash, gap)
    policy_evicted(&store.table.policy, store.table.entries, store.table.count + 1, gone)
    store.removed_size[SIZE] += 1
    store.removals[SIZE] += 1
    store.insertions += 1
    return i


cdef uint32_t make_room(MemoryStore store, uint32_t spared, Removals* removals) noexcept:
    """Evict until the bound holds, and once it was reached a few more at each write.

    While the cache is being shrunk, the bound does not hold, and a write does not wait for it.
    Returns where ``spared``, which is not evicted, is afterwards.
    """
    cdef uint64_t limit = <uint64_t> store.limit
    cdef uint32_t most = removals.count + EVICT_PER_WRITE
    if store.size > limit:
        store.above_low_water = store.low_water < store.limit
        if not store.shrinking:
            while store.size > limit:
                if not evict_one(store, &spared, removals):
                    if spared == NIL:
                        break
                    spared = NIL        # the bound was lowered while the entry came in
        else:
            store.above_low_water = True
    if store.above_low_water:
        while store.size > <uint64_t> store.low_water and removals.count < most:
            if not evict_one(store, &spared, removals):
                break
        store.above_low_water = (
            removals.count >= most and store.size > <uint64_t> store.low_water
        )
    return spared


cdef int64_t evict_batch(
    MemoryStore store, int64_t most, int64_t size, bint to_bound
) except -1:
    """Evict until so many entries are gone, so much size, or the bound holds, then let go of them.

    Returns how many there were. Other threads have a turn at the end.
    """
    cdef Removals removals
    cdef uint32_t spared = NIL
    cdef uint64_t before
    cdef int64_t evicted
    removals_init(&removals)
    with cython.critical_section(store):
        before = store.size
        while removals.count < most and before - store.size < <uint64_t> size:
            if to_bound and store.size <= <uint64_t> store.limit:
                break
            if not evict_one(store, &spared, &removals):
                break
            policy_settle(
                &store.table.policy, store.table.entries, store.table.extras, store.table.count,
                NIL,
            )
    evicted = removals.count
    release(store, &removals)
    with nogil:
        pass
    return evicted


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
    """Insert or replace."""
    return store_put_hashed(
        store, key, mix(object_hash(<PyObject*> key)), value, size, ttl, stale, cost, importance,
        note,
    )


cdef int store_put_hashed(
    MemoryStore store, object key, uint32_t hash, object value, int64_t size, int64_t ttl,
    int64_t stale, double cost, double importance, PyObject* note,
) except -1:
    """`store_put` by who knows the mixed hash of the key."""
    return write(
        store, key, hash, value, size, ttl, stale, cost, importance, note, NULL
    )


cdef int write(
    MemoryStore store, object key, uint32_t hash, object value, int64_t size, int64_t ttl,
    int64_t stale, double cost, double importance, PyObject* note, PyObject** there,
) except -1:
    """`store_put`. All user code runs before the table is changed or after.

    With ``there``, a fresh entry stays, and ``there`` gets a new reference to its value.
    """
    cdef Removals removals
    cdef Section section
    if size < 0:
        size = measure(store, key, value)
    removals_init(&removals)
    enter(&section, <PyObject*> store)
    try:
        write_in(
            store, key, hash, value, size, ttl, stale, cost, importance, note, there, &removals
        )
    finally:
        leave(&section)
    release(store, &removals)
    return 0


cdef bint set_plain(
    MemoryStore store, PyObject* key, uint32_t hash, PyObject* value
) noexcept:
    """`write` where an entry is its key and value, and nobody is told of its end; else False."""
    cdef Section section
    cdef Entry gone
    cdef Entry* entry
    cdef uint32_t gap
    cdef int64_t i
    enter(&section, <PyObject*> store)
    if unlikely(
        not store.is_plain or store.table.extras != NULL or store.above_low_water
        or store.size > <uint64_t> store.limit
    ):
        leave(&section)
        return False
    i = table_probe_for(&store.table, key, hash, &gap)
    if i >= 0:
        entry = &store.table.entries[i]
        gone.key = NULL
        gone.value = entry.value
        hold(value)
        entry.value = value
        policy_touch(&store.table.policy, store.table.entries, <uint32_t> i)
        store.updates += 1
        store.removals[REPLACED] += 1
    elif i == UNDECIDED or not makes_way(store):
        leave(&section)
        return False
    else:
        i = swap(store, key, value, hash, gap, &gone)
        policy_settle(
            &store.table.policy, store.table.entries, NULL, store.table.count, <uint32_t> i
        )
    leave(&section)
    Py_XDECREF(gone.key)
    Py_XDECREF(gone.value)
    return True


cdef int write_in(
    MemoryStore store, object key, uint32_t hash, object value, int64_t size, int64_t ttl,
    int64_t stale, double cost, double importance, PyObject* note, PyObject** there,
    Removals* removals,
) except -1:
    """The part of `write` that is within the section."""
    cdef Removal* replaced
    cdef Entry gone
    cdef int64_t now = 0
    cdef int64_t i
    cdef bint is_new
    cdef Extra* extra
    if size > store.limit:
        store.rejections += 1
        raise ValueTooLargeError(
            f"an entry of size {size} does not fit in a cache of maxsize {store.limit}; "
            "nothing was changed. Raise maxsize, or do not cache this value."
        )
    if store.table.wheel != NULL or ttl > 0:
        now = clock(store)
    i = table_find(&store.table, <PyObject*> key, hash)
    if there != NULL and i >= 0 and is_fresh(store, i, now):
        there[0] = store.table.entries[i].value
        hold(there[0])
        return 0
    # From here to release() nothing runs that could see or change the table.
    if store.table.extras == NULL and (
        ttl > 0 or size != 1 or cost != 1.0 or importance != 1.0 or note != NULL
    ):
        table_need_extras(&store.table)
    if ttl > 0:
        table_need_wheel(&store.table, now)
    is_new = i < 0
    if is_new and makes_way(store):
        i = swap(
            store, <PyObject*> key, <PyObject*> value, hash, gap_for(&store.table, hash), &gone
        )
        replaced = removals_next(removals)
        replaced.key = gone.key
        replaced.value = gone.value
        replaced.note = NULL
        replaced.cause = SIZE
    elif is_new:
        table_reserve(&store.table)
        Py_INCREF(key)
        Py_INCREF(value)
        i = table_add(&store.table, <PyObject*> key, <PyObject*> value, hash)
        store.insertions += 1
        store.size += size
        if store.table.policy.learned.knowledge == NULL and store.size >= store.study_from:
            policy_study(&store.table.policy, capacity_of(store))
    else:
        replaced = removals_next(removals)
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
        extra.value = value_of(store, size, cost, importance)
        policy_value(&store.table.policy, store.table.entries, store.table.extras, <uint32_t> i)
        extra.note = note
        if note != NULL:
            Py_INCREF(<object> note)
        schedule(store, <uint32_t> i, now, ttl, stale)
        if store.table.wheel != NULL:
            if now >> TICK_BITS != store.table.wheel.tick:
                wheel_advance(store.table.wheel, store.table.extras, now)
            i = take_due(store, <uint32_t> i, EXPIRE_PER_WRITE, removals)
    if store.size > <uint64_t> store.limit or store.above_low_water:
        i = make_room(store, <uint32_t> i, removals)
    if is_new:
        policy_settle(
            &store.table.policy, store.table.entries, store.table.extras, store.table.count,
            <uint32_t> i,
        )
    return 0


cdef object remove(MemoryStore store, object key, bint if_fresh):
    """Remove the entry and return its value; MISSING when it is not there."""
    cdef Removals removals
    cdef int64_t i
    removals_init(&removals)
    with cython.critical_section(store):
        i = find_fresh(store, key) if if_fresh else find(store, key)
        if i < 0:
            return MISSING
        value = <object> store.table.entries[i].value
        take_out(store, <uint32_t> i, EXPLICIT, &removals)
    release(store, &removals)
    return value


cdef bint sets_by_itself(MemoryStore store) noexcept:
    """Whether ``store[key] = value`` does what it does here, not what a subclass says."""
    return (
        (<MappingType*> (<PyObject*> store).ob_type).tp_as_mapping.mp_ass_subscript
        == (<MappingType*> MemoryStore).tp_as_mapping.mp_ass_subscript
    )


cdef bint take_all(MemoryStore store, Table* old) noexcept:
    """Move all entries out of the store; False when memory is out."""
    old[0] = store.table
    try:
        table_init(&store.table)
    except MemoryError:
        store.table = old[0]
        return False
    store.table.version = old.version + 1
    store.table.policy = old.policy
    policy_clear(&store.table.policy)
    policy_init(&old.policy)
    store.removals[EXPLICIT] += old.count
    store.size = 0
    return True


cdef void let_go(Table* old, object listener) noexcept:
    """Tell the listener, if any, of the entries that were taken out, and let them go."""
    cdef uint32_t i
    for i in range(old.count):
        if listener is not None:
            notify(listener, old.entries[i].key, old.entries[i].value, EXPLICIT)
        Py_XDECREF(old.entries[i].key)
        Py_XDECREF(old.entries[i].value)
        if old.extras != NULL:
            Py_XDECREF(old.extras[i].note)
    table_free(old)


# -- the garbage collector ------------------------------------------------------------------
#
# It stops all threads to traverse, and clears and deallocates what no other thread can reach.

cdef void release_all(MemoryStore store) noexcept:
    cdef Table old
    if take_all(store, &old):
        let_go(&old, None)


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
        release_all(<MemoryStore> self)
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
@cython.no_gc_clear      # __dealloc__ needs the store
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
            with cython.critical_section(store):
                self.now = clock(store)
        with cython.critical_section(store):
            store.iterators += 1
        self.store = store
        self.version = store.table.version
        self.what = what

    def __dealloc__(self):
        if self.store is not None and self.position != NIL:
            with cython.critical_section(self.store):
                self.store.iterators -= 1

    def __iter__(self):
        return self

    def __next__(self):
        cdef Table* table = &self.store.table
        cdef uint32_t i
        with cython.critical_section(self.store):       # and of the iterator as well
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
            if self.position != NIL:
                self.store.iterators -= 1
            self.position = NIL         # the end stays the end, whatever comes into the cache later
            raise StopIteration

    def __length_hint__(self):
        return self.store.table.count - min(self.position, self.store.table.count)
