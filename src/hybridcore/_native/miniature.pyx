# cython: freethreading_compatible=True
"""A cache in miniature: what the policy that runs would hit at another size.

A share of the keys, in a cache that is smaller by as much, hits about as often. An LRU cache beside
it, of the same size and fed the same, tells by how much the sample misleads: where both err alike,
the difference between the two does not.

C. Waldspurger, T. Saemundsson, I. Ahmad, N. Park: Cache modeling and optimization using miniature
simulations (USENIX ATC 2017).
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from hybridcore._native.memory cimport MemoryStore, lookup, store_put_hashed
from hybridcore._native.objects cimport mix, object_hash

cimport cython

cdef enum:
    LOOKUP = 0
    PUT = 1


@cython.final
cdef class Miniature:
    """Two small caches that are asked for the keys whose hash is ``below`` a threshold.

    Args:
        cache: decides as the real cache does.
        lru: of the same size, decides by recency alone.
        below: hashes below it are asked for.
    """

    cdef MemoryStore cache, lru
    cdef readonly uint64_t below
    cdef readonly double requests, hits, lru_hits, bytes, hit_bytes, lru_hit_bytes

    def __init__(self, MemoryStore cache not None, MemoryStore lru not None, uint64_t below):
        self.cache = cache
        self.lru = lru
        self.below = below

    @cython.critical_section
    def go_on_with(self, Miniature small not None):
        """Fill one of fewer keys with those that are here, and give it the counts. O(entries)."""
        for here, there in ((self.cache, small.cache), (self.lru, small.lru)):
            there.restore([row for row in here.entries() if row[0] < small.below])
        small.requests = self.requests
        small.hits = self.hits
        small.lru_hits = self.lru_hits
        small.bytes = self.bytes
        small.hit_bytes = self.hit_bytes
        small.lru_hit_bytes = self.lru_hit_bytes
        return small

    @cython.critical_section
    def feed(
        self, const uint32_t[:] hashes, const int64_t[:] sizes=None,
        const uint8_t[:] operations=None,
    ):
        """Take requests in, as `StackDistances.feed` does. O(1) for each that is below."""
        cdef Py_ssize_t i
        cdef int64_t size = 1
        cdef uint8_t operation = LOOKUP
        cdef bint hit, lru_hit
        for i in range(hashes.shape[0]):
            if hashes[i] >= self.below:
                continue
            if sizes is not None:
                size = sizes[i]
            if operations is not None:
                operation = operations[i]
            key = hashes[i]
            if operation == LOOKUP:
                hit = ask(self.cache, key, size)
                lru_hit = ask(self.lru, key, size)
                self.requests += 1
                self.hits += hit
                self.lru_hits += lru_hit
                self.bytes += size
                self.hit_bytes += size if hit else 0
                self.lru_hit_bytes += size if lru_hit else 0
            elif operation == PUT:
                put(self.cache, key, size)
                put(self.lru, key, size)
            else:
                self.cache.discard(key)
                self.lru.discard(key)

    def fade(self, double factor):
        """Let all that was counted so far weigh less."""
        self.requests *= factor
        self.hits *= factor
        self.lru_hits *= factor
        self.bytes *= factor
        self.hit_bytes *= factor
        self.lru_hit_bytes *= factor

    @property
    def entries(self):
        """How many entries the caches hold, the one that holds more."""
        return max(len(self.cache), len(self.lru))

    def memory_bytes(self):
        """Return the memory that the caches take, their keys included."""
        return (
            self.cache.memory_bytes() + self.lru.memory_bytes()
            + 32 * self.entries + sizeof(MemoryStore) * 2
        )


cdef bint ask(MemoryStore store, object key, int64_t size) except -1:
    """Whether the key is there; if not it is stored, unless its size is yet to be known."""
    cdef PyObject* value
    if lookup(store, <PyObject*> key, &value):
        Py_XDECREF(value)
        return True
    if 0 < size <= store.limit:
        store_key(store, key, size)
    return False


cdef int put(MemoryStore store, object key, int64_t size) except -1:
    """Store the key unless it is there: that is a use of it only in the real cache."""
    if size <= store.limit and key not in store:
        store_key(store, key, size)
    return 0


cdef int store_key(MemoryStore store, object key, int64_t size) except -1:
    return store_put_hashed(
        store, key, mix(object_hash(<PyObject*> key)), None, size, 0, 0, 1.0, 1.0, NULL
    )
