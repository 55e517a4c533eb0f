"""Writes of a durable queue as bytes: rows, claims, and the tally of what there is.

The loops over a batch of them are here, too; what they store is told in `write_queue.journal`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hybridcore.disk.keys import encode_key, lmdb_key
from hybridcore.errors import DecodeError

from hybridcore._native.header cimport load16, load32, load64, store16, store32, store64
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
    BORN = 35         # u8   whether it was ready when it came, and has not changed its level
    FORM_SIZE = 36    # u32
    ROW_HEADER = 40   # the key form and the payload follow

cdef enum:
    DELETES = 0x80
    PLAIN = 510       # bytes of the longest key form that LMDB files under itself

# A claim, little-endian, by offset. `PAST` and what follows it is what became of earlier attempts;
# the text of the last error comes behind.
cdef enum:
    OWNER = 0         # u64
    UNTIL = 8         # i64  the end of the lease, ns
    CLAIM_SIZE = 16   # u32  of the row
    CLAIM_LEVEL = 20  # u8
    PAST = 21         # u64  the number of the write
    ATTEMPTS = 29     # u16
    CLAIM_HEADER = 31
    PAST_HEADER = 10


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

    def row(self, uint64_t number, bint born=False):
        """The bytes of this write under a number; ``born`` ready or not."""
        cdef bytes row = PyBytes_FromStringAndSize(NULL, self.size)
        cdef uint8_t* at = <uint8_t*> PyBytes_AS_STRING(row)
        cdef Py_ssize_t form_size = PyBytes_GET_SIZE(self.form)
        store64(at + ROW_NUMBER, number)
        store64(at + MONO, <uint64_t> self.mono)
        store64(at + WALL, <uint64_t> self.wall)
        at[LEVEL] = <uint8_t> self.level
        at[ROW_FLAGS] = <uint8_t> (self.flags | (DELETES if self.deletes else 0))
        at[CODEC] = <uint8_t> self.codec
        at[BORN] = born
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


def record_ages(Histogram histogram not None, list times not None, int64_t now):
    """Record how long ago, in ns of the clock of ``now``, these times were."""
    cdef int64_t then
    for then in times:
        c_record(histogram, <uint64_t> max(now - then, <int64_t> 0), 1)


cdef enum:
    MOST = 16          # levels
    TALLY_SIZE = 8 * (2 * MOST + 6)
    MOST_BETWEEN = 16  # others among those that are fresh


@cython.final
cdef class Tally:
    """How many writes there are, and of how many bytes: in all, by level, and dead.

    ``next`` is the place and the number of the write that comes next. From ``fresh`` up to
    ``fresh_end`` are those of ``fresh_level`` that are ready since they came.
    """

    cdef int64_t[MOST] _items
    cdef int64_t[MOST] _sizes
    cdef readonly int64_t depth
    cdef readonly int64_t size
    cdef public int64_t dead
    cdef public int64_t dead_bytes
    cdef public int64_t next
    cdef public int64_t fresh
    cdef readonly int64_t fresh_end
    cdef readonly int64_t fresh_level
    cdef object _stored

    def __cinit__(self):
        self.next = 1

    @staticmethod
    def unpack(data):
        """What was stored; nothing, if nothing was."""
        cdef Tally self = Tally.__new__(Tally)
        cdef const uint8_t* at
        cdef int level
        self._stored = data
        if data is None:
            return self
        if len(data) != TALLY_SIZE:
            raise DecodeError(f"a tally has {TALLY_SIZE} bytes, got {len(data)}")
        at = <const uint8_t*> PyBytes_AS_STRING(data)
        for level in range(MOST):
            self._items[level] = <int64_t> load64(at + 8 * level)
            self._sizes[level] = <int64_t> load64(at + 8 * (MOST + level))
            self.depth += self._items[level]
            self.size += self._sizes[level]
        at += 16 * MOST
        self.dead = <int64_t> load64(at)
        self.dead_bytes = <int64_t> load64(at + 8)
        self.next = <int64_t> load64(at + 16)
        self.fresh = <int64_t> load64(at + 24)
        self.fresh_end = <int64_t> load64(at + 32)
        self.fresh_level = <int64_t> load64(at + 40)
        return self

    def pack(self):
        """What to store."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, TALLY_SIZE)
        cdef uint8_t* at = <uint8_t*> PyBytes_AS_STRING(data)
        cdef int level
        for level in range(MOST):
            store64(at + 8 * level, <uint64_t> self._items[level])
            store64(at + 8 * (MOST + level), <uint64_t> self._sizes[level])
        at += 16 * MOST
        store64(at, <uint64_t> self.dead)
        store64(at + 8, <uint64_t> self.dead_bytes)
        store64(at + 16, <uint64_t> self.next)
        store64(at + 24, <uint64_t> self.fresh)
        store64(at + 32, <uint64_t> self.fresh_end)
        store64(at + 40, <uint64_t> self.fresh_level)
        return data

    def packed_anew(self):
        """What to store, if it is not what was unpacked."""
        packed = self.pack()
        return None if packed == self._stored else packed

    def levels(self):
        """Those of which there are any, the most urgent first."""
        cdef int level
        return [level for level in range(MOST) if self._items[level] > 0]

    def items(self, int level):
        """How many of a level there are."""
        return self._items[_checked(level)]

    def sizes(self, int level):
        """Of how many bytes those of a level are."""
        return self._sizes[_checked(level)]

    def add(self, int level, int64_t count, int64_t size):
        """So many more of a level, or fewer, and so many bytes."""
        self._add(_checked(level), count, size)

    cdef inline void _add(self, int level, int64_t count, int64_t size) noexcept:
        self._items[level] += count
        self._sizes[level] += size
        self.depth += count
        self.size += size

    def has_fresh(self, int level):
        """Whether some of this level may be ready since they came."""
        return self.fresh < self.fresh_end and level == self.fresh_level

    def is_fresh(self, int64_t place, bytes row not None):
        """Whether the write of this row is ready since it came."""
        return (
            self.fresh <= place < self.fresh_end
            and PyBytes_GET_SIZE(row) >= ROW_HEADER
            and (<const uint8_t*> PyBytes_AS_STRING(row))[BORN]
        )

    cdef inline bint _bears(self, int level, int64_t place) noexcept:
        """Have a new write be fresh, unless it were too far from others or of another level."""
        if self.fresh >= self.fresh_end:
            self.fresh, self.fresh_level = place, level
        elif level != self.fresh_level or place - self.fresh_end > MOST_BETWEEN:
            return False
        self.fresh_end = place + 1
        return True


cdef inline int _checked(int level) except -1:
    if not 0 <= level < MOST:
        raise IndexError(f"a level is expected to be from 0 to {MOST - 1}, got {level}")
    return level


cdef inline bytes _place(uint64_t number):
    cdef uint8_t[8] digits
    cdef int digit
    for digit in range(8):
        digits[digit] = <uint8_t> (number >> (56 - 8 * digit))
    return PyBytes_FromStringAndSize(<const char*> digits, 8)


def lane_of(bytes form not None):
    """What LMDB files the lane of a key form under."""
    return form if PyBytes_GET_SIZE(form) <= PLAIN else lmdb_key(form)


def lay_out(
    list writes not None, list names not None, dict tails not None, Tally tally not None,
    bint ready,
):
    """Number writes, in the order given, and count them.

    ``names`` are those of their lanes, ``tails`` the last places of lanes not over. Returns
    the rows of data, of lanes, and of what follows another write; and the heads of new lanes, each
    a level and a place, but for those that are ``ready`` and fresh.
    """
    cdef uint64_t number = <uint64_t> tally.next
    cdef list rows = [], follows = [], heads = []
    cdef dict lanes = {}
    cdef Write write
    cdef bytes place, head
    cdef Py_ssize_t at
    cdef bint born
    for at in range(len(writes)):
        write = writes[at]
        name = names[at]
        place = _place(number)
        last = lanes.get(name)
        if last is None:
            last = tails.get(name)
        born = last is None and ready and tally._bears(_checked(write.level), <int64_t> number)
        rows.append((place, write.row(number, born)))
        if born:
            pass
        elif last is None:
            head = PyBytes_FromStringAndSize(NULL, 9)
            PyBytes_AS_STRING(head)[0] = <char> _checked(write.level)
            memcpy(PyBytes_AS_STRING(head) + 1, PyBytes_AS_STRING(place), 8)
            heads.append((head, b""))
        else:
            follows.append((last, place))
        lanes[name] = place
        tally._add(_checked(write.level), 1, write.size)
        number += 1
    tally.next = <int64_t> number
    return rows, sorted(lanes.items()), follows, heads


def fresh_from(cursor, Tally tally not None, Py_ssize_t most):
    """The first rows that are fresh, or damaged so that nobody knows, from that of the cursor."""
    cdef list found = []
    cdef bytes place, row
    cdef bytes end = _place(<uint64_t> tally.fresh_end)
    for place, row in cursor:
        if len(found) == most or place >= end:
            break
        if (
            PyBytes_GET_SIZE(row) < ROW_HEADER
            or (<const uint8_t*> PyBytes_AS_STRING(row))[BORN]
            or load64(<const uint8_t*> PyBytes_AS_STRING(row))
            != c_checksum(<const uint8_t*> PyBytes_AS_STRING(row), PyBytes_GET_SIZE(row))
        ):
            found.append((place, row))
    return found


@cython.final
@cython.freelist(256)
cdef class Claimed:
    """A write under way: what it is, which attempt this is, and what the last one failed of."""

    cdef readonly Write write
    cdef readonly int attempt
    cdef readonly str error


cdef tuple claim_of(
    bytes place, Write write, bytes past, int level, uint64_t owner, int64_t until, list claimed
):
    """The row of a claim."""
    cdef const uint8_t* was = <const uint8_t*> PyBytes_AS_STRING(past)
    cdef Py_ssize_t said = PyBytes_GET_SIZE(past) - PAST_HEADER
    cdef int attempts = 0
    cdef Claimed claim = Claimed.__new__(Claimed)
    cdef bytes row
    cdef uint8_t* at
    if said >= 0 and load64(was) == write.number:
        attempts = load16(was + 8)
    else:  # there were none, or of a write that it replaced
        said = 0
    attempts = min(attempts + 1, 0xFFFF)
    row = PyBytes_FromStringAndSize(NULL, CLAIM_HEADER + said)
    at = <uint8_t*> PyBytes_AS_STRING(row)
    store64(at + OWNER, owner)
    store64(at + UNTIL, <uint64_t> until)
    store32(at + CLAIM_SIZE, <uint32_t> write.size)
    at[CLAIM_LEVEL] = <uint8_t> level
    store64(at + PAST, write.number)
    store16(at + ATTEMPTS, <uint16_t> attempts)
    memcpy(at + CLAIM_HEADER, was + PAST_HEADER, said)
    claim.write, claim.attempt = write, attempts
    claim.error = (
        "" if said == 0 else past[PAST_HEADER:].decode("utf-8", "replace")
    )
    claimed.append(claim)
    return place, row


def claim_all(
    list rows not None, dict found not None, int level, uint64_t owner, int64_t until,
    list claimed not None, list damaged not None, is_too_young=None,
):
    """Claim the writes of these rows of ready ones, ``found`` by their places.

    It ends before the first that ``is_too_young``. Adds to ``claimed``, and to ``damaged`` the
    place, bytes and error of what cannot be read. Returns how many rows are done, and the claims.
    """
    cdef list claims = []
    cdef Py_ssize_t taken = 0
    cdef bytes place
    cdef Write write
    for place, past in rows:
        row = found.get(place)
        if row is not None:
            try:
                write = Write.stored(place, row)
            except DecodeError as error:
                damaged.append((place, row, error))
            else:
                if is_too_young is not None and is_too_young(write):
                    break
                claims.append(claim_of(place, write, past, level, owner, until, claimed))
        taken += 1
    return taken, claims


def finish_all(claims, data, done, uint64_t owner, Tally tally not None, list finished not None):
    """Remove the claims and rows of what is done, where the owner has claimed it.

    ``claims`` and ``data`` are cursors. Adds the places of what was removed to ``finished``.
    """
    cdef bytes place, claim
    cdef const uint8_t* at
    pop, set_key, delete = claims.pop, data.set_key, data.delete
    current = data.key
    for one in done:
        place = _place(<uint64_t> one.place)
        found = pop(place)
        if found is None:
            continue
        claim = found
        at = <const uint8_t*> PyBytes_AS_STRING(claim)
        if (
            PyBytes_GET_SIZE(claim) < CLAIM_HEADER
            or load64(at + OWNER) != owner
            or load64(at + PAST) != <uint64_t> one.number
        ):
            claims.put(place, claim)
            continue
        if current() == place or set_key(place):
            delete()
        tally._add(_checked(at[CLAIM_LEVEL]), -1, -<int64_t> load32(at + CLAIM_SIZE))
        finished.append(place)
