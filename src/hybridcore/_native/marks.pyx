"""Marks of reads: when each key was last used and how often, in a file that processes map.

A read of the disk tier stamps the mark of its key, so it never writes LMDB. A mark outlives its
record: a key that comes back finds how often it was used before. The marks and what is learned
from them lie in a mapped file that all processes of a directory share: a head, then buckets of
eight marks, a cache line each. Marks are written without a lock; what two processes lose by that
is a count of one. Time is the number of records written, which every process sees.

Eviction goes by what becomes of marks, as the memory tier goes by what becomes of its entries:
the kinds, ages and index are those of learned.pxd and lessons.pxd. Only the hazards are had in
another way. Uses are counted as they happen. How many marks of a kind were of an age, and for how
long, is estimated by a census of some marks at each lesson; and evicted keys are in it, because
their marks stay.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.math cimport exp, log2f
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hybridcore._native.bits cimport half_octave, prefetch
from hybridcore._native.learned cimport AGES, FREQUENCIES, GAPS, KINDS, kind_of
from hybridcore._native.lessons cimport STARTS, solve, width_of

cdef enum:
    WAYS = 8                # marks in a bucket
    CENSUS = 4096           # marks looked at in a lesson
    SMOOTHING = 16          # marks that what is expected counts as
    FIRST_LESSON = 32       # records written before it
    SHORTEST = 128          # records between lessons, once there were EARLY
    EARLY = 8
    LEASES = 1024
    UNIT = 128              # the middle of the logarithms of cost and importance

cdef extern from *:
    """
    #define HC_FADE .97
    #define HC_FOLLOW .05f
    """
    const double FADE "HC_FADE"         # of what was counted, with each lesson
    const float FOLLOW "HC_FOLLOW"      # of the capacity, with each eviction


# The traits of a record: 8 bytes before its key in the order of hashes.
cdef packed struct Traits:
    uint8_t size            # logarithms, in eighths of an octave
    uint8_t cost
    uint8_t importance
    uint8_t none
    uint32_t version        # its low half


HEAD_SIZE = sizeof(Shared)
"""Bytes before the marks in the file."""

MARK_SIZE = sizeof(Mark)

TRAITS_SIZE = sizeof(Traits)
"""Bytes before the LMDB key in what the order of hashes lists."""

GENERATION_OFFSET = <size_t> &(<Shared*> NULL).generation
"""Of the word that tells of invalidations."""


cdef inline uint64_t hashed(const char* key, Py_ssize_t size) noexcept nogil:
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


cpdef bytes place_of(bytes key):
    """The place of an LMDB key in the order of hashes: 8 bytes, big-endian."""
    cdef uint64_t hash = hashed(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    cdef uint8_t place[8]
    cdef int k
    for k in range(8):
        place[k] = hash >> (56 - 8 * k) & 0xFF
    return PyBytes_FromStringAndSize(<char*> place, 8)


cdef inline uint8_t eighths(double number, int middle) noexcept nogil:
    if not number > 0:
        return 0
    return <uint8_t> max(min(<int> (8 * log2f(<float> number) + middle + 0.5), 255), 1)


cpdef bytes traits_of(Py_ssize_t size, double cost, double importance, uint64_t version):
    """The traits of a record, for the order of hashes."""
    cdef Traits traits
    traits.size = eighths(<double> size, 0)
    traits.cost = eighths(cost, UNIT)
    traits.importance = eighths(importance, UNIT)
    traits.none = 0
    traits.version = <uint32_t> version
    return PyBytes_FromStringAndSize(<char*> &traits, sizeof(traits))


cdef bint are_alike(Py_ssize_t size, double cost, double importance,
                    Py_ssize_t other_size, double other_cost, double other_importance) noexcept:
    """Whether records have the same traits but for the version."""
    return (
        (size == other_size or eighths(<double> size, 0) == eighths(<double> other_size, 0))
        and (cost == other_cost or eighths(cost, UNIT) == eighths(other_cost, UNIT))
        and (
            importance == other_importance
            or eighths(importance, UNIT) == eighths(other_importance, UNIT)
        )
    )


cdef inline int age_of(uint32_t now, uint32_t then, float scale) noexcept nogil:
    """The class of the time since then, see learned.pxd; none has passed since the future."""
    cdef float age = <float> <int32_t> (now - then) * scale
    cdef int found
    if age < 1.0:
        return 0
    found = 1 + half_octave(age)
    return found if found < AGES else AGES - 1


cdef inline uint16_t tag_of(uint64_t hash) noexcept nogil:
    return <uint16_t> (hash >> 48)


cdef class Marks:
    """The marks in a writable buffer: `HEAD_SIZE` bytes, and room for at most 8 * 2**n marks.

    The head says how many of them are in use; `widen` doubles that.
    """

    def __init__(self, mapped):
        cdef Py_buffer buffer
        cdef uint64_t room = 0
        PyObject_GetBuffer(mapped, &buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            if buffer.len > <Py_ssize_t> sizeof(Shared):
                room = <uint64_t> (buffer.len - sizeof(Shared)) // sizeof(Mark)
            if (
                room < WAYS or room & (room - 1)
                or room * sizeof(Mark) + sizeof(Shared) != <uint64_t> buffer.len
            ):
                raise ValueError(f"expected room for 8 * 2**n marks, got {buffer.len} bytes")
            # The buffer stays where it is for as long as the mapping is held.
            self.shared = <Shared*> buffer.buf
            self.table = <Mark*> (<char*> buffer.buf + sizeof(Shared))
        finally:
            PyBuffer_Release(&buffer)
        if (
            self.shared.marks < WAYS or self.shared.marks > room
            or self.shared.marks & (self.shared.marks - 1)
        ):
            raise ValueError(f"the head says {self.shared.marks} marks, there is room for {room}")
        self.mapped = mapped
        self.room = room
        if not self.shared.capacity >= 1:
            self.shared.capacity = 1
        if self.shared.lessons == 0:
            self._begin()

    @property
    def size(self):
        """Marks in use."""
        return self.shared.marks

    def widen(self):
        """Use twice as many marks, if there is room; under LMDB's writer lock.

        Each bucket is copied to the one that half of its keys are found in from now on. Of the
        two copies of a mark one is never used again, and makes way in time.
        """
        cdef uint64_t marks = self.shared.marks
        if 2 * marks > self.room:
            raise ValueError(f"all {marks} marks that there is room for are in use")
        memcpy(self.table + marks, self.table, marks * sizeof(Mark))
        self.shared.marks = 2 * marks

    cdef inline Mark* c_bucket(self, uint64_t hash) noexcept:
        return &self.table[hash & (self.shared.marks - 1) & ~<uint64_t> (WAYS - 1)]

    def _begin(self):
        """Before the first lesson an entry is worth what LRU thinks."""
        cdef int kind, age
        for kind in range(KINDS):
            for age in range(AGES):
                self.shared.worth[kind][age] = <float> (1 / (1 + STARTS[age]))

    @property
    def now(self):
        """Records written so far, as far as anybody told; the low half."""
        return self.shared.now

    @property
    def hand(self):
        """Where in the order of hashes eviction looks next."""
        return self.shared.hand

    @hand.setter
    def hand(self, uint64_t place):
        self.shared.hand = place

    @property
    def lessons(self):
        """How often what was counted became what records are worth."""
        return self.shared.lessons

    def wrote(self, uint64_t version, uint64_t entries, bint full):
        """Tell of the last version given, and of how many records there are."""
        cdef float capacity = self.shared.capacity
        if version > self.shared.now or self.shared.now - <uint32_t> version > 1 << 31:
            self.shared.now = <uint32_t> version
        if full:
            capacity += FOLLOW * (<float> entries - capacity)
        self.shared.capacity = max(capacity, <float> 1) if full else max(
            capacity, <float> entries
        )

    # -- marks ----------------------------------------------------------------------------

    cdef Mark* c_find(self, uint64_t hash) noexcept:
        """The key's mark, or the one it may take: nobody's, or the one used longest ago."""
        cdef Mark* bucket = self.c_bucket(hash)
        cdef Mark* oldest = bucket
        cdef uint32_t now = self.shared.now
        cdef uint16_t tag = tag_of(hash)
        cdef int k
        for k in range(WAYS):
            if bucket[k].frequency == 0:
                return &bucket[k]
            if bucket[k].tag == tag:
                return &bucket[k]
            if now - bucket[k].last > now - oldest.last:
                oldest = &bucket[k]
        return oldest

    cdef void c_used(self, const char* key, Py_ssize_t size) noexcept:
        """A record was read. Its mark is stamped together with those of the next reads: side by
        side they do not wait for memory one by one, which takes longer than all the rest."""
        self.waiting[self.waiters] = hashed(key, size)
        self.used_at[self.waiters] = self.shared.now
        self.waiters += 1
        if self.waiters == WAITING:
            self.c_settle()

    cdef void c_settle(self) noexcept:
        """Stamp the marks of what was read so far."""
        cdef int i, count = self.waiters
        self.waiters = 0
        for i in range(count):
            prefetch(self.c_bucket(self.waiting[i]))
        for i in range(count):
            self.c_stamp(self.waiting[i], self.used_at[i])

    cdef void c_stamp(self, uint64_t hash, uint32_t now) noexcept:
        """A key is used: its mark tells when, how often, and how long it had waited."""
        cdef Mark* mark = self.c_find(hash)
        cdef int age
        if mark.frequency and mark.tag == tag_of(hash):
            age = age_of(now, mark.last, 64 / self.shared.capacity)
            self.shared.used[mark.kind % KINDS][age] += 1
            mark.frequency += mark.frequency < 255
            mark.kind = kind_of(mark.frequency, age)
        else:
            mark.tag = tag_of(hash)
            mark.frequency = 1
            mark.kind = 0
        mark.last = now

    def used(self, bytes key not None):
        """Note a use of the record under this LMDB key."""
        self.c_used(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        self.c_settle()

    cdef bint c_stored(self, bytes key, uint64_t version, bint replaced) noexcept:
        """Note that a record was written, which is a use of its key unless it replaced one.

        Whether the key has a mark, which tells when it was written.
        """
        cdef uint64_t hash = hashed(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        cdef Mark* mark
        self.c_settle()
        if not replaced:
            self.c_stamp(hash, <uint32_t> version)
            return True
        mark = self.c_find(hash)
        if mark.frequency == 0 or mark.tag != tag_of(hash):
            return False
        mark.last = <uint32_t> version
        return True

    def offered(self, bytes key not None):
        """Note that a record was offered; whether its key was known."""
        cdef uint64_t hash = hashed(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        cdef Mark* mark
        cdef bint known
        self.c_settle()
        mark = self.c_find(hash)
        known = mark.frequency and mark.tag == tag_of(hash)
        self.c_used(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        return known

    def uses(self, bytes key not None):
        """(uses, records written at the last one) of a key, (0, 0) if unknown."""
        cdef uint64_t hash = hashed(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        cdef Mark* mark
        self.c_settle()
        mark = self.c_find(hash)
        if mark.frequency == 0 or mark.tag != tag_of(hash):
            return 0, 0
        return mark.frequency, mark.last

    # -- leases ---------------------------------------------------------------------------

    def lease(self, bytes key not None, uint64_t owner, int64_t now, int64_t until):
        """Take the lease of a key and return 0, or the other owner who has it.

        There is one for each of 1024 classes of keys: a key that meets another's takes no lease
        and is free to go. Two that take one at the same instant may both succeed.
        """
        cdef uint64_t hash = hashed(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        cdef Lease* lease = &self.shared.leases[hash % LEASES]
        if lease.until > now:
            return 0 if lease.hash != hash or lease.owner == owner else lease.owner
        lease.hash = hash
        lease.owner = owner
        lease.until = until
        return 0

    def release(self, bytes key not None, uint64_t owner):
        """Give the lease of a key back, if the owner has it."""
        cdef uint64_t hash = hashed(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        cdef Lease* lease = &self.shared.leases[hash % LEASES]
        if lease.hash == hash and lease.owner == owner:
            lease.until = 0

    # -- what records are worth -----------------------------------------------------------

    def rank(self, list drawn not None, tuple weights not None, bint learned):
        """Order what was drawn, (place, what the order lists there), the worth least first.

        ``weights`` are the exponents of `Weights`. Of recency and frequency they count only
        unless what was ``learned`` decides.
        """
        cdef float recency, frequency, size, cost, importance, score, age
        cdef float scale = 64 / self.shared.capacity
        cdef uint32_t now = self.shared.now
        cdef uint32_t last
        cdef uint8_t uses, kind
        cdef uint64_t hash
        cdef Traits traits
        cdef Mark* mark
        cdef bytes listed
        cdef const char* key
        cdef Py_ssize_t i
        cdef list scores = []
        self.c_settle()
        recency, frequency, size, cost, importance = weights
        for i in range(len(drawn)):
            _, listed = drawn[i]
            key = PyBytes_AS_STRING(listed) + sizeof(Traits)
            memcpy(&traits, PyBytes_AS_STRING(listed), sizeof(traits))
            hash = hashed(key, PyBytes_GET_SIZE(listed) - sizeof(Traits))
            mark = self.c_find(hash)
            uses, kind, last = 1, 0, traits.version
            if mark.frequency and mark.tag == tag_of(hash):
                uses, kind, last = mark.frequency, mark.kind % KINDS, mark.last
                if traits.version - last < 1 << 31:
                    last = traits.version
            age = <float> (now - last) * scale
            if learned:
                score = (
                    log2f(self.shared.worth[kind][age_of(now, last, scale)] + 1e-12)
                    - 0.001 * log2f(age + 1)
                )
            else:
                score = frequency * log2f(uses) - recency * age / 64
            score += 0.125 * (
                cost * (<float> traits.cost - UNIT)
                + importance * (<float> traits.importance - UNIT) - size * traits.size
            )
            scores.append((score, i))
        scores.sort()
        return [drawn[i] for _, i in scores]

    def teach(self):
        """Turn what was counted into what records are worth, if it is time to."""
        cdef Shared* shared = self.shared
        cdef uint32_t since = shared.now - shared.taught
        cdef uint32_t due = max(<uint32_t> (shared.capacity / 4), <uint32_t> SHORTEST)
        self.c_settle()
        if shared.lessons < EARLY:
            due = max(<uint32_t> (shared.capacity / 8), <uint32_t> FIRST_LESSON)
        if since < due:
            return False
        with nogil:
            self._look_around(since)
            self._learn()
        shared.taught = shared.now
        shared.lessons += 1
        return True

    cdef void _look_around(self, uint32_t since) noexcept nogil:
        """Take the census: how long marks of each kind were of each age, about."""
        cdef Shared* shared = self.shared
        cdef uint64_t marks = shared.marks
        cdef uint64_t count = min(marks, <uint64_t> CENSUS)
        cdef float scale = 64 / shared.capacity
        cdef float each = <float> marks / count * since * scale
        cdef uint64_t at = shared.looked & (marks - 1)
        cdef uint64_t k
        cdef Mark* mark
        cdef int kind, age
        cdef uint32_t used
        for kind in range(KINDS):
            for age in range(AGES):
                used = shared.used[kind][age]
                shared.hits[kind][age] = <float> (
                    FADE * shared.hits[kind][age] + (used - shared.seen[kind][age])
                )
                shared.seen[kind][age] = used
                shared.exposure[kind][age] *= <float> FADE
        for k in range(count):
            mark = &self.table[(at + k) & (marks - 1)]
            if mark.frequency:
                age = age_of(shared.now, mark.last, scale)
                shared.exposure[mark.kind % KINDS][age] += each
        shared.looked = at + count

    cdef void _learn(self) noexcept nogil:
        """Work out the worth of each kind at each age from its rates of use.

        A kind seen little leans on the others of its frequency, and those on all, but the more
        often used the more: 8 times as much by the highest frequency as by the lowest.
        """
        cdef Shared* shared = self.shared
        cdef double hits[33]
        cdef double exposure[33]
        cdef double overall[33]
        cdef double family[33]
        cdef float hazards[33]
        cdef double lean
        cdef int frequency, kind, age
        self._add_up(0, KINDS, hits, exposure)
        for age in range(AGES):
            lean = SMOOTHING * width_of(age)
            overall[age] = (hits[age] + lean * 0.1 / STARTS[age + 1]) / (exposure[age] + lean)
        for frequency in range(FREQUENCIES):
            self._add_up(frequency * GAPS, GAPS, hits, exposure)
            for age in range(AGES):
                lean = SMOOTHING * width_of(age)
                family[age] = (
                    hits[age] + lean * overall[age] * (0.5 + 0.5 * frequency)
                ) / (exposure[age] + lean)
            for kind in range(frequency * GAPS, (frequency + 1) * GAPS):
                for age in range(AGES):
                    lean = SMOOTHING * width_of(age)
                    hazards[age] = <float> (1 - exp(
                        -width_of(age) * (shared.hits[kind][age] + lean * family[age])
                        / (shared.exposure[kind][age] + lean)
                    ))
                solve(hazards, shared.worth[kind], AGES)

    cdef void _add_up(self, int first, int count, double* hits, double* exposure) noexcept nogil:
        cdef int kind, age
        for age in range(AGES):
            hits[age] = 0
            exposure[age] = 0
            for kind in range(first, first + count):
                hits[age] += self.shared.hits[kind][age]
                exposure[age] += self.shared.exposure[kind][age]
