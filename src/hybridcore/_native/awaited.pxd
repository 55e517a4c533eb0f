"""Awaited misses, for the front that starts them."""

from hybridcore._native.straight cimport Flight, Straight

cimport cython


@cython.final
cdef class Spare:
    cdef object loop, task
    cdef object parked          # the future that the task waits for until there is work
    cdef object work, context   # the coroutine that it goes on with, and where
    cdef object awaited         # what that waited for when it was handed over, or NOTHING
    cdef bint is_over           # it lends its name no more


cdef class Runner:
    cdef Spare spare            # of the loop that ran here last, or None


@cython.final
cdef class Begun:
    cdef object work, awaited


@cython.final
cdef class Asked:
    cdef Runner face
    cdef object key, default
    cdef Straight straight      # or None
    cdef object rest            # the coroutine that goes on, None: not yet
    cdef bint has_begun


cdef inline Asked asked_of(Runner face, Straight straight, object key, object default):
    """The coroutine of a miss."""
    cdef Asked coroutine = Asked.__new__(Asked)
    coroutine.face = face
    coroutine.straight = straight
    coroutine.key = key
    coroutine.default = default
    return coroutine
