"""Fixed weights in O(1): entries in grades, the lowest goes first, within a grade the oldest.

The score of an entry is a product,

    frequency ** w_f * cost ** w_c * importance ** w_i / size ** w_s,

and halves with every turnover of the cache times the weight of recency. What counts is only
which score is lowest, so it is kept as a logarithm in steps of a sixteenth of an octave, its
grade, and what ages is not the entries but the clock: an entry used now is put that much higher
than it would have been before. Each grade has a list in the order of use. Grades stand in a ring
of 1024, and a bit per grade tells which are in use, so that a use and an eviction move one entry
between two lists. What sinks below the ring is merged into its lowest list.

Frequencies up to 11 have grades of their own, so frequency alone is LFU; they halve with the
clock, as do the scores. The ends of a list hold, in the place of a neighbour, the list's number.

D. Lee and others: LRFU, a spectrum of policies (IEEE Transactions on Computers, 2001);
P. Cao, S. Irani: Cost-aware WWW proxy caching algorithms (USITS 1997); S. Ghandeharizadeh and
others: CAMP, a cost adaptive multi-queue eviction policy (Middleware 2014).
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport log2
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from hybridcore._native.bits cimport lowest_bit
from hybridcore._native.entry cimport NIL, Entry, Links

cdef enum:
    OCTAVE = 16             # grades in which a score doubles
    RING = 1024             # grades there are at a time: scores differ by up to 2 ** 64
    ABOVE = 512             # of them above a score of 1 given now
    FARTHEST = 448          # grades that a value may add or take: a factor of 2 ** 28
    MOST_STEPS = 64         # of the clock, in one eviction
    END = 0x80000000        # marks a link that holds the number of a list


cdef struct Ring:
    uint32_t hottest[1024]      # by grade modulo RING; NIL: the list is empty
    uint32_t coldest[1024]
    uint64_t used[16]           # a bit for each list that is not empty
    uint16_t level[256]         # by frequency: the grades that it adds


cdef struct Graded:
    Ring* ring
    uint32_t clock              # the grade of a score of 1 given now
    double pace                 # grades that the clock moves in a turnover
    double due                  # what it has to move, less than one grade


cdef inline bint graded_init(
    Graded* graded, double recency, double frequency
) noexcept nogil:
    """Weights of 0 and more; False when memory is out."""
    cdef Ring* ring = <Ring*> PyMem_RawMalloc(sizeof(Ring))
    cdef int i
    if ring == NULL:
        return False
    memset(ring, 0, sizeof(Ring))
    memset(ring.hottest, 0xFF, sizeof(ring.hottest))
    memset(ring.coldest, 0xFF, sizeof(ring.coldest))
    for i in range(1, 256):
        ring.level[i] = <uint16_t> min(
            OCTAVE * frequency * log2(<double> i) + 0.5, <double> FARTHEST
        )
    graded.ring = ring
    graded.clock = RING
    # Without recency frequencies still halve, in ten turnovers, as those of TinyLFU do.
    graded.pace = OCTAVE * (recency if recency > 0 else 0.1)
    graded.due = 0
    return True


cdef inline void graded_free(Graded* graded) noexcept nogil:
    PyMem_RawFree(graded.ring)
    graded.ring = NULL


cdef inline void graded_clear(Graded* graded) noexcept nogil:
    """All entries have left."""
    memset(graded.ring.hottest, 0xFF, sizeof(graded.ring.hottest))
    memset(graded.ring.coldest, 0xFF, sizeof(graded.ring.coldest))
    memset(graded.ring.used, 0, sizeof(graded.ring.used))


cdef inline uint16_t graded_offset(double value) noexcept nogil:
    """What a value adds to a grade, biased by FARTHEST."""
    cdef double grades = OCTAVE * log2(value) if value > 0 else -FARTHEST
    return <uint16_t> (max(min(grades, <double> FARTHEST), -<double> FARTHEST) + FARTHEST + 0.5)


cdef inline void link_hot(Ring* ring, Entry* entries, uint32_t i, uint32_t grade) noexcept nogil:
    """Put the entry at the hot end of a list."""
    cdef uint32_t hottest = ring.hottest[grade]
    cdef Links* links = &entries[i].policy.links
    links.newer = END | grade
    links.older = hottest
    if hottest != NIL:
        entries[hottest].policy.links.newer = i
    else:
        links.older = END | grade
        ring.coldest[grade] = i
        ring.used[grade >> 6] |= <uint64_t> 1 << (grade & 63)
    ring.hottest[grade] = i


cdef inline void graded_remove(Graded* graded, Entry* entries, uint32_t i) noexcept nogil:
    cdef Ring* ring = graded.ring
    cdef uint32_t older = entries[i].policy.links.older
    cdef uint32_t newer = entries[i].policy.links.newer
    cdef uint32_t grade
    if not newer & END:
        entries[newer].policy.links.older = older
    elif not older & END:
        ring.hottest[newer ^ END] = older
    if not older & END:
        entries[older].policy.links.newer = newer
    elif not newer & END:
        ring.coldest[older ^ END] = newer
    if newer & END and older & END:
        grade = newer ^ END
        ring.hottest[grade] = NIL
        ring.coldest[grade] = NIL
        ring.used[grade >> 6] &= ~(<uint64_t> 1 << (grade & 63))


cdef inline void graded_moved(Graded* graded, Entry* entries, uint32_t i) noexcept nogil:
    """The entry, links included, was copied to index ``i``."""
    cdef uint32_t older = entries[i].policy.links.older
    cdef uint32_t newer = entries[i].policy.links.newer
    if newer & END:
        graded.ring.hottest[newer ^ END] = i
    else:
        entries[newer].policy.links.older = i
    if older & END:
        graded.ring.coldest[older ^ END] = i
    else:
        entries[older].policy.links.newer = i


cdef inline void place(Graded* graded, Entry* entries, uint32_t i) noexcept nogil:
    """Link the entry where its score, given now, belongs."""
    cdef Links* links = &entries[i].policy.links
    cdef int32_t above = (
        <int32_t> graded.ring.level[links.frequency] + links.offset - FARTHEST
    )
    links.octave = <uint8_t> (graded.clock // OCTAVE)
    above = max(min(above, ABOVE), ABOVE - RING + 1)
    link_hot(graded.ring, entries, i, (graded.clock + <uint32_t> above) & (RING - 1))


cdef inline void graded_add(Graded* graded, Entry* entries, uint32_t i) noexcept nogil:
    entries[i].policy.links.frequency = 1
    entries[i].policy.links.offset = FARTHEST
    place(graded, entries, i)


cdef inline void graded_touch(Graded* graded, Entry* entries, uint32_t i) noexcept nogil:
    cdef Links* links = &entries[i].policy.links
    cdef uint32_t halvings = <uint8_t> (graded.clock // OCTAVE - links.octave)
    cdef uint32_t frequency = links.frequency >> min(halvings, <uint32_t> 8)
    links.frequency = <uint8_t> min(frequency + 1, <uint32_t> 255)
    graded_remove(graded, entries, i)
    place(graded, entries, i)


cdef inline void graded_value(
    Graded* graded, Entry* entries, uint32_t i, double value
) noexcept nogil:
    """Give the entry another value; it counts as used now."""
    cdef uint16_t offset = graded_offset(value)
    if offset != entries[i].policy.links.offset:
        entries[i].policy.links.offset = offset
        graded_remove(graded, entries, i)
        place(graded, entries, i)


cdef inline void graded_evicted(Graded* graded, Entry* entries, uint32_t count) noexcept nogil:
    """One of ``count`` entries was evicted: the clock moves on."""
    cdef uint32_t steps
    graded.due += graded.pace / count
    steps = <uint32_t> min(graded.due, <double> MOST_STEPS)
    graded.due = min(graded.due - steps, 1.0)
    while steps:
        steps -= 1
        advance(graded, entries)


cdef inline void advance(Graded* graded, Entry* entries) noexcept nogil:
    """Move the clock by a grade; the lowest list makes room for the highest."""
    cdef Ring* ring = graded.ring
    cdef uint32_t lowest, heir
    graded.clock += 1
    lowest = (graded.clock + ABOVE) & (RING - 1)
    if ring.hottest[lowest] == NIL:
        return
    heir = (lowest + 1) & (RING - 1)
    # The entries of the lowest list become the coldest of the next.
    if ring.coldest[heir] != NIL:
        entries[ring.coldest[heir]].policy.links.older = ring.hottest[lowest]
        entries[ring.hottest[lowest]].policy.links.newer = ring.coldest[heir]
    else:
        ring.hottest[heir] = ring.hottest[lowest]
        entries[ring.hottest[lowest]].policy.links.newer = END | heir
    ring.coldest[heir] = ring.coldest[lowest]
    entries[ring.coldest[lowest]].policy.links.older = END | heir
    ring.hottest[lowest] = NIL
    ring.coldest[lowest] = NIL
    ring.used[heir >> 6] |= <uint64_t> 1 << (heir & 63)
    ring.used[lowest >> 6] &= ~(<uint64_t> 1 << (lowest & 63))


cdef inline uint32_t first_used(Graded* graded, uint32_t start, uint32_t grades) noexcept nogil:
    """The first list in use from grade ``start`` up, among so many; NIL when there is none."""
    cdef uint32_t grade = start & (RING - 1)
    cdef uint32_t passed = 0
    cdef uint32_t found
    cdef uint64_t word
    while passed < grades:
        word = graded.ring.used[grade >> 6] >> (grade & 63)
        if word:
            found = lowest_bit(word)
            return (grade + found) & (RING - 1) if passed + found < grades else NIL
        passed += 64 - (grade & 63)
        grade = (grade + 64 - (grade & 63)) & (RING - 1)
    return NIL


cdef inline uint32_t graded_coldest(Graded* graded) noexcept nogil:
    """The entry of the lowest score; NIL when there is none."""
    cdef uint32_t grade = first_used(graded, graded.clock + ABOVE + 1, RING)
    return graded.ring.coldest[grade] if grade != NIL else NIL


cdef inline uint32_t graded_hotter(Graded* graded, Entry* entries, uint32_t i) noexcept nogil:
    """The entry that goes after ``i``; NIL when there is none."""
    cdef uint32_t newer = entries[i].policy.links.newer
    cdef uint32_t lowest = graded.clock + ABOVE + 1
    cdef uint32_t passed
    if not newer & END:
        return newer
    passed = ((newer ^ END) - lowest) & (RING - 1)
    if passed == RING - 1:
        return NIL
    newer = first_used(graded, lowest + passed + 1, RING - 1 - passed)
    return graded.ring.coldest[newer] if newer != NIL else NIL


cdef inline uint32_t graded_standing(
    Graded* graded, Entry* entries, uint32_t i, uint32_t colder
) noexcept nogil:
    """Where the entry stands, given that of the next colder one, for `graded_stand`.

    That is how far its grade is above the lowest, and how many octaves ago it was used.
    """
    cdef Links* links = &entries[i].policy.links
    cdef uint32_t above = colder >> 8
    if links.older & END:
        above = ((links.older ^ END) - (graded.clock + ABOVE + 1)) & (RING - 1)
    return above << 8 | <uint8_t> (graded.clock // OCTAVE - links.octave)


cdef inline void graded_stand(
    Graded* graded, Entry* entries, uint32_t i, uint8_t frequency, uint32_t standing
) noexcept nogil:
    """Put an entry where one of another cache stood, above those put there before."""
    cdef Links* links = &entries[i].policy.links
    graded_remove(graded, entries, i)
    links.frequency = frequency
    links.octave = <uint8_t> (graded.clock // OCTAVE - standing)
    link_hot(
        graded.ring, entries, i,
        (graded.clock + ABOVE + 1 + min(standing >> 8, <uint32_t> RING - 1)) & (RING - 1),
    )
