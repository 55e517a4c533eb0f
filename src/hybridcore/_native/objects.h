/* Hash and equality of Python objects, with the exact str and int types done inline. */
#ifndef HYBRIDCORE_OBJECTS_H
#define HYBRIDCORE_OBJECTS_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define hc_likely(x) __builtin_expect(!!(x), 1)
#define hc_unlikely(x) __builtin_expect(!!(x), 0)
#define HC_NOINLINE __attribute__((noinline, unused))
#else
#define hc_likely(x) (x)
#define hc_unlikely(x) (x)
#define HC_NOINLINE
#endif

/* An int of one digit: the value is at hand without a call. */
#if PY_VERSION_HEX >= 0x030C0000
#define hc_long_is_compact(o) PyUnstable_Long_IsCompact((PyLongObject *)(o))
#define hc_long_value(o) PyUnstable_Long_CompactValue((PyLongObject *)(o))
/* Whether an int equals a compact one. */
#define hc_long_is(o, compact) \
    (hc_long_is_compact(o) && hc_long_value(o) == hc_long_value(compact))
#else
#define hc_long_is_compact(o) ((size_t)(Py_SIZE(o) + 1) <= 2)
#define hc_long_is(o, compact) \
    (Py_SIZE(o) == Py_SIZE(compact) \
     && (((PyLongObject *)(o))->ob_digit[0] == ((PyLongObject *)(compact))->ob_digit[0] \
         || Py_SIZE(o) == 0))
#define hc_long_value(o) \
    (Py_SIZE(o) == 0 ? 0 : (Py_ssize_t)Py_SIZE(o) * (Py_ssize_t)((PyLongObject *)(o))->ob_digit[0])
#endif

/* hash(o), or -1 with an exception set */
static inline Py_hash_t hc_hash(PyObject *o)
{
    if (hc_likely(PyUnicode_CheckExact(o))) {
        Py_hash_t hash = ((PyASCIIObject *)o)->hash;
        if (hc_likely(hash != -1))
            return hash;
    } else if (PyLong_CheckExact(o) && hc_long_is_compact(o)) {
        Py_hash_t value = (Py_hash_t)hc_long_value(o);
        return value == -1 ? -2 : value;
    }
    return PyObject_Hash(o);
}

/* Fibonacci mixing: the high half is well spread even for consecutive integers. */
static inline uint32_t hc_mix(Py_hash_t hash)
{
    return (uint32_t)(((uint64_t)hash * 0x9E3779B97F4A7C15ull) >> 32);
}

/* The hash of a tuple, an item at a time, as CPython has computed it since 3.8. */
#if SIZEOF_SIZE_T > 4
#define HC_PRIME_1 ((Py_uhash_t)11400714785074694791ULL)
#define HC_PRIME_2 ((Py_uhash_t)14029467366897019727ULL)
#define HC_PRIME_5 ((Py_uhash_t)2870177450012600261ULL)
#define HC_ROTATED(x) ((x << 31) | (x >> 33))
#else
#define HC_PRIME_1 ((Py_uhash_t)2654435761UL)
#define HC_PRIME_2 ((Py_uhash_t)2246822519UL)
#define HC_PRIME_5 ((Py_uhash_t)374761393UL)
#define HC_ROTATED(x) ((x << 13) | (x >> 19))
#endif
#define HC_TUPLE_START ((Py_hash_t)HC_PRIME_5)

static inline Py_hash_t hc_tuple_hash_add(Py_hash_t state, Py_hash_t item)
{
    Py_uhash_t sum = (Py_uhash_t)state + (Py_uhash_t)item * HC_PRIME_2;
    return (Py_hash_t)(HC_ROTATED(sum) * HC_PRIME_1);
}

static inline Py_hash_t hc_tuple_hash_end(Py_hash_t state, Py_ssize_t count)
{
    Py_uhash_t sum = (Py_uhash_t)state + ((Py_uhash_t)count ^ (HC_PRIME_5 ^ 3527539UL));
    return sum == (Py_uhash_t)-1 ? 1546275796 : (Py_hash_t)sum;
}

#define HC_DIFFERENT 0
#define HC_EQUAL 1
#define HC_ASK_PYTHON 2

static inline int hc_same_bytes(const char *p, const char *q, size_t n)
{
    uint64_t x, y;
    size_t i;
    if (n > 64)
        return memcmp(p, q, n) == 0;
    if (n >= 8) {
        for (i = 0; i + 8 <= n; i += 8) {
            memcpy(&x, p + i, 8);
            memcpy(&y, q + i, 8);
            if (x != y)
                return 0;
        }
        memcpy(&x, p + n - 8, 8);
        memcpy(&y, q + n - 8, 8);
        return x == y;
    }
    for (i = 0; i < n; i++)
        if (p[i] != q[i])
            return 0;
    return 1;
}

/* Equality as far as it can be told without running Python code. Both objects, or the tuples they
   are in, have been hashed, so strings are in their canonical form. */
static inline int hc_equal_scalars(PyObject *a, PyObject *b)
{
    if (a == b)
        return HC_EQUAL;
    if (Py_TYPE(a) != Py_TYPE(b))
        return HC_ASK_PYTHON;
    if (PyUnicode_CheckExact(a)) {
        Py_ssize_t n = PyUnicode_GET_LENGTH(a);
        if (n != PyUnicode_GET_LENGTH(b) || PyUnicode_KIND(a) != PyUnicode_KIND(b))
            return HC_DIFFERENT;
        return hc_same_bytes((const char *)PyUnicode_DATA(a), (const char *)PyUnicode_DATA(b),
                             (size_t)n * PyUnicode_KIND(a));
    }
    if (PyLong_CheckExact(a) && hc_long_is_compact(a))
        return hc_long_is(b, a);
    if (PyFloat_CheckExact(a))
        return PyFloat_AS_DOUBLE(a) == PyFloat_AS_DOUBLE(b);
    if (PyBytes_CheckExact(a))
        return PyBytes_GET_SIZE(a) == PyBytes_GET_SIZE(b)
               && hc_same_bytes(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b),
                                (size_t)PyBytes_GET_SIZE(a));
    return HC_ASK_PYTHON;
}

/* Not inlined, so that what compares other keys is small enough to be. */
static HC_NOINLINE int hc_equal_tuples(PyObject *a, PyObject *b)
{
    Py_ssize_t i, n = PyTuple_GET_SIZE(a);
    int same;
    if (n != PyTuple_GET_SIZE(b))
        return HC_DIFFERENT;
    for (i = 0; i < n; i++) {
        same = hc_equal_scalars(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i));
        if (same != HC_EQUAL)
            return same;
    }
    return HC_EQUAL;
}

/* The same for tuples of such objects too, one level deep. */
static inline int hc_equal(PyObject *a, PyObject *b)
{
    if (a == b)
        return HC_EQUAL;
    if (hc_likely(!PyTuple_CheckExact(a)) || !PyTuple_CheckExact(b))
        return hc_equal_scalars(a, b);
    return hc_equal_tuples(a, b);
}

#endif
