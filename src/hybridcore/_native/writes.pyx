"""A write of a durable queue: encoded when it is taken, a row of bytes on disk, read again."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hybridcore.disk.keys import encode_key
from hybridcore.errors import DecodeError

from hybridcore._native.header cimport load32, load64, store32, store64
from hybridcore._native.histogram cimport Histogram, c_record
from hybridcore._native.record cimport RAW, c_checksum, c_form

# A row, little-endian, by offset. The checksum is of everything after it.
cdef enum:
    CHECKSUM = 0      # u64  xxh3-64
    ROW_NUMBER = 8    # u64
    MONO = 16         # i64
    WALL = 24         # i64
    LEVEL = 32        # u8
    ROW_FLAGS = 33    # u8   how the payload is compressed, and whether this is a delete
    CODEC = 34        # u8   which codec reads the payload
    FORM_SIZE = 36    # u32
    ROW_HEADER = 40   # the key form and the payload follow

cdef enum:
    DELETES = 0x80


@cython.final
@cython.freelist(256)
cdef class Write:
    """A write on its way to the disk, or as it was found there.

    ``form``       the key, as `hybridcore.disk.keys` encodes it
    ``payload``    the value, as ``codec`` and ``flags`` say
    ``mono``, ``wall``  when it, or the first of those that it replaced, was taken, ns
    ``since``      when it was itself, as ``mono``
    ``size``       bytes that it takes on disk
    ``waited``     whether somebody waits to be told that it is stored
    ``instead``    the one that it replaced, if that was accepted without being stored
    ``number``, ``place``  of one that was found
    """

    cdef readonly bytes form
    cdef readonly bytes payload
    cdef readonly int codec
    cdef readonly int flags
    cdef readonly bint deletes
    cdef readonly Py_ssize_t size
    cdef readonly uint64_t number
    cdef readonly uint64_t place
    cdef public int level
    cdef public int64_t mono
    cdef public int64_t wall
    cdef public int64_t since
    cdef public bint waited
    cdef public object instead

    @staticmethod
    def stored(bytes place not None, bytes row not None):
        """The write of a row at a place, which is 8 bytes big-endian.

        Raises:
            DecodeError: the bytes are damaged.
        """
        cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(row)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(row)
        cdef Py_ssize_t form_size
        cdef uint64_t where = 0
        cdef Write write
        for digit in place:
            where = where << 8 | <uint8_t> digit
        if (
            size < ROW_HEADER
            or load64(at + CHECKSUM) != c_checksum(at, size)
            or load32(at + FORM_SIZE) > size - ROW_HEADER
        ):
            raise DecodeError(f"the write at place {where} is damaged")
        form_size = load32(at + FORM_SIZE)
        write = Write.__new__(Write)
        write.form = PyBytes_FromStringAndSize(<const char*> at + ROW_HEADER, form_size)
        write.payload = PyBytes_FromStringAndSize(
            <const char*> at + ROW_HEADER + form_size, size - ROW_HEADER - form_size
        )
        write.codec = at[CODEC]
        write.flags = at[ROW_FLAGS] & ~DELETES
        write.deletes = at[ROW_FLAGS] & DELETES
        write.size = size
        write.number = load64(at + ROW_NUMBER)
        write.place = where
        write.level = at[LEVEL]
        write.mono = <int64_t> load64(at + MONO)
        write.wall = <int64_t> load64(at + WALL)
        return write

    def row(self, uint64_t number):
        """The bytes of this write under a number."""
        cdef bytes row = PyBytes_FromStringAndSize(NULL, self.size)
        cdef uint8_t* at = <uint8_t*> PyBytes_AS_STRING(row)
        cdef Py_ssize_t form_size = PyBytes_GET_SIZE(self.form)
        store64(at + ROW_NUMBER, number)
        store64(at + MONO, <uint64_t> self.mono)
        store64(at + WALL, <uint64_t> self.wall)
        at[LEVEL] = <uint8_t> self.level
        at[ROW_FLAGS] = <uint8_t> (self.flags | (DELETES if self.deletes else 0))
        at[CODEC] = <uint8_t> self.codec
        at[CODEC + 1] = 0
        store32(at + FORM_SIZE, <uint32_t> form_size)
        memcpy(at + ROW_HEADER, PyBytes_AS_STRING(self.form), form_size)
        memcpy(
            at + ROW_HEADER + form_size, PyBytes_AS_STRING(self.payload),
            PyBytes_GET_SIZE(self.payload),
        )
        store64(at + CHECKSUM, c_checksum(at, self.size))
        return row


@cython.final
cdef class WritePacker:
    """Makes writes of keys and values.

    ``encode`` and ``compress``, which may be None, are those of `Codecs` and `Compression`.
    """

    cdef object encode
    cdef object compress

    def __init__(self, encode, compress):
        self.encode = encode
        self.compress = compress

    def pack(self, key, value, int level, bint deletes=False):
        """Make a write.

        Raises:
            KeyEncodingError, EncodeError: the key or the value cannot be stored.
        """
        cdef Write write = Write.__new__(Write)
        cdef tuple parts
        write.form = c_form(key, encode_key)
        write.level = level
        write.deletes = deletes
        if deletes:
            write.payload = b""
        else:
            if type(value) is bytes:
                write.codec = RAW
                parts = (value,)
            else:
                write.codec, parts = self.encode(value)
            if self.compress is not None:
                write.flags, parts = self.compress(write.codec, parts)
            if len(parts) == 1 and type(parts[0]) is bytes:
                write.payload = parts[0]
            else:
                write.payload = b"".join(parts)
        write.size = (
            ROW_HEADER + PyBytes_GET_SIZE(write.form) + PyBytes_GET_SIZE(write.payload)
        )
        return write


def record_ages(Histogram histogram not None, list writes not None, int64_t now):
    """Record how long ago, in ns of the clock of ``now``, each of these writes was taken."""
    cdef Write write
    for write in writes:
        c_record(histogram, <uint64_t> max(now - write.since, <int64_t> 0), 1)
