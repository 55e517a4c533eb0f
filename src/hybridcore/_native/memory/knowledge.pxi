"""What the learned policy tells of itself. Called within the section of the store."""

from hybridcore._native.ghosts cimport WAYS
from hybridcore._native.learned cimport Lesson


cdef tuple knowledge_of(MemoryStore store):
    """What `MemoryStore.learned` returns."""
    cdef Policy* policy = &store.table.policy
    cdef Lesson* lesson
    if policy.rule != LEARNED:
        return None
    if policy.learned.knowledge == NULL:
        return (
            0, 0, policy.learned.frozen, False, False, policy.learned.requests, None, 0.0, 0.0,
            0,
        )
    lesson = &policy.learned.knowledge.lesson
    return (
        lesson.lessons, lesson.vetoes, policy.learned.frozen, lesson.suspended > 0,
        lesson.on_target, policy.learned.requests,
        max(<int32_t> (lesson.due - now_of(&policy.learned)), 0), lesson.kept, lesson.recent,
        (<uint64_t> policy.learned.knowledge.graveyard.mask + 1) * WAYS,
    )
