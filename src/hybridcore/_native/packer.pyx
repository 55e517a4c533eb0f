"""Makes records of keys and values: encoded, timed and measured before the disk is touched."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t

from hybridcore.errors import ValueTooLargeError
from hybridcore.units import seconds

from hybridcore._native.header cimport COST, IMPORTANCE, load_float
from hybridcore._native.reader cimport Record
from hybridcore._native.record cimport MAX_LMDB_KEY, RAW, Packed, c_form, c_pack, c_retimed

cdef int64_t END_OF_TIME = 2**63 - 1024


@cython.final
@cython.freelist(8)
cdef class Times:
    """Of an entry, wall clock, ns; 0 is never, so no other time may be 0."""

    cdef readonly int64_t stored_at
    cdef readonly int64_t fresh_until
    cdef readonly int64_t expires_at

    def __cinit__(self, int64_t stored_at, int64_t fresh_until, int64_t expires_at):
        self.stored_at = stored_at
        self.fresh_until = fresh_until
        self.expires_at = expires_at


@cython.final
cdef class Packer:
    """Makes records of at most ``limit`` bytes, which is what ``max_bytes`` allows one entry.

    ``encode``, ``encode_key``, ``squeeze`` and ``encode_meta`` do what Python has to: values that
    are no bytes, keys that are neither str nor bytes, long keys, validators and tags.
    """

    cdef object encode
    cdef object compress
    cdef object encode_key
    cdef object squeeze
    cdef object encode_meta
    cdef object clock
    cdef int64_t max_bytes
    cdef int64_t limit

    def __init__(self, encode, compress, encode_key, squeeze, encode_meta, clock,
                 int64_t max_bytes, int64_t limit):
        self.encode = encode
        self.compress = compress
        self.encode_key = encode_key
        self.squeeze = squeeze
        self.encode_meta = encode_meta
        self.clock = clock
        self.max_bytes = max_bytes
        self.limit = limit

    def times(self, ttl=None, stale=0.0):
        """The times of an entry that is stored now."""
        cdef int64_t now = self.clock()
        cdef double fresh
        if ttl is None:
            return Times(now, 0, 0)
        fresh = seconds(ttl)
        return Times(now, moment(now, fresh), moment(now, fresh + <double> seconds(stale)))

    def pack(self, key, value, Times times not None, *, validators=None, tag=None,
             double cost=1.0, double importance=1.0):
        """Make a record.

        Raises:
            KeyEncodingError, EncodeError: the key or the value cannot be stored.
            ValueTooLargeError: the record would be larger than the limit.
        """
        cdef bytes meta = b""
        if validators is not None or tag is not None:
            meta = self.encode_meta(validators, tag)
        return self.c_packed(key, value, times, meta, cost, importance)

    def repack(self, key, value, Record record not None):
        """Make a record with another value that is like the given one otherwise."""
        cdef Times times = Times(record.stored_at, record.fresh_until, record.expires_at)
        cdef bytes meta = self.encode_meta(record.validators, record.tag)
        return self.c_packed(key, value, times, meta, record.cost, record.importance)

    def retime(self, bytes name not None, record, Times times not None):
        """Make a copy of the record under an LMDB key, with other times."""
        cdef bytearray copy = c_retimed(
            record, times.stored_at, times.fresh_until, times.expires_at
        )
        cdef const uint8_t* at = <const uint8_t*> PyByteArray_AS_STRING(copy)
        return Packed(
            name, copy, load_float(at + COST), load_float(at + IMPORTANCE), times.expires_at
        )

    cdef Packed c_packed(self, key, value, Times times, bytes meta, double cost,
                         double importance):
        cdef bytes form = c_form(key, self.encode_key)
        cdef bytes name = form if PyBytes_GET_SIZE(form) < MAX_LMDB_KEY else self.squeeze(form)
        cdef int code = RAW
        cdef uint32_t flags = 0
        cdef tuple payload
        cdef int64_t size = PyBytes_GET_SIZE(form) + PyBytes_GET_SIZE(meta)
        if type(value) is bytes:
            payload = (value,)
        else:
            code, payload = self.encode(value)
        if self.compress is not None:
            flags, payload = self.compress(code, payload)
        for part in payload:
            size += len(part)
        if size > self.limit:
            raise ValueTooLargeError(
                f"the entry takes {size} bytes on disk, more than the {self.limit} that "
                f"max_bytes={self.max_bytes} allows one entry"
            )
        record = c_pack(
            form, code, payload, meta, times.stored_at, times.fresh_until, times.expires_at,
            <float> cost, <float> importance, flags,
        )
        return Packed(name, record, cost, importance, times.expires_at)


cdef int64_t moment(int64_t now, double later) except -1:
    """A wall clock time in ns, at least 1; 0, which is never, when it is past the year 2262."""
    cdef double nanoseconds = later * 1e9
    if now + nanoseconds >= <double> END_OF_TIME:
        return 0
    return max(now + <int64_t> nanoseconds, <int64_t> 1)
