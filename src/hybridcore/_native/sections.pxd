"""C declarations of sections.h.

A section is held from `enter` to `leave`, but like the GIL it is given away wherever Python code
runs or the thread waits. Entering it twice gives it away too, so what is told to be called within
one does not enter it again.
"""

from cpython.object cimport PyObject


cdef extern from "sections.h":
    ctypedef char Section "hc_section"
    void enter "hc_enter"(Section* section, PyObject* obj) noexcept
    void leave "hc_leave"(Section* section) noexcept
    void hold "Py_INCREF"(PyObject* borrowed) noexcept
    object take "hc_take"(PyObject* held)
