# cython: freethreading_compatible=True
"""LRU stack distances of sampled keys, in constant memory: the miss-ratio curve of LRU.

An LRU cache hits a request if it has room for all that was asked for since the last request of the
same key. So one histogram of these distances tells the hit ratio of every size. Only keys whose
hash is below a threshold are looked at, which is the same as looking at all of a cache that is
smaller by that share; each counts for as many as it stands for. Their order of use is a Fenwick
tree over a clock that ticks with each of them. When more keys are known than there is room for, the
oldest go if they are deeper than any size of interest, else the threshold falls.

The requests sampled, each times what it stands for, should add up to all there were; a few busy
keys make them too few or too many. Too few: busy keys are not in the sample, and what is missing
is hit at any size. Too many: some are, and what is too much is taken away where they are, at each
distance in proportion to its covariance with the sum.

C. Waldspurger, N. Park, A. Garthwaite, I. Ahmad: Efficient MRC construction with SHARDS (FAST
2015): the variant of fixed size, and the adjustment of what is too few. W. Cochran: Sampling
techniques (1977), chapter 7: the regression estimator, for what is too many.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.math cimport frexp
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

import numpy

cimport cython

cdef enum:
    SUB_BITS = 5                # buckets in an octave of distances, as a power of two: 3 % wide
    OCTAVES = 48
    BUCKETS = (OCTAVES - SUB_BITS + 1) << SUB_BITS
    MOST_SAMPLES = 32000
    MOST_USES = 65535
    GONE = 0                    # the position of a key that was removed
    LOOKUP = 0
    PUT = 1
    REMOVED = 2


cdef struct Sample:
    uint32_t hash
    uint16_t position           # on the clock, from 1
    uint16_t uses
    int64_t size


# What was counted at each distance, and its leverage: how much of that hangs on which keys are in
# the sample.
cdef struct Histogram:
    double counts[1408]
    double leverage[1408]


cdef inline int bucket_of(double distance) noexcept nogil:
    """The bucket of a distance: one each below 32, then 32 in each octave."""
    cdef int exponent
    cdef double fraction
    if distance < (1 << SUB_BITS):
        return <int> distance
    fraction = frexp(distance, &exponent)       # 0.5 <= fraction < 1
    if exponent > OCTAVES:
        return BUCKETS - 1
    return ((exponent - SUB_BITS) << SUB_BITS) + <int> (
        (fraction * 2 - 1) * (1 << SUB_BITS)
    )


def edges():
    """The lower ends of the buckets, and the upper end of the last."""
    numbers = numpy.arange(BUCKETS + 1)
    octave = numpy.maximum((numbers >> SUB_BITS) - 1, 0)
    within = numpy.where(
        numbers >> SUB_BITS, (numbers & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS), numbers
    )
    return numpy.ldexp(within.astype(numpy.float64), octave.astype(numpy.int32))


@cython.final
cdef class StackDistances:
    """Histograms of the distances at which keys are asked for again.

    Args:
        samples: keys looked at, at most 32000; 28 bytes each, 44 when sized.
        sized: whether entries differ in size, so that distances are also counted in bytes.
        deepest: the largest cache, in entries, that is of interest; 0: any.
        below: no hash that comes is as large; of requests that are a sample already.
    """

    cdef Sample* samples
    cdef uint16_t* index            # by hash: number of the sample + 1; 0: none
    cdef uint16_t* order            # by position: number of the sample + 1; 0: none
    cdef uint16_t* newer            # Fenwick tree: samples at these positions
    cdef int64_t* bulk              # Fenwick tree: their sizes; NULL unless sized
    cdef uint32_t room              # for samples,
    cdef uint32_t count, live       # known, not removed
    cdef uint32_t mask, shift       # of the index
    cdef uint32_t positions, clock  # there are, and the last one taken
    cdef uint64_t threshold         # hashes below it are looked at
    cdef double deepest
    cdef int64_t live_size
    cdef Histogram by_count, by_size, bytes_by_size
    cdef double cold_leverage       # of requests that are at no distance
    cdef readonly double requests, sampled, sampled_bytes

    def __init__(
        self, uint32_t samples=8192, bint sized=False, double deepest=0,
        uint64_t below=0x100000000,
    ):
        if not 64 <= samples <= MOST_SAMPLES:
            raise ValueError(f"samples is expected to be 64 to {MOST_SAMPLES}, got {samples}")
        if self.samples != NULL:
            raise RuntimeError("StackDistances cannot be made twice")
        cdef uint32_t bits = 1
        while (1 << bits) < 2 * samples:
            bits += 1
        self.room = samples
        self.mask = (1 << bits) - 1
        self.shift = 32 - bits
        self.positions = 2 * samples
        self.deepest = deepest
        self.samples = <Sample*> PyMem_RawCalloc(samples, sizeof(Sample))
        self.index = <uint16_t*> PyMem_RawCalloc(self.mask + 1, sizeof(uint16_t))
        self.order = <uint16_t*> PyMem_RawCalloc(self.positions + 1, sizeof(uint16_t))
        self.newer = <uint16_t*> PyMem_RawCalloc(self.positions + 1, sizeof(uint16_t))
        if sized:
            self.bulk = <int64_t*> PyMem_RawCalloc(self.positions + 1, sizeof(int64_t))
        if (
            self.samples == NULL or self.index == NULL or self.order == NULL
            or self.newer == NULL or (sized and self.bulk == NULL)
        ):
            raise MemoryError()
        self.threshold = min(max(below, <uint64_t> 1), <uint64_t> 0x100000000)

    def __dealloc__(self):
        PyMem_RawFree(self.samples)
        PyMem_RawFree(self.index)
        PyMem_RawFree(self.order)
        PyMem_RawFree(self.newer)
        PyMem_RawFree(self.bulk)

    @cython.critical_section
    def feed(
        self, const uint32_t[:] hashes, const int64_t[:] sizes=None,
        const uint8_t[:] operations=None, requests=None,
    ):
        """Take requests in. O(log samples) for each that is sampled.

        Args:
            hashes: of the keys, spread evenly over 32 bits.
            sizes: of the entries; 0: not known, so that a key is not there until it is put.
            operations: 0 a lookup, 1 a put, 2 a removal; None: lookups, each of which puts the
                key if it is not there.
            requests: how many lookups these stand for, where they are a sample already.

        Raises:
            ValueError: the arrays differ in length.
        """
        cdef Py_ssize_t i
        cdef Py_ssize_t lookups = 0
        cdef int64_t size = 1
        cdef uint8_t operation = LOOKUP
        if (sizes is not None and len(sizes) != len(hashes)) or (
            operations is not None and len(operations) != len(hashes)
        ):
            raise ValueError("hashes, sizes and operations are expected to be of one length")
        with nogil:
            for i in range(hashes.shape[0]):
                if operations is not None:
                    operation = operations[i]
                lookups += operation == LOOKUP
                if hashes[i] >= self.threshold:
                    continue
                if sizes is not None:
                    size = sizes[i]
                if operation == LOOKUP:
                    take_lookup(self, hashes[i], size)
                elif operation == PUT:
                    take_put(self, hashes[i], size)
                else:
                    take_removal(self, hashes[i])
        self.requests += lookups if requests is None else <double> requests

    @cython.critical_section
    def fade(self, double factor):
        """Let all that was counted so far weigh less."""
        cdef int i
        self.requests *= factor
        self.sampled *= factor
        self.sampled_bytes *= factor
        self.cold_leverage *= factor
        for i in range(BUCKETS):
            fade_bucket(&self.by_count, i, factor)
            fade_bucket(&self.by_size, i, factor)
            fade_bucket(&self.bytes_by_size, i, factor)

    @cython.critical_section
    def histograms(self):
        """Return requests by distance in entries and in bytes, and bytes by distance in bytes.

        The lower ends of the buckets are those of `edges`. Requests of keys seen for the first
        time are in none.
        """
        cdef double missing = self.requests - self.sampled
        cdef double mean = self.sampled_bytes / self.sampled if self.sampled else 0
        return (
            adjusted(self, &self.by_count, missing),
            adjusted(self, &self.by_size, missing),
            adjusted(self, &self.bytes_by_size, missing * mean),
        )

    @property
    def rate(self):
        """The share of the keys that are looked at."""
        return self.threshold / 4294967296.0

    @property
    def below(self):
        """Hashes below it are looked at, 2**32 at first."""
        return self.threshold

    @property
    def keys(self):
        """How many different keys are known, estimated."""
        return self.live * (4294967296.0 / self.threshold)

    @property
    def bytes(self):
        """What these keys take, estimated."""
        return self.live_size * (4294967296.0 / self.threshold)

    def memory_bytes(self):
        """Return the memory that it takes."""
        cdef size_t total = self.room * sizeof(Sample)
        total += (<size_t> self.mask + 1) * sizeof(uint16_t)
        total += (<size_t> self.positions + 1) * 2 * sizeof(uint16_t)
        if self.bulk != NULL:
            total += (<size_t> self.positions + 1) * sizeof(int64_t)
        return total + 3 * sizeof(Histogram) + 128


cdef object adjusted(StackDistances self, Histogram* histogram, double missing):
    """The counts, and what the sample has too few of or too many."""
    array = numpy.empty(BUCKETS)
    cdef double[:] view = array
    cdef double total = self.cold_leverage
    cdef int i
    for i in range(BUCKETS):
        view[i] = histogram.counts[i]
        total += histogram.leverage[i]
    if missing > 0:
        view[0] += missing
    elif total:
        for i in range(BUCKETS):
            view[i] += missing * histogram.leverage[i] / total
    return array


cdef inline void fade_bucket(Histogram* histogram, int i, double factor) noexcept nogil:
    histogram.counts[i] *= factor
    histogram.leverage[i] *= factor


cdef inline void count_at(
    Histogram* histogram, double distance, double amount, double leverage
) noexcept nogil:
    cdef int i = bucket_of(distance)
    histogram.counts[i] += amount
    histogram.leverage[i] += leverage


cdef inline uint32_t home_of(StackDistances self, uint32_t hash) noexcept nogil:
    """Where a hash belongs in the index; all of them are small, so not by their high bits."""
    return (hash * <uint32_t> 0x9E3779B1) >> self.shift


cdef inline Sample* find(StackDistances self, uint32_t hash) noexcept nogil:
    cdef uint32_t place = home_of(self, hash)
    cdef uint16_t number
    while True:
        number = self.index[place]
        if number == 0:
            return NULL
        if self.samples[number - 1].hash == hash:
            return &self.samples[number - 1]
        place = (place + 1) & self.mask


cdef inline void add_at(
    StackDistances self, uint32_t position, int count, int64_t size
) noexcept nogil:
    """Add to both trees."""
    while position <= self.positions:
        self.newer[position] += <uint16_t> count
        if self.bulk != NULL:
            self.bulk[position] += size
        position += position & -position


cdef inline void take_lookup(StackDistances self, uint32_t hash, int64_t size) noexcept nogil:
    cdef Sample* sample = find(self, hash)
    cdef double weight = 4294967296.0 / self.threshold
    cdef double leverage = weight * (weight - 1)
    cdef double distance
    cdef uint32_t position
    cdef uint32_t older = 0
    cdef int64_t older_size = 0
    self.sampled += weight
    if sample == NULL or sample.position == GONE:
        self.cold_leverage += leverage
        self.sampled_bytes += weight * size
        if size > 0:
            take_put(self, hash, size)
        return
    if size > 0 and size != sample.size:
        resize(self, sample, size)
    self.sampled_bytes += weight * sample.size
    position = sample.position
    while position:
        older += self.newer[position]
        if self.bulk != NULL:
            older_size += self.bulk[position]
        position &= position - 1
    sample.uses += sample.uses < MOST_USES
    leverage *= sample.uses
    count_at(&self.by_count, (self.live - older) * weight + 1, weight, leverage)
    if self.bulk != NULL:
        distance = (self.live_size - older_size) * weight + sample.size
        count_at(&self.by_size, distance, weight, leverage)
        count_at(&self.bytes_by_size, distance, weight * sample.size, leverage)
    take_removal(self, hash)
    put_on_top(self, sample)


cdef inline void take_put(StackDistances self, uint32_t hash, int64_t size) noexcept nogil:
    cdef Sample* sample = find(self, hash)
    cdef uint32_t place
    if sample == NULL:
        if self.count == self.room:
            make_room(self)
            if hash >= self.threshold:
                return
        sample = &self.samples[self.count]
        self.count += 1
        sample.hash = hash
        sample.position = GONE
        place = home_of(self, hash)
        while self.index[place]:
            place = (place + 1) & self.mask
        self.index[place] = <uint16_t> self.count
    if sample.position == GONE:
        sample.size = size
        sample.uses = 1
        put_on_top(self, sample)
    elif size != sample.size:
        resize(self, sample, size)


cdef inline void take_removal(StackDistances self, uint32_t hash) noexcept nogil:
    cdef Sample* sample = find(self, hash)
    if sample != NULL and sample.position != GONE:
        add_at(self, sample.position, -1, -sample.size)
        self.order[sample.position] = 0
        sample.position = GONE
        self.live -= 1
        self.live_size -= sample.size


cdef inline void resize(StackDistances self, Sample* sample, int64_t size) noexcept nogil:
    add_at(self, sample.position, 0, size - sample.size)
    self.live_size += size - sample.size
    sample.size = size


cdef inline void put_on_top(StackDistances self, Sample* sample) noexcept nogil:
    """Make the sample, which is at no position, the one used last."""
    if self.clock == self.positions:
        order_anew(self)
    self.clock += 1
    sample.position = <uint16_t> self.clock
    self.order[self.clock] = <uint16_t> (sample - self.samples + 1)
    add_at(self, self.clock, 1, sample.size)
    self.live += 1
    self.live_size += sample.size


cdef void make_room(StackDistances self) noexcept nogil:
    """Forget a part of the samples: those removed, those too old to matter, or by their hash."""
    cdef uint32_t oldest = 0
    cdef uint32_t left
    if self.live < self.count:
        drop(self, 0)
    elif self.deepest and self.live * (4294967296.0 / self.threshold) > self.deepest * 1.25:
        left = self.room >> 4
        while left:
            oldest += 1
            left -= self.order[oldest] != 0
        drop(self, oldest)
    while self.count > self.room - (self.room >> 4):
        self.threshold -= self.threshold >> 4
        drop(self, 0)


cdef void drop(StackDistances self, uint32_t oldest) noexcept nogil:
    """Keep the samples below the threshold that are there and were used after that position."""
    cdef uint32_t kept = 0
    cdef uint32_t i, place
    for i in range(self.count):
        if self.samples[i].hash < self.threshold and self.samples[i].position > oldest:
            self.samples[kept] = self.samples[i]
            kept += 1
        elif self.samples[i].position != GONE:
            self.order[self.samples[i].position] = 0
            self.live -= 1
            self.live_size -= self.samples[i].size
    self.count = kept
    memset(self.index, 0, (<size_t> self.mask + 1) * sizeof(uint16_t))
    for i in range(kept):
        self.order[self.samples[i].position] = <uint16_t> (i + 1)
        place = home_of(self, self.samples[i].hash)
        while self.index[place]:
            place = (place + 1) & self.mask
        self.index[place] = <uint16_t> (i + 1)
    order_anew(self)


cdef void order_anew(StackDistances self) noexcept nogil:
    """Number the positions from 1 again, and grow the trees from them."""
    cdef uint32_t position = 0
    cdef uint32_t i, parent
    cdef uint16_t number
    memset(self.newer, 0, (<size_t> self.positions + 1) * sizeof(uint16_t))
    if self.bulk != NULL:
        memset(self.bulk, 0, (<size_t> self.positions + 1) * sizeof(int64_t))
    for i in range(1, self.clock + 1):
        number = self.order[i]
        if number:
            position += 1
            self.order[i] = 0
            self.order[position] = number
            self.samples[number - 1].position = <uint16_t> position
            self.newer[position] = 1
            if self.bulk != NULL:
                self.bulk[position] = self.samples[number - 1].size
    self.clock = position
    for i in range(1, self.positions + 1):
        parent = i + (i & -i)
        if parent <= self.positions:
            self.newer[parent] += self.newer[i]
            if self.bulk != NULL:
                self.bulk[parent] += self.bulk[i]
