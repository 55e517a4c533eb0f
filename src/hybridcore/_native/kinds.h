/* The kinds of entries that the learned policy tells apart, see learned.pxd. */
#ifndef HYBRIDCORE_KINDS_H
#define HYBRIDCORE_KINDS_H

#include <stdint.h>

/* The first kind of the class of a frequency: 1, 2, 3, 4 to 7, 8 to 15, ..., from 64 on. */
static const uint8_t hc_kind_of_frequency[256] = {
    0, 0, 14, 28, 42, 42, 42, 42, 56, 56, 56, 56, 56, 56, 56, 56,
    70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70,
    84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84,
    84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84, 84,
#define R16(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
    R16(98), R16(98), R16(98), R16(98), R16(98), R16(98),
    R16(98), R16(98), R16(98), R16(98), R16(98), R16(98)
#undef R16
};

/* The class of the gap between two uses: an octave each, counted in ages of half an octave. */
static const uint8_t hc_gap_of_age[33] = {
    1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9,
    10, 10, 11, 11, 12, 12, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13};

#endif
