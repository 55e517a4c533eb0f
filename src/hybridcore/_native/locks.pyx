# cython: freethreading_compatible=True
"""The lock under which the entries of some keys are changed: re-entrant, and it counts the writes.

Who reads a tier and means to keep what it finds need not hold it meanwhile: if nobody was inside
before, and no write was counted until it is taken to keep the value, then that is still the newest.
"""

from libc.stdint cimport uint64_t

from hybridcore._native.generation cimport hc_load

cdef extern from "pythread.h":
    PyThread_type_lock PyThread_allocate_lock() noexcept
    void PyThread_free_lock(PyThread_type_lock lock) noexcept
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait) noexcept nogil
    void PyThread_release_lock(PyThread_type_lock lock) noexcept
    unsigned long PyThread_get_thread_ident() noexcept

cdef extern from *:
    """
    #define hc_store(word, value) __atomic_store_n(word, value, __ATOMIC_RELEASE)
    """
    void hc_store(uint64_t* word, uint64_t value) noexcept


cdef class KeyLock:
    """A re-entrant lock, and how often what it guards was written."""

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError("no memory for a lock")

    def __dealloc__(self):
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef int c_acquire(self) except -1:
        cdef uint64_t me = PyThread_get_thread_ident()
        if hc_load(&self.owner) == me:
            self.depth += 1
            return 0
        if not PyThread_acquire_lock(self.lock, 0):
            with nogil:
                PyThread_acquire_lock(self.lock, 1)
        hc_store(&self.owner, me)
        self.depth = 1
        return 0

    cdef void c_release(self) noexcept:
        self.depth -= 1
        if self.depth == 0:
            hc_store(&self.owner, 0)
            PyThread_release_lock(self.lock)

    def acquire(self, bint blocking=True):
        """Go in, when nobody else is inside; False if that is so and we are not to wait."""
        cdef uint64_t me = PyThread_get_thread_ident()
        if not blocking and hc_load(&self.owner) != me:
            if not PyThread_acquire_lock(self.lock, 0):
                return False
            hc_store(&self.owner, me)
            self.depth = 1
            return True
        self.c_acquire()
        return True

    def release(self):
        """Go out, once for each time that this thread went in."""
        if hc_load(&self.owner) != PyThread_get_thread_ident():
            raise RuntimeError("a lock was released by a thread that does not hold it")
        self.c_release()

    def written(self):
        """Count a write, under the lock."""
        self.writes += 1

    @property
    def is_mine(self):
        """Whether this thread is inside."""
        return hc_load(&self.owner) == PyThread_get_thread_ident()

    def __enter__(self):
        self.c_acquire()
        return self

    def __exit__(self, *error):
        self.c_release()
