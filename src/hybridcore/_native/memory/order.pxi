"""The order of eviction, and that of use, as lists."""

from cpython.mem cimport PyMem_RawMalloc
from libc.stdlib cimport qsort

from hybridcore._native.policy cimport policy_coldest, policy_hotter, policy_standing

cdef struct Rank:
    double key              # the lowest first
    uint32_t entry
    uint32_t standing       # with fixed weights, see `policy_standing`


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
    cdef uint32_t standing = 0
    cdef uint32_t k, i
    if ranks == NULL:
        raise MemoryError()
    if table.policy.rule == LEARNED:
        for i in range(table.count):
            ranks[i].entry = i
            ranks[i].standing = 0
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
        standing = policy_standing(&table.policy, table.entries, i, standing)
        ranks[k].entry = i
        ranks[k].standing = standing
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
