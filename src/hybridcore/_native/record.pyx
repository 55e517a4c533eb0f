"""The record of the disk tier as bytes: packed, sealed, looked at, checked."""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from collections import namedtuple

from hybridcore._native.header cimport (
    CHECKSUM, COST, CURRENT_FORMAT, EXPIRES_AT, FLAGS, FRESH_UNTIL, HEADER, IMPORTANCE, KEY_SIZE,
    MAGIC, MAGIC_HC, META_SIZE, STORED_AT, VERSION, Header, is_of, parse, payload_offset, store32,
    store64, store_float,
)
from hybridcore._native.xxh3 cimport xxh3, xxh3_has_vectors

cdef enum:
    STR_TAG = 0x30        # as in hybridcore.disk.keys
    BYTES_TAG = 0x31

cdef enum:
    HASHED_HERE = 2048    # bytes; above, vectors outweigh the call of the xxhash package

cdef object _digest = None
cdef object _tuple_of = tuple.__new__


@cython.final
@cython.freelist(8)
cdef class Window:
    """Bytes of somebody else's memory, readable as a buffer for as long as that memory stays."""

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void*> self.start, self.size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1


@cython.final
@cython.freelist(8)
cdef class Packed:
    """A record on its way to the disk.

    ``key``         its LMDB key
    ``record``      its bytes, which lack version and checksum until it is written
    ``cost``, ``importance``  as given to ``put``
    ``expires_at``  wall clock, ns; 0: never
    """

    def __cinit__(self, bytes key not None, bytearray record not None, double cost,
                  double importance, int64_t expires_at):
        self.key = key
        self.record = record
        self.cost = cost
        self.importance = importance
        self.expires_at = expires_at


cdef bytes c_form(object key, object encode_key):
    """The canonical bytes of a key; `hybridcore.disk.keys` says what they are."""
    cdef Py_ssize_t size
    cdef const char* text
    cdef bytes encoded
    cdef char* at
    if type(key) is str:
        try:
            text = PyUnicode_AsUTF8AndSize(key, &size)
        except UnicodeEncodeError:   # a lone surrogate
            return encode_key(key)
        encoded = PyBytes_FromStringAndSize(NULL, size + 1)
        at = PyBytes_AS_STRING(encoded)
        at[0] = STR_TAG
    elif type(key) is bytes:
        size = PyBytes_GET_SIZE(key)
        text = PyBytes_AS_STRING(key)
        encoded = PyBytes_FromStringAndSize(NULL, size + 1)
        at = PyBytes_AS_STRING(encoded)
        at[0] = BYTES_TAG
    else:
        return encode_key(key)
    memcpy(at + 1, text, size)
    return encoded


cdef Window c_window(const uint8_t* start, Py_ssize_t size):
    cdef Window window = Window.__new__(Window)
    window.start = start
    window.size = size
    return window


cdef uint64_t c_checksum(const uint8_t* record, Py_ssize_t size) except? 0:
    """xxh3-64 of the record after its checksum."""
    global _digest
    if size <= HASHED_HERE or xxh3_has_vectors():
        return xxh3(record + MAGIC, size - MAGIC)
    if _digest is None:
        from xxhash import xxh3_64_intdigest
        _digest = xxh3_64_intdigest
    return <uint64_t> _digest(c_window(record + MAGIC, size - MAGIC))


def pack(bytes key not None, int code, tuple payload not None, bytes meta not None,
         int64_t stored_at, int64_t fresh_until, int64_t expires_at, float cost, float importance,
         uint32_t flags=0):
    """Lay out a record that still lacks its version and checksum (see `seal`).

    ``payload`` are contiguous buffers, to be written one after the other, and ``flags`` say how
    they were compressed, as `Compression.compress` returns both.
    """
    return c_pack(
        key, code, payload, meta, stored_at, fresh_until, expires_at, cost, importance, flags
    )


cdef bytearray c_pack(bytes key, int code, tuple payload, bytes meta, int64_t stored_at,
                      int64_t fresh_until, int64_t expires_at, float cost, float importance,
                      uint32_t flags):
    cdef Py_ssize_t start = <Py_ssize_t> payload_offset(len(key), len(meta))
    cdef Py_ssize_t size = start
    cdef Py_ssize_t used = HEADER + len(key) + len(meta)
    cdef Py_buffer buffer
    cdef uint8_t* at
    for part in payload:
        PyObject_GetBuffer(part, &buffer, PyBUF_SIMPLE)
        size += buffer.len
        PyBuffer_Release(&buffer)
    cdef bytearray record = PyByteArray_FromStringAndSize(NULL, size)
    at = <uint8_t*> PyByteArray_AS_STRING(record)
    memset(at, 0, HEADER)
    store32(at + MAGIC, MAGIC_HC | CURRENT_FORMAT << 16 | <uint32_t> (code & 0xFF) << 24)
    store32(at + FLAGS, flags)
    store64(at + STORED_AT, <uint64_t> stored_at)
    store64(at + FRESH_UNTIL, <uint64_t> fresh_until)
    store64(at + EXPIRES_AT, <uint64_t> expires_at)
    store_float(at + COST, cost)
    store_float(at + IMPORTANCE, importance)
    store32(at + KEY_SIZE, <uint32_t> len(key))
    store32(at + META_SIZE, <uint32_t> len(meta))
    memcpy(at + HEADER, PyBytes_AS_STRING(key), len(key))
    memcpy(at + HEADER + len(key), PyBytes_AS_STRING(meta), len(meta))
    memset(at + used, 0, start - used)
    used = start
    for part in payload:
        PyObject_GetBuffer(part, &buffer, PyBUF_SIMPLE)
        try:
            if buffer.len > size - used:
                raise ValueError("a payload buffer grew while it was packed")
            memcpy(at + used, buffer.buf, buffer.len)
            used += buffer.len
        finally:
            PyBuffer_Release(&buffer)
    return record


def seal(bytearray record not None, uint64_t version):
    """Give a packed record its version and its checksum."""
    c_seal(<uint8_t*> PyByteArray_AS_STRING(record), len(record), version)


cdef int c_seal(uint8_t* record, Py_ssize_t size, uint64_t version) except -1:
    if size < HEADER:
        raise ValueError(f"expected a packed record, got {size} bytes")
    store64(record + VERSION, version)
    store64(record + CHECKSUM, c_checksum(record, size))
    return 0


def retimed(record, int64_t stored_at, int64_t fresh_until, int64_t expires_at):
    """A copy of a record with other times, to be sealed."""
    return c_retimed(record, stored_at, fresh_until, expires_at)


cdef bytearray c_retimed(record, int64_t stored_at, int64_t fresh_until, int64_t expires_at):
    cdef bytearray copy = bytearray(record)
    cdef uint8_t* at = <uint8_t*> PyByteArray_AS_STRING(copy)
    if len(copy) < HEADER:
        raise ValueError(f"expected a record, got {len(copy)} bytes")
    store64(at + STORED_AT, <uint64_t> stored_at)
    store64(at + FRESH_UNTIL, <uint64_t> fresh_until)
    store64(at + EXPIRES_AT, <uint64_t> expires_at)
    return copy


Head = namedtuple(
    "Head", "version fresh_until expires_at key cost importance flags payload_size",
    module="hybridcore._native.record",
)
Head.__doc__ = "What the header of a record tells, unchecked."


def peek(record):
    """The `Head` of a record, or None if it has none."""
    cdef Header header
    cdef Py_buffer buffer
    PyObject_GetBuffer(record, &buffer, PyBUF_SIMPLE)
    try:
        if not parse(<const uint8_t*> buffer.buf, buffer.len, &header):
            return None
        key = PyBytes_FromStringAndSize(<const char*> buffer.buf + HEADER, header.key_size)
        return _tuple_of(Head, (
            header.version, header.fresh_until, header.expires_at, key,
            header.cost, header.importance, header.flags, header.size - header.payload,
        ))
    finally:
        PyBuffer_Release(&buffer)


def is_intact(record, bytes key not None):
    """Whether this is the whole, undamaged record of a canonical key."""
    cdef Header header
    cdef Py_buffer buffer
    PyObject_GetBuffer(record, &buffer, PyBUF_SIMPLE)
    try:
        return (
            is_of(
                <const uint8_t*> buffer.buf, buffer.len, PyBytes_AS_STRING(key), len(key), &header
            )
            and c_checksum(header.record, header.size) == header.checksum
        )
    finally:
        PyBuffer_Release(&buffer)
