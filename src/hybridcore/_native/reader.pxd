from libc.stdint cimport int64_t, uint8_t, uint64_t

from hybridcore._native.gate cimport Gate
from hybridcore._native.header cimport Header
from hybridcore._native.marks cimport Marks
from hybridcore._native.pages cimport Root


cdef class Record:
    cdef readonly object value
    cdef readonly bint fresh
    cdef readonly object ttl_left
    cdef readonly object validators
    cdef readonly object tag
    cdef readonly uint64_t version
    cdef readonly int64_t stored_at
    cdef readonly int64_t fresh_until
    cdef readonly int64_t expires_at
    cdef readonly double cost
    cdef readonly double importance


cdef enum:
    VIEWED = 1024   # checksums that are remembered


cdef class Pin:
    cdef Gate gate            # entered, and left at the end
    cdef object txn
    cdef const uint8_t* start
    cdef Py_ssize_t size
    cdef bint kept            # beyond the block


cdef class View:
    cdef Reader reader
    cdef object key
    cdef Pin pin              # while somebody reads the map
    cdef object lent          # the memoryview to be released


cdef class Reader:
    cdef Gate gate
    cdef object decode        # (code, memoryview) -> value
    cdef object decode_meta   # bytes -> (Validators | None, tag)
    cdef object encode_key    # key -> canonical bytes, for all but str and bytes
    cdef object squeeze       # canonical bytes too long for LMDB -> LMDB key
    cdef object recover       # called with what begin() raised; returns to try again
    cdef object clock         # () -> wall clock, ns
    cdef object decompress    # (flags, payload) -> payload
    cdef Marks marks          # where uses are noted, or None
    cdef readonly bint closed
    cdef int large            # > 0: large records were met lately, so views are asked for
    cdef uint64_t viewed[VIEWED]   # checksums of records that were viewed, by their low bits
    cdef uint64_t hits
    cdef uint64_t stale_hits
    cdef uint64_t misses
    cdef uint64_t expired
    cdef uint64_t damaged

    cdef bytes c_key(self, object key)
    cdef object c_enter(self, bint viewing, Root* root)
    cdef object c_find(self, object txn, const Root* root, bytes key, Header* header,
                       bint again=*)
    cdef bint c_is_whole(self, const uint8_t* record, Py_ssize_t size, bytes key, Header* header,
                         bint again=*) except -1
    cdef int c_age(self, const Header* header, int64_t* now) except -1
    cdef object c_value(self, const Header* header)
    cdef int c_mark(self, bytes key) except -1
    cdef object c_get(self, object txn, const Root* root, bytes key)
    cdef object c_look_up(self, key)
    cdef object c_view(self, View view)
    cdef object c_shown(self, View view, Pin pin, const Header* header)
    cdef Record c_fetch(self, object txn, const Root* root, bytes key)
    cdef Record c_unpack(self, const Header* header)
    cdef Record c_record(self, const Header* header, int64_t now)
    cdef object c_left(self, const Header* header, int64_t now)
