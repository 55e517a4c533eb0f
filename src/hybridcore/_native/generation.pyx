# cython: freethreading_compatible=True
"""The generation of a directory: a word in a mapped file that tells that its log has grown.

Whoever appends to the log of invalidations announces the number of its last entry here, after the
commit. A hit in memory compares the word with the number up to which its process has read the log:
one load and one comparison, whatever was invalidated and by whom.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer


cdef class Generation:
    """The word of a directory, or one that never moves."""

    def __cinit__(self):
        self.word = &self.own

    def __dealloc__(self):
        self._let_go()

    def share(self, mapped, size_t offset, /):
        """Follow a word of 8 bytes in mapped memory from now on.

        None: there is no such memory, and everything has to be looked up in the log, so the word
        never matches.
        """
        self._let_go()
        self.never = mapped is None
        if self.never:
            self.own = <uint64_t> -1
            return
        PyObject_GetBuffer(mapped, &self.buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
        if offset % 8 or offset + 8 > <size_t> self.buffer.len:
            PyBuffer_Release(&self.buffer)
            raise ValueError(f"no word of 8 bytes is at {offset} of {self.buffer.len} bytes")
        self.word = <uint64_t*> (<char*> self.buffer.buf + offset)

    cdef void _let_go(self):
        if self.word != &self.own:
            self.word = &self.own
            PyBuffer_Release(&self.buffer)

    def rest(self):
        """Follow no word any more."""
        self._let_go()
        self.never = False
        self.own = self.seen

    @property
    def is_current(self):
        """Whether nothing was announced since `caught_up`."""
        return is_current(self)

    @property
    def seen(self):
        """The number of the last entry of the log that was read here."""
        return self.seen

    @property
    def announced(self):
        """The number announced last."""
        return hc_load(self.word)

    def announce(self, uint64_t number, /):
        """Tell all processes that the log has grown up to there; it never goes back."""
        cdef uint64_t known
        if self.word == &self.own:
            return
        known = hc_load(self.word)
        while known < number and not hc_swap(self.word, &known, number):
            pass

    def caught_up(self, uint64_t number, /):
        """The log was read up to there; what was announced by nobody is announced now."""
        if number > self.seen:
            self.seen = number
        if self.word == &self.own:
            if not self.never:
                self.own = self.seen
        else:
            self.announce(self.seen)
