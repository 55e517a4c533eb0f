"""Methods by plain METH_FASTCALL.

Cython's own methods also accept keywords, which costs 4 ns a call: too much for a lookup.
"""

from cpython.object cimport PyObject, PyTypeObject


cdef extern from "Python.h":
    ctypedef struct PyMethodDef:
        const char* ml_name
        void* ml_meth
        int ml_flags
        const char* ml_doc

    int METH_FASTCALL
    object PyDescr_NewMethod(PyTypeObject* type, PyMethodDef* method)
    int PyDict_SetItemString(PyObject* dictionary, const char* key, object value) except -1
    void PyType_Modified(PyTypeObject* type)

ctypedef object (*fastcall)(object self, PyObject* const* args, Py_ssize_t count)


cdef inline int add_method(type owner, PyMethodDef* method) except -1:
    """Give a native class a method; call it at module level, ``method`` must be static."""
    cdef PyTypeObject* c_type = <PyTypeObject*> owner
    descriptor = PyDescr_NewMethod(c_type, method)
    PyDict_SetItemString(<PyObject*> c_type.tp_dict, method.ml_name, descriptor)
    PyType_Modified(c_type)
    return 0
