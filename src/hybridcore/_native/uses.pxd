"""Least often used, without ageing: the entries in groups of equally many uses.

The groups are in the order of their counts, the entries of a group in the order in which they
reached it. A use moves an entry to the end of the next group, so every operation is O(1). Groups
are kept in one array, which has room for a group per entry: a use allocates nothing.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport uint32_t, uint64_t

from hybridcore._native.entry cimport NIL, Entry


cdef struct Group:
    uint32_t count          # of uses
    uint32_t oldest         # entry, the next to be evicted
    uint32_t newest
    uint32_t fewer          # the group of the next lower count
    uint32_t more           # of the next higher count; in the list of free groups, the next one


cdef struct Uses:
    Group* groups
    uint32_t room
    uint32_t free
    uint32_t fewest
    uint32_t most


cdef inline bint uses_reserve(Uses* uses, uint64_t entries) noexcept nogil:
    """Have groups for so many entries, and one to move an entry to; False when memory is out."""
    cdef uint64_t room = entries + (entries >> 1) + 8
    cdef void* grown
    cdef uint32_t g
    if entries + 1 <= uses.room:
        return True
    grown = PyMem_RawRealloc(uses.groups, <size_t> room * sizeof(Group))
    if grown == NULL:
        return False
    uses.groups = <Group*> grown
    for g in range(uses.room, <uint32_t> room):
        uses.groups[g].more = g + 1
    uses.groups[room - 1].more = uses.free
    uses.free = uses.room
    uses.room = <uint32_t> room
    return True


cdef inline bint uses_init(Uses* uses) noexcept nogil:
    """Start without entries; False when memory is out."""
    uses.groups = NULL
    uses.room = 0
    uses.free = uses.fewest = uses.most = NIL
    return uses_reserve(uses, 0)


cdef inline void uses_free(Uses* uses) noexcept nogil:
    PyMem_RawFree(uses.groups)


cdef inline void uses_clear(Uses* uses) noexcept nogil:
    """All entries have left."""
    cdef uint32_t g
    for g in range(uses.room):
        uses.groups[g].more = g + 1
    uses.groups[uses.room - 1].more = NIL
    uses.free = 0
    uses.fewest = uses.most = NIL


cdef inline uint32_t group_after(Uses* uses, uint32_t fewer, uint32_t count) noexcept nogil:
    """The group of this count, which comes after group ``fewer``; NIL when there is no room."""
    cdef uint32_t more = uses.groups[fewer].more if fewer != NIL else uses.fewest
    cdef uint32_t g = uses.free
    if more != NIL and uses.groups[more].count == count:
        return more
    if g == NIL:
        return NIL
    uses.free = uses.groups[g].more
    uses.groups[g].count = count
    uses.groups[g].oldest = uses.groups[g].newest = NIL
    uses.groups[g].fewer = fewer
    uses.groups[g].more = more
    if fewer != NIL:
        uses.groups[fewer].more = g
    else:
        uses.fewest = g
    if more != NIL:
        uses.groups[more].fewer = g
    else:
        uses.most = g
    return g


cdef inline void join(Uses* uses, Entry* entries, uint32_t i, uint32_t g) noexcept nogil:
    """Put the entry at the end of the group."""
    cdef uint32_t older = uses.groups[g].newest
    entries[i].policy.use.group = g
    entries[i].policy.use.older = older
    entries[i].policy.use.newer = NIL
    if older != NIL:
        entries[older].policy.use.newer = i
    else:
        uses.groups[g].oldest = i
    uses.groups[g].newest = i


cdef inline void uses_remove(Uses* uses, Entry* entries, uint32_t i) noexcept nogil:
    cdef uint32_t g = entries[i].policy.use.group
    cdef uint32_t older = entries[i].policy.use.older
    cdef uint32_t newer = entries[i].policy.use.newer
    cdef Group* group = &uses.groups[g]
    if older != NIL:
        entries[older].policy.use.newer = newer
    else:
        group.oldest = newer
    if newer != NIL:
        entries[newer].policy.use.older = older
    else:
        group.newest = older
    if group.oldest != NIL:
        return
    if group.fewer != NIL:
        uses.groups[group.fewer].more = group.more
    else:
        uses.fewest = group.more
    if group.more != NIL:
        uses.groups[group.more].fewer = group.fewer
    else:
        uses.most = group.fewer
    group.more = uses.free
    uses.free = g


cdef inline void uses_add(Uses* uses, Entry* entries, uint32_t i) noexcept nogil:
    """The entry, the last of ``i + 1``, has been used once."""
    cdef uint32_t g = NIL
    if uses_reserve(uses, <uint64_t> i + 1) or uses.fewest == NIL:
        g = group_after(uses, NIL, 1)
    join(uses, entries, i, g if g != NIL else uses.fewest)      # memory is out: with the fewest


cdef inline void uses_touch(Uses* uses, Entry* entries, uint32_t i) noexcept nogil:
    cdef uint32_t g = entries[i].policy.use.group
    cdef Group* group = &uses.groups[g]
    cdef uint32_t count = group.count + 1
    cdef uint32_t to
    if count == 0:
        return
    if group.oldest == group.newest and (
        group.more == NIL or uses.groups[group.more].count != count
    ):
        group.count = count
        return
    to = group_after(uses, g, count)
    if to != NIL:
        uses_remove(uses, entries, i)
        join(uses, entries, i, to)


cdef inline void uses_set(Uses* uses, Entry* entries, uint32_t i, uint32_t count) noexcept nogil:
    """Tell how often the entry was used. O(groups of a higher count)."""
    cdef uint32_t before, to
    uses_remove(uses, entries, i)
    before = uses.most
    while before != NIL and uses.groups[before].count >= count:
        before = uses.groups[before].fewer
    to = group_after(uses, before, count)
    join(uses, entries, i, to if to != NIL else uses.most)


cdef inline void uses_moved(Uses* uses, Entry* entries, uint32_t i) noexcept nogil:
    """The entry, links included, was copied to index ``i``."""
    cdef uint32_t older = entries[i].policy.use.older
    cdef uint32_t newer = entries[i].policy.use.newer
    cdef Group* group = &uses.groups[entries[i].policy.use.group]
    if older != NIL:
        entries[older].policy.use.newer = i
    else:
        group.oldest = i
    if newer != NIL:
        entries[newer].policy.use.older = i
    else:
        group.newest = i


cdef inline uint32_t uses_coldest(Uses* uses) noexcept nogil:
    return uses.groups[uses.fewest].oldest if uses.fewest != NIL else NIL


cdef inline uint32_t uses_hotter(Uses* uses, Entry* entries, uint32_t i) noexcept nogil:
    """The entry that goes after ``i``; NIL when there is none."""
    cdef uint32_t more = uses.groups[entries[i].policy.use.group].more
    if entries[i].policy.use.newer != NIL:
        return entries[i].policy.use.newer
    return uses.groups[more].oldest if more != NIL else NIL


cdef inline uint32_t uses_count(Uses* uses, Entry* entries, uint32_t i) noexcept nogil:
    return uses.groups[entries[i].policy.use.group].count
