"""Enters a record in the books of the disk tier: the data, the order of hashes, what expires."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint64_t

from hybridcore._native.header cimport Header, parse
from hybridcore._native.marks cimport Marks, place_of, traits_of
from hybridcore._native.record cimport c_seal


def enter(txn, Marks marks not None, tuple databases not None, bytes key not None,
          bytearray record not None, double cost, double importance, int64_t expires_at,
          uint64_t version):
    """Seal and write a record; return the size of the one it replaced, -1 if there was none.

    ``databases`` are the data, the order and what expires.
    """
    data, order, expiry = databases
    cdef Py_ssize_t size = len(record)
    cdef Py_ssize_t size_before = -1
    cdef int64_t expired_before = 0
    cdef bytes place = place_of(key)
    c_seal(<uint8_t*> PyByteArray_AS_STRING(record), size, version)
    before = txn.get(key, None, data)
    if before is not None:
        size_before = len(before)
        expired_before = end_of(before)
        before = None
    marks.c_stored(key, version, size_before >= 0)
    if expired_before > 0 and expired_before != expires_at:
        txn.delete(expired_before.to_bytes(8, "big") + place, b"", expiry)
    txn.put(key, record, True, True, False, data)
    txn.put(
        place, traits_of(size, cost, importance, expires_at, version) + key,
        True, True, False, order,
    )
    if expires_at > 0:
        txn.put(expires_at.to_bytes(8, "big") + place, b"", True, True, False, expiry)
    return size_before


cdef int64_t end_of(record) except? -1:
    """When a record expires; 0 for never, and for what is no record."""
    cdef Header header
    cdef Py_buffer buffer
    cdef bint is_record
    PyObject_GetBuffer(record, &buffer, PyBUF_SIMPLE)
    is_record = parse(<const uint8_t*> buffer.buf, buffer.len, &header)
    PyBuffer_Release(&buffer)
    return header.expires_at if is_record else 0
