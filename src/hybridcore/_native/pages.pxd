"""LMDB's pages, read without it."""

from libc.stdint cimport uint8_t, uint64_t


cdef struct Root:
    uint64_t number
    int depth          # 0: the tree is empty; -1: it cannot be found


cdef class Map:
    cdef const uint8_t* base
    cdef size_t size
    cdef int file
    cdef uint64_t pages        # of the file, when it was measured last
    cdef size_t page_size
    cdef bytes database
    cdef uint64_t transaction  # the last whose root was looked for...
    cdef Root root             # ...and what was found

    cdef void c_root(self, Root* root) noexcept
    cdef int c_find(self, const Root* root, const uint8_t* key, Py_ssize_t size,
                    const uint8_t** value, Py_ssize_t* value_size) noexcept nogil
    cdef const uint8_t* c_page(self, uint64_t number, int kind) noexcept nogil
