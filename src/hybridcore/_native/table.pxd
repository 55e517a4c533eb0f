"""The hash table of the memory tier: keys to entries, in arrays of plain C structs.

Slots of 8 bytes (hash, index) are probed linearly; deletion shifts the cluster back, so there are
no tombstones. The entries they point at lie dense in an array of their own: removing one moves
the last into its place. Equality of keys may run Python code that changes the table; a lookup
notices by ``version`` and starts again.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport Py_EQ, PyObject, PyObject_RichCompareBool
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from hybridcore._native.bits cimport four_slots, lowest_bit, slot_with, stays
from hybridcore._native.entry cimport NIL, Entry, Extra
from hybridcore._native.objects cimport ASK_PYTHON, EQUAL, likely, object_equal, unlikely
from hybridcore._native.policy cimport (
    Policy, policy_add, policy_free, policy_init, policy_moved, policy_remove,
)
from hybridcore._native.wheel cimport NO_BUCKET, Wheel, wheel_clear, wheel_moved, wheel_remove

cdef enum:
    MIN_SLOT_BITS = 3
    MAX_SLOT_BITS = 31
    UNDECIDED = -2
    MAX_RESTARTS = 1000     # a key whose __eq__ changes the cache every time would never end


cdef struct Slot:
    uint32_t hash
    uint32_t entry          # index + 1; 0: empty


cdef struct Table:
    Slot* slots
    Entry* entries
    Extra* extras           # NULL until an entry needs one
    Wheel* wheel            # NULL until an entry has a deadline
    uint32_t mask
    uint32_t shift          # 32 - log2(number of slots)
    uint32_t count
    uint32_t room           # entries allocated
    uint64_t version        # moves with every entry added, removed or relocated
    Policy policy


cdef inline int table_init(Table* table) except -1:
    memset(table, 0, sizeof(Table))
    policy_init(&table.policy)
    table.slots = <Slot*> PyMem_RawMalloc(sizeof(Slot) << MIN_SLOT_BITS)
    if table.slots == NULL:
        raise MemoryError()
    memset(table.slots, 0, sizeof(Slot) << MIN_SLOT_BITS)
    table.mask = (1 << MIN_SLOT_BITS) - 1
    table.shift = 32 - MIN_SLOT_BITS
    return 0


cdef inline void table_free(Table* table) noexcept nogil:
    """Free the arrays; the objects in them have been released before."""
    policy_free(&table.policy)
    PyMem_RawFree(table.slots)
    PyMem_RawFree(table.entries)
    PyMem_RawFree(table.extras)
    PyMem_RawFree(table.wheel)
    memset(table, 0, sizeof(Table))


cdef inline int64_t table_find(Table* table, PyObject* key, uint32_t hash) except -2:
    """Index of the entry, or -1. Runs Python code only for keys other than str and int."""
    cdef int64_t i = table_probe(table, key, hash)
    if unlikely(i == UNDECIDED):
        return table_find_asking(table, key, hash)
    return i


cdef inline int64_t table_probe(Table* table, PyObject* key, uint32_t hash) noexcept:
    """`table_find` as far as it needs no Python code, else UNDECIDED."""
    cdef uint32_t gap
    return table_probe_for(table, key, hash, &gap)


cdef inline int64_t table_probe_for(
    Table* table, PyObject* key, uint32_t hash, uint32_t* gap
) noexcept:
    """`table_probe`, which tells the slot for a key that is not there."""
    cdef uint32_t position = hash >> table.shift
    cdef Slot slot = table.slots[position]
    cdef uint32_t four, matches, i
    cdef int same
    if slot.hash == hash and slot.entry:
        same = object_equal(table.entries[slot.entry - 1].key, key)
        if likely(same == EQUAL):
            return <int64_t> slot.entry - 1
        if same == ASK_PYTHON:
            return UNDECIDED
    elif likely(position + 3 <= table.mask):
        # How far it is to an empty slot is not to be predicted, so this asks four at once.
        four = four_slots(&table.slots[position], hash)
        matches = four & ~(four >> 1) & 0x55
        if matches:     # no slot before the key's is empty
            i = table.slots[position + (lowest_bit(matches) >> 1)].entry - 1
            same = object_equal(table.entries[i].key, key)
            if likely(same == EQUAL):
                return i
            if same == ASK_PYTHON:
                return UNDECIDED
        elif likely(four & 0xAA):
            gap[0] = position + (lowest_bit(four & 0xAA) >> 1)
            return -1
    return table_probe_along(table, key, hash, gap)


cdef inline int64_t table_probe_along(
    Table* table, PyObject* key, uint32_t hash, uint32_t* gap
) noexcept:
    """`table_probe_for`, a slot at a time."""
    cdef uint32_t position = hash >> table.shift
    cdef Slot slot
    cdef int same
    while True:
        slot = table.slots[position]
        if slot.entry == 0:
            gap[0] = position
            return -1
        if slot.hash == hash:
            same = object_equal(table.entries[slot.entry - 1].key, key)
            if likely(same == EQUAL):
                return <int64_t> slot.entry - 1
            if same == ASK_PYTHON:
                return UNDECIDED
        position = (position + 1) & table.mask


cdef inline int64_t table_find_asking(Table* table, PyObject* key, uint32_t hash) except -2:
    """`table_find` where keys must be compared by Python code, which may change the table."""
    cdef uint32_t position
    cdef Slot slot
    cdef PyObject* other
    cdef uint64_t version
    cdef int same
    cdef int restarts = 0
    while restarts < MAX_RESTARTS:
        restarts += 1
        version = table.version
        position = hash >> table.shift
        while True:
            slot = table.slots[position]
            if slot.entry == 0:
                return -1
            if slot.hash == hash:
                other = table.entries[slot.entry - 1].key
                same = object_equal(other, key)
                if same == ASK_PYTHON:
                    Py_INCREF(<object> other)
                    try:
                        same = PyObject_RichCompareBool(<object> other, <object> key, Py_EQ)
                    finally:
                        Py_DECREF(<object> other)
                    if version != table.version:
                        break
                if same == EQUAL:
                    return <int64_t> slot.entry - 1
            position = (position + 1) & table.mask
    raise RuntimeError(
        f"the cache was changed {MAX_RESTARTS} times while a key was compared; "
        "__eq__ of a key must not change the cache that holds it"
    )


cdef inline uint32_t gap_for(Table* table, uint32_t hash) noexcept nogil:
    """The slot for a key that is not there."""
    cdef uint32_t position = hash >> table.shift
    while table.slots[position].entry:
        position = (position + 1) & table.mask
    return position


cdef inline void link_slot(Table* table, uint32_t hash, uint32_t i) noexcept nogil:
    cdef uint32_t position = gap_for(table, hash)
    table.slots[position].hash = hash
    table.slots[position].entry = i + 1


cdef inline uint32_t slot_of(Table* table, uint32_t i) noexcept nogil:
    cdef uint32_t position = table.entries[i].hash >> table.shift
    cdef uint32_t passed
    if likely(position + 3 <= table.mask):
        passed = slot_with(&table.slots[position], i + 1)
        if likely(passed < 4):
            return position + passed
    while table.slots[position].entry != i + 1:
        position = (position + 1) & table.mask
    return position


cdef inline void empty_slot(Table* table, uint32_t hole) noexcept nogil:
    """Empty a slot and shift back what was displaced past it."""
    cdef uint32_t position = hole
    cdef uint32_t home
    cdef Slot slot
    if likely(hole + 4 <= table.mask) and likely(
        stays(&table.slots[hole + 1], hole + 1, table.shift, table.mask)
    ):
        table.slots[hole].entry = 0
        return
    while True:
        position = (position + 1) & table.mask
        slot = table.slots[position]
        if slot.entry == 0:
            break
        home = slot.hash >> table.shift
        if ((position - home) & table.mask) >= ((position - hole) & table.mask):
            table.slots[hole] = slot
            hole = position
    table.slots[hole].entry = 0


cdef inline int set_slots(Table* table, int bits) except -1:
    """Lay the slots anew, 2**bits of them."""
    cdef size_t size = sizeof(Slot) << bits
    cdef Slot* slots
    cdef uint32_t i
    if bits > MAX_SLOT_BITS:
        raise MemoryError("a cache holds at most 1,431,655,765 entries")
    slots = <Slot*> PyMem_RawMalloc(size)
    if slots == NULL:
        raise MemoryError()
    memset(slots, 0, size)
    PyMem_RawFree(table.slots)
    table.slots = slots
    table.mask = (<uint32_t> 1 << bits) - 1
    table.shift = 32 - bits
    for i in range(table.count):
        link_slot(table, table.entries[i].hash, i)
    table.version += 1
    return 0


cdef inline int set_room(Table* table, uint32_t room) except -1:
    cdef void* grown = PyMem_RawRealloc(table.entries, room * sizeof(Entry))
    if grown == NULL:
        raise MemoryError()
    table.entries = <Entry*> grown
    if table.extras != NULL:
        grown = PyMem_RawRealloc(table.extras, room * sizeof(Extra))
        if grown == NULL:
            raise MemoryError()
        table.extras = <Extra*> grown
    table.room = room
    table.version += 1
    return 0


cdef inline int table_reserve(Table* table) except -1:
    """Make sure that one more entry fits: slots at most two thirds full, room in the arrays."""
    cdef uint64_t room
    if table.count == table.room:
        room = table.room + (table.room >> 1) + 8
        set_room(table, <uint32_t> min(room, <uint64_t> NIL))
    if (<uint64_t> table.count + 1) * 3 > (<uint64_t> table.mask + 1) * 2:
        set_slots(table, 32 - table.shift + 1)
    return 0


cdef inline int table_need_extras(Table* table) except -1:
    """Allocate the extras; the entries that are there get neutral ones."""
    cdef uint32_t i
    if table.extras != NULL:
        return 0
    cdef uint32_t room = table.room if table.room else 8
    cdef Extra* extras = <Extra*> PyMem_RawMalloc(room * sizeof(Extra))
    if extras == NULL:
        raise MemoryError()
    for i in range(table.count):
        extra_clear(&extras[i])
    table.extras = extras
    if table.room == 0:
        set_room(table, room)
    return 0


cdef inline int table_need_wheel(Table* table, int64_t now) except -1:
    if table.wheel != NULL:
        return 0
    cdef Wheel* wheel = <Wheel*> PyMem_RawMalloc(sizeof(Wheel))
    if wheel == NULL:
        raise MemoryError()
    wheel_clear(wheel, now)
    table.wheel = wheel
    return 0


cdef inline void extra_clear(Extra* extra) noexcept nogil:
    memset(extra, 0, sizeof(Extra))
    extra.size = 1
    extra.cost = 1.0
    extra.importance = 1.0
    extra.value = 1.0
    extra.bucket = NO_BUCKET


cdef inline uint32_t table_add(
    Table* table, PyObject* key, PyObject* value, uint32_t hash
) noexcept nogil:
    """Add an entry for a key that is not there, after `table_reserve`; takes both references."""
    cdef uint32_t i = table.count
    cdef Entry* entry = &table.entries[i]
    entry.key = key
    entry.value = value
    entry.hash = hash
    if table.extras != NULL:
        extra_clear(&table.extras[i])
    link_slot(table, hash, i)
    policy_add(&table.policy, table.entries, i)
    table.count += 1
    table.version += 1
    return i


cdef inline void table_remove(Table* table, uint32_t i) noexcept nogil:
    """Take the entry out; its references now belong to the caller, who has copied them."""
    cdef uint32_t last = table.count - 1
    policy_remove(&table.policy, table.entries, i)
    empty_slot(table, slot_of(table, i))
    if table.wheel != NULL:
        wheel_remove(table.wheel, table.extras, i)
    if i != last:
        table.slots[slot_of(table, last)].entry = i + 1
        table.entries[i] = table.entries[last]
        policy_moved(&table.policy, table.entries, i)
        if table.extras != NULL:
            table.extras[i] = table.extras[last]
            if table.wheel != NULL:
                wheel_moved(table.wheel, table.extras, i)
    table.count = last
    table.version += 1


cdef inline void table_replace(
    Table* table, uint32_t i, PyObject* key, PyObject* value, uint32_t hash, uint32_t gap
) noexcept nogil:
    """`table_remove` and `table_add` in one, while there are neither extras nor a wheel."""
    cdef Entry* entry = &table.entries[i]
    cdef uint32_t former = slot_of(table, i)
    policy_remove(&table.policy, table.entries, i)
    table.slots[gap].hash = hash
    table.slots[gap].entry = i + 1
    empty_slot(table, former)
    entry.key = key
    entry.value = value
    entry.hash = hash
    policy_add(&table.policy, table.entries, i)
    table.version += 1
