"""Methods that take their arguments as a C array.

Cython's own methods prepare for keywords even when none are given, which costs 4 ns a call: too
much for a lookup.
"""

from cpython.object cimport PyObject, PyTypeObject

from hybridcore._native.objects cimport likely


cdef extern from "Python.h":
    ctypedef struct PyMethodDef:
        const char* ml_name
        void* ml_meth
        int ml_flags
        const char* ml_doc

    ctypedef struct PyMethodDescrObject:
        PyMethodDef* d_method

    int METH_FASTCALL
    int METH_KEYWORDS
    object PyDescr_NewMethod(PyTypeObject* type, PyMethodDef* method)
    int PyDict_SetItemString(PyObject* dictionary, const char* key, object value) except -1
    void PyType_Modified(PyTypeObject* type)
    PyObject* PyErr_Format(object kind, const char* message, ...) except NULL


cdef inline int add_method(type owner, PyMethodDef* method) except -1:
    """Give a native class a method; call it at module level, ``method`` must be static."""
    cdef PyTypeObject* c_type = <PyTypeObject*> owner
    descriptor = PyDescr_NewMethod(c_type, method)
    PyDict_SetItemString(<PyObject*> c_type.tp_dict, method.ml_name, descriptor)
    PyType_Modified(c_type)
    return 0


cdef inline int own_method(type owner, PyMethodDef* method) except -1:
    """Give a subclass its own copy of a method that it inherits, unless it was overridden.

    The interpreter calls a method directly only on instances of the very class it was made for;
    the way through inheritance costs 7 ns.
    """
    name = method.ml_name.decode()
    found = getattr(owner, name)
    if type(found) is type(str.join) and (<PyMethodDescrObject*> found).d_method == method:
        setattr(owner, name, PyDescr_NewMethod(<PyTypeObject*> owner, method))
    return 0


cdef inline PyObject* default_argument(
    PyObject* const* args, Py_ssize_t count, PyObject* names
) except NULL:
    """The borrowed default of ``get(key, default=None)``; raises TypeError for other calls."""
    if likely(names == NULL and count == 1):
        return <PyObject*> None
    return given_default(args, count, names)


cdef inline PyObject* given_default(
    PyObject* const* args, Py_ssize_t count, PyObject* names
) except NULL:
    """`default_argument` of a call with more than a key."""
    cdef Py_ssize_t named = len(<tuple> names) if names != NULL else 0
    if named == 0 and count == 2:
        return args[1]
    if named == 1 and count == 1 and (<tuple> names)[0] == "default":
        return args[1]
    return PyErr_Format(
        TypeError, "get(key, default=None) cannot take these %zd arguments", count + named
    )
