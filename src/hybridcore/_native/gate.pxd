from hybridcore._native.pages cimport Map


cdef class Gate:
    cdef object admit         # called by who finds the gate shut; returns once it is open
    cdef Py_ssize_t inside    # how many are inside
    cdef Py_ssize_t kept      # of these, views that outlived their block
    cdef bint shut
    cdef public object begin  # py-lmdb's Environment.begin
    cdef object get           # py-lmdb's Transaction.get
    cdef tuple copying        # what begin() is given to read the data as bytes...
    cdef tuple viewing        # ...and as memoryviews
    cdef tuple writing        # what it is given to write
    cdef public Map map       # where records are looked up without py-lmdb, or None


cdef inline int enter(Gate gate) except -1:
    while gate.shut:
        gate.admit()
    gate.inside += 1
    return 0


cdef inline void leave(Gate gate) noexcept:
    gate.inside -= 1
