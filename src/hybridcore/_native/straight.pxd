"""The straight way of a miss, for the front to go."""

from cpython.object cimport PyObject

from hybridcore._native.generation cimport Generation
from hybridcore._native.histogram cimport Histogram
from hybridcore._native.locks cimport KeyLock
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
    cdef object permit      # of the breaker, None: the call is part of another one
    cdef bint is_bare       # the call returns a value, not an answer
    cdef bint is_leased     # other processes wait for it
    cdef bint looked_up     # on disk, where this was found
    cdef object record
    cdef public uint64_t since      # what was invalidated before it began
    cdef public object queued       # what the queue of writes had taken before it began
    cdef public object version      # of what is loaded, where conflicts are settled by it
    cdef public bint met            # by a value that was put meanwhile
    cdef public object tags         # of what it brought, None: none
    cdef public bint called_off     # as what it brought was invalidated meanwhile
    cdef Py_hash_t hash
    cdef int64_t started            # in ticks
    cdef int64_t asked              # the same, of the call of the origin
    cdef dict flights               # where it is registered...
    cdef KeyLock lock               # ...under this lock


cdef class Straight:
    cdef MemoryStore store
    cdef Generation generation
    cdef object tiers, disk, fetch_plain, resolve, copy_of
    cdef object events, rules, missing, failed, costs, guarded
    cdef dict missed                # writes that the disk has yet to take...
    cdef list outage                # ...and why it does not work
    cdef object memory_ttl
    cdef dict flights
    cdef list locks
    cdef bint is_open               # lookups may go this way...
    cdef bint loads                 # ...and ask the origin
    cdef object defaults            # options of all keys that no pattern matches...
    cdef bint is_plain              # ...which have nothing that turns off here
    cdef object origin, function, afunction, guard, circuit
    cdef uint64_t promoted, loaded
    cdef Histogram disk_hits, disk_misses, disk_stale, disk_errors, disk_puts
    cdef Histogram loads_timed, hits, misses
    cdef object served              # told of the tier and value of one in 16, or None
    cdef uint64_t random


cdef enum:
    FOUND
    NOWHERE
    IN_MEMORY
    STALE


cdef object DECLINED
cdef object NOTHING
cdef object straight_get(Straight self, object front, object key, object default)
cdef object join(Straight self, object key)
cdef int look_up(Straight self, Flight flight) except -1
cdef int may_load(Straight self, Flight flight) except -1
cdef object enter_call(Straight self, Flight flight)
cdef int leave_call(Straight self, Flight flight, object error) except -1
cdef bint land(Straight self, Flight flight, object answer) except -1
cdef int part(Straight self, Flight flight) except -1
cdef int lose(Straight self, Flight flight) except -1
