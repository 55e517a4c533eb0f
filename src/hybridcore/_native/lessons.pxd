"""The lessons of the learned policy: how counts become worth, a bounded piece at a time.

A lesson is due every quarter turnover, later every half, but not before 1024 requests; the first
come sooner, and those without news are put off. Each new entry does one piece of it, about a
microsecond:

1. A census looks at a sample of the entries and ghosts that are neither used nor dead yet. With
   the hits and deaths counted it tells how many reached an age, and so the hazard: how likely an
   entry of that kind and age is used before it comes to the next age. Kinds seen little lean on
   those of the same frequency, and on a prior: what was used more often is used again sooner,
   and what came back after some time will again.
2. The guard compares what was kept lately with what LRU would have kept. That is estimated from
   the same counts: with P(t) the share of requests whose key was last used more than t requests
   ago, LRU of capacity C keeps an entry for T, the integral of P from 0 to T being C. When LRU is
   ahead by ten points three lessons in a row, recency decides for the next eight lessons, twice
   as many when it happens again.
3. The index of a kind at an age is the best ratio, over all horizons, of hits to the time that
   entries stay, both expected. Hits and time add up along the ages to a curve; the best ratio is
   the steepest line from a point of the curve to a later one, and the upper hull of what is to
   the right has all of them, so one pass from the right finds them. After the first lessons, that
   is done for the kinds of which a twentieth of what is known is news, and for an eighth of the
   others.

Counts fade by the learning rate with each lesson. For the estimate of LRU: X. Hu and others,
Fast miss ratio curve modeling for storage cache (ACM Transactions on Storage, 2018).
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from hybridcore._native.entry cimport NIL, Entry, Habit
from hybridcore._native.ghosts cimport (
    WAYS, Ghosts, graveyard_free, graveyard_init,
)
from hybridcore._native.learned cimport (
    AGES, FREQUENCIES, GAPS, KINDS, LANES, NEVER, Knowledge, Learned, Lesson, adjust_capacity,
    age_of, now_of, set_capacity,
)

cdef enum:
    FIRST_LESSON = 256          # requests
    SHORTEST = 1024             # requests between lessons, once there were some
    EARLY = 4                   # lessons in a turnover at first,
    LATE = 1                    # and later,
    YOUNG = 64                  # after so many
    CENSUS = 1024               # entries looked at; twice as many ghosts
    ENTRIES_A_PIECE = 64
    SETS_A_PIECE = 16
    KINDS_A_PIECE = 8           # until one is worked out
    PRIOR = 30                  # entries that the prior counts as,
    SMOOTHING = 16              # entries that the expectation counts as
    LONG_GHOSTS = 16            # ghosts for each entry in a small cache,
    SHORT_GHOSTS = 2            # and at least,
    SMALL = 65536               # with so many in all while the shorter allows it
    REPEATS = 3                 # lessons that must agree before LRU takes over
    FIRST_SUSPENSION = 8        # lessons that it decides then
    LONGEST_SUSPENSION = 64
    NEWS = 64                   # uses and returns that make a lesson worth its time
    THOROUGH = 16               # lessons in which all kinds are worked out; then those with news,
    RARELY = 8                  # and of the others one in so many
    MOST_PUT_OFF = 3            # lessons in a row without
    ENOUGH = 256                # requests that say something

# Parts of a lesson.
cdef enum:
    REST = 0
    ENTRIES = 1
    GHOSTS = 2
    FAMILIES = 3
    EXPECTATIONS = 4
    INDICES = 5

cdef extern from *:
    """
    #define HC_DEAD_BAND .1
    #define HC_NEWS_SHARE .05f
    static const float hc_nothing[33];
    /* How the hazard of entries used once rises with their age: 2 ** (age / 8), up to 5. */
    static const float hc_strangers_rise[33] = {
        1.00f, 1.09f, 1.19f, 1.30f, 1.41f, 1.54f, 1.68f, 1.83f, 2.00f, 2.18f, 2.38f,
        2.59f, 2.83f, 3.08f, 3.36f, 3.67f, 4.00f, 4.36f, 4.76f, 5.00f, 5.00f, 5.00f,
        5.00f, 5.00f, 5.00f, 5.00f, 5.00f, 5.00f, 5.00f, 5.00f, 5.00f, 5.00f, 5.00f};
    /* Where the age classes begin, in 64ths of the capacity. */
    static const double hc_starts[34] = {
        0, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768,
        1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152, 65536};
    /* What an entry without a hope is worth, less when it is old. */
    static const float hc_hopeless[33] = {
        1e-12f, 5e-13f, 4e-13f, 3e-13f, 2.5e-13f, 2e-13f, 1.4e-13f, 1.1e-13f, 8e-14f, 6e-14f,
        4e-14f, 3e-14f, 2e-14f, 1.5e-14f, 1e-14f, 8e-15f, 5e-15f, 4e-15f, 2.6e-15f, 2e-15f,
        1.3e-15f, 1e-15f, 6e-16f, 5e-16f, 3e-16f, 2.5e-16f, 1.6e-16f, 1.2e-16f, 8e-17f, 6e-17f,
        4e-17f, 3e-17f, 2e-17f};
    """
    const double DEAD_BAND "HC_DEAD_BAND"
    const float NEWS_SHARE "HC_NEWS_SHARE"
    const float NOTHING "hc_nothing"[33]
    const float STRANGERS_RISE "hc_strangers_rise"[33]
    const double STARTS "hc_starts"[34]
    const float HOPELESS "hc_hopeless"[33]


cdef inline bint lessons_start(Learned* learned, uint64_t capacity) noexcept nogil:
    """Begin to count and to remember; False when memory is out."""
    cdef Knowledge* knowledge
    cdef uint32_t family, kind, lane
    knowledge = <Knowledge*> PyMem_RawMalloc(sizeof(Knowledge))
    if knowledge == NULL:
        return False
    memset(knowledge, 0, sizeof(Knowledge))
    if not graveyard_init(&knowledge.graveyard, max(
        SHORT_GHOSTS * capacity, min(LONG_GHOSTS * capacity, <uint64_t> SMALL)
    )):
        PyMem_RawFree(knowledge)
        return False
    for lane in range(LANES):
        knowledge.lanes.rank[lane] = NEVER
    knowledge.next_rank = NEVER
    knowledge.first = NEVER
    learned.knowledge = knowledge
    set_capacity(learned, capacity)
    knowledge.lesson.interval = FIRST_LESSON
    knowledge.lesson.due = now_of(learned) + FIRST_LESSON
    knowledge.lesson.suspension = FIRST_SUSPENSION
    knowledge.lesson.ages = AGES
    for family in range(FREQUENCIES):
        learn_expectation(knowledge, family)
    for kind in range(KINDS):
        learn_index(knowledge, kind)
    return True


cdef inline void lessons_end(Learned* learned) noexcept nogil:
    """Forget everything."""
    if learned.knowledge != NULL:
        graveyard_free(&learned.knowledge.graveyard)
        PyMem_RawFree(learned.knowledge)
        learned.knowledge = NULL


cdef inline bint lessons_going_on(Learned* learned) noexcept nogil:
    """Whether a lesson is going on or due."""
    cdef Lesson* lesson = &learned.knowledge.lesson
    return lesson.part != REST or (
        <int32_t> (now_of(learned) - lesson.due) >= 0 and not learned.frozen
    )


cdef inline void lessons_turn(Learned* learned, Entry* entries, uint32_t count) noexcept nogil:
    """Do one piece of the lesson that is going on or due."""
    cdef Knowledge* knowledge = learned.knowledge
    cdef Lesson* lesson = &knowledge.lesson
    if count == 0:
        return
    if lesson.part == REST:
        if is_dull(learned):
            return
        memset(knowledge.at_risk, 0, sizeof(knowledge.at_risk))
        memset(lesson.all_hits, 0, sizeof(lesson.all_hits))
        memset(lesson.all_risk, 0, sizeof(lesson.all_risk))
        begin(lesson, ENTRIES, min(count, <uint32_t> CENSUS))
    elif lesson.part == ENTRIES:
        look_at_entries(learned, entries, count)
        if lesson.done >= lesson.looks:
            begin(lesson, GHOSTS, min(
                knowledge.graveyard.mask + 1, <uint32_t> (CENSUS // WAYS)
            ))
    elif lesson.part == GHOSTS:
        look_at_ghosts(learned)
        if lesson.done >= lesson.looks:
            begin(lesson, FAMILIES, FREQUENCIES)
    elif lesson.part == FAMILIES:
        sum_up(knowledge, lesson.done, fade(learned))
        lesson.done += 1
        if lesson.done == FREQUENCIES:
            judge(learned, fade(learned))
            lesson.ages = ages_seen(lesson)
            begin(lesson, EXPECTATIONS, FREQUENCIES)
    elif lesson.part == EXPECTATIONS:
        learn_expectation(knowledge, lesson.done)
        lesson.done += 1
        if lesson.done == FREQUENCIES:
            begin(lesson, INDICES, 0 if lesson.on_target else KINDS)
    else:
        for _ in range(KINDS_A_PIECE):
            if lesson.done < lesson.looks:
                lesson.done += 1
                if learn_index(knowledge, lesson.done - 1):
                    break
        if lesson.done >= lesson.looks:
            lesson.part = REST
            lesson.lessons += 1
            lesson.by_recency = lesson.suspended > 0 and not lesson.on_target
            lesson.interval = min(lesson.interval + lesson.interval // 2, period_of(knowledge))
            lesson.due = now_of(learned) + lesson.interval
            if knowledge.full:
                adjust_capacity(learned, count, 0.3)


cdef inline bint is_dull(Learned* learned) noexcept nogil:
    """Nearly all requests since the last lesson were for keys never seen: put the next one off."""
    cdef Lesson* lesson = &learned.knowledge.lesson
    cdef uint32_t strangers = learned.knowledge.strangers_ever - lesson.strangers_before
    lesson.dull = now_of(learned) - lesson.requests_before - strangers < NEWS
    if lesson.dull and lesson.put_off < MOST_PUT_OFF:
        lesson.put_off += 1
        lesson.due = now_of(learned) + lesson.interval
        return True
    lesson.put_off = 0
    lesson.requests_before = now_of(learned)
    lesson.strangers_before = learned.knowledge.strangers_ever
    return False


cdef inline void begin(Lesson* lesson, uint32_t part, uint32_t looks) noexcept nogil:
    lesson.part = part
    lesson.done = 0
    lesson.looks = looks


cdef inline uint32_t period_of(Knowledge* knowledge) noexcept nogil:
    """Requests from one lesson to the next: more once much is known."""
    cdef uint32_t period = knowledge.capacity // (
        EARLY if knowledge.lesson.lessons < YOUNG else LATE
    )
    return max(period, <uint32_t> SHORTEST)


cdef inline float fade(Learned* learned) noexcept nogil:
    """What is left of the counts after this lesson; the first, shorter ones take less."""
    cdef float share = (
        <float> learned.knowledge.lesson.interval / <float> period_of(learned.knowledge)
    )
    return 1 - learned.rate * (share if share < 1 else 1)


# -- the census -----------------------------------------------------------------------------

cdef inline void look_at_entries(
    Learned* learned, Entry* entries, uint32_t count
) noexcept nogil:
    """Every so many-th entry, from a place that moves on."""
    cdef Knowledge* knowledge = learned.knowledge
    cdef Lesson* lesson = &knowledge.lesson
    cdef uint32_t end = min(lesson.done + ENTRIES_A_PIECE, lesson.looks)
    cdef uint32_t stride = max(count // lesson.looks, <uint32_t> 1)
    cdef uint32_t i = (lesson.done * stride + lesson.lessons) % count
    cdef float weight = <float> count / <float> lesson.looks
    cdef Habit* habit
    while lesson.done < end:
        habit = &entries[i].policy.habit
        knowledge.at_risk[habit.kind][age_of(learned, habit.last)] += weight
        i += stride
        if i >= count:
            i -= count
        lesson.done += 1


cdef inline void look_at_ghosts(Learned* learned) noexcept nogil:
    cdef Knowledge* knowledge = learned.knowledge
    cdef Lesson* lesson = &knowledge.lesson
    cdef uint32_t end = min(lesson.done + SETS_A_PIECE, lesson.looks)
    cdef float weight = <float> (knowledge.graveyard.mask + 1) / <float> lesson.looks
    cdef Ghosts* ghosts
    cdef int way
    while lesson.done < end:
        ghosts = &knowledge.graveyard.sets[lesson.first_set]
        for way in range(WAYS):
            if ghosts.tags[way]:
                knowledge.at_risk[ghosts.kind[way]][age_of(learned, ghosts.last[way])] += weight
        lesson.first_set = (lesson.first_set + 1) & knowledge.graveyard.mask
        lesson.done += 1


cdef inline void sum_up(Knowledge* knowledge, uint32_t frequency, float left) noexcept nogil:
    """Let the counts of a class of frequency fade, then find how many were at risk at each age.

    Those are all that were hit, died or were found in the census at that age or later; of the
    ones that died or stand there, half.
    """
    cdef Lesson* lesson = &knowledge.lesson
    cdef float* hits
    cdef float* deaths
    cdef float* risk
    cdef float older, undecided, total
    cdef uint32_t kind
    cdef int age
    memset(lesson.some_hits[frequency], 0, sizeof(lesson.some_hits[frequency]))
    memset(lesson.some_risk[frequency], 0, sizeof(lesson.some_risk[frequency]))
    for kind in range(frequency * GAPS, (frequency + 1) * GAPS):
        hits = knowledge.hits[kind]
        deaths = knowledge.deaths[kind]
        risk = knowledge.at_risk[kind]
        if (
            memcmp(hits, NOTHING, sizeof(knowledge.hits[kind])) == 0
            and memcmp(risk, NOTHING, sizeof(knowledge.at_risk[kind])) == 0
            and memcmp(deaths, NOTHING, sizeof(knowledge.deaths[kind])) == 0
        ):
            continue
        older = 0
        total = 0
        for age in range(AGES - 1, -1, -1):
            total += hits[age] + deaths[age]
            hits[age] *= left
            deaths[age] *= left
            undecided = deaths[age] + risk[age]
            risk[age] = older + hits[age] + undecided / 2
            older += hits[age] + undecided
            lesson.some_hits[frequency][age] += hits[age]
            lesson.some_risk[frequency][age] += risk[age]
        knowledge.news[kind] += total - knowledge.known[kind]
        knowledge.known[kind] = total * left
    for age in range(AGES):
        lesson.all_hits[age] += lesson.some_hits[frequency][age]
        lesson.all_risk[age] += lesson.some_risk[frequency][age]


# -- the guard ------------------------------------------------------------------------------

cdef inline void judge(Learned* learned, float left) noexcept nogil:
    """Compare what was kept, lately more than long ago, with what LRU would have kept."""
    cdef Knowledge* knowledge = learned.knowledge
    cdef Lesson* lesson = &knowledge.lesson
    cdef float used = 0
    cdef float requests
    cdef int age
    for age in range(AGES):
        used += lesson.all_hits[age]
    knowledge.strangers *= left
    knowledge.returned *= left
    requests = used + knowledge.strangers
    if requests >= ENOUGH:
        lesson.kept = max(used - knowledge.returned, <float> 0) / requests
        lesson.recent = kept_by_recency(lesson.all_hits, requests)
    lesson.on_target = learned.target > 0 and lesson.kept >= learned.target
    if lesson.suspended:
        lesson.suspended -= 1
    elif lesson.recent > lesson.kept + DEAD_BAND:
        lesson.behind += 1
        if lesson.behind == REPEATS:
            lesson.behind = 0
            lesson.vetoes += 1
            lesson.suspended = lesson.suspension
            lesson.suspension = min(2 * lesson.suspension, <uint32_t> LONGEST_SUSPENSION)
    else:
        lesson.behind = 0


cdef inline float kept_by_recency(const float* uses, float requests) noexcept nogil:
    """The share of requests that LRU would have kept."""
    cdef float later = 1        # share of requests whose key was last used longer ago
    cdef float room = 0         # entries kept for so long, in 64ths of the capacity
    cdef float kept = 0
    cdef float share, more
    cdef int age
    for age in range(AGES):
        share = uses[age] / requests
        more = <float> width_of(age) * (later - share / 2)
        if room + more >= 64:
            return kept + share * (64 - room) / more
        room += more
        kept += share
        later -= share
    return kept


# -- the index ------------------------------------------------------------------------------

cdef inline double width_of(int age) noexcept nogil:
    """Of an age class, in 64ths of the capacity."""
    return STARTS[age + 1] - STARTS[age]


cdef inline void learn_expectation(Knowledge* knowledge, uint32_t family) noexcept nogil:
    """Work out the hazards of a class of frequency, and the worth of a kind never seen."""
    cdef Lesson* lesson = &knowledge.lesson
    cdef double hazard
    cdef int age
    for age in range(AGES):
        hazard = lesson.all_hits[age] / (lesson.all_risk[age] + 1)
        lesson.expected[family][age] = <float> (
            (lesson.some_hits[family][age] + SMOOTHING * hazard)
            / (lesson.some_risk[family][age] + SMOOTHING)
        )
    if lesson.suspended:
        for age in range(AGES):
            lesson.fallback[family][age] = <float> (
                1 / (1 + (STARTS[age] + STARTS[age + 1]) / 2)
            )
    else:
        solve(lesson.expected[family], lesson.fallback[family], lesson.ages)


cdef inline float prior_of(uint32_t kind, int age) noexcept nogil:
    """The hazard of a kind and age before anything is known."""
    cdef int frequency = kind // GAPS
    cdef int before = 2 * <int> (kind % GAPS) - 2 - age     # ages until as old as it was last time
    cdef float hazard
    if frequency == 0:
        return 0.004 * STRANGERS_RISE[age]
    hazard = 0.15 * (0.4 + 0.2 * (frequency - 1))
    if before <= 0:
        return hazard
    return hazard * (1.0 / (1 << before) if before <= 4 else <float> 0.06)


cdef inline bint learn_index(Knowledge* knowledge, uint32_t kind) noexcept nogil:
    """Work out the worth of one kind at each age; False when there is too little news of it."""
    cdef Lesson* lesson = &knowledge.lesson
    cdef uint32_t family = kind // GAPS
    cdef float* hits = knowledge.hits[kind]
    cdef float* risk = knowledge.at_risk[kind]
    cdef float hazards[33]
    cdef int ages = lesson.ages
    cdef int age
    if lesson.suspended:
        memcpy(knowledge.worth[kind], lesson.fallback[family], sizeof(lesson.fallback[family]))
        return False
    if (
        knowledge.news[kind] < NEWS_SHARE * (SMOOTHING + PRIOR + knowledge.known[kind])
        and lesson.by_recency == 0 and lesson.lessons > THOROUGH
        and (lesson.dull or (kind ^ lesson.lessons) & (RARELY - 1))
    ):
        return False
    knowledge.news[kind] = 0
    for age in range(ages):
        hazards[age] = (
            hits[age] + SMOOTHING * lesson.expected[family][age] + PRIOR * prior_of(kind, age)
        ) / (risk[age] + SMOOTHING + PRIOR)
    solve(hazards, knowledge.worth[kind], ages)
    return True


cdef inline int ages_seen(Lesson* lesson) noexcept nogil:
    """How many ages anything has reached, and two more, as entries grow older until next time."""
    cdef int age = AGES
    while age > 0 and lesson.all_risk[age - 1] == 0:
        age -= 1
    return min(age + 2, AGES)


cdef inline void solve(const float* hazards, float* worth, int ages) noexcept nogil:
    """Turn the hazards of the ages into what is to be gained from each age on."""
    cdef double hazard[33]
    cdef double alive[33]       # share of the entries that reaches the age
    cdef double times[67]       # of the hull's points, the nearest last: the time to come
    cdef double gains[67]       # and the hits
    cdef double left = 1
    cdef double time = 0
    cdef double gain = 0
    cdef double more_time, more_gain
    cdef int age
    cdef int last = 0
    for age in range(ages):
        hazard[age] = min(<double> hazards[age], 0.999)
        alive[age] = left
        left *= 1 - hazard[age]
    times[0] = 0
    gains[0] = 0
    for age in range(ages - 1, -1, -1):
        more_time = alive[age] * width_of(age)
        more_gain = alive[age] * hazard[age]
        # From the middle of the age, where its entries stand on average.
        last = put_on_hull(
            times, gains, last, time + 0.5 * more_time * (1 - 0.75 * hazard[age]),
            gain + 0.5 * more_gain,
        )
        worth[age] = HOPELESS[age] + <float> (
            (gains[last] - gains[last - 1]) / (times[last] - times[last - 1])
        )
        time += more_time * (1 - 0.5 * hazard[age])     # seen from the start of the age
        gain += more_gain
        last = put_on_hull(times, gains, last, time, gain)
    for age in range(ages, AGES):
        worth[age] = worth[age - 1]


cdef inline int put_on_hull(
    double* times, double* gains, int last, double time, double gain
) noexcept nogil:
    """Add a point to the left of all others; what it hides goes. Returns where it is."""
    while last > 0 and (
        (gain - gains[last]) * (time - times[last - 1])
        <= (gain - gains[last - 1]) * (time - times[last])
    ):
        last -= 1
    last += 1
    times[last] = time
    gains[last] = gain
    return last
