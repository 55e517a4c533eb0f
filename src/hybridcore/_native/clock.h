/* A monotonic clock that costs a few nanoseconds and ticks every few milliseconds. */
#ifndef HYBRIDCORE_CLOCK_H
#define HYBRIDCORE_CLOCK_H

#include <stdint.h>

#if defined(_WIN32)
#include <windows.h>
static inline int64_t hc_coarse_ns(void) { return (int64_t)GetTickCount64() * 1000000; }
#else
#include <time.h>
#if defined(__APPLE__)
static inline int64_t hc_coarse_ns(void)
{
    return (int64_t)clock_gettime_nsec_np(CLOCK_MONOTONIC_RAW_APPROX);
}
#else
#if defined(CLOCK_MONOTONIC_COARSE)
#define HC_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define HC_CLOCK CLOCK_MONOTONIC
#endif
static inline int64_t hc_coarse_ns(void)
{
    struct timespec now;
    clock_gettime(HC_CLOCK, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
#endif
#endif

#endif
