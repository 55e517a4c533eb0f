"""What the memory tier keeps of one entry, in plain C."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint16_t, uint32_t

cdef enum:
    NIL = 0xFFFFFFFFu       # no entry


cdef struct Entry:
    PyObject* key           # owned
    PyObject* value         # owned
    uint32_t hash           # the mixed hash: finds the entry's slot again without asking the key
    uint32_t older          # policy: the next colder entry
    uint32_t newer          # policy: the next hotter entry


# Kept beside the entries from the first use of a ttl, size, cost or importance on; a cache that
# uses none of them never allocates it.
cdef struct Extra:
    int64_t deadline        # ns on the cache's clock when it stops being fresh; 0: never
    int64_t until           # ns when it is removed: the deadline plus the time it is kept stale
    int64_t ttl             # ns it was given, for touch(); 0: none
    int64_t size
    float cost              # of loading it again
    float importance        # to the application
    PyObject* note          # owned or NULL: what the engine remembers of a stale copy
    uint32_t timer_next
    uint32_t timer_prev
    uint16_t bucket         # of the timer wheel; NO_BUCKET when not scheduled
