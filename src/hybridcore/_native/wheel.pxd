"""A hierarchical timer wheel: finds expired entries in O(1) amortized.

Seven rings of 64 buckets; a bucket of ring 0 spans one tick (2**20 ns, about a millisecond), of
ring r 64**r ticks. An entry waits in the finest ring that reaches its time and falls towards
ring 0 as the time comes near, so it moves at most seven times in its life.

G. Varghese, T. Lauck: Hashed and Hierarchical Timing Wheels (SOSP 1987).
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t

from hybridcore._native.entry cimport NIL, Extra

cdef enum:
    TICK_BITS = 20
    RING_BITS = 6
    RING_SIZE = 64
    RINGS = 7
    DUE = 448                   # the list of entries whose time has come
    NO_BUCKET = 0xFFFF


cdef struct Wheel:
    int64_t tick                # of the last advance
    uint32_t heads[449]         # lists of entries: RINGS * RING_SIZE buckets, and DUE


cdef inline void wheel_clear(Wheel* wheel, int64_t now) noexcept nogil:
    cdef int i
    wheel.tick = now >> TICK_BITS
    for i in range(DUE + 1):
        wheel.heads[i] = NIL


cdef inline void wheel_link(
    Wheel* wheel, Extra* extras, uint32_t i, uint16_t bucket
) noexcept nogil:
    cdef uint32_t head = wheel.heads[bucket]
    extras[i].bucket = bucket
    extras[i].timer_prev = NIL
    extras[i].timer_next = head
    if head != NIL:
        extras[head].timer_prev = i
    wheel.heads[bucket] = i


cdef inline void wheel_add(Wheel* wheel, Extra* extras, uint32_t i, int64_t now) noexcept nogil:
    """Schedule the entry for its ``until``; one whose time has come joins DUE."""
    cdef int64_t tick = max(extras[i].until >> TICK_BITS, wheel.tick)
    cdef int64_t ahead = tick - wheel.tick
    cdef int ring = 0
    if extras[i].until <= now:
        wheel_link(wheel, extras, i, DUE)
        return
    while ring < RINGS - 1 and ahead >> (RING_BITS * (ring + 1)):
        ring += 1
    wheel_link(wheel, extras, i, <uint16_t> (
        ring * RING_SIZE + ((tick >> (RING_BITS * ring)) & (RING_SIZE - 1))
    ))


cdef inline void wheel_remove(Wheel* wheel, Extra* extras, uint32_t i) noexcept nogil:
    cdef Extra* extra = &extras[i]
    if extra.bucket == NO_BUCKET:
        return
    if extra.timer_prev != NIL:
        extras[extra.timer_prev].timer_next = extra.timer_next
    else:
        wheel.heads[extra.bucket] = extra.timer_next
    if extra.timer_next != NIL:
        extras[extra.timer_next].timer_prev = extra.timer_prev
    extra.bucket = NO_BUCKET


cdef inline void wheel_moved(Wheel* wheel, Extra* extras, uint32_t i) noexcept nogil:
    """The entry's extra, links included, was copied to index ``i``."""
    cdef Extra* extra = &extras[i]
    if extra.bucket == NO_BUCKET:
        return
    if extra.timer_prev != NIL:
        extras[extra.timer_prev].timer_next = i
    else:
        wheel.heads[extra.bucket] = i
    if extra.timer_next != NIL:
        extras[extra.timer_next].timer_prev = i


cdef inline void wheel_empty(
    Wheel* wheel, Extra* extras, int bucket, int64_t now
) noexcept nogil:
    """Empty one bucket, scheduling its entries anew."""
    cdef uint32_t i = wheel.heads[bucket]
    cdef uint32_t after
    wheel.heads[bucket] = NIL
    while i != NIL:
        after = extras[i].timer_next
        wheel_add(wheel, extras, i, now)
        i = after


cdef inline void wheel_rewind(Wheel* wheel, Extra* extras, int64_t now) noexcept nogil:
    """Go back to ``now``. O(entries): a clock may be set back, but not every day."""
    cdef Wheel old = wheel[0]
    cdef uint32_t i, after
    cdef int bucket
    wheel_clear(wheel, now)
    for bucket in range(DUE + 1):
        i = old.heads[bucket]
        while i != NIL:
            after = extras[i].timer_next
            wheel_add(wheel, extras, i, now)
            i = after


cdef inline void wheel_advance(Wheel* wheel, Extra* extras, int64_t now) noexcept nogil:
    """Move to ``now``; entries that are due go to DUE.

    Threads may read a clock in one order and arrive here in another, so a step back by less than
    a turn of ring 0 is none: it only looks for what is due in the bucket of the last tick.
    """
    cdef int64_t before = wheel.tick
    cdef int64_t tick = now >> TICK_BITS
    cdef int64_t first, last, position
    cdef int ring
    if tick <= before - RING_SIZE:
        wheel_rewind(wheel, extras, now)
        return
    tick = max(tick, before)
    wheel.tick = tick
    for ring in range(RINGS - 1, 0, -1):
        last = tick >> (RING_BITS * ring)
        first = max((before >> (RING_BITS * ring)) + 1, last - RING_SIZE + 1)
        for position in range(first, last + 1):
            wheel_empty(wheel, extras, ring * RING_SIZE + (position & (RING_SIZE - 1)), now)
    for position in range(max(before, tick - RING_SIZE + 1), tick + 1):
        wheel_empty(wheel, extras, position & (RING_SIZE - 1), now)
