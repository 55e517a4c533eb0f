"""Which entry goes when room is needed: the seam between the table and its policy.

The table calls these functions and reads no field of a policy itself. Four policies stand behind
them: recency.pxd (exact LRU and FIFO), uses.pxd (LFU without ageing), graded.pxd (fixed weights)
and learned.pxd, the default.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from hybridcore._native.entry cimport NIL, Entry, Extra
from hybridcore._native.ghosts cimport LINE
from hybridcore._native.graded cimport (
    Graded, graded_add, graded_clear, graded_coldest, graded_evicted, graded_free, graded_hotter,
    graded_init, graded_moved, graded_remove, graded_stand, graded_standing, graded_touch,
    graded_value,
)
from hybridcore._native.learned cimport (
    A_TURNOVER, Learned, kind_of, learned_add, learned_evicted, learned_expect, learned_judge,
    learned_refuses,
    learned_touch, learned_victim, least_recently_used, now_of, worth_of,
)
from hybridcore._native.lessons cimport (
    lessons_end, lessons_going_on, lessons_start, lessons_turn,
)
from hybridcore._native.objects cimport likely
from hybridcore._native.recency cimport (
    Recency, recency_add, recency_clear, recency_moved, recency_remove, recency_touch,
)
from hybridcore._native.uses cimport (
    Uses, uses_add, uses_clear, uses_coldest, uses_count, uses_free, uses_hotter, uses_init,
    uses_moved, uses_remove, uses_set, uses_touch,
)

cdef enum:
    RECENCY = 0
    GRADED = 1
    LEARNED = 2
    USES = 3
    WORTH_LEARNING = 32     # entries; below, what is learned takes more room than they do


cdef struct Policy:
    Learned learned
    Recency recency
    Graded graded
    Uses uses
    int rule


cdef inline void policy_init(Policy* policy) noexcept nogil:
    memset(policy, 0, sizeof(Policy))
    recency_clear(&policy.recency)


cdef inline void policy_free(Policy* policy) noexcept nogil:
    graded_free(&policy.graded)
    uses_free(&policy.uses)
    lessons_end(&policy.learned)


cdef inline void policy_clear(Policy* policy) noexcept nogil:
    """All entries have left; what was learned stays."""
    recency_clear(&policy.recency)
    if policy.graded.ring != NULL:
        graded_clear(&policy.graded)
    if policy.uses.groups != NULL:
        uses_clear(&policy.uses)


cdef inline bint policy_grade(Policy* policy, double recency, double frequency) noexcept nogil:
    """Go by fixed weights from now on, before there are entries; False when memory is out."""
    if not graded_init(&policy.graded, recency, frequency):
        return False
    policy.rule = GRADED
    return True


cdef inline bint policy_count_uses(Policy* policy) noexcept nogil:
    """Go by the number of uses from now on, before there are entries; False when memory is out."""
    if not uses_init(&policy.uses):
        return False
    policy.rule = USES
    return True


cdef inline void policy_learn(
    Policy* policy, double rate, double target, bint frozen, uint64_t seed, uint64_t capacity
) noexcept nogil:
    """Go by what is learned from now on, before there are entries."""
    cdef Learned* learned = &policy.learned
    policy.rule = LEARNED
    learned.rate = <float> rate
    learned.target = <float> target
    learned.frozen = frozen
    learned.hand = <uint32_t> (seed * <uint64_t> 0x9E3779B97F4A7C15 >> 32)
    policy_resized(policy, capacity)


cdef inline void policy_resized(Policy* policy, uint64_t capacity) noexcept nogil:
    """The cache now holds so many entries, 0 if that is not known: what was learned is void."""
    if policy.rule == LEARNED:
        lessons_end(&policy.learned)
        policy.learned.scale = 64 / <float> capacity if capacity else 0


cdef inline void policy_study(Policy* policy, uint64_t capacity) noexcept nogil:
    """The cache fills up, and will hold about so many entries: begin to learn."""
    if (
        policy.rule == LEARNED and policy.learned.knowledge == NULL
        and capacity >= WORTH_LEARNING
    ):
        lessons_start(&policy.learned, capacity)


cdef inline void policy_expect(Policy* policy, uint32_t hash) noexcept nogil:
    """A key of that hash is about to come in."""
    if policy.rule == LEARNED:
        learned_expect(&policy.learned, hash)


cdef inline void policy_add(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """A new entry came in."""
    if policy.rule == LEARNED:
        learned_add(&policy.learned, &entries[i])
    elif policy.rule == RECENCY:
        recency_add(&policy.recency, entries, i)
    elif policy.rule == GRADED:
        graded_add(&policy.graded, entries, i)
    else:
        uses_add(&policy.uses, entries, i)


cdef inline void policy_touch(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """The entry was used."""
    if likely(policy.rule == LEARNED):
        learned_touch(&policy.learned, &entries[i])
    elif policy.rule == RECENCY:
        recency_touch(&policy.recency, entries, i)
    elif policy.rule == GRADED:
        graded_touch(&policy.graded, entries, i)
    else:
        uses_touch(&policy.uses, entries, i)


cdef inline void policy_value(
    Policy* policy, Entry* entries, Extra* extras, uint32_t i
) noexcept nogil:
    """The entry, added or used just now, has another value."""
    if policy.rule == GRADED:
        graded_value(&policy.graded, entries, i, extras[i].value)


cdef inline void policy_remove(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """The entry is about to leave."""
    if policy.rule == RECENCY:
        recency_remove(&policy.recency, entries, i)
    elif policy.rule == GRADED:
        graded_remove(&policy.graded, entries, i)
    elif policy.rule == USES:
        uses_remove(&policy.uses, entries, i)


cdef inline void policy_moved(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """The entry was copied to index ``i``."""
    if policy.rule == RECENCY:
        recency_moved(&policy.recency, entries, i)
    elif policy.rule == GRADED:
        graded_moved(&policy.graded, entries, i)
    elif policy.rule == USES:
        uses_moved(&policy.uses, entries, i)


cdef inline uint32_t policy_victim(
    Policy* policy, Entry* entries, Extra* extras, uint32_t count, uint32_t spared
) noexcept nogil:
    """The entry to evict next, not ``spared``; NIL when there is no other."""
    cdef uint32_t i
    if policy.rule != LEARNED:
        i = policy_coldest(policy)
        return policy_hotter(policy, entries, i) if i == spared and i != NIL else i
    if count == 0 or (count == 1 and spared == 0):
        return NIL
    if policy.learned.knowledge == NULL and (
        count < WORTH_LEARNING or not lessons_start(&policy.learned, count)
    ):
        return least_recently_used(&policy.learned, entries, count, spared)
    return learned_victim(&policy.learned, entries, extras, count, spared)


cdef inline bint policy_refuses(
    Policy* policy, Entry* entries, Extra* extras, uint32_t count, uint32_t i
) noexcept nogil:
    """Whether the new entry is to make room itself, being worth less than what it would evict."""
    if policy.rule != LEARNED or policy.learned.knowledge == NULL:
        return False
    return learned_refuses(&policy.learned, entries, extras, count, i)


cdef inline void policy_evicted(
    Policy* policy, Entry* entries, uint32_t count, const Entry* entry
) noexcept nogil:
    """The entry, one of ``count``, leaves to make room."""
    if policy.rule == LEARNED:
        learned_evicted(&policy.learned, entry, count)
    elif policy.rule == GRADED:
        graded_evicted(&policy.graded, entries, count)


cdef inline void policy_settle(
    Policy* policy, Entry* entries, Extra* extras, uint32_t count, uint32_t i
) noexcept nogil:
    """The entry ``i``, NIL if none, was written and room made for it: time to think."""
    if policy.rule == LEARNED and policy.learned.knowledge != NULL:
        if i != NIL:
            learned_judge(&policy.learned, entries, extras, i)
        if lessons_going_on(&policy.learned):
            lessons_turn(&policy.learned, entries, count)


# -- the order of eviction, where there is one ----------------------------------------------

cdef inline uint32_t policy_coldest(Policy* policy) noexcept nogil:
    if policy.rule == RECENCY:
        return policy.recency.coldest
    return graded_coldest(&policy.graded) if policy.rule == GRADED else uses_coldest(&policy.uses)


cdef inline uint32_t policy_hotter(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """The entry that goes after ``i``; NIL when there is none."""
    if policy.rule == RECENCY:
        return entries[i].policy.links.newer
    if policy.rule == GRADED:
        return graded_hotter(&policy.graded, entries, i)
    return uses_hotter(&policy.uses, entries, i)


cdef inline float policy_worth(
    Policy* policy, Entry* entries, Extra* extras, uint32_t i
) noexcept nogil:
    """What the learned policy thinks of the entry; by the last use while it knows nothing."""
    if policy.learned.knowledge != NULL:
        return worth_of(&policy.learned, entries, extras, i)
    return 1 / (1 + <float> (now_of(&policy.learned) - entries[i].policy.habit.last))


cdef inline uint32_t policy_frequency(Policy* policy, Entry* entries, uint32_t i) noexcept nogil:
    """How often the entry was used, as far as the policy knows."""
    if policy.rule == RECENCY:
        return 1
    if policy.rule == GRADED:
        return entries[i].policy.links.frequency
    if policy.rule == USES:
        return uses_count(&policy.uses, entries, i)
    return entries[i].policy.habit.frequency


cdef inline uint32_t policy_standing(
    Policy* policy, Entry* entries, uint32_t i, uint32_t colder
) noexcept nogil:
    """Where the entry stands in the order, as a number that says it to a copy; 0: by the order."""
    return graded_standing(&policy.graded, entries, i, colder) if policy.rule == GRADED else 0


cdef inline void policy_restore(
    Policy* policy, Entry* entries, uint32_t i, uint32_t frequency, uint32_t standing
) noexcept nogil:
    """Tell of an entry added just now how often it was used elsewhere, and its standing there."""
    cdef uint8_t known = <uint8_t> max(min(frequency, <uint32_t> 255), <uint32_t> 1)
    if policy.rule == LEARNED and known > 1:
        entries[i].policy.habit.frequency = known
        entries[i].policy.habit.kind = kind_of(known, A_TURNOVER)
    elif policy.rule == GRADED:
        graded_stand(&policy.graded, entries, i, known, standing)
    elif policy.rule == USES and frequency > 1:
        uses_set(&policy.uses, entries, i, frequency)


cdef inline size_t policy_bytes(Policy* policy) noexcept nogil:
    """What the policy has allocated."""
    cdef size_t total = 0
    if policy.graded.ring != NULL:
        total += sizeof(policy.graded.ring[0])
    if policy.uses.groups != NULL:
        total += policy.uses.room * sizeof(policy.uses.groups[0])
    if policy.learned.knowledge != NULL:
        total += sizeof(policy.learned.knowledge[0])
        total += (<size_t> policy.learned.knowledge.graveyard.mask + 2) * LINE
    return total
