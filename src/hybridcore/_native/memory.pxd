"""The native store of the memory tier, for the modules that look into it directly."""

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

from hybridcore._native.clock cimport coarse_ns
from hybridcore._native.histogram cimport Histogram
from hybridcore._native.objects cimport likely, mix, object_hash, unlikely
from hybridcore._native.policy cimport policy_touch
from hybridcore._native.probe cimport Probe
from hybridcore._native.sections cimport Section, enter, hold, leave
from hybridcore._native.table cimport UNDECIDED, Table, table_find, table_probe


cdef class MemoryStore:
    cdef Table table
    cdef object __weakref__
    cdef object sizer               # callable(value), None: every entry counts 1
    cdef object timer               # callable in seconds, None: the native coarse clock
    cdef object listener            # on_evict(key, value, cause) or None
    cdef object heir                # heir(key, value, note) or None
    cdef int64_t limit              # maxsize; NO_LIMIT when unbounded
    cdef uint64_t size              # currsize; unsigned: limit plus one entry always fits
    cdef int64_t ttl                # ns given to entries that bring none, 0: none
    cdef bint estimates             # sizes by footprint
    cdef bint is_plain              # every entry counts 1, without a ttl, and nobody is told of it
    cdef object weights, adaptive   # as it was made with
    cdef double size_exponent, cost_exponent, importance_exponent
    cdef bint per_byte              # an entry is judged by what it is worth for its size
    cdef double low_share           # of the limit: what eviction goes down to
    cdef int64_t low_water          # the same in sizes
    cdef bint above_low_water       # and on the way down to it
    cdef uint64_t study_from        # the size at which the policy begins to learn
    cdef int shrinking              # resizes that are going on
    cdef uint32_t iterators         # that have not ended
    cdef Probe probe
    cdef object prober              # called without arguments when the probe is full
    cdef dict names                 # keys by hash, of the probe; None: they are not kept
    cdef uint16_t epoch             # in which entries that are watched have to be confirmed
    cdef int32_t until_timed        # lookups until one is timed
    cdef uint32_t one_in            # lookups is timed, on average
    cdef Histogram timing           # of hits, or None
    cdef uint64_t random            # draws which
    cdef uint64_t hit_bytes         # sizes of the values of hits, as far as that sample tells
    cdef uint64_t hits, misses, insertions, updates, rejections
    cdef uint64_t removals[4]       # by cause
    cdef uint64_t removed_size[4]


cdef int64_t read_timer(object timer) except? -1
cdef int store_put_hashed(
    MemoryStore store, object key, uint32_t hash, object value, int64_t size, int64_t ttl,
    int64_t stale, double cost, double importance, PyObject* note,
) except -1
cdef int lookup_timed(MemoryStore store, PyObject* key, PyObject** value) except -1
cdef int lookup_asking(
    MemoryStore store, PyObject* key, uint32_t hash, PyObject** value
) except -1

cdef void note_lookup(MemoryStore store, PyObject* key, uint32_t hash, bint found) noexcept


cdef inline int lookup(MemoryStore store, PyObject* key, PyObject** value) except -1:
    """1 and the value of a fresh entry, a new reference, see `take`; 0 on a miss."""
    cdef uint32_t hash
    cdef int found
    store.until_timed -= 1
    if unlikely(store.until_timed <= 0):    # without the GIL it may have been passed by
        return lookup_timed(store, key, value)
    hash = mix(object_hash(key))
    found = lookup_probing(store, key, hash, value)
    if unlikely(found == UNDECIDED):
        found = lookup_asking(store, key, hash, value)
    if unlikely(hash < store.probe.below):
        note_lookup(store, key, hash, found)
    return found


cdef inline int lookup_probing(
    MemoryStore store, PyObject* key, uint32_t hash, PyObject** value
) noexcept:
    """`lookup` as far as it needs no Python code, else UNDECIDED."""
    cdef int found = UNDECIDED
    cdef Section section
    enter(&section, <PyObject*> store)
    cdef int64_t i = table_probe(&store.table, key, hash)
    if likely(i != UNDECIDED and store.timer is None):
        found = answer(store, i, 0, value)
        if likely(found):
            hold(value[0])      # before another thread can take the entry out
    leave(&section)
    return found


cdef inline int lookup_hashed(
    MemoryStore store, PyObject* key, uint32_t hash, PyObject** value
) except -1:
    """`lookup` within the section, by who knows the mixed hash: the value is borrowed."""
    cdef int64_t now = timer_now(store)
    return answer(store, table_find(&store.table, key, hash), now, value)


cdef inline int64_t timer_now(MemoryStore store) except? -1:
    """What the user's timer says, 0 where `answer` needs no timer; runs before the search."""
    if unlikely(store.timer is not None) and store.table.wheel != NULL:
        return read_timer(store.timer)
    return 0


cdef inline bint is_doubtful(MemoryStore store, int64_t i) noexcept:
    """Whether an entry, of those that have extras, has to be confirmed before it is fresh."""
    return store.table.extras[i].epoch != 0 and store.table.extras[i].epoch != store.epoch


cdef inline int answer(MemoryStore store, int64_t i, int64_t now, PyObject** value) noexcept:
    """Count the lookup that found index ``i``, -1 for none; 1 and the value if it is fresh."""
    cdef int64_t deadline
    if likely(i >= 0):
        if store.table.extras != NULL:
            deadline = store.table.extras[i].deadline
            if unlikely(is_doubtful(store, i)):
                store.misses += 1
                return 0
            if deadline and (now if store.timer is not None else coarse_ns()) >= deadline:
                store.misses += 1
                return 0
        value[0] = store.table.entries[i].value
        policy_touch(&store.table.policy, store.table.entries, <uint32_t> i)
        store.hits += 1
        return 1
    store.misses += 1
    return 0
