"""Reads records where LMDB maps them: lookups and views, behind the gate.

Everything here runs under the GIL, which py-lmdb needs anyway: the counters
are plain integers because of it. A free-threaded interpreter switches it on for this module.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t

from types import GenericAlias

from hybridcore.errors import ClosedError

from hybridcore._native.gate cimport Gate, enter, leave
from hybridcore._native.header cimport HEADER, Header, is_of
from hybridcore._native.marks cimport Marks
from hybridcore._native.pages cimport Root
from hybridcore._native.record cimport (
    MAX_LMDB_KEY, RAW, TEXT, Window, c_checksum, c_form, c_window,
)

cdef extern from "Python.h":
    ctypedef struct PyObject
    Py_ssize_t Py_REFCNT(object)
    object PyObject_Call(object function, tuple arguments, PyObject* keywords)
    object PyObject_Vectorcall(
        object function, PyObject** arguments, size_t count, PyObject* keyword_names
    )

cdef enum:
    FRESH = 1
    STALE = 2
    EXPIRED = 3

cdef enum:
    COPIED_UP_TO = 4096   # bytes; a copy of so many costs less than a memoryview
    REMEMBERED = 16       # lookups for which a record beyond that makes us ask for memoryviews
    ALIGNED = 16          # bytes; where arrays want to start

cdef object _MISSING = object()


cdef object c_lend(object read, int number, const uint8_t* start, Py_ssize_t size):
    """``read(number, payload)``, which is given memory that stays if it keeps what it was lent."""
    cdef Window window
    if size <= COPIED_UP_TO:
        return read(number, PyBytes_FromStringAndSize(<const char*> start, size))
    window = c_window(start, size)
    view = PyMemoryView_FromObject(window)
    value = read(number, view)
    view = None
    if window.exports > 0:
        value = None
        kept = PyBytes_FromStringAndSize(<const char*> start, size)
        value = read(number, PyMemoryView_FromObject(kept))
    return value


cdef void c_touch(const uint8_t* start, Py_ssize_t size) noexcept nogil:
    """Have the pages read from the disk, with the GIL given away."""
    cdef Py_ssize_t at
    cdef volatile uint8_t _byte
    for at in range(0, size, 4096):
        _byte = start[at]


@cython.final
@cython.freelist(64)
cdef class Record:
    """What the disk tier holds under a key.

    ``value``       the decoded value
    ``fresh``       False: past its ttl, within ``stale``
    ``ttl_left``    seconds of freshness left; None: never expires; negative: stale for so long
    ``validators``  what the origin sent along, or None
    ``tag``         as given to ``put``, or a tuple of several
    ``version``     number of the write, rising over the whole directory
    ``stored_at``, ``fresh_until``, ``expires_at``  wall clock, ns; 0: never
    ``cost``, ``importance``  as given to ``put``
    """

    def __repr__(self):
        state = "fresh" if self.fresh else "stale"
        return f"<Record version={self.version} {state} {type(self.value).__name__}>"


@cython.final
@cython.no_gc   # it is never part of a cycle, and the transaction has to go before the gate is left
cdef class Pin:
    """A payload in the map, kept there by its transaction for as long as anybody refers to it."""

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void*> self.start, self.size, 1, flags)

    def __dealloc__(self):
        if self.gate is not None:
            self.txn = None
            self.gate.kept -= self.kept
            leave(self.gate)


@cython.final
cdef class View:
    """What ``with`` enters: a value of the disk tier, lent for the block."""

    def __init__(self, Reader reader not None, key):
        self.reader = reader
        self.key = key

    def __enter__(self):
        if self.lent is not None or self.pin is not None:
            raise RuntimeError("a view is entered once at a time; call view() again")
        return self.reader.c_view(self)

    def __exit__(self, *_exc_info):
        cdef Pin pin = self.pin
        lent = self.lent
        self.lent = self.pin = None
        if lent is not None:
            try:
                lent.release()
            except BufferError:   # something was made of it that still reads it
                pass
            lent = None
        if pin is not None and Py_REFCNT(pin) > 1:
            pin.kept = True
            pin.gate.kept += 1


cdef class Reader:
    """The native half of `hybridcore.Lmdb`: all that reads single records.

    Counting: each lookup is a hit, a stale hit or a miss; ``expired`` and ``damaged`` say
    why a miss was one.
    """

    def __cinit__(self):
        self.closed = True

    def __init__(self, Gate gate not None, decode, decode_meta, encode_key, squeeze, recover,
                 clock, decompress=None, Marks marks=None):
        self.gate = gate
        self.decode = decode
        self.decode_meta = decode_meta
        self.encode_key = encode_key
        self.squeeze = squeeze
        self.recover = recover
        self.clock = clock
        self.decompress = decompress
        self.marks = marks
        self.closed = False

    @classmethod
    def __class_getitem__(cls, parameters, /):
        return GenericAlias(cls, parameters)

    def close_reader(self):
        """Refuse lookups from now on."""
        self.closed = True
        if self.marks is not None:
            self.marks.c_settle()

    def lookups(self):
        """(hits, stale hits, misses, expired, damaged) so far."""
        return self.hits, self.stale_hits, self.misses, self.expired, self.damaged

    cdef bytes c_key(self, object key):
        return c_form(key, self.encode_key)

    cdef object c_enter(self, bint viewing, Root* root):
        """Pass the gate and begin to read; whoever did must let go of both, in this order.

        Dropping the transaction hands it back to py-lmdb, which renews it for the next reader.
        """
        while True:
            if self.closed:
                raise ClosedError("the disk tier was used after close()")
            enter(self.gate)
            try:
                txn = PyObject_Call(
                    self.gate.begin,
                    self.gate.viewing if viewing else self.gate.copying,
                    NULL,
                )
                if self.gate.map is not None:
                    self.gate.map.c_root(root)
                return txn
            except BaseException as error:
                leave(self.gate)   # recovering needs everybody out
                failed = error
            self.recover(failed)

    cdef object c_find(self, object txn, const Root* root, bytes key, Header* header,
                       bint again=False):
        """The undamaged record of a canonical key, or None.

        The header points into it: into bytes, or into the map, which stays until the gate is left.
        """
        cdef const uint8_t* start
        cdef Py_ssize_t size
        cdef PyObject* arguments[2]
        cdef int found
        try:
            name = key if PyBytes_GET_SIZE(key) < MAX_LMDB_KEY else <bytes> self.squeeze(key)
            if self.gate.map is not None:
                found = self.gate.map.c_find(
                    root, <const uint8_t*> PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name),
                    &start, &size,
                )
                if found <= 0:
                    self.damaged += found < 0
                    return None
                if size > COPIED_UP_TO:
                    with nogil:
                        c_touch(start, size)
                return True if self.c_is_whole(start, size, key, header, again) else None
            arguments[0], arguments[1] = <PyObject*> txn, <PyObject*> name
            record = PyObject_Vectorcall(self.gate.get, arguments, 2, NULL)
        except MemoryError:
            raise
        except Exception:   # py-lmdb refuses a damaged page
            self.damaged += 1
            return None
        if record is None:
            return None
        if type(record) is bytes:
            start = <const uint8_t*> PyBytes_AS_STRING(record)
            size = PyBytes_GET_SIZE(record)
        else:
            start = <const uint8_t*> PyMemoryView_GET_BUFFER(record).buf
            size = PyMemoryView_GET_BUFFER(record).len
        if size > COPIED_UP_TO:
            self.large = REMEMBERED
        elif self.large > 0:
            self.large -= 1
        return record if self.c_is_whole(start, size, key, header, again) else None

    cdef bint c_is_whole(self, const uint8_t* record, Py_ssize_t size, bytes key, Header* header,
                         bint again=False) except -1:
        """Whether this is the undamaged record of a canonical key; counts it if it is not.

        ``again``: one that passed before need not have its checksum computed again.
        """
        cdef uint64_t* before
        if is_of(record, size, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), header):
            before = &self.viewed[header.checksum % VIEWED]
            if again and before[0] == header.checksum != 0:
                return True
            if c_checksum(record, size) == header.checksum:
                if again:
                    before[0] = header.checksum
                return True
        self.damaged += 1
        return False

    cdef int c_age(self, const Header* header, int64_t* now) except -1:
        now[0] = 0
        if header.fresh_until == 0 and header.expires_at == 0:
            return FRESH
        now[0] = self.clock()
        if header.expires_at != 0 and now[0] >= header.expires_at:
            return EXPIRED
        return FRESH if header.fresh_until == 0 or now[0] < header.fresh_until else STALE

    cdef object c_value(self, const Header* header):
        """The value of a record that was found; _MISSING when it cannot be decoded."""
        cdef const uint8_t* start = header.record + header.payload
        cdef Py_ssize_t size = header.size - header.payload
        try:
            if header.flags != 0:
                payload = c_lend(self.decompress, header.flags, start, size)
                if header.code == RAW and type(payload) is bytes:
                    return payload
                return self.decode(header.code, payload)
            if header.code == RAW:
                return PyBytes_FromStringAndSize(<const char*> start, size)
            if header.code == TEXT:
                return PyUnicode_DecodeUTF8(<const char*> start, size, "surrogatepass")
            return c_lend(self.decode, header.code, start, size)
        except MemoryError:
            raise
        except Exception:   # what a codec cannot read is a miss, whatever it raises
            self.damaged += 1
            return _MISSING

    cdef int c_mark(self, bytes key) except -1:
        """Mark the use of a record that was found."""
        cdef bytes name = key
        if self.marks is not None:
            if PyBytes_GET_SIZE(key) >= MAX_LMDB_KEY:
                name = self.squeeze(key)
            self.marks.c_used(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        return 0

    cdef object c_get(self, object txn, const Root* root, bytes key):
        """The fresh value, or _MISSING."""
        cdef Header header
        cdef int64_t now
        record = self.c_find(txn, root, key, &header)
        if record is not None:
            if self.c_age(&header, &now) == FRESH:
                value = self.c_value(&header)
                if value is not _MISSING:
                    self.hits += 1
                    return value
            else:
                self.expired += 1
        self.misses += 1
        return _MISSING

    cdef Record c_fetch(self, object txn, const Root* root, bytes key):
        """The fresh or stale record, or None."""
        cdef Header header
        record = self.c_find(txn, root, key, &header)
        if record is not None:
            return self.c_unpack(&header)
        self.misses += 1
        return None

    cdef Record c_unpack(self, const Header* header):
        """The record that was found, fresh or stale, or None."""
        cdef Record record
        cdef int64_t now
        cdef int age = self.c_age(header, &now)
        if age == EXPIRED:
            self.expired += 1
        else:
            value = self.c_value(header)
            if value is not _MISSING:
                if age == FRESH:
                    self.hits += 1
                else:
                    self.stale_hits += 1
                record = self.c_record(header, now)
                record.value = value
                record.fresh = age == FRESH
                return record
        self.misses += 1
        return None

    cdef Record c_record(self, const Header* header, int64_t now):
        cdef Record record = Record.__new__(Record)
        record.version = header.version
        record.stored_at = header.stored_at
        record.fresh_until = header.fresh_until
        record.expires_at = header.expires_at
        record.cost = header.cost
        record.importance = header.importance
        record.ttl_left = self.c_left(header, now)
        if header.meta_size != 0:
            record.validators, record.tag = self.decode_meta(PyBytes_FromStringAndSize(
                <const char*> header.record + HEADER + header.key_size,
                header.meta_size,
            ))
        return record

    cdef object c_left(self, const Header* header, int64_t now):
        """Seconds of freshness left, None for ever."""
        if header.fresh_until == 0:
            return None
        # A clock behind the writer's must not make an entry live longer than its ttl.
        return min(header.fresh_until - now, header.fresh_until - header.stored_at) * 1e-9

    cdef object c_view(self, View view):
        """The fresh value under the view's key, over the map if that is possible."""
        cdef bytes key = self.c_key(view.key)
        cdef Header header
        cdef int64_t now
        cdef Pin pin = Pin.__new__(Pin)
        cdef Root root
        pin.txn = self.c_enter(True, &root)
        pin.gate = self.gate
        record = self.c_find(pin.txn, &root, key, &header, True)
        if record is not None:
            if self.c_age(&header, &now) == FRESH:
                value = self.c_shown(view, pin, &header)
                if value is not _MISSING:
                    self.hits += 1
                    self.c_mark(key)
                    return value
            else:
                self.expired += 1
        self.misses += 1
        raise KeyError(view.key)

    cdef object c_shown(self, View view, Pin pin, const Header* header):
        """The value over the map, which the view then pins, or over memory of its own."""
        pin.start = header.record + header.payload
        pin.size = header.size - header.payload
        try:
            if header.flags != 0:
                payload = c_lend(self.decompress, header.flags, pin.start, pin.size)
            elif header.code == RAW or <size_t> pin.start % ALIGNED == 0:
                payload = pin
            else:
                payload = PyBytes_FromStringAndSize(<const char*> pin.start, pin.size)
            lent = PyMemoryView_FromObject(payload)
            payload = None
            if header.code == RAW:
                view.lent = value = lent
            else:
                value = self.decode(header.code, lent, copy=False)
            lent = None
        except MemoryError:
            raise
        except Exception:   # as in c_value
            self.damaged += 1
            return _MISSING
        if Py_REFCNT(pin) > 1:   # not only to c_view
            view.pin = pin
        return value

    cdef object c_look_up(self, key):
        cdef bytes encoded = self.c_key(key)
        cdef Root root
        txn = self.c_enter(self.large > 0, &root)
        try:
            value = self.c_get(txn, &root, encoded)
        finally:
            txn = None
            leave(self.gate)
        if value is not _MISSING:
            self.c_mark(encoded)
        return value

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

    def view(self, key, /):
        """Lend the fresh value under the key, where it lies in the map, for a ``with`` block.

        An array comes as a read-only array and bytes come as a memoryview, both without a copy
        unless they are stored compressed; small arrays and everything else are copied. The
        checksum is computed the first time that this object views a version.

        A memoryview is released when the block ends. An array that is still referred to then
        stays readable; until it goes, LMDB cannot reuse the pages that were replaced since, nor
        can the environment be closed or its map enlarged by this process.

        Raises:
            KeyError: on entering, if `get` would miss.
            KeyEncodingError, DiskError: on entering, as from `get`.
        """
        return View(self, key)

    def get_many(self, keys, /):
        """Return the fresh values among the keys, read in one transaction."""
        cdef list wanted = list(keys)
        cdef list names = [self.c_key(key) for key in wanted]
        cdef dict values = {}
        cdef Py_ssize_t i
        cdef Root root
        txn = self.c_enter(self.large > 0, &root)
        try:
            for i in range(len(names)):
                value = self.c_get(txn, &root, <bytes> names[i])
                if value is not _MISSING:
                    values[wanted[i]] = value
                    self.c_mark(<bytes> names[i])
        finally:
            txn = None
            leave(self.gate)
        return values

    def fetch(self, key, /):
        """Return the `Record` under the key, be it fresh or stale, or None."""
        cdef bytes encoded = self.c_key(key)
        cdef Record record
        cdef Root root
        txn = self.c_enter(self.large > 0, &root)
        try:
            record = self.c_fetch(txn, &root, encoded)
        finally:
            txn = None
            leave(self.gate)
        if record is not None:
            self.c_mark(encoded)
        return record

    def fetch_plain(self, key, /):
        """As `fetch`, but (value, seconds left, cost) of what is fresh and has no more to tell."""
        cdef bytes encoded = self.c_key(key)
        cdef Header header
        cdef int64_t now
        cdef object found = None
        cdef Root root
        txn = self.c_enter(self.large > 0, &root)
        try:
            record = self.c_find(txn, &root, encoded, &header)
            if record is None:
                self.misses += 1
            elif header.meta_size == 0 and self.c_age(&header, &now) == FRESH:
                value = self.c_value(&header)
                if value is _MISSING:
                    self.misses += 1
                else:
                    self.hits += 1
                    found = value, self.c_left(&header, now), header.cost
            else:
                found = self.c_unpack(&header)
        finally:
            txn = None
            leave(self.gate)
        if found is not None:
            self.c_mark(encoded)
        return found

    def unpack(self, bytes record, bytes form not None):
        """Return the `Record` of a canonical key from its bytes, or None; like `fetch`."""
        cdef Header header
        if record is not None:
            if self.c_is_whole(
                <const uint8_t*> PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record), form, &header
            ):
                self.c_mark(form)
                return self.c_unpack(&header)
        self.misses += 1
        return None

    def fetch_many(self, keys, /):
        """Return the records under the keys, fresh or stale, read in one transaction."""
        cdef list wanted = list(keys)
        cdef list names = [self.c_key(key) for key in wanted]
        cdef dict records = {}
        cdef Py_ssize_t i
        cdef Root root
        txn = self.c_enter(self.large > 0, &root)
        try:
            for i in range(len(names)):
                record = self.c_fetch(txn, &root, <bytes> names[i])
                if record is not None:
                    records[wanted[i]] = record
                    self.c_mark(<bytes> names[i])
        finally:
            txn = None
            leave(self.gate)
        return records

    def __contains__(self, key):
        cdef bytes encoded = self.c_key(key)
        cdef Header header
        cdef int64_t now
        cdef Root root
        txn = self.c_enter(self.large > 0, &root)
        try:
            record = self.c_find(txn, &root, encoded, &header)
            return record is not None and self.c_age(&header, &now) == FRESH
        finally:
            txn = None
            leave(self.gate)
