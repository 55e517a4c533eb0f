# cython: freethreading_compatible=True
"""The front of a hybrid cache: answers memory hits without a frame of Python."""

from types import GenericAlias

from cpython.object cimport PyObject

from hybridcore._native.awaited cimport Runner, asked_of
from hybridcore._native.fastcall cimport (
    METH_FASTCALL, METH_KEYWORDS, PyMethodDef, add_method, default_argument, own_method,
)
from hybridcore._native.generation cimport Generation, is_current
from hybridcore._native.memory cimport MemoryStore, lookup
from hybridcore._native.objects cimport likely
from hybridcore._native.outcome cimport answered
from hybridcore._native.sections cimport take
from hybridcore._native.straight cimport DECLINED, Straight, straight_get

cimport cython

cdef object MISSING = object()


cdef class Front:
    """Looks into ``memory`` first and hands what it does not hold to ``_missed``.

    A subclass defines ``_missed(key, default)``; ``memory`` may be None. With a `Straight` it
    defines ``_led`` and ``_settled`` too, which take over where that hands over.
    """

    cdef MemoryStore store
    cdef Straight straight          # tried before _missed, or None
    cdef MemoryStore former         # kept: without the GIL, a lookup may be about to enter it
    cdef Generation generation      # of what is invalidated elsewhere
    cdef object __weakref__

    @classmethod
    def __class_getitem__(cls, parameters, /):
        return GenericAlias(cls, parameters)

    @classmethod
    def _own_get(cls):
        """Let the interpreter call ``get`` of a subclass as directly as of this class."""
        own_method(cls, &get_definition)

    def __init__(self, MemoryStore memory, /):
        self.generation = Generation()
        look_into(self, memory)

    @property
    def memory(self):
        """The native store that is looked into first, None without a memory tier."""
        return self.store

    def _detach(self):
        """Stop answering from memory, as after ``close()``."""
        look_into(self, None)

    def _follow(self, Generation generation not None, /):
        """Answer from memory only while nothing was invalidated elsewhere that is not known yet."""
        self.generation = generation

    def _go_straight(self, Straight straight, /):
        """Go this way for what memory does not hold, as far as it is open."""
        self.straight = straight

    def _attach(self, MemoryStore memory, /):
        """Answer from this memory from now on."""
        look_into(self, memory)

    def __getitem__(self, key):
        value = front_get(self, key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value


@cython.critical_section
cdef void look_into(Front front, MemoryStore store):
    if front.store is not None:
        front.former = front.store
    front.store = store


cdef object front_get(Front front, object key, object default):
    cdef PyObject* value
    if likely(front.store is not None and is_current(front.generation)):
        if likely(lookup(front.store, <PyObject*> key, &value)):
            return take(value)
        if front.straight is not None:
            answer = straight_get(front.straight, front, key, default)
            if answer is not DECLINED:
                return answer
    return front._missed(key, default)


cdef object front_get_called(
    object self, PyObject* const* args, Py_ssize_t count, PyObject* names
):
    cdef PyObject* default = default_argument(args, count, names)
    return front_get(<Front> self, <object> args[0], <object> default)


cdef PyMethodDef get_definition = PyMethodDef(
    ml_name="get",
    ml_meth=<void*> front_get_called,
    ml_flags=METH_FASTCALL | METH_KEYWORDS,
    ml_doc=(
        "get($self, key, /, default=None)\n--\n\n"
        "Return the value of the key, or ``default`` when no tier and no origin has it."
    ),
)
add_method(Front, &get_definition)


cdef class AsyncFront(Runner):
    """The same to be awaited: a hit is a coroutine that ends at once.

    A subclass defines ``_missed(key, default)``, which returns a coroutine, and for the straight
    way what `Asked` hands over to.
    """

    cdef Front window
    cdef object __weakref__

    @classmethod
    def _own_get(cls):
        """As in `Front`."""
        own_method(cls, &async_get_definition)

    def __init__(self, Front window not None, /):
        self.window = window


cdef object async_get_called(
    object self, PyObject* const* args, Py_ssize_t count, PyObject* names
):
    cdef PyObject* default = default_argument(args, count, names)
    cdef Front window = (<AsyncFront> self).window
    cdef PyObject* value
    if likely(window.store is not None and is_current(window.generation)):
        if likely(lookup(window.store, args[0], &value)):
            return answered(take(value))
    return asked_of(self, window.straight, <object> args[0], <object> default)


cdef PyMethodDef async_get_definition = PyMethodDef(
    ml_name="get",
    ml_meth=<void*> async_get_called,
    ml_flags=METH_FASTCALL | METH_KEYWORDS,
    ml_doc="get($self, key, /, default=None)\n--\n\nTwin of `HybridCache.get`.",
)
add_method(AsyncFront, &async_get_definition)
