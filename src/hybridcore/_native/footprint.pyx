# cython: freethreading_compatible=True
"""How much memory a value takes, near enough to bound a cache by it."""

import sys

cdef enum:
    MAX_DEPTH = 12          # levels of nesting that are followed
    MAX_OBJECTS = 4096      # objects that are looked at
    SAMPLE = 256            # items of one container that are looked at

cdef double MAX_FOOTPRINT = 2.0 ** 60
cdef object _getsizeof = sys.getsizeof


cdef double _sampled(object items, Py_ssize_t count, int depth, int* budget) except -1:
    """Footprint of the items, the first SAMPLE of them standing for the rest."""
    cdef double total = 0
    cdef Py_ssize_t seen = 0
    for item in items:
        total += _measure(item, depth, budget)
        seen += 1
        if seen == SAMPLE or budget[0] <= 0:
            return total * count / seen
    return total


cdef double _measure(object obj, int depth, int* budget) except -1:
    # In floating point, because sizes that objects claim may add up to anything.
    cdef double size = _getsizeof(obj)
    budget[0] -= 1
    kind = type(obj)
    if kind is str or kind is bytes or kind is int or kind is float or kind is bool or obj is None:
        return size
    if depth == MAX_DEPTH or budget[0] <= 0:
        return size
    if isinstance(obj, dict):
        size += _sampled(obj.keys(), len(obj), depth + 1, budget)
        return size + _sampled(obj.values(), len(obj), depth + 1, budget)
    if isinstance(obj, (list, tuple, set, frozenset)):
        return size + _sampled(obj, len(obj), depth + 1, budget)
    if getattr(obj, "base", None) is not None:
        viewed = getattr(obj, "nbytes", None)   # a NumPy view keeps its data elsewhere
        if isinstance(viewed, int) and viewed >= 0:
            return size + <double> viewed
    fields = getattr(obj, "__dict__", None)
    if isinstance(fields, dict):
        size += _measure(fields, depth + 1, budget)
    return size


cdef Py_ssize_t footprint(object obj) except -1:
    cdef int budget = MAX_OBJECTS
    return <Py_ssize_t> min(_measure(obj, 0, &budget), MAX_FOOTPRINT)


def footprint_of(obj, /):
    """Estimate the bytes that a value holds, parts included.

    Shared parts count each time they are met. Time is bounded: at most 4096 objects are looked
    at, long containers are extrapolated from their first 256 items, and nesting is followed
    twelve levels down.
    """
    return footprint(obj)
