"""What comes from outside: spans of time, sizes, costs and numbers, checked."""

import math

from cpython.number cimport PyNumber_Index
from libc.float cimport FLT_MAX
from libc.math cimport llrint

from hybridcore.units import seconds

cdef double MAX_SECONDS = 4.6e9     # on a clock, 146 years: half of what fits in nanoseconds


cdef int64_t to_ns(double value) noexcept:
    """Seconds as nanoseconds."""
    return llrint(value * 1e9)


cdef int64_t read_timer(object timer) except? -1:
    cdef double value = timer()
    if not -MAX_SECONDS < value < MAX_SECONDS:
        raise ValueError(f"timer is expected to return seconds, less than 146 years, got {value!r}")
    return to_ns(value)


cdef int64_t ttl_to_ns(object ttl) except -1:
    """A ttl argument: nanoseconds, 0 for no expiry, 1 for a ttl of 0."""
    cdef double value
    if type(ttl) is float or type(ttl) is int:
        value = ttl
        if not value >= 0:
            value = seconds(ttl)
    else:
        value = seconds(ttl)
    if value == math.inf:
        return 0
    return max(span_to_ns(value), 1)


cdef int64_t span_to_ns(double value) noexcept:
    """A span of time in nanoseconds, what lasts longer than any clock clamped."""
    return INT64_MAX if value >= 2 * MAX_SECONDS else to_ns(value)


cdef int64_t checked_amount(str name, object amount) except -1:
    cdef int64_t value
    try:
        value = PyNumber_Index(amount)
    except (TypeError, OverflowError):
        raise TypeError(f"{name} is expected to be an int below 2**63, got {amount!r}") from None
    if value < 0:
        raise ValueError(f"{name} is expected to be at least 0, got {value}")
    return value


cdef int check_weight(str name, double value) except -1:
    if not 0 <= value <= FLT_MAX:
        raise ValueError(f"{name} is expected to be a number from 0 to 3.4e38, got {value}")
    return 0


cdef int64_t checked_size(object size) except -1:
    """A size that came from outside."""
    cdef int64_t value
    try:
        value = PyNumber_Index(size)
    except (TypeError, OverflowError):
        raise TypeError(
            f"the size of an entry is expected to be an int below 2**63, got {size!r}"
        ) from None
    if value < 0:
        raise ValueError(f"the size of an entry is expected to be at least 0, got {value}")
    return value
