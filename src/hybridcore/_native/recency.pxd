"""Least recently used: the entries in the order of their last use, or of their arrival.

A doubly linked list through the entries, hottest at the head. Every operation is O(1) and
touches at most four entries.
"""

from libc.stdint cimport uint32_t

from hybridcore._native.entry cimport NIL, Entry


cdef struct Recency:
    uint32_t hottest
    uint32_t coldest
    bint by_arrival         # first in, first out: uses do not count


cdef inline void recency_clear(Recency* order) noexcept nogil:
    order.hottest = NIL
    order.coldest = NIL


cdef inline void recency_add(Recency* order, Entry* entries, uint32_t i) noexcept nogil:
    entries[i].policy.links.newer = NIL
    entries[i].policy.links.older = order.hottest
    if order.hottest != NIL:
        entries[order.hottest].policy.links.newer = i
    else:
        order.coldest = i
    order.hottest = i


cdef inline void recency_remove(Recency* order, Entry* entries, uint32_t i) noexcept nogil:
    cdef uint32_t older = entries[i].policy.links.older
    cdef uint32_t newer = entries[i].policy.links.newer
    if newer != NIL:
        entries[newer].policy.links.older = older
    else:
        order.hottest = older
    if older != NIL:
        entries[older].policy.links.newer = newer
    else:
        order.coldest = newer


cdef inline void recency_touch(Recency* order, Entry* entries, uint32_t i) noexcept nogil:
    if order.hottest != i and not order.by_arrival:
        recency_remove(order, entries, i)
        recency_add(order, entries, i)


cdef inline void recency_moved(Recency* order, Entry* entries, uint32_t i) noexcept nogil:
    """The entry, links included, was copied to index ``i``."""
    cdef uint32_t older = entries[i].policy.links.older
    cdef uint32_t newer = entries[i].policy.links.newer
    if newer != NIL:
        entries[newer].policy.links.older = i
    else:
        order.hottest = i
    if older != NIL:
        entries[older].policy.links.newer = i
    else:
        order.coldest = i
