"""Marks of reads in a memory-mapped file, and what is learned from them; see marks.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef enum:
    WAITING = 32   # uses that are stamped together


cdef struct Mark:
    uint32_t last           # how many records had been written at its last use
    uint16_t tag            # whose mark it is: bits of the key's hash
    uint8_t frequency       # 0: nobody's
    uint8_t kind            # see learned.pxd


# Who loads a key.
cdef struct Lease:
    uint64_t hash
    uint64_t owner
    int64_t until           # wall clock, ns; 0: nobody


# The head of the file, shared by all processes.
cdef struct Shared:
    char magic[8]
    uint64_t marks          # in use, 2**n
    uint32_t now            # records written so far
    uint32_t taught         # the same, at the last lesson
    uint32_t lessons
    float capacity          # in records, as far as is known
    uint64_t hand           # where in the order of hashes eviction looks next
    uint64_t looked         # marks up to which the last lesson looked
    uint64_t generation     # of the log of invalidations; see generation.pyx
    uint64_t none
    uint32_t used[112][33]  # by kind and age: uses so far; counted without a lock
    uint32_t seen[112][33]  # of those, by lessons
    float hits[112][33]
    float exposure[112][33]     # how long marks of that kind were of that age
    float worth[112][33]
    Lease leases[1024]          # by the hash of the key


cdef class Marks:
    cdef object mapped      # keeps the memory
    cdef Shared* shared
    cdef Mark* table
    cdef uint64_t room      # marks that the buffer can hold
    cdef int waiters
    cdef uint64_t waiting[WAITING]   # hashes of keys whose use is not stamped yet
    cdef uint32_t used_at[WAITING]

    cdef Mark* c_bucket(self, uint64_t hash) noexcept
    cdef void c_settle(self) noexcept
    cdef void c_used(self, const char* key, Py_ssize_t size) noexcept
    cdef bint c_stored(self, bytes key, uint64_t version, bint replaced) noexcept
    cdef void c_stamp(self, uint64_t hash, uint32_t now) noexcept
    cdef Mark* c_find(self, uint64_t hash) noexcept
    cdef void _look_around(self, uint32_t since) noexcept nogil
    cdef void _learn(self) noexcept nogil
    cdef void _add_up(self, int first, int count, double* hits, double* exposure) noexcept nogil


cpdef bytes place_of(bytes key)
cpdef bytes traits_of(Py_ssize_t size, double cost, double importance, uint64_t version)
cdef bint are_alike(Py_ssize_t size, double cost, double importance,
                    Py_ssize_t other_size, double other_cost, double other_importance) noexcept
