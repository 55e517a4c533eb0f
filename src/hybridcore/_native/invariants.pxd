"""Everything that holds of the table between two operations; tests assert it after each."""

from libc.stdint cimport uint32_t, uint64_t

from hybridcore._native.entry cimport NIL
from hybridcore._native.policy cimport (
    policy_colder, policy_hotter, policy_hottest, policy_victim,
)
from hybridcore._native.table cimport Table, slot_of
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
    cdef uint32_t seen = 0
    cdef uint32_t before = NIL
    cdef uint32_t i = policy_victim(&table.policy, table.entries)
    while i != NIL:
        expect(i < table.count, "the eviction order leaves the entries")
        expect(policy_colder(table.entries, i) == before, "the eviction order is torn")
        seen += 1
        expect(seen <= table.count, "the eviction order is a ring")
        before = i
        i = policy_hotter(table.entries, i)
    expect(seen == table.count, f"the eviction order holds {seen} of {table.count} entries")
    expect(policy_hottest(&table.policy) == before, "the hottest entry is not the end")
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
