/* A file mapped for reading, further than it reaches now. */
#ifndef HYBRIDCORE_MAPPED_H
#define HYBRIDCORE_MAPPED_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32

static inline const uint8_t *hc_map(int file, size_t size) { (void)file; (void)size; return NULL; }
static inline void hc_unmap(const uint8_t *base, size_t size) { (void)base; (void)size; }
static inline uint64_t hc_size(int file) { (void)file; return 0; }
static inline void hc_let_go(const uint8_t *base, size_t size) { (void)base; (void)size; }
static inline int hc_is_mapped(const uint8_t *base, size_t size)
{
    (void)base;
    (void)size;
    return 0;
}

#else

#include <sys/mman.h>
#include <sys/stat.h>

static inline const uint8_t *hc_map(int file, size_t size)
{
    void *base = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
    if (base == MAP_FAILED)
        return NULL;
    (void)madvise(base, size, MADV_RANDOM);
    return (const uint8_t *)base;
}

static inline void hc_unmap(const uint8_t *base, size_t size) { (void)munmap((void *)base, size); }

/* Of a shared mapping of a file: what was read is in the system's cache still. */
static inline void hc_let_go(const uint8_t *base, size_t size)
{
    (void)madvise((void *)base, size, MADV_DONTNEED);
}

/* Whether there is memory at one or two pages: others' addresses end the process that reads them. */
static inline int hc_is_mapped(const uint8_t *base, size_t size)
{
#if defined(__linux__)
    unsigned char resident[2];
#else
    char resident[2];
#endif
    return mincore((void *)base, size, resident) == 0;
}

static inline uint64_t hc_size(int file)
{
    struct stat found;
    return fstat(file, &found) == 0 ? (uint64_t)found.st_size : 0;
}

#endif
#endif
