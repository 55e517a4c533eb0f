"""What the memory tier keeps of one entry, in plain C."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

cdef enum:
    NIL = 0xFFFFFFFFu       # no entry
    OUTDATED = 0xFFFF       # an epoch that no store ever has


# Of an entry in a list, for the policies that keep their entries in order.
cdef struct Links:
    uint32_t older          # the next colder entry
    uint32_t newer          # the next hotter entry
    uint16_t offset         # in grades, what its value adds; see graded.pxd
    uint8_t frequency
    uint8_t octave          # of the clock at its last use


# Of an entry that the learned policy judges by its habits.
cdef struct Habit:
    uint32_t last           # its last use, on the policy's clock of requests
    uint8_t kind
    uint8_t frequency


# Of an entry that is judged by how often it was used.
cdef struct Use:
    uint32_t older
    uint32_t newer
    uint32_t group


cdef union Standing:
    Links links
    Use use
    Habit habit


cdef struct Entry:
    PyObject* key           # owned
    PyObject* value         # owned
    uint32_t hash           # the mixed hash: finds the entry's slot again without asking the key
    Standing policy         # which member is meant is the policy's business


# Kept beside the entries from the first use of a ttl, size, cost or importance on; a cache that
# uses none of them never allocates it.
cdef struct Extra:
    int64_t deadline        # ns on the cache's clock when it stops being fresh; 0: never
    int64_t until           # ns when it is removed: the deadline plus the time it is kept stale
    int64_t ttl             # ns it was given, for touch(); 0: none
    int64_t size
    float cost              # of loading it again
    float importance        # to the application
    float value             # what the weights make of size, cost and importance
    uint16_t bucket         # of the timer wheel; NO_BUCKET when not scheduled
    uint16_t epoch          # 0, or the store's when it was last found to be valid
    PyObject* note          # owned or NULL: what the engine remembers of a stale copy
    uint32_t timer_next
    uint32_t timer_prev
