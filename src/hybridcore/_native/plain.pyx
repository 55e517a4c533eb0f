# cython: freethreading_compatible=True
"""Native checks of plain trees: before one is written as MessagePack, and before one is read.

A plain tree is made of None, bool, int, float, str, bytes, list and dict and nothing else,
subclasses included, so that what MessagePack gives back equals what it was given.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

cimport cython

cdef extern from "Python.h":
    ctypedef struct PyObject
    ctypedef struct PyTypeObject
    ctypedef struct PyTypeObject:
        object (*tp_alloc)(PyTypeObject* cls, Py_ssize_t items)

    PyObject* Py_None
    PyTypeObject PyUnicode_Type, PyLong_Type, PyFloat_Type, PyBool_Type, PyBytes_Type
    PyTypeObject PyDict_Type, PyList_Type
    PyTypeObject* Py_TYPE(PyObject* value) noexcept
    bint PyUnicode_IS_ASCII(PyObject* text) noexcept
    long long PyLong_AsLongLongAndOverflow(PyObject* number, int* overflow) noexcept
    bint PyDict_Next(PyObject* dict, Py_ssize_t* at, PyObject** key, PyObject** item) noexcept
    Py_ssize_t PyList_GET_SIZE(PyObject* list) noexcept
    PyObject* PyList_GET_ITEM(PyObject* list, Py_ssize_t i) noexcept

ctypedef const unsigned char* Cursor

cdef enum:
    DEPTH_WRITTEN = 128
    DEPTH_READ = 2 * DEPTH_WRITTEN + 4  # a lowered container is a list within an extension
    OPAQUE_EXTENSIONS = 32  # extension types below hold one MessagePack value, others any bytes
    NEVER_USED = 0xC1

MAX_DEPTH = DEPTH_WRITTEN
"""Containers within containers, counting the outermost."""

# MessagePack tags 0xC0 to 0xDF: how many bytes the value takes, and how many more its length,
# which precedes it. https://github.com/msgpack/msgpack/blob/master/spec.md
cdef Cursor SIZE = (
    b"\0\0\0\0" b"\0\0\0\1\1\1" b"\4\10" b"\1\2\4\10" b"\1\2\4\10" b"\2\3\5\11\21"
    b"\0\0\0\0\0\0\0"
)
cdef Cursor WIDTH = (
    b"\0\0\0\0" b"\1\2\4\1\2\4" b"\0\0" b"\0\0\0\0" b"\0\0\0\0" b"\0\0\0\0\0"
    b"\1\2\4\2\4\2\4"
)

cdef object UINT64_MAX = 2**64 - 1


def is_plain(object value, /) -> bool:
    """Whether the value is a plain tree that MessagePack stores exactly.

    False for 65-bit integers, for text with lone surrogates and for trees deeper than
    `MAX_DEPTH`, which those that contain themselves are. O(nodes); runs no Python code.
    """
    return c_is_plain(<PyObject*>value, 0)


def is_well_formed(object payload, /) -> bool:
    """Whether the bytes are one MessagePack value whose lengths fit and that is not too deep.

    The value within an extension of a lowered tree counts too. Decoding such bytes allocates in
    proportion to them. O(bytes); allocates nothing itself.
    """
    cdef Py_buffer view
    cdef Cursor end
    cdef bint well_formed
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    end = <Cursor>view.buf + view.len
    well_formed = view.len > 0 and c_skip(<Cursor>view.buf, end, 1, 0) == end
    PyBuffer_Release(&view)
    return well_formed


def new_struct(object cls, /) -> object:
    """Make a msgspec.Struct whose fields are all unset, running neither __init__ nor __post_init__.

    Only for classes whose metaclass is ``msgspec.StructMeta``; others would come out half made.
    """
    if not isinstance(cls, type):
        raise TypeError(f"expected a class, got {cls!r}")
    return (<PyTypeObject*>cls).tp_alloc(<PyTypeObject*>cls, 0)


cdef bint c_is_plain(PyObject* value, int depth) noexcept:
    if c_is_plain_leaf(value):
        return True
    if depth == DEPTH_WRITTEN:
        return False
    if Py_TYPE(value) == &PyDict_Type or Py_TYPE(value) == &PyList_Type:
        with cython.critical_section(<object>value):
            return c_is_plain_container(value, depth)
    return False


cdef bint c_is_plain_container(PyObject* value, int depth) noexcept:
    """Borrows the leaves: nothing runs meanwhile that could let go of them.

    A container within is held, as entering its section may give this one away.
    """
    cdef Py_ssize_t i = 0
    cdef PyObject* key
    cdef PyObject* item
    if Py_TYPE(value) == &PyDict_Type:
        while PyDict_Next(value, &i, &key, &item):
            if not c_is_plain_leaf(key):
                return False
            if not c_is_plain_leaf(item) and not c_is_plain(item, depth + 1):
                return False
        return True
    while i < PyList_GET_SIZE(value):
        item = PyList_GET_ITEM(value, i)
        if not c_is_plain_leaf(item) and not c_is_plain(item, depth + 1):
            return False
        i += 1
    return True


cdef inline bint c_is_plain_leaf(PyObject* value) noexcept:
    cdef PyTypeObject* kind = Py_TYPE(value)
    if kind == &PyUnicode_Type and PyUnicode_IS_ASCII(value):
        return True
    return kind == &PyFloat_Type or value == Py_None or c_is_rarer_leaf(value, kind)


cdef bint c_is_rarer_leaf(PyObject* value, PyTypeObject* kind) noexcept:
    if kind == &PyLong_Type:
        return c_fits_64_bits(value)
    if kind == &PyUnicode_Type:
        return not c_has_surrogate(<str>value)
    return kind == &PyBool_Type or kind == &PyBytes_Type


cdef bint c_has_surrogate(str text) noexcept:
    cdef Py_UCS4 character
    for character in text:
        if 0xD800 <= character <= 0xDFFF:
            return True
    return False


cdef inline bint c_fits_64_bits(PyObject* number) noexcept:
    cdef int overflow = 0
    PyLong_AsLongLongAndOverflow(number, &overflow)
    return overflow == 0 or (overflow > 0 and <object>number <= UINT64_MAX)


cdef Cursor c_skip(Cursor at, Cursor end, unsigned long long items, int depth) noexcept nogil:
    """The position after so many MessagePack values, or NULL if they do not fit or are too deep."""
    cdef unsigned char tag
    cdef unsigned long long length
    if depth > DEPTH_READ or items > <unsigned long long>(end - at):
        return NULL
    while items:
        items -= 1
        if at >= end:
            return NULL
        tag = at[0]
        at += 1
        if tag <= 0x7F or tag >= 0xE0:  # small int
            continue
        if tag <= 0xBF:  # small map, array, text
            length = tag & (0x1F if tag >= 0xA0 else 0x0F)
        elif tag == NEVER_USED or end - at < WIDTH[tag - 0xC0]:
            return NULL
        else:
            length = c_big_endian(at, WIDTH[tag - 0xC0])
            at += WIDTH[tag - 0xC0]
        if tag <= 0x8F or tag >= 0xDE:  # map
            at = c_skip(at, end, 2 * length, depth + 1)
        elif tag <= 0x9F or tag >= 0xDC:  # array
            at = c_skip(at, end, length, depth + 1)
        else:
            if tag >= 0xC0:
                length += SIZE[tag - 0xC0]
            if length > <unsigned long long>(end - at):
                return NULL
            if (0xC7 <= tag <= 0xC9 or 0xD4 <= tag <= 0xD8) and at[0] < OPAQUE_EXTENSIONS:
                if c_skip(at + 1, at + length, 1, depth + 1) != at + length:
                    return NULL
            at += length
        if at == NULL:
            return NULL
    return at


cdef inline unsigned long long c_big_endian(Cursor at, int width) noexcept nogil:
    cdef unsigned long long number = 0
    cdef int i
    for i in range(width):
        number = number << 8 | at[i]
    return number
