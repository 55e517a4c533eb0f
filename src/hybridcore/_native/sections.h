/* The lock of an object on free-threaded CPython, which the GIL replaces elsewhere: as
   cython.critical_section, but without its reference to the object, which would cost each hit. */
#ifndef HYBRIDCORE_SECTIONS_H
#define HYBRIDCORE_SECTIONS_H

#include <Python.h>

#ifdef Py_GIL_DISABLED
typedef PyCriticalSection hc_section;
#define hc_enter(section, obj) PyCriticalSection_Begin(section, obj)
#define hc_leave(section) PyCriticalSection_End(section)
#else
typedef char hc_section;
#define hc_enter(section, obj) ((void)(section))
#define hc_leave(section) ((void)(section))
#endif

/* A reference that was counted already, as an object. */
#define hc_take(held) (held)

#endif
