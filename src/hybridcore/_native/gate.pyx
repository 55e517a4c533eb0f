"""The gate in front of an LMDB environment.

It runs under the GIL, which py-lmdb needs anyway: its counters are plain integers because of it. A
free-threaded interpreter switches the GIL on for this module.
"""

cimport cython

import time


@cython.final
cdef class Gate:
    """Counts who is inside an LMDB environment, so that nobody remaps or closes it under them.

    A value is decoded in mapped memory, with the GIL given away now and then: unmapping that
    memory meanwhile would end the process.
    """

    def __init__(self, admit):
        self.admit = admit
        self.shut = True

    def __enter__(self):
        enter(self)
        return self

    def __exit__(self, *_exc_info):
        leave(self)

    @property
    def data(self):
        """The py-lmdb database of the records."""
        return None if self.copying is None else self.copying[0]

    @data.setter
    def data(self, database):
        self.get = None
        if database is not None:
            import lmdb
            self.get = lmdb.Transaction.get
        self.copying = (database, None, False, False)
        self.viewing = (database, None, False, True)
        self.writing = (database, None, True, True)

    def close(self):
        """Let nobody in from now on."""
        self.shut = True

    def open(self):
        """Let everybody in again."""
        self.shut = False

    def drain(self, double timeout):
        """Wait until nobody is inside a closed gate.

        False when ``timeout`` seconds were short, and at once when all who are inside are views
        that outlived their block: nobody knows when those will go.
        """
        cdef double deadline = time.monotonic() + timeout
        while self.inside > 0:
            if self.inside == self.kept or time.monotonic() >= deadline:
                return False
            time.sleep(0.0005)
        return True
