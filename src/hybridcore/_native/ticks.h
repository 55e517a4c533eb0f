/* A clock for durations that is as cheap as the processor has one, and how long its ticks are. */
#ifndef HYBRIDCORE_TICKS_H
#define HYBRIDCORE_TICKS_H

#include <stdint.h>

#if defined(_WIN32)
#include <windows.h>
static inline int64_t hc_precise_ns(void)
{
    LARGE_INTEGER now, rate;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&rate);
    return (int64_t)((double)now.QuadPart * 1e9 / (double)rate.QuadPart);
}
#else
#include <time.h>
static inline int64_t hc_precise_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
#endif

/* The counters that tick at one rate, whatever the processor's frequency is. */
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#include <cpuid.h>
#include <x86intrin.h>
#define hc_read_counter() ((int64_t)__rdtsc())
static inline int hc_counter_is_steady(void)
{
    unsigned a, b, c, d = 0;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & 0x100);
}
#elif defined(__aarch64__) && defined(__GNUC__)
static inline int64_t hc_read_counter(void)
{
    int64_t now;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(now));
    return now;
}
#define hc_counter_is_steady() 1
#else
#define hc_read_counter() hc_precise_ns()
#define hc_counter_is_steady() 0
#endif

typedef struct {
    int counts;         /* whether ticks are those of the counter, else they are nanoseconds */
    double ns;          /* that a tick lasts */
    int64_t ticks_then, ns_then;    /* when it was begun to find out */
} hc_tick_rate;

static inline int64_t hc_ticks(const hc_tick_rate *rate)
{
    return rate->counts ? hc_read_counter() : hc_precise_ns();
}

/* Find out how long a tick is: over 100 us at first, then over all the time since. */
static void hc_learn_rate(hc_tick_rate *rate)
{
    int64_t ns, ticks;
    if (rate->ns_then == 0) {
        rate->counts = hc_counter_is_steady();
        rate->ns = 1.0;
        rate->ns_then = hc_precise_ns();
        rate->ticks_then = hc_ticks(rate);
    }
    if (!rate->counts)
        return;
    do {
        ns = hc_precise_ns();
        ticks = hc_read_counter();
    } while (ns - rate->ns_then < 100000);
    if (ticks > rate->ticks_then)
        rate->ns = (double)(ns - rate->ns_then) / (double)(ticks - rate->ticks_then);
    else
        rate->counts = 0;
}

#endif
