"""What analytics sees of a store: the requests of a share of its keys, noted as they come.

A key is of that share by its hash, so a lookup that notes nothing pays one comparison.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from hybridcore._native.clock cimport coarse_ns

cdef enum:
    EVENTS = 1024           # there is room for

# Operations.
cdef enum:
    LOOKUP = 0
    PUT = 1
    REMOVED = 2             # or expired, but not evicted


cdef struct Event:
    int64_t time            # ns on the coarse clock
    int64_t size            # of the entry; 0: a miss, or a removal
    uint32_t hash
    uint32_t operation


cdef struct Probe:
    uint64_t below          # hashes below it are noted; 0: none are
    Event* events           # room for EVENTS once there was a prober
    uint32_t count
    uint64_t lost           # events that found no room


cdef inline void probe_note(
    Probe* probe, uint32_t hash, int64_t size, uint32_t operation
) noexcept nogil:
    cdef Event* event
    if probe.count == EVENTS:
        probe.lost += 1
        return
    event = &probe.events[probe.count]
    event.time = coarse_ns()
    event.size = size
    event.hash = hash
    event.operation = operation
    probe.count += 1
