"""The header of a record: where its fields are, read and written byte by byte."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

# Little-endian, by offset. The checksum comes first so that all it covers is one run of bytes,
# and 64 bytes keep the payload on a multiple of 16.
cdef enum:
    CHECKSUM = 0       # u64  xxh3-64 of everything after it
    MAGIC = 8          # u16  "hc"
    FORMAT = 10        # u8
    CODE = 11          # u8   which codec reads the payload
    FLAGS = 12         # u32  how the payload is compressed, see hybridcore.codec
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
    LAST_COMPRESSION = 2   # whoever meets larger flags is too old for the record


cdef struct Header:
    const uint8_t* record
    Py_ssize_t size       # of the record
    Py_ssize_t payload    # offset of the payload
    uint64_t checksum
    uint64_t version
    int64_t stored_at     # wall clock, ns
    int64_t fresh_until   # wall clock, ns; 0 never
    int64_t expires_at    # wall clock, ns; 0 never
    float cost
    float importance
    uint8_t code
    uint32_t flags
    uint32_t key_size
    uint32_t meta_size


cdef inline uint16_t load16(const uint8_t* at) noexcept nogil:
    return <uint16_t> (at[0] | at[1] << 8)


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


cdef inline void store16(uint8_t* at, uint16_t number) noexcept nogil:
    at[0] = number & 0xFF
    at[1] = number >> 8 & 0xFF


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


cdef inline bint parse(const uint8_t* record, Py_ssize_t size, Header* header) noexcept nogil:
    """Read the header; False when it is none of ours or its lengths are impossible."""
    cdef uint64_t payload
    if size < HEADER:
        return False
    if record[MAGIC] != MAGIC_HC & 0xFF or record[MAGIC + 1] != MAGIC_HC >> 8:
        return False
    header.flags = load32(record + FLAGS)
    if record[FORMAT] != CURRENT_FORMAT or header.flags > LAST_COMPRESSION:
        return False
    header.key_size = load32(record + KEY_SIZE)
    header.meta_size = load32(record + META_SIZE)
    payload = payload_offset(header.key_size, header.meta_size)
    if payload > <uint64_t> size:
        return False
    header.record = record
    header.size = size
    header.payload = <Py_ssize_t> payload
    header.code = record[CODE]
    header.checksum = load64(record + CHECKSUM)
    header.version = load64(record + VERSION)
    header.stored_at = <int64_t> load64(record + STORED_AT)
    header.fresh_until = <int64_t> load64(record + FRESH_UNTIL)
    header.expires_at = <int64_t> load64(record + EXPIRES_AT)
    header.cost = load_float(record + COST)
    header.importance = load_float(record + IMPORTANCE)
    return True


cdef inline bint is_of(
    const uint8_t* record, Py_ssize_t size, const char* key, size_t key_size, Header* header
) noexcept nogil:
    """Whether these bytes seem to be the record of the key; reads the header."""
    return (
        parse(record, size, header)
        and header.key_size == key_size
        and memcmp(record + HEADER, key, key_size) == 0
    )
