"""Storing and removing an entry. All user code runs before the table is changed or after."""

from libc.math cimport fmin, pow

from hybridcore._native.footprint cimport footprint
from hybridcore._native.policy cimport policy_expect, policy_value
from hybridcore._native.table cimport gap_for, table_add, table_probe_for, table_reserve
from hybridcore._native.wheel cimport TICK_BITS, wheel_add, wheel_remove

from hybridcore.errors import ValueTooLargeError

cdef extern from "Python.h":
    ctypedef struct PyMappingMethods:
        void* mp_ass_subscript

    ctypedef struct MappingType "PyTypeObject":
        PyMappingMethods* tp_as_mapping

cdef enum:
    EXPIRE_PER_WRITE = 64   # due entries that one write removes at most
    ENTRY_BYTES = 60        # of the table itself, per entry, when sizes are footprints


cdef int64_t measure(MemoryStore store, object key, object value) except -1:
    """What the entry counts; may run the user's code."""
    if store.sizer is not None:
        with cython.critical_section(store):    # a second __init__ lets go of it
            sizer = store.sizer
        return checked_size(sizer(value))
    if store.estimates:
        return footprint(key) + footprint(value) + ENTRY_BYTES
    return 1


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
    if unlikely(hash < store.probe.below):
        note_put(store, key, hash, size)
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
        policy_expect(&store.table.policy, hash)
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
        extra.epoch = 0
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


cdef bint sets_by_itself(MemoryStore store) noexcept:
    """Whether ``store[key] = value`` does what it does here, not what a subclass says."""
    return (
        (<MappingType*> (<PyObject*> store).ob_type).tp_as_mapping.mp_ass_subscript
        == (<MappingType*> MemoryStore).tp_as_mapping.mp_ass_subscript
    )
