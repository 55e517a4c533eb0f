# cython: freethreading_compatible=True
"""`Histogram`: how long something takes, lately and ever, to within 2 %.

Records go into a slice of ten seconds. When it is over its counts are packed and it joins those
of the past, where neighbours are merged as they grow older: to a minute each after one minute, to
ten after five, and to one that holds all from before the last hour. Where that would take more
bytes than there are, they are merged further.
"""

import time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from hybridcore._native.buckets cimport (
    BUCKETS, MOST_PACKED, bucket_of, lower_edge, middle, pack, unpack,
)
from hybridcore._native.clock cimport coarse_ns
from hybridcore._native.objects cimport unlikely
from hybridcore._native.sections cimport Section, enter, leave
from hybridcore._native.tally cimport (
    add32, add64, get32, get64, get_time, set_time, take32, take64,
)
from hybridcore._native.ticks cimport TickRate, learn_rate, read_ticks

cimport cython

cdef enum:
    MOST_BYTES = 10240      # of packed counts, so that a histogram stays below 16 KiB

cdef int64_t SECOND = 1_000_000_000
cdef int64_t SLICE = 10 * SECOND
cdef int64_t MINUTE = 60 * SECOND
cdef int64_t HOUR = 60 * MINUTE
cdef double LONGEST = 1e9           # seconds that can be recorded, more than buckets tell apart

cdef TickRate rate
learn_rate(&rate)


@cython.final
cdef class Distribution:
    """How often something took how long, within some stretch of time: immutable.

    ``a + b`` is of both, ``after - before`` of what came between two of the same histogram. All
    durations are in seconds and within 2 % from 100 ns to 100 s. Of nothing every quantile is
    0.0. It pickles to some hundred bytes.
    """

    cdef readonly uint64_t count
    cdef readonly double seconds
    cdef uint64_t nanoseconds
    cdef bytes packed

    def __cinit__(self, bytes packed not None=b"", nanoseconds=0, seconds=0.0, /):
        cdef uint64_t counts[BUCKETS]
        memset(counts, 0, sizeof(counts))
        self.packed = packed
        self.nanoseconds = nanoseconds
        self.seconds = seconds
        self.count = unpack_into(self, counts)

    @property
    def sum(self):
        """All durations added up."""
        return self.nanoseconds / 1e9

    @property
    def mean(self):
        """The mean duration."""
        return self.nanoseconds / 1e9 / self.count if self.count else 0.0

    @property
    def rate(self):
        """How many there were a second, within the ``seconds`` that it is about."""
        return self.count / self.seconds if self.seconds > 0 else 0.0

    def quantile(self, share, /):
        """The duration that this share of all is not longer than, such as 0.99."""
        return self.quantiles(share)[0]

    def quantiles(self, *shares):
        """The same for several shares, at the cost of one."""
        cdef uint64_t counts[BUCKETS]
        cdef uint32_t bucket = 0
        cdef uint64_t below = 0
        cdef uint64_t rank
        for share in shares:
            if not 0 <= share <= 1:
                raise ValueError(f"a share is expected to be from 0 to 1, got {share!r}")
        if not self.count:
            return [0.0 for _ in shares]
        memset(counts, 0, sizeof(counts))
        unpack_into(self, counts)
        found = {}
        for share in sorted(set(shares)):
            rank = max(1, min(self.count, <uint64_t> -(-share * self.count // 1)))
            while below + counts[bucket] < rank:
                below += counts[bucket]
                bucket += 1
            found[share] = middle(bucket) / 1e9
        return [found[share] for share in shares]

    def at_most(self, bounds, /):
        """For each of these rising bounds in seconds, how many were not longer.

        What is in the bucket of a bound counts as not longer: bounds, too, are within 2 %.
        """
        cdef uint64_t counts[BUCKETS]
        cdef uint32_t bucket = 0
        cdef uint64_t below = 0
        memset(counts, 0, sizeof(counts))
        unpack_into(self, counts)
        told = []
        for bound in bounds:
            last = bucket_of(to_ns(bound))
            while bucket <= last:
                below += counts[bucket]
                bucket += 1
            told.append(below)
        return told

    def to_numpy(self):
        """Counts and edges in seconds, one edge more, as `numpy.histogram` returns them."""
        import numpy as np

        cdef uint64_t counts[BUCKETS]
        cdef uint32_t bucket
        cdef uint32_t first = 0
        cdef uint32_t end = BUCKETS
        memset(counts, 0, sizeof(counts))
        unpack_into(self, counts)
        while end and not counts[end - 1]:
            end -= 1
        while first < end and not counts[first]:
            first += 1
        told, edges = [], [lower_edge(first) / 1e9]
        for bucket in range(first, end):
            told.append(counts[bucket])
            edges.append(lower_edge(bucket + 1) / 1e9)
        return np.array(told, np.uint64), np.array(edges)

    def __add__(self, other):
        if not isinstance(other, Distribution):
            return NotImplemented
        cdef uint64_t counts[BUCKETS]
        cdef Distribution one = <Distribution> self
        cdef Distribution two = <Distribution> other
        memset(counts, 0, sizeof(counts))
        unpack_into(one, counts)
        unpack_into(two, counts)
        return distribution(
            counts, one.nanoseconds + two.nanoseconds, max(one.seconds, two.seconds)
        )

    def __sub__(self, other):
        if not isinstance(other, Distribution):
            return NotImplemented
        cdef uint64_t counts[BUCKETS]
        cdef uint64_t before[BUCKETS]
        cdef Distribution after = <Distribution> self
        cdef Distribution less = <Distribution> other
        cdef uint32_t bucket
        memset(counts, 0, sizeof(counts))
        memset(before, 0, sizeof(before))
        unpack_into(after, counts)
        unpack_into(less, before)
        for bucket in range(BUCKETS):
            counts[bucket] -= min(counts[bucket], before[bucket])
        return distribution(
            counts,
            after.nanoseconds - min(after.nanoseconds, less.nanoseconds),
            max(0.0, after.seconds - less.seconds),
        )

    def __eq__(self, other):
        if not isinstance(other, Distribution):
            return NotImplemented
        return self.__reduce__() == other.__reduce__()

    def __hash__(self):
        return hash((self.packed, self.nanoseconds))

    def __reduce__(self):
        return Distribution, (self.packed, self.nanoseconds, self.seconds)

    def __repr__(self):
        if not self.count:
            return "Distribution(nothing)"
        middle_one, high = self.quantiles(0.5, 0.99)
        return f"Distribution({self.count} in {self.seconds:.0f} s, p50={middle_one:.3g} s, " \
            f"p99={high:.3g} s)"


cdef uint64_t unpack_into(Distribution one, uint64_t* counts) noexcept:
    return unpack(
        <const uint8_t*> PyBytes_AS_STRING(one.packed), PyBytes_GET_SIZE(one.packed), counts
    )


cdef Distribution distribution(const uint64_t* counts, uint64_t nanoseconds, double seconds):
    cdef uint8_t packed[MOST_PACKED]
    cdef uint32_t size = pack(counts, packed)
    return Distribution(
        PyBytes_FromStringAndSize(<char*> packed, size), nanoseconds, seconds
    )


@cython.final
cdef class Histogram:
    """Counts durations, so that quantiles over the last minutes can be told at any time.

    Recording takes no lock, allocates nothing and never fails, but for arguments that make no
    sense. A histogram takes at most 16 KiB.

    >>> histogram = Histogram()
    >>> for milliseconds in range(1, 1001):
    ...     histogram.record(milliseconds / 1000)
    >>> 0.97 < histogram.snapshot("5m").quantile(0.99) < 1.01
    True

    Args:
        timer: a clock in seconds; the default one is monotonic and ticks every few milliseconds.
    """

    def __cinit__(self, timer=None):
        self.timer = timer
        self.packed = <uint8_t*> PyMem_RawMalloc(MOST_BYTES)
        if self.packed == NULL:
            raise MemoryError
        self.made = self.since = now_of(self)
        self.until = self.since + SLICE

    def __dealloc__(self):
        PyMem_RawFree(self.packed)

    def record(self, double seconds, uint32_t count=1):
        """Count something that took so long; with ``count`` as if it came so often.

        Raises:
            ValueError: it took less than no time.
        """
        if not 0.0 <= seconds:
            raise ValueError(f"seconds is expected to be at least 0, got {seconds!r}")
        c_record(self, <uint64_t> (min(seconds, LONGEST) * 1e9 + 0.5), count)

    def record_ns(self, int64_t ns, uint32_t count=1):
        """The same in nanoseconds."""
        if ns < 0:
            raise ValueError(f"ns is expected to be at least 0, got {ns!r}")
        c_record(self, <uint64_t> ns, count)

    @property
    def count(self):
        """How many were ever recorded."""
        return self.snapshot().count

    @property
    def sum(self):
        """How long all that were ever recorded took, in seconds."""
        return self.snapshot().sum

    def snapshot(self, window=None):
        """What was recorded within the last ``window`` (seconds, or such as "5m"); None: ever.

        Where a slice is partly in the window, it is in or out as its greater part is, so the
        `Distribution` may be of a few seconds less or more; its ``seconds`` tells. A window is
        at most an hour.
        """
        from hybridcore.units import seconds

        cdef double span = 0.0 if window is None else seconds(window)
        if span > 3600:
            raise ValueError(f"a window is expected to be at most an hour, got {window!r}")
        return self._within(span)

    def quantile(self, share, window=None):
        """`Distribution.quantile` within the window."""
        return self.snapshot(window).quantile(share)

    def windows(self, *spans):
        """What was ever recorded, and within each of these spans in seconds, at most an hour."""
        return [self._within(span) for span in (0.0, *spans)]

    def _within(self, double span):
        """The distribution within so many seconds, ever for 0."""
        cdef uint64_t counts[BUCKETS]
        cdef uint64_t total
        cdef double seconds
        cdef Section section
        memset(counts, 0, sizeof(counts))
        cdef int64_t now = now_of(self)
        enter(&section, <PyObject*> self)
        collect(self, <int64_t> (span * 1e9), now, counts, &total, &seconds)
        leave(&section)
        return distribution(counts, total, seconds)

    def merge(self, Histogram other not None):
        """Add what another one recorded, as if it had been recorded here at its time."""
        if other is self:
            raise ValueError("a histogram cannot be merged into itself")
        cdef int64_t now = now_of(self)
        cdef Slice theirs[MOST_SLICES + 1]
        cdef uint8_t* packed = <uint8_t*> PyMem_RawMalloc(MOST_BYTES + MOST_PACKED)
        cdef uint32_t count
        cdef Section section
        if packed == NULL:
            raise MemoryError
        try:
            enter(&section, <PyObject*> other)
            count = copy_of(other, theirs, packed)
            leave(&section)
            enter(&section, <PyObject*> self)
            fold(self, now, theirs, count, packed)
            self.made = min(self.made, other.made)
            leave(&section)
        finally:
            PyMem_RawFree(packed)

    def outliers(self):
        """The longest of late: up to 16 pairs of a duration and its time since the epoch.

        Longer than 999 of 1000 in a slice before, or at first than any before.
        """
        cdef uint64_t i, noted = get64(&self.noted)
        cdef uint64_t kept = min(noted, MOST_OUTLIERS)
        cdef int64_t now = now_of(self)
        cdef double wall = time.time()
        told = []
        for i in range(noted - kept, noted):
            one = self.longest[i % MOST_OUTLIERS]
            told.append((one.ns / 1e9, wall - (now - one.at) / 1e9))
        return told

    def __sizeof__(self):
        return object.__sizeof__(self) + MOST_BYTES


cdef int64_t now_of(Histogram histogram) noexcept:
    """The time of the histogram's clock in ns; a timer that fails is told of, and its time 0."""
    if histogram.timer is None:
        return coarse_ns()
    return <int64_t> (<double> histogram.timer() * 1e9)


cdef uint64_t to_ns(double seconds) noexcept:
    return <uint64_t> (min(max(seconds, 0.0), LONGEST) * 1e9 + 0.5)


cdef int64_t start_timing() noexcept:
    """A time stamp for `end_timing`."""
    return read_ticks(&rate)


cdef double seconds_since(int64_t start) noexcept:
    """How long ago `start_timing` was."""
    cdef int64_t ticks = read_ticks(&rate) - start
    return 0.0 if ticks < 0 else <double> ticks * rate.ns * 1e-9


cdef void end_timing(Histogram histogram, int64_t start, uint32_t weight) noexcept:
    """Record the time since `start_timing`, as if that had happened ``weight`` times."""
    cdef int64_t ticks = read_ticks(&rate) - start
    if ticks < 0:
        ticks = 0
    c_record(histogram, <uint64_t> (<double> ticks * rate.ns), weight)


cdef void c_record(Histogram histogram, uint64_t ns, uint32_t weight) noexcept:
    cdef int64_t now = now_of(histogram)
    if unlikely(now >= get_time(&histogram.until)):
        rotate(histogram, now)
    if unlikely(ns > histogram.remarkable):
        note_outlier(histogram, ns, now)
    add32(&histogram.counts[bucket_of(ns)], weight)
    add64(&histogram.sum, ns * weight)


cdef void note_outlier(Histogram histogram, uint64_t ns, int64_t now) noexcept:
    cdef uint64_t place = get64(&histogram.noted) % MOST_OUTLIERS
    if not histogram.knows_usual:
        histogram.remarkable = ns
    histogram.longest[place].ns = ns
    histogram.longest[place].at = now
    add64(&histogram.noted, 1)


cdef void rotate(Histogram histogram, int64_t now) noexcept:
    """End the slice, and begin the one of now."""
    cdef Section section
    enter(&section, <PyObject*> histogram)
    if now >= histogram.until:
        learn_rate(&rate)
        fold(histogram, now, NULL, 0, NULL)
        histogram.since = now
        set_time(&histogram.until, now + SLICE)
    leave(&section)


cdef int64_t length_at(int64_t age, int64_t slack) noexcept nogil:
    """How long a slice may be that ended so long ago: the windows keep their edges for long."""
    cdef int64_t most = 1 if slack <= 64 else slack // 64
    if age < MINUTE:
        return min(SLICE * slack, MINUTE * most)
    if age < 5 * MINUTE:
        return min(MINUTE * slack, 4 * MINUTE * most)
    return 10 * MINUTE * slack


cdef uint32_t end_slice(Histogram histogram, Slice* ended, uint8_t* packed) noexcept:
    """Take what the slice of now has; return whether that is anything."""
    cdef uint64_t counts[BUCKETS]
    cdef uint32_t bucket
    cdef uint64_t total = 0
    for bucket in range(BUCKETS):
        counts[bucket] = take32(&histogram.counts[bucket])
        total += counts[bucket]
    ended.since = histogram.since
    ended.until = histogram.until
    ended.sum = take64(&histogram.sum)
    ended.size = pack(counts, packed)
    if total >= 1000:
        histogram.remarkable = rarely_more(counts, total - total // 1000)
        histogram.knows_usual = True
    return 1 if total else 0


cdef uint64_t rarely_more(const uint64_t* counts, uint64_t rank) noexcept nogil:
    """The longest in the bucket of this rank."""
    cdef uint32_t bucket = 0
    while rank > counts[bucket]:
        rank -= counts[bucket]
        bucket += 1
    return lower_edge(bucket + 1) - 1


cdef uint32_t copy_of(Histogram histogram, Slice* slices, uint8_t* packed) noexcept:
    """Copy all slices with that of now; return how many there are."""
    cdef uint64_t counts[BUCKETS]
    cdef uint32_t i, bucket, size = 0
    for i in range(histogram.slices):
        slices[i] = histogram.past[i]
        size += slices[i].size
    memcpy(packed, histogram.packed, size)
    for bucket in range(BUCKETS):
        counts[bucket] = get32(&histogram.counts[bucket])
    i = histogram.slices
    slices[i].since = histogram.since
    slices[i].until = histogram.until
    slices[i].sum = get64(&histogram.sum)
    slices[i].size = pack(counts, packed + size)
    return i + 1


# All that `fold` puts in order: pointers to slices, and where each has its counts.
cdef struct Part:
    Slice slice
    const uint8_t* packed


cdef void fold(
    Histogram histogram, int64_t now, const Slice* others, uint32_t count, const uint8_t* packed
) noexcept:
    """Have the slice of now, and others, join those of the past."""
    cdef Part parts[2 * MOST_SLICES + 2]
    cdef Part part
    cdef uint32_t i, j
    cdef uint32_t known = 0
    cdef int64_t slack = 1
    cdef uint8_t* at = histogram.packed
    cdef uint8_t* room = <uint8_t*> PyMem_RawMalloc(MOST_BYTES + 2 * MOST_PACKED)
    if room == NULL:
        return          # the slice goes on for longer
    for i in range(histogram.slices):
        parts[known].slice = histogram.past[i]
        parts[known].packed = at
        at += histogram.past[i].size
        known += 1
    parts[known].packed = room
    known += end_slice(histogram, &parts[known].slice, room)
    for i in range(count):
        if others[i].size:
            parts[known].slice = others[i]
            parts[known].packed = packed
            known += 1
        packed += others[i].size
    for i in range(1, known):       # as good as sorted already
        part = parts[i]
        j = i
        while j and parts[j - 1].slice.until > part.slice.until:
            parts[j] = parts[j - 1]
            j -= 1
        parts[j] = part
    while not merge_parts(histogram, now, parts, known, slack, room + MOST_PACKED):
        slack *= 2
    PyMem_RawFree(room)


cdef bint merge_parts(
    Histogram histogram, int64_t now, const Part* parts, uint32_t known, int64_t slack,
    uint8_t* room
) noexcept:
    """Merge neighbours, ``slack`` times as many as of right; False if they do not fit."""
    cdef uint64_t counts[BUCKETS]
    cdef Slice merged[MOST_SLICES]
    cdef uint32_t made = 0
    cdef uint32_t size = 0
    cdef uint32_t first = 0
    cdef uint32_t end, i
    # All goes into one slice at last, which fits: its counts are below 2**56.
    cdef int64_t horizon = HOUR if slack <= 16 else HOUR * 16 // slack
    while first < known:
        end = first + 1
        while end < known and (
            parts[end].slice.until <= now - horizon
            or parts[end].slice.until - parts[first].slice.since
            <= length_at(now - parts[end].slice.until, slack)
        ):
            end += 1
        if made == MOST_SLICES or size > MOST_BYTES:
            return False
        merged[made] = parts[first].slice
        if end == first + 1:
            memcpy(room + size, parts[first].packed, parts[first].slice.size)
        else:
            memset(counts, 0, sizeof(counts))
            merged[made].sum = 0
            for i in range(first, end):
                merged[made].sum += parts[i].slice.sum
                merged[made].since = min(merged[made].since, parts[i].slice.since)
                unpack(parts[i].packed, parts[i].slice.size, counts)
            merged[made].until = parts[end - 1].slice.until
            merged[made].size = pack(counts, room + size)
        size += merged[made].size
        made += 1
        first = end
    if size > MOST_BYTES:
        return False
    memcpy(histogram.past, merged, made * sizeof(Slice))
    memcpy(histogram.packed, room, size)
    histogram.slices = made
    return True


cdef void collect(
    Histogram histogram, int64_t span, int64_t now, uint64_t* counts, uint64_t* total,
    double* seconds
) noexcept:
    """Add the counts within the span, ever for 0; of which duration in all and what time."""
    cdef uint32_t i, bucket
    cdef int64_t cut = now - span if span else histogram.made
    cdef int64_t since = max(cut, histogram.made)
    cdef const uint8_t* packed = histogram.packed
    cdef Slice* past
    total[0] = 0
    for i in range(histogram.slices):
        past = &histogram.past[i]
        if not span or past.since + (past.until - past.since) // 2 >= cut:
            unpack(packed, past.size, counts)
            total[0] += past.sum
            since = min(since, past.since)
        elif past.until > cut:
            since = max(since, past.until)
        packed += past.size
    if not span or histogram.since + (min(histogram.until, now) - histogram.since) // 2 >= cut:
        total[0] += get64(&histogram.sum)
        for bucket in range(BUCKETS):
            counts[bucket] += get32(&histogram.counts[bucket])
        since = min(since, histogram.since)
    seconds[0] = <double> (now - since) / 1e9
