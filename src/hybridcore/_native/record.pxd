from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef enum:
    MAX_LMDB_KEY = 511

cdef enum:            # as in hybridcore.codec; these two need no Python to be read
    RAW = 0
    TEXT = 1


cdef class Window:
    cdef const uint8_t* start
    cdef Py_ssize_t size
    cdef Py_ssize_t exports   # buffers that somebody still holds


cdef class Packed:
    cdef readonly bytes key
    cdef readonly bytearray record
    cdef readonly double cost
    cdef readonly double importance
    cdef readonly int64_t expires_at


cdef Window c_window(const uint8_t* start, Py_ssize_t size)
cdef int c_seal(uint8_t* record, Py_ssize_t size, uint64_t version) except -1
cdef uint64_t c_checksum(const uint8_t* record, Py_ssize_t size) except? 0
cdef bytes c_form(object key, object encode_key)
cdef bytearray c_pack(bytes key, int code, tuple payload, bytes meta, int64_t stored_at,
                      int64_t fresh_until, int64_t expires_at, float cost, float importance,
                      uint32_t flags)
cdef bytearray c_retimed(record, int64_t stored_at, int64_t fresh_until, int64_t expires_at)
