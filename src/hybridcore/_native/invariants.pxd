"""Everything that holds of the table between two operations; tests assert it after each."""

from libc.stdint cimport uint32_t, uint64_t

from hybridcore._native.entry cimport NIL
from hybridcore._native.graded cimport END, RING, Ring
from hybridcore._native.learned cimport AGES, KINDS, LANES, NEVER, Knowledge
from hybridcore._native.policy cimport GRADED, RECENCY, USES, policy_coldest, policy_hotter
from hybridcore._native.table cimport Table, slot_of
from hybridcore._native.uses cimport Uses
from hybridcore._native.wheel cimport DUE, NO_BUCKET


cdef inline int expect(bint holds, str what) except -1:
    if not holds:
        raise AssertionError(what)
    return 0


cdef inline int check_table(Table* table, uint64_t size, uint64_t limit) except -1:
    cdef uint32_t i, position
    cdef uint32_t seen = 0
    cdef uint64_t total = 0
    expect((<uint64_t> table.count) * 3 <= (<uint64_t> table.mask + 1) * 2, "slots are too full")
    for position in range(table.mask + 1):
        i = table.slots[position].entry
        if i:
            seen += 1
            expect(i <= table.count, f"slot {position} points past the entries")
            expect(
                table.slots[position].hash == table.entries[i - 1].hash,
                f"slot {position} has another hash than its entry",
            )
    expect(seen == table.count, f"{seen} slots for {table.count} entries")
    for i in range(table.count):
        expect(table.entries[i].key != NULL and table.entries[i].value != NULL, "an empty entry")
        expect(
            table.slots[slot_of(table, i)].entry == i + 1, f"entry {i} is not reached from its home"
        )
        total += table.extras[i].size if table.extras != NULL else 1
    expect(total == size, f"currsize is {size}, the entries add up to {total}")
    expect(size <= limit, f"currsize {size} exceeds maxsize {limit}")
    check_policy(table)
    if table.wheel != NULL:
        check_wheel(table)
    return 0


cdef inline int check_policy(Table* table) except -1:
    if table.policy.rule == RECENCY:
        check_order(table)
    elif table.policy.rule == GRADED:
        check_grades(table)
        check_order(table)
    elif table.policy.rule == USES:
        check_groups(table)
        check_order(table)
    else:
        check_habits(table)
    return 0


cdef inline int check_order(Table* table) except -1:
    """Of eviction."""
    cdef uint32_t seen = 0
    cdef uint32_t i = policy_coldest(&table.policy)
    while i != NIL:
        expect(i < table.count, "the eviction order leaves the entries")
        seen += 1
        expect(seen <= table.count, "the eviction order is a ring")
        i = policy_hotter(&table.policy, table.entries, i)
    expect(seen == table.count, f"the eviction order holds {seen} of {table.count} entries")
    return 0


cdef inline int check_grades(Table* table) except -1:
    cdef Ring* ring = table.policy.graded.ring
    cdef uint32_t grade, i, before
    cdef bint used
    for grade in range(RING):
        used = (ring.used[grade >> 6] >> (grade & 63)) & 1
        expect(used == (ring.coldest[grade] != NIL), f"grade {grade} is marked wrongly")
        expect(used == (ring.hottest[grade] != NIL), f"grade {grade} has one end")
        before = END | grade
        i = ring.coldest[grade]
        while used and not i & END:
            expect(i < table.count, f"grade {grade} leaves the entries")
            expect(table.entries[i].policy.links.older == before, f"grade {grade} is torn")
            before = i
            i = table.entries[i].policy.links.newer
        if used:
            expect(i == END | grade, f"grade {grade} ends in another")
            expect(ring.hottest[grade] == before, f"the hottest of grade {grade} is not its end")
    return 0


cdef inline int check_groups(Table* table) except -1:
    cdef Uses* uses = &table.policy.uses
    cdef uint32_t groups = 0
    cdef uint32_t before = NIL
    cdef uint32_t g = uses.fewest
    while g != NIL:
        groups += 1
        expect(groups <= uses.room, "the groups are a ring")
        expect(uses.groups[g].oldest != NIL, f"group {g} is empty")
        expect(uses.groups[g].fewer == before, f"group {g} is torn")
        expect(
            before == NIL or uses.groups[before].count < uses.groups[g].count,
            f"group {g} has too low a count",
        )
        before = g
        g = uses.groups[g].more
    expect(uses.most == before, "the group of the highest count is not the last")
    g = uses.free
    while g != NIL:
        groups += 1
        expect(groups <= uses.room, "a group is free and in use")
        g = uses.groups[g].more
    expect(groups == uses.room, f"{uses.room - groups} groups are lost")
    return 0


cdef inline int check_habits(Table* table) except -1:
    cdef Knowledge* knowledge = table.policy.learned.knowledge
    cdef uint32_t i
    cdef int age
    for i in range(table.count):
        expect(table.entries[i].policy.habit.kind < KINDS, f"entry {i} is of no kind")
        expect(table.entries[i].policy.habit.frequency > 0, f"entry {i} was never used")
    if knowledge == NULL:
        return 0
    for i in range(LANES):
        expect(
            knowledge.lanes.rank[i] == NEVER or knowledge.lanes.rank[i] % LANES == <int> i,
            f"the contender of lane {i} is in another",
        )
    for i in range(KINDS):
        for age in range(AGES):
            expect(0 < knowledge.worth[i][age] < 1e9, f"kind {i} at age {age} has no worth")
            expect(
                knowledge.hits[i][age] >= 0 and knowledge.deaths[i][age] >= 0,
                f"kind {i} at age {age} has lost counts",
            )
    return 0


cdef inline int check_wheel(Table* table) except -1:
    cdef uint32_t i, before
    cdef inline int bucket
    cdef uint32_t scheduled = 0
    for i in range(table.count):
        expect(
            (table.extras[i].deadline != 0) == (table.extras[i].bucket != NO_BUCKET),
            f"entry {i} has a deadline or a bucket but not both",
        )
        scheduled += table.extras[i].deadline != 0
    for bucket in range(DUE + 1):
        before = NIL
        i = table.wheel.heads[bucket]
        while i != NIL:
            expect(table.extras[i].bucket == bucket, f"entry {i} is in another's bucket")
            expect(table.extras[i].timer_prev == before, "a timer list is torn")
            expect(scheduled > 0, "a timer list is a ring")
            scheduled -= 1
            before = i
            i = table.extras[i].timer_next
    expect(scheduled == 0, f"{scheduled} entries with a deadline are on no timer list")
    return 0
