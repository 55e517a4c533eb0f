"""An eviction policy that learns: what is an entry worth, judged by what became of its like?

Every entry is of a kind: how often it was used (8 classes) and how long it waited between its
last two uses (14 classes, relative to the capacity; an entry that came in new tells instead how
many came in new before it, which recognizes scans). Its age is the number of requests since its
last use. For every kind and age the policy counts the entries that were used again and those
that were not, also among those it evicted, whose ghosts stay for a while. From these counts
lessons.pxd works out, off the path of a hit, what an entry of each kind and age is worth: the
best ratio of expected hits to the room and time they take, over all the times one could keep it.

To evict, eight entries are looked at, sixteen where sizes and costs are known. Each contends for a
lane with the one that holds it, and of the sixteen holders the one that is worth least for what it
takes goes, unless it was used in the meantime. A new entry goes before them all if it is worth
less, so what comes in and what goes out are decided by the same measure and there is no filter at
the door. A use costs one counter, a division into octaves, and the entry's own words.

J. Gittins: Bandit processes and dynamic allocation indices (JRSS B, 1979); N. Beckmann, H. Chen,
A. Cidon: LHD, improving cache hit rate by maximizing hit density (NSDI 2018); N. Megiddo,
D. Modha: ARC (FAST 2003), for the ghosts.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from hybridcore._native.bits cimport highest_bit, prefetch
from hybridcore._native.entry cimport NIL, Entry, Extra, Habit
from hybridcore._native.ghosts cimport (
    NO_WAY, WAYS, Ghosts, Graveyard, bury, ghosts_of, scatter, tag_of, way_of,
)

cdef enum:
    FREQUENCIES = 8
    GAPS = 14
    KINDS = 112             # FREQUENCIES * GAPS
    A_TURNOVER = 13         # the age class that ends at the capacity
    RUN = 8                 # entries, next to each other, that are drawn to choose a victim
    FEW_ENTRIES = 64        # that can all be looked at
    GOLDEN = 0x9E3779B9


cdef extern from "kinds.h" nogil:
    const uint8_t KIND_OF_FREQUENCY "hc_kind_of_frequency"[256]
    const uint8_t GAP_OF_AGE "hc_gap_of_age"[33]


cdef extern from "lanes.h" nogil:
    enum:
        AGES "HC_AGES"      # 33 half octaves, from a 64th of the capacity to 1024 times it
        LANES "HC_LANES"    # 16 of contenders
        NEVER "HC_FREE"     # the rank of none

    ctypedef struct Lanes "hc_lanes":
        int32_t rank[16]    # of the contenders by worth, their lane in the lowest bits
        uint32_t entry[16]
        uint32_t last[16]   # its last use then: one used since is spared

    int age_class "hc_age_class"(float age)
    int32_t rank_in_lane "hc_rank"(float worth, int lane)
    int32_t first_of "hc_first"(const Lanes* lanes)
    void contend "hc_contend"(
        Lanes* lanes, int lane, const void* habit, uint32_t entry, uint32_t now, float scale,
        const float* worth, const float* value
    )
    void contend_4 "hc_contend_4"(
        Lanes* lanes, int lane, const void* habits, size_t stride, uint32_t entry, uint32_t now,
        float scale, const float* worth, const float* value, size_t value_stride
    )


# Where the teaching stands; see lessons.pxd.
cdef struct Lesson:
    uint32_t due            # the request to begin at
    uint32_t interval       # requests from one lesson to the next
    uint32_t part           # of the lesson that is going on; 0: none is
    uint32_t done           # of that part
    uint32_t looks          # entries or ghosts to look at in that part
    uint32_t first_set      # of ghosts to look at next time
    uint32_t requests_before    # up to the last lesson
    uint32_t strangers_before   # of those, for keys never seen
    uint32_t put_off        # lessons in a row
    int ages                # that anything has reached
    bint dull               # nearly all requests since the last one were for keys never seen
    float all_hits[33]
    float all_risk[33]
    float some_hits[8][33]  # by frequency
    float some_risk[8][33]
    float expected[8][33]   # hazards by frequency
    float fallback[8][33]   # worth of the kinds of which nothing is known
    float kept              # share of the requests that found an entry
    float recent            # what LRU would have kept of them, estimated
    uint32_t behind         # lessons in a row that found LRU better
    uint32_t suspended      # lessons for which LRU decides
    uint32_t suspension     # how many the next time
    uint32_t lessons
    uint32_t vetoes
    bint on_target
    bint by_recency         # what the last lesson said the entries are worth


# All that was counted and learned; a cache has it from the time on that it is an eighth full.
cdef struct Knowledge:
    float hits[112][33]     # by kind and age: used again
    float deaths[112][33]   # left the ghosts without being used again
    float worth[112][33]    # what the last lesson says
    float at_risk[112][33]  # scratch of a lesson
    float known[112]        # hits and deaths of the kind at the last lesson,
    float news[112]         # and those since its worth was worked out
    uint32_t capacity       # in entries, as far as is known
    bint full               # once it was
    uint32_t strangers_ever     # new entries without a ghost
    float strangers         # the same, lately
    float returned          # new entries with a ghost
    Lesson lesson
    Graveyard graveyard
    Lanes lanes
    int32_t first           # the least rank in a lane
    int lane                # that is contended for next
    uint32_t next           # a new entry that goes before them all,
    uint32_t next_last      # its last use,
    int32_t next_rank       # NEVER when there is none
    uint32_t reviewed       # lessons of which the ranks know


cdef struct Learned:
    Knowledge* knowledge    # NULL until there is something to learn
    uint64_t requests       # so far; the lower half of the number is the clock
    uint32_t newcomers      # that came in a row
    float scale             # 64 / capacity in entries
    float rate              # of forgetting, per lesson
    float target            # share of requests that is good enough; 0: none is
    bint frozen             # no lessons
    uint64_t readmitted     # new entries with a ghost, ever
    uint32_t hand


cdef inline uint32_t now_of(Learned* learned) noexcept nogil:
    return <uint32_t> learned.requests


cdef inline int age_of(Learned* learned, uint32_t last) noexcept nogil:
    """The class of the time since then."""
    return age_class(<float> (now_of(learned) - last) * learned.scale)


cdef inline uint8_t kind_of(uint8_t frequency, int age) noexcept nogil:
    """The kind of an entry used so often, from the second time on, the last time at that age."""
    return KIND_OF_FREQUENCY[frequency] + GAP_OF_AGE[age]


cdef inline uint8_t kind_of_new(uint32_t newcomers) noexcept nogil:
    """The kind of a new entry after so many others in a row."""
    if newcomers < 2:
        return <uint8_t> newcomers
    return <uint8_t> min(1 + highest_bit(newcomers), <uint32_t> 6)


cdef inline void set_capacity(Learned* learned, uint64_t entries) noexcept nogil:
    learned.knowledge.capacity = <uint32_t> max(min(entries, <uint64_t> NIL), <uint64_t> 1)
    learned.scale = 64 / <float> learned.knowledge.capacity


cdef inline void adjust_capacity(
    Learned* learned, uint32_t count, float share
) noexcept nogil:
    """Let the capacity follow what a full cache holds, but not while it is shrunk."""
    cdef float capacity = learned.knowledge.capacity
    if count < 4 * capacity:
        set_capacity(learned, <uint64_t> (capacity + share * (count - capacity) + 0.5))


cdef inline void learned_touch(Learned* learned, Entry* entry) noexcept nogil:
    """The entry was used."""
    cdef Habit* habit = &entry.policy.habit
    cdef uint8_t frequency = habit.frequency
    cdef uint32_t now
    cdef int age
    learned.requests += 1
    now = now_of(learned)
    age = age_of(learned, habit.last)
    if learned.knowledge != NULL:
        learned.knowledge.hits[habit.kind][age] += 1
    frequency += frequency < 255
    habit.last = now
    habit.frequency = frequency
    habit.kind = kind_of(frequency, age)
    learned.newcomers = 0


cdef inline void learned_add(Learned* learned, Entry* entry) noexcept nogil:
    """A new entry came in, perhaps one that was evicted not long ago."""
    cdef Habit* habit = &entry.policy.habit
    cdef Knowledge* knowledge = learned.knowledge
    cdef Ghosts* ghosts
    cdef uint64_t scattered
    cdef int age
    cdef int way = NO_WAY
    learned.requests += 1
    habit.last = now_of(learned)
    if knowledge != NULL:
        scattered = scatter(entry.hash)
        ghosts = ghosts_of(&knowledge.graveyard, scattered)
        way = way_of(ghosts, tag_of(scattered))
        if way != NO_WAY:
            age = age_of(learned, ghosts.last[way])
            knowledge.hits[ghosts.kind[way]][age] += 1
            knowledge.returned += 1
            learned.readmitted += 1
            habit.frequency = ghosts.frequency[way] + <uint8_t> (ghosts.frequency[way] < 255)
            habit.kind = kind_of(habit.frequency, age)
            ghosts.tags[way] = 0
            learned.newcomers = 0
            return
        knowledge.strangers_ever += 1
        knowledge.strangers += 1
    habit.frequency = 1
    habit.kind = kind_of_new(learned.newcomers)
    learned.newcomers += 1


cdef inline void learned_evicted(
    Learned* learned, const Entry* entry, uint32_t count
) noexcept nogil:
    """The entry, one of so many, is evicted: its ghost stays."""
    cdef Knowledge* knowledge = learned.knowledge
    cdef const Habit* habit = &entry.policy.habit
    cdef Ghosts* ghosts
    cdef uint64_t scattered
    if knowledge == NULL:
        return
    if not knowledge.full:
        knowledge.full = True
        adjust_capacity(learned, count, 1)
    scattered = scatter(entry.hash)
    ghosts = ghosts_of(&knowledge.graveyard, scattered)
    if ghosts.tags[WAYS - 1]:
        knowledge.deaths[ghosts.kind[WAYS - 1]][age_of(learned, ghosts.last[WAYS - 1])] += 1
    bury(ghosts, tag_of(scattered), habit.last, habit.kind, habit.frequency)


cdef inline float worth_of(
    Learned* learned, Entry* entries, Extra* extras, uint32_t i
) noexcept nogil:
    """What the entry is worth now, for what it takes."""
    cdef Habit* habit = &entries[i].policy.habit
    cdef float worth = learned.knowledge.worth[habit.kind][age_of(learned, habit.last)]
    return worth if extras == NULL else worth * extras[i].value


cdef inline int32_t rank_of(
    Learned* learned, Entry* entries, Extra* extras, uint32_t i, int lane
) noexcept nogil:
    """The worth of an entry by its bits, which leave room for a lane and compare as well."""
    return rank_in_lane(worth_of(learned, entries, extras, i), lane)


cdef inline bint is_unused(
    Entry* entries, uint32_t count, uint32_t i, uint32_t last
) noexcept nogil:
    """Whether the entry is where it was and was not used since. No two were used at one request."""
    return i < count and entries[i].policy.habit.last == last


cdef inline void review(
    Learned* learned, Entry* entries, Extra* extras, uint32_t count
) noexcept nogil:
    """Rank the contenders by what the last lesson said."""
    cdef Knowledge* knowledge = learned.knowledge
    cdef Lanes* lanes = &knowledge.lanes
    cdef uint32_t i
    cdef int lane
    for lane in range(LANES):
        i = lanes.entry[lane]
        if lanes.rank[lane] != NEVER and is_unused(entries, count, i, lanes.last[lane]):
            lanes.rank[lane] = rank_of(learned, entries, extras, i, lane)
        else:
            lanes.rank[lane] = NEVER
    knowledge.reviewed = knowledge.lesson.lessons


cdef inline void challenge(
    Learned* learned, Entry* entries, Extra* extras, uint32_t count
) noexcept nogil:
    """Let a run of entries from somewhere contend for half of the lanes.

    Of the entry that holds a lane and the one that comes, the one worth less stays.
    """
    cdef Knowledge* knowledge = learned.knowledge
    cdef uint32_t now = now_of(learned)
    cdef uint32_t i = run_of(learned.hand, count)
    cdef uint32_t end = min(i + RUN, count)
    cdef int lane = knowledge.lane
    cdef const float* value = NULL
    if knowledge.reviewed != knowledge.lesson.lessons:
        review(learned, entries, extras, count)
    while i + 4 <= end:
        if extras != NULL:
            value = &extras[i].value
        contend_4(
            &knowledge.lanes, lane, &entries[i].hash, sizeof(Entry), i, now, learned.scale,
            knowledge.worth[0], value, sizeof(Extra),
        )
        lane += 4
        i += 4
    while i < end:
        if extras != NULL:
            value = &extras[i].value
        contend(
            &knowledge.lanes, lane, &entries[i].hash, i, now, learned.scale, knowledge.worth[0],
            value,
        )
        lane += 1
        i += 1
    knowledge.lane ^= RUN
    learned.hand += GOLDEN
    i = run_of(learned.hand, count)     # the next ones, by then, are at hand
    prefetch(&entries[i])
    prefetch(&entries[i + 2])
    prefetch(&entries[i + 4])
    prefetch(&entries[i + 6])


cdef inline uint32_t run_of(uint32_t hand, uint32_t count) noexcept nogil:
    """Where a run of entries starts."""
    return <uint32_t> (<uint64_t> hand * (count - RUN + 1) >> 32) if count > RUN else 0


cdef inline void learned_expect(Learned* learned, uint32_t hash) noexcept nogil:
    """A key of that hash is about to come in or to go."""
    if learned.knowledge != NULL:
        prefetch(ghosts_of(&learned.knowledge.graveyard, scatter(hash)))


cdef inline void expect_next(Learned* learned, Entry* entries, uint32_t count) noexcept nogil:
    """Have at hand what the next eviction needs, should nobody win against the first."""
    cdef Knowledge* knowledge = learned.knowledge
    cdef uint32_t i = knowledge.lanes.entry[knowledge.first & (LANES - 1)]
    if i < count:
        learned_expect(learned, entries[i].hash)


cdef inline uint32_t learned_victim(
    Learned* learned, Entry* entries, Extra* extras, uint32_t count, uint32_t spared
) noexcept nogil:
    """The entry to evict next, not ``spared``; NIL when there is no other."""
    cdef Knowledge* knowledge = learned.knowledge
    cdef Lanes* lanes = &knowledge.lanes
    cdef uint32_t i
    cdef int32_t first
    cdef int lane
    if knowledge.next_rank != NEVER:
        knowledge.next_rank = NEVER
        i = knowledge.next
        if i != spared and is_unused(entries, count, i, knowledge.next_last):
            return i
    for _ in range(3):
        challenge(learned, entries, extras, count)
        if extras != NULL:      # where sizes and costs differ, the least is further below the mean
            challenge(learned, entries, extras, count)
        first = first_of(lanes)
        while first != NEVER:
            lane = first & (LANES - 1)
            i = lanes.entry[lane]
            lanes.rank[lane] = NEVER
            first = first_of(lanes)
            if i != spared and is_unused(entries, count, i, lanes.last[lane]):
                knowledge.first = first
                expect_next(learned, entries, count)
                return i
    knowledge.first = NEVER
    return NIL


cdef inline uint32_t least_recently_used(
    Learned* learned, Entry* entries, uint32_t count, uint32_t spared
) noexcept nogil:
    """The oldest of the entries, at most of the first 64, but not ``spared``: LRU where few are."""
    cdef uint32_t oldest = NIL
    cdef uint32_t most = 0
    cdef uint32_t i, age
    for i in range(min(count, <uint32_t> FEW_ENTRIES)):
        age = now_of(learned) - entries[i].policy.habit.last
        if i != spared and (oldest == NIL or age > most):
            oldest = i
            most = age
    return oldest


cdef inline void learned_judge(
    Learned* learned, Entry* entries, Extra* extras, uint32_t i
) noexcept nogil:
    """Let a new entry be the next to go if it is worth less than the contender that is."""
    cdef Knowledge* knowledge = learned.knowledge
    cdef int32_t rank = rank_of(learned, entries, extras, i, 0)
    if knowledge.first == NEVER:        # all lanes are free
        knowledge.first = knowledge.lanes.rank[0] = rank
        knowledge.lanes.entry[0] = i
        knowledge.lanes.last[0] = entries[i].policy.habit.last
    elif rank < min(knowledge.first, knowledge.next_rank):
        knowledge.next_rank = rank
        knowledge.next = i
        knowledge.next_last = entries[i].policy.habit.last


cdef inline bint learned_refuses(
    Learned* learned, Entry* entries, Extra* extras, uint32_t count, uint32_t i
) noexcept nogil:
    """Whether a new entry is worth less than what would go for it."""
    cdef Knowledge* knowledge = learned.knowledge
    if knowledge.first == NEVER:
        challenge(learned, entries, extras, count)
        knowledge.first = first_of(&knowledge.lanes)
    return rank_of(learned, entries, extras, i, 0) < min(knowledge.first, knowledge.next_rank)
