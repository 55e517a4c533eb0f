"""The straight way of a miss, for the front to go."""

from cpython.object cimport PyObject

from hybridcore._native.generation cimport Generation
from hybridcore._native.histogram cimport Histogram
from hybridcore._native.memory cimport MemoryStore
from libc.stdint cimport int64_t, uint64_t


cdef class Flight:
    cdef readonly object key
    cdef public object origin       # asked if no tier has the key
    cdef public object options
    cdef public object copy         # what the tiers hold, if it is not enough
    cdef public int64_t thread      # of who leads it
    cdef public object is_abandoned  # asks who might leave it without ending it
    cdef public object future       # made when the first follower comes
    cdef list others                # that the loader of this one waits for, None: none yet
    cdef public object successor    # goes on with the load in the background
    cdef public bint ended
    cdef public object value
    cdef public object tier
    cdef public object error
    cdef public bint lost           # with its leader: another has to lead
    cdef public object guard        # that the call of the origin passed
    cdef public bint running        # while that call runs
    cdef readonly bint is_plain     # nothing but the origin is left to be asked
    cdef readonly bint looked_up    # the tiers
    cdef public uint64_t since      # what was invalidated before it began
    cdef Py_hash_t hash
    cdef int64_t started            # in ticks
    cdef dict flights               # where it is registered...
    cdef object acquire, release    # ...under this lock


cdef class Straight:
    cdef MemoryStore store
    cdef Generation generation
    cdef object coherence
    cdef object tiers, disk, fetch, resolve, copy_of
    cdef object events, rules, missing, failed, costs, led, guarded
    cdef object memory_ttl
    cdef dict flights
    cdef list acquires, releases
    cdef bint is_open               # lookups may go this way...
    cdef bint loads                 # ...and ask the origin
    cdef object defaults            # options of all keys that no pattern matches
    cdef object origin, function, guard, circuit
    cdef uint64_t promoted, loaded
    cdef Histogram disk_hits, disk_misses, disk_stale, disk_errors, loads_timed, hits, misses
    cdef object served              # told of the tier and value of one in 16, or None
    cdef uint64_t random


cdef object DECLINED
cdef object straight_get(Straight self, object front, object key, object default)
