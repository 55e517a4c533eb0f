"""The record of the disk tier: packed, checked and decoded where LMDB maps it.

Everything here runs under the GIL, which py-lmdb needs anyway: the counters and the gate
are plain integers because of it. A free-threaded interpreter switches it on for this module.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

import time
from types import GenericAlias

from hybridcore.errors import ClosedError

# The header, little-endian, by offset. The checksum comes first so that all it covers is one
# run of bytes, and 64 bytes keep the payload on a multiple of 16.
cdef enum:
    CHECKSUM = 0       # u64  xxh3-64 of everything after it
    MAGIC = 8          # u16  "hc"
    FORMAT = 10        # u8
    CODE = 11          # u8   which codec reads the payload
    FLAGS = 12         # u32  none defined: whoever meets one is too old for the record
    VERSION = 16       # u64
    STORED_AT = 24     # i64
    FRESH_UNTIL = 32   # i64
    EXPIRES_AT = 40    # i64
    COST = 48          # f32
    IMPORTANCE = 52    # f32
    KEY_SIZE = 56      # u32
    META_SIZE = 60     # u32
    HEADER = 64

cdef enum:
    MAGIC_HC = 0x6368
    CURRENT_FORMAT = 1
    MAX_LMDB_KEY = 511
    STR_TAG = 0x30     # as in hybridcore.disk.keys
    BYTES_TAG = 0x31

cdef enum:            # as in hybridcore.codec; these two need no Python to be read
    RAW = 0
    TEXT = 1

cdef enum:
    FOUND = 1
    ABSENT = 2
    DAMAGED = 3

cdef enum:
    FRESH = 1
    STALE = 2
    EXPIRED = 3

cdef object _MISSING = object()
cdef object _digest = None


cdef inline uint32_t load32(const uint8_t* at) noexcept nogil:
    return (<uint32_t> at[0] | <uint32_t> at[1] << 8
            | <uint32_t> at[2] << 16 | <uint32_t> at[3] << 24)


cdef inline uint64_t load64(const uint8_t* at) noexcept nogil:
    return <uint64_t> load32(at) | <uint64_t> load32(at + 4) << 32


cdef inline float load_float(const uint8_t* at) noexcept nogil:
    cdef uint32_t bits = load32(at)
    cdef float number
    memcpy(&number, &bits, 4)
    return number


cdef inline void store32(uint8_t* at, uint32_t number) noexcept nogil:
    at[0] = number & 0xFF
    at[1] = number >> 8 & 0xFF
    at[2] = number >> 16 & 0xFF
    at[3] = number >> 24 & 0xFF


cdef inline void store64(uint8_t* at, uint64_t number) noexcept nogil:
    store32(at, <uint32_t> number)
    store32(at + 4, <uint32_t> (number >> 32))


cdef inline void store_float(uint8_t* at, float number) noexcept nogil:
    cdef uint32_t bits
    memcpy(&bits, &number, 4)
    store32(at, bits)


cdef inline uint64_t payload_offset(uint64_t key_size, uint64_t meta_size) noexcept nogil:
    return (HEADER + key_size + meta_size + 15) & ~<uint64_t> 15


cdef bint c_parse(const uint8_t* record, Py_ssize_t size, Header* header) noexcept nogil:
    """Read the header; False when it is none of ours or its lengths are impossible."""
    cdef uint64_t payload
    if size < HEADER:
        return False
    if record[MAGIC] != MAGIC_HC & 0xFF or record[MAGIC + 1] != MAGIC_HC >> 8:
        return False
    if record[FORMAT] != CURRENT_FORMAT or load32(record + FLAGS) != 0:
        return False
    header.key_size = load32(record + KEY_SIZE)
    header.meta_size = load32(record + META_SIZE)
    payload = payload_offset(header.key_size, header.meta_size)
    if payload > <uint64_t> size:
        return False
    header.payload = <Py_ssize_t> payload
    header.code = record[CODE]
    header.version = load64(record + VERSION)
    header.stored_at = <int64_t> load64(record + STORED_AT)
    header.fresh_until = <int64_t> load64(record + FRESH_UNTIL)
    header.expires_at = <int64_t> load64(record + EXPIRES_AT)
    header.cost = load_float(record + COST)
    header.importance = load_float(record + IMPORTANCE)
    return True


@cython.final
@cython.freelist(8)
cdef class Window:
    """Bytes of somebody else's memory, readable as a buffer for as long as that memory stays."""

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void*> self.start, self.size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1


cdef uint64_t c_checksum(Window window, const uint8_t* record, Py_ssize_t size) except? 0:
    """xxh3-64 of the record after its checksum."""
    global _digest
    if _digest is None:
        from xxhash import xxh3_64_intdigest
        _digest = xxh3_64_intdigest
    window.start = record + MAGIC
    window.size = size - MAGIC
    return <uint64_t> _digest(window)


cdef bint c_intact(Window window, const uint8_t* record, Py_ssize_t size, bytes key,
                   Header* header) except -1:
    """Whether these bytes are the whole, undamaged record of ``key``."""
    if not c_parse(record, size, header) or header.key_size != <size_t> PyBytes_GET_SIZE(key):
        return False
    if memcmp(record + HEADER, PyBytes_AS_STRING(key), header.key_size) != 0:
        return False
    return c_checksum(window, record, size) == load64(record + CHECKSUM)


def pack(bytes key not None, int code, tuple payload not None, bytes meta not None,
         int64_t stored_at, int64_t fresh_until, int64_t expires_at, float cost, float importance):
    """Lay out a record that still lacks its version and checksum (see `seal`).

    ``payload`` are contiguous buffers, to be written one after the other.
    """
    cdef Py_ssize_t start = <Py_ssize_t> payload_offset(len(key), len(meta))
    cdef Py_ssize_t size = start
    cdef Py_ssize_t used = HEADER + len(key) + len(meta)
    cdef Py_buffer buffer
    cdef uint8_t* at
    for part in payload:
        PyObject_GetBuffer(part, &buffer, PyBUF_SIMPLE)
        size += buffer.len
        PyBuffer_Release(&buffer)
    record = PyByteArray_FromStringAndSize(NULL, size)
    at = <uint8_t*> PyByteArray_AS_STRING(record)
    memset(at, 0, HEADER)
    store32(at + MAGIC, MAGIC_HC | CURRENT_FORMAT << 16 | <uint32_t> (code & 0xFF) << 24)
    store64(at + STORED_AT, <uint64_t> stored_at)
    store64(at + FRESH_UNTIL, <uint64_t> fresh_until)
    store64(at + EXPIRES_AT, <uint64_t> expires_at)
    store_float(at + COST, cost)
    store_float(at + IMPORTANCE, importance)
    store32(at + KEY_SIZE, <uint32_t> len(key))
    store32(at + META_SIZE, <uint32_t> len(meta))
    memcpy(at + HEADER, PyBytes_AS_STRING(key), len(key))
    memcpy(at + HEADER + len(key), PyBytes_AS_STRING(meta), len(meta))
    memset(at + used, 0, start - used)
    used = start
    for part in payload:
        PyObject_GetBuffer(part, &buffer, PyBUF_SIMPLE)
        try:
            if buffer.len > size - used:
                raise ValueError("a payload buffer grew while it was packed")
            memcpy(at + used, buffer.buf, buffer.len)
            used += buffer.len
        finally:
            PyBuffer_Release(&buffer)
    return record


def seal(bytearray record not None, uint64_t version):
    """Give a packed record its version and its checksum."""
    cdef uint8_t* at = <uint8_t*> PyByteArray_AS_STRING(record)
    if len(record) < HEADER:
        raise ValueError(f"expected a packed record, got {len(record)} bytes")
    store64(at + VERSION, version)
    store64(at + CHECKSUM, c_checksum(Window.__new__(Window), at, len(record)))


def retimed(record, int64_t stored_at, int64_t fresh_until, int64_t expires_at):
    """A copy of a record with other times, to be sealed."""
    cdef bytearray copy = bytearray(record)
    cdef uint8_t* at = <uint8_t*> PyByteArray_AS_STRING(copy)
    if len(copy) < HEADER:
        raise ValueError(f"expected a record, got {len(copy)} bytes")
    store64(at + STORED_AT, <uint64_t> stored_at)
    store64(at + FRESH_UNTIL, <uint64_t> fresh_until)
    store64(at + EXPIRES_AT, <uint64_t> expires_at)
    return copy


def peek(record):
    """(version, fresh_until, expires_at, key) as an unchecked header tells, or None."""
    cdef Header header
    cdef Py_buffer buffer
    PyObject_GetBuffer(record, &buffer, PyBUF_SIMPLE)
    try:
        if not c_parse(<const uint8_t*> buffer.buf, buffer.len, &header):
            return None
        key = PyBytes_FromStringAndSize(<const char*> buffer.buf + HEADER, header.key_size)
        return header.version, header.fresh_until, header.expires_at, key
    finally:
        PyBuffer_Release(&buffer)


def is_intact(record, bytes key not None):
    """Whether this is the whole, undamaged record of a canonical key."""
    cdef Header header
    cdef Py_buffer buffer
    PyObject_GetBuffer(record, &buffer, PyBUF_SIMPLE)
    try:
        return c_intact(
            Window.__new__(Window), <const uint8_t*> buffer.buf, buffer.len, key, &header
        )
    finally:
        PyBuffer_Release(&buffer)


@cython.final
@cython.freelist(64)
cdef class Record:
    """What the disk tier holds under a key.

    ``value``       the decoded value
    ``fresh``       False: past its ttl, within ``stale``
    ``ttl_left``    seconds of freshness left; None: never expires; negative: stale for so long
    ``validators``  what the origin sent along, or None
    ``tag``         as given to ``put``
    ``version``     number of the write, rising over the whole directory
    ``stored_at``, ``fresh_until``, ``expires_at``  wall clock, ns; 0: never
    ``cost``, ``importance``  as given to ``put``
    """

    def __repr__(self):
        state = "fresh" if self.fresh else "stale"
        return f"<Record version={self.version} {state} {type(self.value).__name__}>"


@cython.final
cdef class Gate:
    """Counts who is inside an LMDB environment, so that nobody remaps or closes it under them.

    A value is decoded in mapped memory, with the GIL given away now and then: unmapping that
    memory meanwhile would end the process.
    """

    def __init__(self, admit):
        self.admit = admit
        self.shut = True

    cdef int c_enter(self) except -1:
        while self.shut:
            self.admit()
        self.inside += 1
        return 0

    cdef inline void c_leave(self) noexcept:
        self.inside -= 1

    def __enter__(self):
        self.c_enter()
        return self

    def __exit__(self, *_exc_info):
        self.c_leave()

    def close(self):
        """Let nobody in from now on."""
        self.shut = True

    def open(self):
        """Let everybody in again."""
        self.shut = False

    def drain(self, double timeout):
        """Wait until nobody is inside a closed gate; False when ``timeout`` seconds were short."""
        cdef double deadline = time.monotonic() + timeout
        while self.inside > 0:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.0005)
        return True


cdef class Reader:
    """The native half of `hybridcore.Lmdb`: all that reads single records.

    Counting: each lookup is a hit, a stale hit or a miss; ``expired`` and ``damaged`` say
    why a miss was one.
    """

    def __cinit__(self):
        self.closed = True

    def __init__(self, Gate gate not None, decode, decode_meta, encode_key, squeeze, recover,
                 clock):
        self.gate = gate
        self.decode = decode
        self.decode_meta = decode_meta
        self.encode_key = encode_key
        self.squeeze = squeeze
        self.recover = recover
        self.clock = clock
        self.closed = False

    @classmethod
    def __class_getitem__(cls, parameters, /):
        return GenericAlias(cls, parameters)

    def close_reader(self):
        """Refuse lookups from now on."""
        self.closed = True

    def lookups(self):
        """(hits, stale hits, misses, expired, damaged) so far."""
        return self.hits, self.stale_hits, self.misses, self.expired, self.damaged

    cdef bytes c_key(self, object key):
        """The canonical bytes of a key; `hybridcore.disk.keys` says what they are."""
        cdef Py_ssize_t size
        cdef const char* text
        cdef bytes encoded
        cdef char* at
        if type(key) is str:
            try:
                text = PyUnicode_AsUTF8AndSize(key, &size)
            except UnicodeEncodeError:   # a lone surrogate
                return self.encode_key(key)
            encoded = PyBytes_FromStringAndSize(NULL, size + 1)
            at = PyBytes_AS_STRING(encoded)
            at[0] = STR_TAG
        elif type(key) is bytes:
            size = PyBytes_GET_SIZE(key)
            text = PyBytes_AS_STRING(key)
            encoded = PyBytes_FromStringAndSize(NULL, size + 1)
            at = PyBytes_AS_STRING(encoded)
            at[0] = BYTES_TAG
        else:
            return self.encode_key(key)
        memcpy(at + 1, text, size)
        return encoded

    cdef object c_enter(self):
        """Pass the gate and begin to read; whoever did must let go of both, in this order.

        Dropping the transaction hands it back to py-lmdb, which renews it for the next reader.
        """
        while True:
            if self.closed:
                raise ClosedError("the disk tier was used after close()")
            self.gate.c_enter()
            try:
                return self.gate.begin(self.gate.data, None, False, True)
            except BaseException as error:
                self.gate.c_leave()   # recovering needs everybody out
                failed = error
            self.recover(failed)

    cdef int c_find(self, object txn, bytes key, Window window, Header* header) except -1:
        """Look a canonical key up; FOUND leaves the window on the payload."""
        cdef Py_buffer* mapped
        try:
            view = txn.get(key if PyBytes_GET_SIZE(key) < MAX_LMDB_KEY else self.squeeze(key))
        except MemoryError:
            raise
        except Exception:   # py-lmdb refuses a damaged page
            self.damaged += 1
            return DAMAGED
        if view is None:
            return ABSENT
        mapped = PyMemoryView_GET_BUFFER(view)
        if not c_intact(window, <const uint8_t*> mapped.buf, mapped.len, key, header):
            self.damaged += 1
            return DAMAGED
        window.start = <const uint8_t*> mapped.buf + header.payload
        window.size = mapped.len - header.payload
        return FOUND

    cdef int c_age(self, const Header* header, int64_t* now) except -1:
        now[0] = 0
        if header.fresh_until == 0 and header.expires_at == 0:
            return FRESH
        now[0] = self.clock()
        if header.expires_at != 0 and now[0] >= header.expires_at:
            return EXPIRED
        return FRESH if header.fresh_until == 0 or now[0] < header.fresh_until else STALE

    cdef object c_value(self, Window window, int code):
        """Decode the payload under the window; _MISSING when that fails."""
        try:
            if code == RAW:
                return PyBytes_FromStringAndSize(<const char*> window.start, window.size)
            if code == TEXT:
                return PyUnicode_DecodeUTF8(<const char*> window.start, window.size,
                                            "surrogatepass")
            view = PyMemoryView_FromObject(window)
            value = self.decode(code, view)
            view = None
            if window.exports > 0:   # the codec kept the view: give it memory that stays
                value = None
                kept = PyBytes_FromStringAndSize(<const char*> window.start, window.size)
                value = self.decode(code, PyMemoryView_FromObject(kept))
            return value
        except MemoryError:
            raise
        except Exception:   # what a codec cannot read is a miss, whatever it raises
            self.damaged += 1
            return _MISSING

    cdef object c_get(self, object txn, bytes key):
        """The fresh value, or _MISSING."""
        cdef Header header
        cdef int64_t now
        cdef Window window = Window.__new__(Window)
        if self.c_find(txn, key, window, &header) == FOUND:
            if self.c_age(&header, &now) == FRESH:
                value = self.c_value(window, header.code)
                if value is not _MISSING:
                    self.hits += 1
                    return value
            else:
                self.expired += 1
        self.misses += 1
        return _MISSING

    cdef Record c_fetch(self, object txn, bytes key):
        """The fresh or stale record, or None."""
        cdef Header header
        cdef Window window = Window.__new__(Window)
        if self.c_find(txn, key, window, &header) == FOUND:
            return self.c_unpack(window, &header)
        self.misses += 1
        return None

    cdef Record c_unpack(self, Window window, const Header* header):
        """The record under the window, fresh or stale, or None."""
        cdef Record record
        cdef int64_t now
        cdef int age = self.c_age(header, &now)
        if age == EXPIRED:
            self.expired += 1
        else:
            value = self.c_value(window, header.code)
            if value is not _MISSING:
                record = self.c_record(window, header, now)
                record.value = value
                record.fresh = age == FRESH
                if age == FRESH:
                    self.hits += 1
                else:
                    self.stale_hits += 1
                return record
        self.misses += 1
        return None

    cdef Record c_record(self, Window window, const Header* header, int64_t now):
        cdef Record record = Record.__new__(Record)
        cdef int64_t left
        record.version = header.version
        record.stored_at = header.stored_at
        record.fresh_until = header.fresh_until
        record.expires_at = header.expires_at
        record.cost = header.cost
        record.importance = header.importance
        if header.fresh_until != 0:
            # A clock behind the writer's must not make an entry live longer than its ttl.
            left = min(header.fresh_until - now, header.fresh_until - header.stored_at)
            record.ttl_left = left * 1e-9
        if header.meta_size != 0:
            record.validators, record.tag = self.decode_meta(PyBytes_FromStringAndSize(
                <const char*> window.start - header.payload + HEADER + header.key_size,
                header.meta_size,
            ))
        return record

    cdef object c_look_up(self, key):
        cdef bytes encoded = self.c_key(key)
        txn = self.c_enter()
        try:
            return self.c_get(txn, encoded)
        finally:
            txn = None
            self.gate.c_leave()

    def get(self, key, default=None):
        """Return the fresh value under the key, else ``default``.

        Raises:
            KeyEncodingError: there is no canonical form of the key.
            DiskError: LMDB cannot be read at all; a damaged record is a miss.
        """
        value = self.c_look_up(key)
        return default if value is _MISSING else value

    def __getitem__(self, key):
        value = self.c_look_up(key)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def get_many(self, keys, /):
        """Return the fresh values among the keys, read in one transaction."""
        cdef list encoded = [(key, self.c_key(key)) for key in keys]
        cdef dict values = {}
        txn = self.c_enter()
        try:
            for key, name in encoded:
                value = self.c_get(txn, <bytes> name)
                if value is not _MISSING:
                    values[key] = value
        finally:
            txn = None
            self.gate.c_leave()
        return values

    def fetch(self, key, /):
        """Return the `Record` under the key, be it fresh or stale, or None."""
        cdef bytes encoded = self.c_key(key)
        txn = self.c_enter()
        try:
            return self.c_fetch(txn, encoded)
        finally:
            txn = None
            self.gate.c_leave()

    def unpack(self, bytes record, bytes form not None):
        """Return the `Record` of a canonical key from its bytes, or None; like `fetch`."""
        cdef Header header
        cdef Window window = Window.__new__(Window)
        if record is not None:
            if c_intact(window, <const uint8_t*> PyBytes_AS_STRING(record),
                        PyBytes_GET_SIZE(record), form, &header):
                window.start = <const uint8_t*> PyBytes_AS_STRING(record) + header.payload
                window.size = PyBytes_GET_SIZE(record) - header.payload
                return self.c_unpack(window, &header)
            self.damaged += 1
        self.misses += 1
        return None

    def fetch_many(self, keys, /):
        """Return the records under the keys, fresh or stale, read in one transaction."""
        cdef list encoded = [(key, self.c_key(key)) for key in keys]
        cdef dict records = {}
        txn = self.c_enter()
        try:
            for key, name in encoded:
                record = self.c_fetch(txn, <bytes> name)
                if record is not None:
                    records[key] = record
        finally:
            txn = None
            self.gate.c_leave()
        return records

    def __contains__(self, key):
        cdef bytes encoded = self.c_key(key)
        cdef Header header
        cdef int64_t now
        txn = self.c_enter()
        try:
            return (
                self.c_find(txn, encoded, Window.__new__(Window), &header) == FOUND
                and self.c_age(&header, &now) == FRESH
            )
        finally:
            txn = None
            self.gate.c_leave()
