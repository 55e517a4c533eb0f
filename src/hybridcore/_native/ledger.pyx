"""Enters records in the books of the disk tier: the data, the order of hashes, what expires."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t

from hybridcore._native.header cimport Header, load64, parse, store64
from hybridcore._native.marks cimport Marks, are_alike, place_of, traits_of
from hybridcore._native.gate cimport Gate, enter, leave
from hybridcore._native.record cimport Packed, c_seal

cdef extern from "Python.h":
    ctypedef struct PyObject
    object PyObject_Call(object function, tuple arguments, PyObject* keywords)

cdef enum:
    TALLIED = 16
    NODE = 16        # bytes of LMDB's own in front of what it keeps on pages of their own
    SPLITS = 24      # pages that one record may add by splitting others, in all trees and levels

cdef bytes TALLY = b"tally"


cdef class Books:
    """What one transaction has to know of the whole to enter records; see `Ledger`.

    ``version``     the last one given
    ``live_bytes``  sum of the sizes of all records
    ``written_bytes``  what of this was stored by these books
    ``tally``       both, as they were found or left
    ``entries``     how many records there are, expired ones included
    ``most_used``   no more bytes are used: to measure how many is a good part of a small write
    """

    cdef readonly object txn
    cdef readonly object main
    cdef readonly object data
    cdef readonly object order
    cdef readonly object expiry
    cdef readonly Marks marks
    cdef readonly bytes tally
    cdef public uint64_t version
    cdef public int64_t live_bytes
    cdef readonly int64_t written_bytes
    cdef public int64_t entries
    cdef public int64_t most_used
    cdef int64_t page

    def __init__(self, environment, txn, Books known=None):
        """``known`` was left by another transaction, which is of use while the tally is the same.
        """
        self.txn = txn
        self.main = environment.main
        self.data = environment.data
        self.order = environment.order
        self.expiry = environment.expiry
        self.marks = environment.marks
        self.tally = bytes(txn.get(TALLY, b"", self.main))
        if len(self.tally) == TALLIED:
            self.version = load64(<const uint8_t*> PyBytes_AS_STRING(self.tally))
            self.live_bytes = <int64_t> load64(<const uint8_t*> PyBytes_AS_STRING(self.tally) + 8)
        if known is not None and known.tally == self.tally:
            self.entries, self.page = known.entries, known.page
            self.most_used = known.most_used
        else:
            stat = txn.stat(self.data)
            self.entries, self.page = stat["entries"], stat["psize"]
            self.most_used = INT64_MAX

    def store(self, Packed packed not None):
        """Write a record with the next version."""
        self.c_store(packed, False)

    cdef bint c_has_room_for(self, list records, int64_t allowed) except -1:
        """Whether no more than that will be used for sure."""
        cdef Packed packed
        cdef int64_t growth = len(records) * (SPLITS + 2) * self.page
        for packed in records:
            growth += len(packed.record)
        return self.most_used < allowed and growth <= allowed - self.most_used

    cdef int c_store(self, Packed packed, bint roomy) except -1:
        """Write a record.

        In the order, only its version may have changed, which tells how young it is. Where it is
        ``roomy``, so that this transaction evicts nothing, and a mark tells that too, the order
        is left as it is: half of the pages that a small write touches.
        """
        cdef bytes key = packed.key
        cdef Py_ssize_t size = len(packed.record)
        cdef Header old
        cdef Py_ssize_t size_before = -1
        cdef int64_t expired_before = 0
        cdef bint listed = False
        cdef bytes place = place_of(key)
        txn = self.txn
        self.version += 1
        c_seal(<uint8_t*> PyByteArray_AS_STRING(packed.record), size, self.version)
        before = txn.get(key, None, self.data)
        if before is not None:
            size_before = len(before)
            if is_record(before, &old):
                expired_before = old.expires_at
                listed = roomy and are_alike(
                    size_before, old.cost, old.importance,
                    size, <float> packed.cost, <float> packed.importance,
                )
            before = None
        if not self.marks.c_stored(key, self.version, size_before >= 0):
            listed = False
        if expired_before > 0 and expired_before != packed.expires_at:
            txn.delete(stamp(expired_before, place), b"", self.expiry)
        txn.put(key, packed.record, True, True, False, self.data)
        if not listed:
            txn.put(
                place, traits_of(size, packed.cost, packed.importance, self.version) + key,
                True, True, False, self.order,
            )
        if packed.expires_at > 0 and packed.expires_at != expired_before:
            txn.put(stamp(packed.expires_at, place), b"", True, True, False, self.expiry)
        self.live_bytes += size
        self.written_bytes += size
        if size_before < 0:
            self.entries += 1
        else:
            self.live_bytes -= size_before
        if size != size_before or packed.expires_at != expired_before:
            self.c_grow(((size + NODE) // self.page + 1 + SPLITS) * self.page)
        return 0

    def used_bytes(self):
        """Bytes of the pages that hold records and their indexes; O(1)."""
        cdef int64_t used = 0
        for database in (self.data, self.order, self.expiry):
            stat = self.txn.stat(database)
            used += (
                <int64_t> stat["branch_pages"] + <int64_t> stat["leaf_pages"]
                + <int64_t> stat["overflow_pages"]
            ) * self.page
        self.most_used = used
        return used

    cdef inline void c_grow(self, int64_t bytes_more) noexcept:
        if self.most_used > INT64_MAX - bytes_more:
            self.most_used = INT64_MAX
        else:
            self.most_used += bytes_more

    def settle(self, *, bint anyway=False):
        """Write the tally if it changed, or ``anyway``, so that there is something to commit.

        What the books know is of use to the next ones from then on; they enter nothing more.
        """
        cdef uint8_t tally[TALLIED]
        store64(tally, self.version)
        store64(tally + 8, <uint64_t> max(self.live_bytes, <int64_t> 0))
        cdef bytes after = PyBytes_FromStringAndSize(<const char*> tally, TALLIED)
        if anyway or after != self.tally:
            self.txn.put(TALLY, after, True, True, False, self.main)
            self.tally = after
        self.txn = None


def store_where_room_is(type kind not None, environment, Books known, list records not None,
                        int64_t allowed):
    """Write the records in a transaction of their own and return its books, of this kind.

    None, and nothing was changed, when that takes more: to make room first, or to look at what
    LMDB raised.
    """
    cdef Gate gate = environment.gate
    cdef Books books
    cdef int64_t entries
    enter(gate)
    try:
        txn = PyObject_Call(gate.begin, gate.writing, NULL)
        try:
            environment.before_write()
            books = kind(environment, txn, known)
            entries = books.entries
            if not books.c_has_room_for(records, allowed):
                books.used_bytes()
                if not books.c_has_room_for(records, allowed):
                    txn.abort()
                    return None
            for packed in records:
                books.c_store(packed, True)
            if books.entries > entries:
                environment.marks.make_room_for(books.entries)
            books.settle()
            txn.commit()
        except BaseException:
            txn.abort()
            raise
    except Exception as error:
        from lmdb import Error
        if isinstance(error, Error):
            return None
        raise
    finally:
        leave(gate)
    return books


cdef inline bytes stamp(int64_t expires_at, bytes place):
    """The key in the index of what expires."""
    cdef uint8_t moment[8]
    cdef int k
    for k in range(8):
        moment[k] = <uint64_t> expires_at >> (56 - 8 * k) & 0xFF
    return PyBytes_FromStringAndSize(<const char*> moment, 8) + place


cdef bint is_record(record, Header* header) except -1:
    """Whether these bytes have a header, which is read."""
    cdef Py_buffer buffer
    cdef bint found
    PyObject_GetBuffer(record, &buffer, PyBUF_SIMPLE)
    found = parse(<const uint8_t*> buffer.buf, buffer.len, header)
    PyBuffer_Release(&buffer)
    return found
