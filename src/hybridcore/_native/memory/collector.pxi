"""The garbage collector looks through the table.

It stops all threads to traverse, and clears and deallocates what no other thread can reach.
"""

from cpython.object cimport inquiry, traverseproc, visitproc


cdef void release_all(MemoryStore store) noexcept:
    cdef Table old
    if take_all(store, &old):
        let_go(&old, None)


ctypedef int (*traverse_function)(PyObject*, visitproc, void*) noexcept
ctypedef int (*clear_function)(PyObject*) noexcept

cdef traverse_function traverse_members = NULL
cdef clear_function clear_members = NULL


cdef int store_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef Table* table = &(<MemoryStore> self).table
    cdef uint32_t i
    cdef int stop
    for i in range(table.count):
        stop = visit(table.entries[i].key, arg)
        if stop:
            return stop
        stop = visit(table.entries[i].value, arg)
        if stop:
            return stop
        if table.extras != NULL and table.extras[i].note != NULL:
            stop = visit(table.extras[i].note, arg)
            if stop:
                return stop
    return traverse_members(self, visit, arg)


cdef int store_clear(PyObject* self) noexcept:
    if (<MemoryStore> self).table.count:
        release_all(<MemoryStore> self)
    return clear_members(self)


cdef void install_collector_support():
    """Let the garbage collector see through the table. Before any subclass is made."""
    global traverse_members, clear_members
    cdef PyTypeObject* store_type = <PyTypeObject*> MemoryStore
    traverse_members = <traverse_function> <void*> store_type.tp_traverse
    clear_members = <clear_function> <void*> store_type.tp_clear
    store_type.tp_traverse = <traverseproc> <void*> store_traverse
    store_type.tp_clear = <inquiry> <void*> store_clear


install_collector_support()
