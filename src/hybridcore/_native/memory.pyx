# cython: freethreading_compatible=True
"""The native store of the memory tier: a bounded mapping with an O(1) policy.

What its methods do in several steps is in the directory ``memory``, by concern.
"""

from types import GenericAlias

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.math cimport fmax
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from hybridcore._native.entry cimport NIL, OUTDATED, Entry, Extra
from hybridcore._native.fastcall cimport (
    METH_FASTCALL, METH_KEYWORDS, PyMethodDef, add_method, default_argument, own_method,
)
from hybridcore._native.histogram cimport Histogram, end_timing, start_timing
from hybridcore._native.invariants cimport check_table
from hybridcore._native.learned cimport now_of
from hybridcore._native.policy cimport (
    LEARNED, Policy, policy_bytes, policy_free, policy_frequency, policy_init, policy_settle,
    policy_study, policy_worth,
)
from hybridcore._native.probe cimport Event
from hybridcore._native.removals cimport Removal, Removals, removals_init, removals_next
from hybridcore._native.sections cimport Section, enter, hold, leave, take
from hybridcore._native.table cimport table_free, table_init, table_need_extras, table_need_wheel
from hybridcore._native.wheel cimport wheel_advance

cimport cython

# Causes, in the order of EvictionCause.
cdef enum:
    SIZE = 0
    EXPIRED = 1
    EXPLICIT = 2
    REPLACED = 3

cdef int64_t NO_LIMIT = INT64_MAX
cdef object MISSING = object()

include "memory/arguments.pxi"
include "memory/lookup.pxi"
include "memory/doubt.pxi"
include "memory/sampling.pxi"
include "memory/order.pxi"
include "memory/probing.pxi"
include "memory/removal.pxi"
include "memory/eviction.pxi"
include "memory/writing.pxi"
include "memory/copying.pxi"
include "memory/knowledge.pxi"


cdef class MemoryStore:
    """The table, its bounds and its clock. `hybridcore.Cache` is the class to use."""

    def __cinit__(self, *args, **kwargs):
        self.limit = NO_LIMIT
        self.low_water = NO_LIMIT
        self.epoch = 2          # 1 is none, of what is to be confirmed from the start
        self.until_timed = NEVER
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
            self.is_plain = is_plain(self)
            if self.table.count and not take_all(self, &old):   # a second call starts anew
                raise MemoryError()
            policy_free(&self.table.policy)
            self.table.policy = policy
        let_go(&old, former)

    def __dealloc__(self):
        release_all(self)
        table_free(&self.table)
        PyMem_RawFree(self.probe.events)

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

    def hold(
        self, key, value, note, ttl, stale, double cost=1.0, double importance=1.0,
        uint16_t epoch=0, /,
    ):
        """Store a value that stays for ``stale`` seconds after its ``ttl``, for `held`.

        With an ``epoch`` it is watched: fresh only in that one, or until it is confirmed.
        """
        store_put(
            self, key, value, -1, 0 if ttl is None else ttl_to_ns(ttl), span_to_ns(stale),
            cost, importance, NULL if note is None else <PyObject*> note,
        )
        if epoch:
            self.confirm(key, epoch)

    @property
    def epoch(self):
        """A number that every `doubt` changes."""
        return self.epoch

    @cython.critical_section
    def confirm(self, key, uint16_t epoch, /):
        """Let an entry be fresh in an epoch, which is that before it was found to be valid."""
        confirm(self, key, epoch)

    @cython.critical_section
    def outdate(self, key, /):
        """Let the entry be stale until it is confirmed or replaced; return whether it is there."""
        return confirm(self, key, OUTDATED)

    @cython.critical_section
    def outdate_all(self):
        """Let every entry be stale. O(entries)."""
        outdate_all(self)

    @cython.critical_section
    def doubted(self, key, /):
        """0 for an entry that is certain or absent, 1 if it is to be confirmed, 2 if outdated."""
        return doubted(self, key)

    @cython.critical_section
    def doubt(self):
        """Let the entries that are watched be stale until they are confirmed. O(1) as a rule."""
        doubt(self)

    @cython.critical_section
    def annotate(self, key, note, /):
        """Give the entry, fresh or stale, another note; return whether it is there."""
        return annotate(self, key, note)

    @cython.critical_section
    def frequency(self, key, /):
        """How often the entry, fresh or stale, was used, as far as the policy counts; 0: absent."""
        cdef int64_t i = find(self, key)
        return 0 if i < 0 else policy_frequency(
            &self.table.policy, self.table.entries, <uint32_t> i
        )

    @cython.critical_section
    def listen(self, listener, /):
        """Have another listener told of what leaves, None: nobody; returns the former."""
        former = self.listener
        self.listener = listener
        self.is_plain = is_plain(self)
        return former

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
        return held(self, key)

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
        return pop_victim(self)

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
        resize_to(self, NO_LIMIT if limit is None else limit)

    def evict(self, n=1, /):
        """Evict ``n`` entries, those that the policy would evict next; return how many were.

        Other threads have a turn after every 1024.
        """
        return evict_some(self, checked_amount("n", n))

    def evict_bytes(self, size, /):
        """Evict entries of this total size or more, as `evict` does; return what they counted."""
        return evict_bytes(self, checked_amount("size", size))

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
        return knowledge_of(self)

    @cython.critical_section
    def options(self):
        """Return what the store was made with, as ``__init__`` takes it."""
        return (
            None if self.limit == NO_LIMIT else self.limit, self.sizer,
            self.ttl / 1e9 if self.ttl else None, self.timer, self.listener, self.estimates,
            self.weights, self.adaptive, self.low_share,
        )

    def entries(self):
        """Return a tuple of each entry, for `restore`.

        They are ``(key, value, ttl, ttl_left, size, cost, importance, frequency, standing)``.
        ``ttl`` and ``ttl_left`` are nanoseconds, 0 without an expiry; ``standing`` says with fixed
        weights how far above others the entry stands. With those the next to be evicted comes
        first, else the least recently used.
        """
        expire(self)
        return rows_of(self)

    def restore(self, rows, /):
        """Put back what `entries` returned."""
        for row in rows:
            put_back(self, row)

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

    def time_hits(self, Histogram histogram, uint32_t one_in=64, /):
        """Record how long hits take: of one in so many, drawn at random; None: of none."""
        if histogram is not None and not 1 <= one_in <= 65536:
            raise ValueError(f"one_in is expected to be from 1 to 65536, got {one_in}")
        self.one_in = one_in
        self.timing = histogram
        self.random = <uint64_t> <size_t> <PyObject*> self + self.random
        self.until_timed = NEVER if histogram is None else gap(self)

    def hit_size(self):
        """What the values of hits counted in all, estimated from those that were timed."""
        return self.hit_bytes

    @cython.critical_section
    def table_used(self):
        """Share of the entries that the table has room for that are there."""
        return self.table.count / <double> self.table.room if self.table.room else 1.0

    @cython.critical_section
    def set_probe(self, uint64_t below, prober, dict names=None, /):
        """Note the requests of keys whose hash is below; 0: none, and no more.

        ``prober()`` is called when the probe is full and is to call `probed`. ``names`` gets the
        keys by hash.
        """
        if prober is not None and self.probe.events == NULL:
            self.probe.events = <Event*> PyMem_RawMalloc(EVENTS * sizeof(Event))
            if self.probe.events == NULL:
                raise MemoryError()
        self.prober = prober
        self.names = names
        self.probe.below = 0 if prober is None else below
        self.is_plain = is_plain(self)

    @cython.critical_section
    def probed(self):
        """Return what was noted since the last call, as packed events, and how many were lost."""
        cdef uint32_t count = self.probe.count
        cdef uint64_t lost = self.probe.lost
        self.probe.count = 0
        self.probe.lost = 0
        return PyBytes_FromStringAndSize(
            <char*> self.probe.events, count * <Py_ssize_t> sizeof(Event)
        ), lost

    @property
    def prober(self):
        """What `set_probe` was told to call."""
        return self.prober

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

include "memory/collector.pxi"
include "memory/iteration.pxi"
