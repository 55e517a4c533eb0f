cdef Py_ssize_t footprint(object obj) except -1
