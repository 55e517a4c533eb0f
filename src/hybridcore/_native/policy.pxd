"""Least recently used: which entry goes when room is needed.

A doubly linked list through the entries, hottest at the head. Every operation is O(1) and
touches at most four entries. This file is the whole seam between the table and its policy: the
table calls these functions and reads no policy field itself.
"""

from libc.stdint cimport uint32_t

from hybridcore._native.entry cimport NIL, Entry


cdef struct Policy:
    uint32_t hottest
    uint32_t coldest


cdef inline void policy_clear(Policy* policy) noexcept nogil:
    policy.hottest = NIL
    policy.coldest = NIL


cdef inline void policy_add(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """A new entry came in."""
    entries[i].newer = NIL
    entries[i].older = policy.hottest
    if policy.hottest != NIL:
        entries[policy.hottest].newer = i
    else:
        policy.coldest = i
    policy.hottest = i


cdef inline void policy_remove(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """The entry is about to leave."""
    cdef uint32_t older = entries[i].older
    cdef uint32_t newer = entries[i].newer
    if newer != NIL:
        entries[newer].older = older
    else:
        policy.hottest = older
    if older != NIL:
        entries[older].newer = newer
    else:
        policy.coldest = newer


cdef inline void policy_touch(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """The entry was hit."""
    if policy.hottest != i:
        policy_remove(policy, entries, i)
        policy_add(policy, entries, i)


cdef inline void policy_moved(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """The entry, links included, was copied to index ``i``."""
    if entries[i].newer != NIL:
        entries[entries[i].newer].older = i
    else:
        policy.hottest = i
    if entries[i].older != NIL:
        entries[entries[i].older].newer = i
    else:
        policy.coldest = i


cdef inline uint32_t policy_victim(Policy* policy, Entry* entries) noexcept nogil:
    """The entry to evict next, NIL when there is none."""
    return policy.coldest


cdef inline uint32_t policy_hottest(Policy* policy) noexcept nogil:
    """The entry to evict last, NIL when there is none."""
    return policy.hottest


cdef inline uint32_t policy_hotter(Entry* entries, uint32_t i) noexcept nogil:
    """The next entry in eviction order after ``i``."""
    return entries[i].newer


cdef inline uint32_t policy_colder(Entry* entries, uint32_t i) noexcept nogil:
    """The entry before ``i`` in eviction order."""
    return entries[i].older
