/* Numbers that several threads add to without a lock: plain under the GIL, atomic without it. */
#ifndef HYBRIDCORE_TALLY_H
#define HYBRIDCORE_TALLY_H

#include <Python.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#define hc_add32(to, n) ((void)_InterlockedExchangeAdd((volatile long *)(to), (long)(n)))
#define hc_add64(to, n) ((void)_InterlockedExchangeAdd64((volatile long long *)(to), (long long)(n)))
#define hc_get32(of) (*(volatile uint32_t *)(of))
#define hc_get64(of) (*(volatile uint64_t *)(of))
#define hc_set64(to, n) ((void)_InterlockedExchange64((volatile long long *)(to), (long long)(n)))
#define hc_take32(of) ((uint32_t)_InterlockedExchange((volatile long *)(of), 0))
#define hc_take64(of) ((uint64_t)_InterlockedExchange64((volatile long long *)(of), 0))
#else
#define hc_add32(to, n) ((void)__atomic_fetch_add(to, n, __ATOMIC_RELAXED))
#define hc_add64(to, n) ((void)__atomic_fetch_add(to, n, __ATOMIC_RELAXED))
#define hc_get32(of) __atomic_load_n(of, __ATOMIC_RELAXED)
#define hc_get64(of) __atomic_load_n(of, __ATOMIC_RELAXED)
#define hc_set64(to, n) __atomic_store_n(to, n, __ATOMIC_RELAXED)
#define hc_take32(of) __atomic_exchange_n(of, 0, __ATOMIC_RELAXED)
#define hc_take64(of) __atomic_exchange_n(of, 0, __ATOMIC_RELAXED)
#endif
#else
static inline uint32_t hc_take32(uint32_t *of) { uint32_t was = *of; *of = 0; return was; }
static inline uint64_t hc_take64(uint64_t *of) { uint64_t was = *of; *of = 0; return was; }
#define hc_add32(to, n) ((void)(*(to) += (n)))
#define hc_add64(to, n) ((void)(*(to) += (n)))
#define hc_get32(of) (*(of))
#define hc_get64(of) (*(of))
#define hc_set64(to, n) ((void)(*(to) = (n)))
#endif

#endif
