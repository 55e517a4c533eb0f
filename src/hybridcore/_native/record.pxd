from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct Header:
    uint64_t version
    int64_t stored_at     # wall clock, ns
    int64_t fresh_until   # wall clock, ns; 0 never
    int64_t expires_at    # wall clock, ns; 0 never
    float cost
    float importance
    uint8_t code
    uint32_t key_size
    uint32_t meta_size
    Py_ssize_t payload    # offset of the payload


cdef class Window:
    cdef const uint8_t* start
    cdef Py_ssize_t size
    cdef Py_ssize_t exports   # buffers that somebody still holds


cdef class Record:
    cdef readonly object value
    cdef readonly bint fresh
    cdef readonly object ttl_left
    cdef readonly object validators
    cdef readonly uint64_t version
    cdef readonly object tag
    cdef readonly int64_t stored_at
    cdef readonly int64_t fresh_until
    cdef readonly int64_t expires_at
    cdef readonly double cost
    cdef readonly double importance


cdef class Gate:
    cdef object admit         # called by who finds the gate shut; returns once it is open
    cdef Py_ssize_t inside    # how many are inside
    cdef bint shut
    cdef public object begin  # py-lmdb's Environment.begin
    cdef public object data   # the py-lmdb database of the records

    cdef int c_enter(self) except -1
    cdef inline void c_leave(self) noexcept


cdef class Reader:
    cdef Gate gate
    cdef object decode        # (code, memoryview) -> value
    cdef object decode_meta   # bytes -> (Validators | None, tag)
    cdef object encode_key    # key -> canonical bytes, for all but str and bytes
    cdef object squeeze       # canonical bytes too long for LMDB -> LMDB key
    cdef object recover       # called with what begin() raised; returns to try again
    cdef object clock         # () -> wall clock, ns
    cdef readonly bint closed
    cdef uint64_t hits
    cdef uint64_t stale_hits
    cdef uint64_t misses
    cdef uint64_t expired
    cdef uint64_t damaged

    cdef bytes c_key(self, object key)
    cdef object c_enter(self)
    cdef int c_find(self, object txn, bytes key, Window window, Header* header) except -1
    cdef int c_age(self, const Header* header, int64_t* now) except -1
    cdef object c_value(self, Window window, int code)
    cdef object c_get(self, object txn, bytes key)
    cdef object c_look_up(self, key)
    cdef Record c_fetch(self, object txn, bytes key)
    cdef Record c_unpack(self, Window window, const Header* header)
    cdef Record c_record(self, Window window, const Header* header, int64_t now)
