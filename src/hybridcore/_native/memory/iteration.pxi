"""Iteration over keys, values and items."""

cdef enum:
    KEYS = 0
    VALUES = 1
    ITEMS = 2


@cython.final
@cython.no_gc_clear      # __dealloc__ needs the store
cdef class StoreIterator:
    """Walks the entries that are fresh when it starts."""

    cdef MemoryStore store
    cdef uint64_t version
    cdef uint32_t position
    cdef int what
    cdef int64_t now

    def __cinit__(self, MemoryStore store not None, int what):
        if store.table.wheel != NULL:
            expire(store)
            with cython.critical_section(store):
                self.now = clock(store)
        with cython.critical_section(store):
            store.iterators += 1
        self.store = store
        self.version = store.table.version
        self.what = what

    def __dealloc__(self):
        if self.store is not None and self.position != NIL:
            with cython.critical_section(self.store):
                self.store.iterators -= 1

    def __iter__(self):
        return self

    def __next__(self):
        cdef Table* table = &self.store.table
        cdef uint32_t i
        with cython.critical_section(self.store):       # and of the iterator as well
            if self.version != table.version and self.position != NIL:
                raise RuntimeError(f"{type(self.store).__name__} changed size during iteration")
            while self.position < table.count:
                i = self.position
                self.position += 1
                if (
                    table.extras != NULL and table.extras[i].deadline
                    and table.extras[i].deadline <= self.now
                ):
                    continue
                if self.what == KEYS:
                    return <object> table.entries[i].key
                value = <object> table.entries[i].value
                if self.what == VALUES:
                    return value
                key = <object> table.entries[i].key     # held before a new tuple runs the collector
                return key, value
            if self.position != NIL:
                self.store.iterators -= 1
            self.position = NIL         # the end stays the end, whatever comes into the cache later
            raise StopIteration

    def __length_hint__(self):
        return self.store.table.count - min(self.position, self.store.table.count)
