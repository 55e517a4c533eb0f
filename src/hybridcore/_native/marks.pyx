"""Marks of reads: when each key was last used and how often, in memory that processes share.

A read of the disk tier stamps the mark of its key, so it never writes LMDB; eviction reads the
marks of what it may evict. Time is the version of the newest record, which every process sees.
A mark outlives its record: a key that comes back finds how often it was used before.

The table is a file that is mapped: a header of 64 bytes, then buckets of four marks. Marks are
written without a lock. What two processes lose by that is a count of one.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.math cimport log2f
from libc.stdint cimport int8_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    HEADER = 64         # bytes, of which 8 to 15 are the number of marks, 16 to 23 the version
    WAYS = 4            # marks in a bucket
    TAG_BITS = 24
    MOST = 255          # uses that are counted

# The traits of a record, as they stand before the key in the order of writes.
cdef packed struct Traits:
    uint32_t size
    uint32_t expires    # wall clock, s; 0: never
    int8_t cost         # logarithms, in eighths of an octave
    int8_t importance
    uint16_t none


cdef inline uint64_t scrambled(const char* key, Py_ssize_t size) noexcept nogil:
    """A hash of the key, the same in every process."""
    cdef uint64_t hash = <uint64_t> size * <uint64_t> 0x9E3779B97F4A7C15
    cdef uint64_t word
    while size >= 8:
        memcpy(&word, key, 8)
        hash = (hash ^ word) * <uint64_t> 0x9FB21C651E98DF25
        hash ^= hash >> 32
        key += 8
        size -= 8
    word = 0
    memcpy(&word, key, size)
    hash = (hash ^ word) * <uint64_t> 0x9FB21C651E98DF25
    hash ^= hash >> 29
    hash *= <uint64_t> 0xD6E8FEB86659FD93
    return hash ^ hash >> 32


cdef inline int8_t eighths(float number) noexcept nogil:
    cdef float octaves
    if not number > 0:
        return -128
    octaves = 8 * log2f(number)
    return <int8_t> max(min(octaves + (0.5 if octaves > 0 else -0.5), <float> 127), <float> -127)


def traits(Py_ssize_t size, float cost, float importance, int64_t expires_at):
    """The traits of a record: 12 bytes for the order of writes."""
    cdef Traits found
    cdef int64_t expires = expires_at // 1_000_000_000 + 1 if expires_at > 0 else 0
    found.size = <uint32_t> min(size, <Py_ssize_t> 0xFFFFFFFF)
    found.expires = <uint32_t> min(expires, <int64_t> 0xFFFFFFFF)
    found.cost = eighths(cost)
    found.importance = eighths(importance)
    found.none = 0
    return PyBytes_FromStringAndSize(<char*> &found, sizeof(found))


cdef class Marks:
    """The table in a writable buffer: ``HEADER`` bytes and 32 for each of 2**n buckets."""

    def __init__(self, mapped):
        cdef Py_buffer buffer
        cdef uint64_t buckets
        PyObject_GetBuffer(mapped, &buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            buckets = <uint64_t> (buffer.len - HEADER) // (WAYS * sizeof(Mark))
            if buffer.len <= HEADER or buckets & (buckets - 1) or buckets == 0:
                raise ValueError(f"expected room for 2**n buckets, got {buffer.len} bytes")
            # The buffer stays where it is for as long as the mapping is held.
            self.newest = <uint64_t*> (<char*> buffer.buf + 16)
            self.table = <Mark*> (<char*> buffer.buf + HEADER)
        finally:
            PyBuffer_Release(&buffer)
        self.mapped = mapped
        self.mask = buckets - 1

    @property
    def version(self):
        """Of the newest record, as far as anybody told."""
        return self.newest[0]

    @version.setter
    def version(self, uint64_t version):
        if version > self.newest[0]:
            self.newest[0] = version

    cdef Mark* c_find(self, const char* key, Py_ssize_t size, uint32_t* tag) noexcept:
        """The mark of the key, or the one it may take, whose tag is another's."""
        cdef uint64_t hash = scrambled(key, size)
        cdef Mark* bucket = &self.table[(hash & self.mask) * WAYS]
        cdef Mark* oldest = bucket
        cdef uint32_t now = <uint32_t> self.newest[0]
        cdef int k
        tag[0] = <uint32_t> (hash >> (64 - TAG_BITS)) | 1
        for k in range(WAYS):
            if bucket[k].read >> 8 == tag[0]:
                return &bucket[k]
            if bucket[k].read == 0:
                oldest = &bucket[k]
                break
            if now - bucket[k].last > now - oldest.last:
                oldest = &bucket[k]
        return oldest

    cdef void c_used(self, const char* key, Py_ssize_t size) noexcept:
        """A record was read."""
        cdef uint32_t tag
        cdef Mark* mark = self.c_find(key, size, &tag)
        cdef uint32_t uses = 1
        if mark.read >> 8 == tag:
            uses = mark.read & 0xFF
            uses += uses < MOST
        mark.last = <uint32_t> self.newest[0]
        mark.read = tag << 8 | uses

    def used(self, bytes key not None):
        """Note a use of the record under this LMDB key."""
        self.c_used(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

    def offered(self, bytes key not None):
        """Note that a record was offered; whether its key was known."""
        cdef uint32_t tag
        cdef Mark* mark = self.c_find(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &tag)
        cdef bint known = mark.read >> 8 == tag
        self.c_used(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        return known

    def uses(self, bytes key not None):
        """(uses, version of the newest record at the last one) of a key, (0, 0) if unknown."""
        cdef uint32_t tag
        cdef Mark* mark = self.c_find(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &tag)
        if mark.read >> 8 != tag:
            return 0, 0
        return mark.read & 0xFF, mark.last

    def rank(self, dict drawn not None, tuple weights not None, uint64_t newest, int64_t now):
        """(version, key) of what was drawn, the worth least first.

        ``drawn`` maps versions to what the order lists under them, ``weights`` are the exponents
        of recency, frequency, size, cost and importance, ``now`` is the wall clock in ns.
        """
        cdef float recency, frequency, size, cost, importance
        cdef float score, age, uses
        cdef uint64_t written
        cdef uint32_t tag
        cdef Traits found
        cdef Mark* mark
        cdef bytes version, listed, key
        cdef const char* at
        cdef list ranked = []
        recency, frequency, size, cost, importance = weights
        for version, listed in drawn.items():
            if PyBytes_GET_SIZE(version) != 8 or PyBytes_GET_SIZE(listed) <= sizeof(Traits):
                continue
            at = PyBytes_AS_STRING(listed)
            memcpy(&found, at, sizeof(found))
            key = listed[sizeof(Traits):]
            written = int.from_bytes(version, "big")
            mark = self.c_find(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &tag)
            uses = 1
            age = <float> (newest - written)
            if mark.read >> 8 == tag:
                uses += mark.read & 0xFF
                age = min(age, <float> (<uint32_t> newest - mark.last))
            score = (
                frequency * log2f(uses) - recency * log2f(1 + age)
                - size * log2f(<float> found.size + 1)
                + 0.125 * (cost * found.cost + importance * found.importance)
            )
            ranked.append((score, version, key))
        ranked.sort()
        return [(version, key) for _, version, key in ranked]
