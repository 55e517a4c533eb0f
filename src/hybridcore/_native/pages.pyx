"""Walks through LMDB's pages without LMDB, which asserts that they are whole where it walks.

A page is believed when its number, its kind, its bounds and those of its nodes are possible, and
its keys rise between those that the page above says. So a walk of damaged pages comes to an end,
reads nothing but the file, and leaves out what it cannot believe.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from hybridcore._native.header cimport HEADER, Header, parse

# LMDB 0.9 on 64 bits, in the byte order of the machine.
cdef enum:
    PAGE_HEADER = 16   # u64 number, u16, u16 kind, then u16 lower, u16 upper, or u32 pages
    KIND = 10
    LOWER = 12
    UPPER = 14
    PAGES = 12
    BRANCH = 1
    LEAF = 2
    OVERFLOW = 4
    KINDS = 0x6F       # all but the mark of pages that are not written yet
    NODE = 8           # u16 low, u16 high, u16 flags, u16 size of the key
    ON_PAGES = 1       # flags of a node: the value has pages of its own...
    TREE = 2           # ...or is a tree
    LONGEST_KEY = 511
    DEEPEST = 32
    TREE_SIZE = 48
    TREE_DEPTH = 6
    TREE_ROOT = 40
    META_SIZE = 152
    PAGE_SIZE = 40     # offsets in a meta page
    MAIN = 88
    TRANSACTION = 144

cdef uint64_t NO_PAGE = <uint64_t> -1


cdef extern from "mapped.h" nogil:
    const uint8_t* hc_map(int file, size_t size)
    void hc_unmap(const uint8_t* base, size_t size)
    uint64_t hc_size(int file)
    void hc_let_go(const uint8_t* base, size_t size)
    bint hc_is_mapped(const uint8_t* base, size_t size)


cdef struct Level:
    const uint8_t* page
    int count              # of its nodes
    int at                 # the node the walk is at
    const uint8_t* least   # keys begin here...
    Py_ssize_t least_size
    const uint8_t* below   # ...and end before this one, or NULL
    Py_ssize_t below_size


cdef inline uint16_t load_u16(const uint8_t* at) noexcept nogil:
    cdef uint16_t number
    memcpy(&number, at, 2)
    return number


cdef inline uint32_t load_u32(const uint8_t* at) noexcept nogil:
    cdef uint32_t number
    memcpy(&number, at, 4)
    return number


cdef inline uint64_t load_u64(const uint8_t* at) noexcept nogil:
    cdef uint64_t number
    memcpy(&number, at, 8)
    return number


cdef inline bint is_less(const uint8_t* one, Py_ssize_t one_size,
                         const uint8_t* other, Py_ssize_t other_size) noexcept nogil:
    """LMDB's order of keys."""
    cdef int order = memcmp(one, other, <size_t> min(one_size, other_size))
    return order < 0 or (order == 0 and one_size < other_size)


cdef inline const uint8_t* node_of(const uint8_t* page, int k) noexcept nogil:
    return page + load_u16(page + PAGE_HEADER + 2 * k)


@cython.final
cdef class Walk:
    """A walk through one tree of a file that is mapped, or was read, as ``memory``.

    ``damaged`` counts the pages and nodes that were left out.
    """

    cdef const uint8_t[::1] memory
    cdef const uint8_t* base
    cdef uint64_t pages
    cdef Py_ssize_t page_size
    cdef int depth
    cdef int level
    cdef Level[DEEPEST] levels
    cdef readonly int damaged

    def __init__(self, const uint8_t[::1] memory not None, bytes database not None):
        """Find the database by the newest of the two meta pages.

        Raises:
            ValueError: there is none, or it cannot be found for damage.
        """
        cdef uint8_t[META_SIZE] meta
        cdef const uint8_t* node
        cdef const uint8_t* value
        cdef Py_ssize_t size
        self.memory = memory
        if memory.shape[0] > 0:
            self.base = &memory[0]
        if not self.c_read_meta(meta):
            raise ValueError("its meta pages")
        self.level = -1
        if not self.c_open(meta + MAIN) or not self.c_seek(
            <const uint8_t*> PyBytes_AS_STRING(database), PyBytes_GET_SIZE(database)
        ):
            raise ValueError("the list of its databases")
        node = self.c_node()
        size = load_u16(node + 6)
        if (
            size != PyBytes_GET_SIZE(database)
            or memcmp(node + NODE, PyBytes_AS_STRING(database), <size_t> size) != 0
            or load_u16(node + 4) != TREE
            or self.c_value(node, &value) != TREE_SIZE
            or not self.c_open(value)
        ):
            raise ValueError(f"the root of its database {database.decode()!r}")

    def heads(self, bytes start not None, bint beyond, int limit):
        """Up to so many keys from ``start`` on, or ``beyond`` it, each with its record's head.

        That is the record up to its payload, or the first bytes of what is no record.
        """
        cdef list found = []
        cdef const uint8_t* node
        cdef const uint8_t* value
        cdef Py_ssize_t size, key_size
        cdef Header header
        cdef const uint8_t* first = <const uint8_t*> PyBytes_AS_STRING(start)
        cdef bint there = self.c_seek(first, PyBytes_GET_SIZE(start))
        while there and len(found) < limit:
            node = self.c_node()
            key_size = load_u16(node + 6)
            size = self.c_value(node, &value)
            if size < 0:
                self.damaged += 1
            elif not (beyond and key_size == PyBytes_GET_SIZE(start)
                      and memcmp(node + NODE, first, <size_t> key_size) == 0):
                size = header.payload if parse(value, size, &header) else min(size, HEADER)
                found.append((
                    PyBytes_FromStringAndSize(<const char*> node + NODE, key_size),
                    PyBytes_FromStringAndSize(<const char*> value, size),
                ))
            there = self.c_next()
        return found

    def check(self):
        """Look at all of the tree; return how much of it is damaged."""
        cdef const uint8_t* value
        cdef bint there
        with nogil:
            there = self.c_seek(self.base, 0)
            while there:
                if self.c_value(self.c_node(), &value) < 0:
                    self.damaged += 1
                there = self.c_next()
        return self.damaged

    cdef bint c_read_meta(self, uint8_t* meta) noexcept:
        """Copy the newer meta page, which a writer may be about to write, until it holds still."""
        cdef uint8_t[META_SIZE] again
        cdef const uint8_t* newest
        if self.memory.shape[0] < 2 * PAGE_SIZE + META_SIZE:
            return False
        self.page_size = load_u32(self.base + PAGE_SIZE)
        if not 256 <= self.page_size <= 65536 or self.page_size & (self.page_size - 1) != 0:
            return False
        self.pages = <uint64_t> (self.memory.shape[0] // self.page_size)
        if self.pages < 2:
            return False
        newest = self.base
        if load_u64(newest + TRANSACTION) < load_u64(newest + self.page_size + TRANSACTION):
            newest += self.page_size
        memcpy(meta, newest, META_SIZE)
        while True:
            memcpy(again, newest, META_SIZE)
            if memcmp(meta, again, META_SIZE) == 0:
                return True
            memcpy(meta, again, META_SIZE)

    cdef bint c_open(self, const uint8_t* tree) noexcept nogil:
        """Go to the root of a tree."""
        cdef uint64_t root = load_u64(tree + TREE_ROOT)
        cdef int depth = load_u16(tree + TREE_DEPTH)
        self.level = -1
        self.depth = 0
        if root == NO_PAGE:
            return True
        if not 1 <= depth <= DEEPEST:
            return False
        self.depth = depth
        return self.c_enter(root, self.base, 0, NULL, 0)

    cdef bint c_enter(self, uint64_t number, const uint8_t* least, Py_ssize_t least_size,
                      const uint8_t* below, Py_ssize_t below_size) noexcept nogil:
        """Go down to a page if it can be believed, with keys from ``least`` to ``below``."""
        cdef const uint8_t* page
        cdef const uint8_t* before = least
        cdef const uint8_t* node
        cdef Py_ssize_t before_size = least_size
        cdef Py_ssize_t lower, upper, offset, size
        cdef bint is_leaf = self.level + 2 == self.depth
        cdef Level* level
        cdef int k, count
        if number < 2 or number >= self.pages:
            return False
        page = self.base + number * <uint64_t> self.page_size
        lower, upper = load_u16(page + LOWER), load_u16(page + UPPER)
        count = <int> (lower - PAGE_HEADER) // 2
        if (
            load_u64(page) != number
            or load_u16(page + KIND) & KINDS != (LEAF if is_leaf else BRANCH)
            or lower < PAGE_HEADER or lower & 1 or lower > upper or upper > self.page_size
            or count < (1 if is_leaf else 2)
        ):
            return False
        for k in range(count):
            offset = load_u16(page + PAGE_HEADER + 2 * k)
            if offset < upper or offset > self.page_size - NODE:
                return False
            node = page + offset
            size = load_u16(node + 6)
            if size > LONGEST_KEY or size > self.page_size - NODE - offset:
                return False
            if k == 0 and not is_leaf:   # it stands for all that is less than the next one's
                continue
            if is_less(node + NODE, size, before, before_size):
                return False
            if before != least and not is_less(before, before_size, node + NODE, size):
                return False
            before, before_size = node + NODE, size
        if below != NULL and not is_less(before, before_size, below, below_size):
            return False
        self.level += 1
        level = &self.levels[self.level]
        level.page, level.count, level.at = page, count, 0
        level.least, level.least_size = least, least_size
        level.below, level.below_size = below, below_size
        return True

    cdef bint c_descend(self) noexcept nogil:
        """Go from a page down to that of the node it is at; False when that cannot be believed."""
        cdef Level* level = &self.levels[self.level]
        cdef const uint8_t* node = node_of(level.page, level.at)
        cdef const uint8_t* least = level.least
        cdef const uint8_t* below = level.below
        cdef Py_ssize_t least_size = level.least_size, below_size = level.below_size
        cdef uint64_t number = (
            load_u16(node) | <uint64_t> load_u16(node + 2) << 16
            | <uint64_t> load_u16(node + 4) << 32
        )
        if level.at > 0:
            least, least_size = node + NODE, load_u16(node + 6)
        if level.at + 1 < level.count:
            node = node_of(level.page, level.at + 1)
            below, below_size = node + NODE, load_u16(node + 6)
        if self.c_enter(number, least, least_size, below, below_size):
            return True
        self.damaged += 1
        return False

    cdef bint c_seek(self, const uint8_t* key, Py_ssize_t size) noexcept nogil:
        """Go to the first node that is not less than the key; False when there is none."""
        cdef Level* level
        cdef const uint8_t* node
        if self.depth == 0:
            return False
        self.level = 0
        self.levels[0].at = 0
        while True:
            level = &self.levels[self.level]
            if self.level + 1 == self.depth:
                while level.at < level.count:
                    node = node_of(level.page, level.at)
                    if not is_less(node + NODE, load_u16(node + 6), key, size):
                        return True
                    level.at += 1
                level.at -= 1
                return self.c_next()
            while level.at + 1 < level.count:
                node = node_of(level.page, level.at + 1)
                if is_less(key, size, node + NODE, load_u16(node + 6)):
                    break
                level.at += 1
            if not self.c_descend():
                return self.c_next()

    cdef bint c_next(self) noexcept nogil:
        """Go to the next node of a leaf that can be believed; False when there is none."""
        while self.level >= 0:
            self.levels[self.level].at += 1
            if self.levels[self.level].at == self.levels[self.level].count:
                self.level -= 1
                continue
            while True:
                if self.level + 1 == self.depth:
                    return True
                if not self.c_descend():
                    break
        return False

    cdef inline const uint8_t* c_node(self) noexcept nogil:
        return node_of(self.levels[self.level].page, self.levels[self.level].at)

    cdef Py_ssize_t c_value(self, const uint8_t* node, const uint8_t** value) noexcept nogil:
        """Where the value of a leaf's node is, and its size; -1 when it cannot be believed."""
        cdef const uint8_t* page = self.levels[self.level].page
        cdef const uint8_t* start = node + NODE + load_u16(node + 6)
        cdef uint64_t size = load_u16(node) | <uint64_t> load_u16(node + 2) << 16
        cdef uint64_t left = <uint64_t> (page + self.page_size - start)
        cdef int flags = load_u16(node + 4)
        cdef uint64_t number, pages
        if flags == 0 or flags == TREE:
            value[0] = start
            return <Py_ssize_t> size if size <= left else -1
        if flags != ON_PAGES or left < 8:
            return -1
        number = load_u64(start)
        pages = (PAGE_HEADER + size + <uint64_t> self.page_size - 1) // <uint64_t> self.page_size
        if number < 2 or number >= self.pages or pages > self.pages - number:
            return -1
        page = self.base + number * <uint64_t> self.page_size
        if (
            load_u64(page) != number
            or load_u16(page + KIND) & KINDS != OVERFLOW
            or load_u32(page + PAGES) < pages
        ):
            return -1
        value[0] = page + PAGE_HEADER
        return <Py_ssize_t> size


@cython.final
cdef class Map:
    """A data file in memory, where records are looked up while a read transaction keeps them.

    Raises:
        OSError: it cannot be mapped.
    """

    def __cinit__(self, int file, size_t size, size_t page_size, bytes database not None):
        self.file, self.size, self.page_size, self.database = file, size, page_size, database
        self.root.depth = -1
        self.base = hc_map(file, size)
        if self.base == NULL:
            raise OSError("the data file cannot be mapped a second time")
        self.pages = min(hc_size(file), <uint64_t> size) // page_size

    def __dealloc__(self):
        if self.base != NULL:
            hc_unmap(self.base, self.size)

    cdef void c_root(self, Root* root) noexcept:
        """Where the newest commit has the tree. What a transaction sees that began before is in
        place until it ends, and so is all that was committed since."""
        cdef const uint8_t* newest
        cdef const uint8_t* other
        cdef const uint8_t* value
        cdef Py_ssize_t size
        cdef Root main
        cdef uint64_t transaction
        while True:
            newest, other = self.base, self.base + self.page_size
            if load_u64(newest + TRANSACTION) < load_u64(other + TRANSACTION):
                newest, other = other, newest
            transaction = load_u64(newest + TRANSACTION)
            if transaction == self.transaction:
                break
            main.number = load_u64(newest + MAIN + TREE_ROOT)
            main.depth = load_u16(newest + MAIN + TREE_DEPTH)
            if load_u64(other + TRANSACTION) > transaction:
                continue   # the page may be written again meanwhile
            self.root.depth = -1
            if main.number == NO_PAGE:
                self.root.depth = 0
            elif self.c_find(
                &main, <const uint8_t*> PyBytes_AS_STRING(self.database),
                PyBytes_GET_SIZE(self.database), &value, &size,
            ) > 0 and size == TREE_SIZE:
                self.root.number = load_u64(value + TREE_ROOT)
                self.root.depth = 0 if self.root.number == NO_PAGE else load_u16(value + TREE_DEPTH)
            self.transaction = transaction
            break
        root[0] = self.root

    cdef const uint8_t* c_page(self, uint64_t number, int kind) noexcept nogil:
        """The page, if its number and its kind can be believed, else NULL."""
        cdef const uint8_t* page
        if number >= self.pages:
            self.pages = min(hc_size(self.file), <uint64_t> self.size) // self.page_size
        if number < 2 or number >= self.pages:
            return NULL
        page = self.base + number * self.page_size
        if load_u64(page) != number or load_u16(page + KIND) & KINDS != kind:
            return NULL
        return page

    cdef int c_find(self, const Root* root, const uint8_t* key, Py_ssize_t size,
                    const uint8_t** value, Py_ssize_t* value_size) noexcept nogil:
        """Look a key up in a tree: 1 when it is there, 0 when not, -1 when damage is in the way."""
        cdef const uint8_t* page
        cdef const uint8_t* node = NULL
        cdef uint64_t number = root.number, bytes_there, pages
        cdef Py_ssize_t lower, upper, offset, key_size, page_size = <Py_ssize_t> self.page_size
        cdef int depth, low, high, middle, order, flags
        if root.depth < 0 or root.depth > DEEPEST:
            return -1
        if root.depth == 0:
            return 0
        for depth in range(root.depth):
            page = self.c_page(number, LEAF if depth + 1 == root.depth else BRANCH)
            if page == NULL:
                return -1
            lower, upper = load_u16(page + LOWER), load_u16(page + UPPER)
            if lower < PAGE_HEADER + 2 or lower > upper or upper > page_size:
                return -1
            # the last node that is not greater than the key; on a branch the first stands for less
            low, high = (0 if depth + 1 == root.depth else 1), <int> (lower - PAGE_HEADER) // 2 - 1
            while low <= high:
                middle = (low + high) >> 1
                offset = load_u16(page + PAGE_HEADER + 2 * middle)
                if offset < upper or offset > page_size - NODE:
                    return -1
                node = page + offset
                key_size = load_u16(node + 6)
                if key_size > page_size - NODE - offset:
                    return -1
                order = memcmp(key, node + NODE, <size_t> min(size, key_size))
                if order == 0:
                    if size == key_size and depth + 1 == root.depth:
                        high = middle
                        break
                    order = -1 if size < key_size else 1
                if order < 0:
                    high = middle - 1
                else:
                    low = middle + 1
            else:
                if depth + 1 == root.depth:
                    return 0
            if depth + 1 < root.depth:
                offset = load_u16(page + PAGE_HEADER + 2 * max(high, 0))
                if offset < upper or offset > page_size - NODE:
                    return -1
                node = page + offset
                number = (
                    load_u16(node) | <uint64_t> load_u16(node + 2) << 16
                    | <uint64_t> load_u16(node + 4) << 32
                )
        bytes_there = load_u16(node) | <uint64_t> load_u16(node + 2) << 16
        flags = load_u16(node + 4)
        offset += NODE + key_size
        value_size[0] = <Py_ssize_t> bytes_there
        if flags == 0 or flags == TREE:
            value[0] = page + offset
            return 1 if bytes_there <= <uint64_t> (page_size - offset) else -1
        if flags != ON_PAGES or page_size - offset < 8:
            return -1
        number = load_u64(page + offset)
        pages = (PAGE_HEADER + bytes_there + self.page_size - 1) // self.page_size
        page = self.c_page(number, OVERFLOW)
        if page == NULL or load_u32(page + PAGES) < pages:
            return -1
        if pages > self.pages - number:
            self.pages = min(hc_size(self.file), <uint64_t> self.size) // self.page_size
            if pages > self.pages - number:
                return -1
        value[0] = page + PAGE_HEADER
        return 1


def let_go(value, size_t page_size, uint64_t pages):
    """Have the process no longer hold the pages of a map that has so many; it reads on as before.

    ``value`` is a view of a small value where LMDB maps it, within a read transaction and behind
    the gate, so that the map stays where it is. Returns whether it was found.
    """
    cdef Py_buffer view
    cdef const uint8_t* page
    cdef uint64_t number
    PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
    try:
        page = <const uint8_t*> (<size_t> view.buf & ~(page_size - 1))
        number = load_u64(page)
        if number < 2 or number >= pages or load_u16(page + KIND) & KINDS != LEAF:
            return False
        page -= number * page_size
        # A map begins with its two meta pages, unless the number is a damaged one.
        if (
            not hc_is_mapped(page, 2 * page_size)
            or load_u64(page) != 0
            or load_u64(page + page_size) != 1
        ):
            return False
        hc_let_go(page, pages * page_size)
        return True
    finally:
        PyBuffer_Release(&view)
