"""The front of a hybrid cache: answers memory hits without a frame of Python."""

from types import GenericAlias

from cpython.object cimport PyObject

from hybridcore._native.fastcall cimport METH_FASTCALL, PyMethodDef, add_method
from hybridcore._native.memory cimport MemoryStore, lookup
from hybridcore._native.objects cimport likely, unlikely

cdef object MISSING = object()


cdef class Front:
    """Looks into ``memory`` first and hands what it does not hold to ``_missed``.

    A subclass defines ``_missed(key, default)``; ``memory`` may be None.
    """

    cdef MemoryStore store
    cdef object __weakref__

    @classmethod
    def __class_getitem__(cls, parameters, /):
        return GenericAlias(cls, parameters)

    def __init__(self, MemoryStore memory, /):
        self.store = memory

    @property
    def memory(self):
        """The native store that is looked into first, None without a memory tier."""
        return self.store

    def _detach(self):
        """Stop answering from memory, as after ``close()``."""
        self.store = None

    def __getitem__(self, key):
        value = front_get(self, key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value


cdef object front_get(Front front, object key, object default):
    cdef PyObject* value
    if likely(front.store is not None):
        value = lookup(front.store, <PyObject*> key)
        if likely(value != NULL):
            return <object> value
    return front._missed(key, default)


cdef object front_get_fastcall(object self, PyObject* const* args, Py_ssize_t count):
    if unlikely(count < 1 or count > 2):
        raise TypeError(f"get expected 1 or 2 arguments, got {count}")
    return front_get(<Front> self, <object> args[0], <object> args[1] if count == 2 else None)


cdef PyMethodDef get_definition = PyMethodDef(
    ml_name="get",
    ml_meth=<void*> front_get_fastcall,
    ml_flags=METH_FASTCALL,
    ml_doc=(
        "get($self, key, default=None, /)\n--\n\n"
        "Return the value of the key, or ``default`` when no tier and no origin has it."
    ),
)
add_method(Front, &get_definition)
