# cython: freethreading_compatible=True
"""The coroutine of an awaited miss, and work that begins before it has a task of its own.

A load goes on when its caller is cancelled, so it is no part of the caller's task. But most loads
of an origin in this process end in their first step. That is taken at once, in a context of its
own and in the name of a spare task; only a load that waits then is handed to that task.
"""

from contextvars import Context
from functools import partial
from types import CoroutineType

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from hybridcore._native.histogram cimport seconds_since
from hybridcore._native.outcome cimport stop_with
from hybridcore._native.straight cimport (
    FOUND, IN_MEMORY, NOTHING, NOWHERE, STALE, Flight, Straight,
    enter_call, join, land, leave_call, look_up, lose, may_load,
)

cimport cython

cdef extern from "Python.h":
    ctypedef struct AwaitSlots "PyAsyncMethods":
        void* am_send

    ctypedef struct TypeSlots "PyTypeObject":
        void* tp_iternext
        AwaitSlots* tp_as_async

    int PyIter_Send(PyObject* coroutine, PyObject* value, PyObject** result) except -1
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    void PyType_Modified(TypeSlots* kind) noexcept

cdef extern from "sections.h":
    object take "hc_take"(PyObject* held)

cdef enum:
    WAITS = 1               # PYGEN_NEXT: else it has ended

# Of asyncio, imported when the first coroutine begins.
cdef object running_loop = None
cdef object task_type, current_task, enter_task, leave_task, register_task, unregister_task


cdef object loop_of_now():
    global running_loop, task_type, current_task
    global enter_task, leave_task, register_task, unregister_task
    if running_loop is None:
        from asyncio import get_running_loop, tasks
        task_type, current_task = tasks.Task, tasks.current_task
        enter_task, leave_task = tasks._enter_task, tasks._leave_task
        register_task, unregister_task = tasks._register_task, tasks._unregister_task
        running_loop = get_running_loop
    return running_loop()


@cython.final
cdef class Spare:
    """A task that lends its name to work that begins, until some of that goes on in it.

    It is known to nobody until then, and holds back its complaint when it is never needed.
    """

    def __init__(self, loop, /):
        self.loop = loop
        self.awaited = NOTHING
        self.task = Context().run(partial(task_type, self, loop=loop))
        self.task._log_destroy_pending = False
        unregister_task(self.task)

    def __await__(self):
        return self

    def send(self, value, /):
        """Take a step of the work, or wait for some."""
        if self.work is None:
            self.parked = self.loop.create_future()
            self.parked._asyncio_future_blocking = True
            return self.parked
        if self.awaited is not NOTHING:
            awaited, self.awaited = self.awaited, NOTHING
            return awaited
        return self.context.run(self.work.send, None)

    def throw(self, kind, value=None, traceback=None, /):
        """Throw something into the work."""
        self.is_over = True
        if self.work is None:
            raise kind if value is None else value
        self.awaited = NOTHING
        return self.context.run(self.work.throw, kind if value is None else value)

    def close(self):
        """End the work."""
        self.is_over = True
        if self.work is not None:
            self.context.run(self.work.close)


cdef object hand_over(Runner keeper, Spare spare, object work, object awaited, object context):
    """The task in which work goes on that waits for something."""
    with cython.critical_section(keeper):
        keeper.spare = None
    cdef bint was_ended = spare.parked is not None and spare.parked.done()
    spare.is_over = True
    if was_ended or spare.task._must_cancel:    # by who was lent its name
        spare = Spare(spare.loop)
        spare.is_over = True
    spare.work = work
    spare.awaited = awaited
    spare.context = context
    spare.task._log_destroy_pending = True
    register_task(spare.task)
    if spare.parked is not None:
        spare.parked.set_result(None)
    task, spare.task = spare.task, None     # which has us
    return task


cdef Spare spare_of(Runner keeper, object loop):
    """The spare task of a loop, None where tasks are made by somebody else."""
    cdef Spare spare
    with cython.critical_section(keeper):
        spare = keeper.spare
    if spare is None or spare.loop is not loop or spare.is_over:
        if loop.get_task_factory() is not None:
            return None
        spare = Spare(loop)
        with cython.critical_section(keeper):
            keeper.spare = spare
    return spare


cdef int first_step(Spare spare, object work, PyObject** result) except -1:
    """Let work begin, within its context: WAITS, or it has ended."""
    loop = spare.loop
    mine = current_task(loop)
    if mine is not None:
        leave_task(loop, mine)
    enter_task(loop, spare.task)
    try:
        return PyIter_Send(<PyObject*> work, <PyObject*> None, result)
    finally:
        leave_task(loop, spare.task)
        if mine is not None:
            enter_task(loop, mine)


cdef class Runner:
    """Lets work begin that is to have a task of its own."""

    def _begin(self, work, /):
        """(whether it has ended, what it returned or the task in which it goes on).

        None, before anything was done, where tasks of this loop are made by somebody else.
        """
        cdef PyObject* result = NULL
        cdef int status
        cdef Spare spare = spare_of(self, loop_of_now())
        if spare is None:
            return None
        context = PyContext_CopyCurrent()
        PyContext_Enter(context)
        try:
            status = first_step(spare, work, &result)
        finally:
            PyContext_Exit(context)
        value = take(result)
        if status == WAITS:
            return False, hand_over(self, spare, work, value, context)
        return True, value


@cython.final
cdef class Begun:
    """What is left of a coroutine that has taken its first step, to be awaited."""

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value, /):
        """Take a step; the first one was taken."""
        if self.awaited is not NOTHING:
            awaited, self.awaited = self.awaited, NOTHING
            return awaited
        return self.work.send(value)

    def throw(self, kind, value=None, traceback=None, /):
        """Throw something in."""
        self.awaited = NOTHING
        return self.work.throw(kind if value is None else value)

    def close(self):
        """End it."""
        self.work.close()


@cython.final
@cython.freelist(16)
cdef class Asked:
    """The coroutine of a miss: most end in their first step."""

    def __await__(self):
        return self

    def __next__(self):
        return step(self, None)         # the slots themselves are set below

    def send(self, value, /):
        """Take a step."""
        return step(self, value)

    def throw(self, kind, value=None, traceback=None, /):
        """Throw something in."""
        error = kind if value is None else value
        if self.rest is None:
            self.has_begun = True
            raise error if traceback is None else error.with_traceback(traceback)
        return self.rest.throw(error)

    def close(self):
        """End it."""
        self.has_begun = True
        if self.rest is not None:
            self.rest.close()


cdef object step(Asked self, object value):
    cdef PyObject* result = NULL
    cdef int status = send_asked(self, value, &result)
    answer = take(result)
    if status != WAITS:
        raise StopIteration(answer)
    return answer


cdef int send_asked(Asked self, object value, PyObject** result) except -1:
    """The slot ``am_send``."""
    cdef Flight flight
    if self.rest is not None:
        return PyIter_Send(<PyObject*> self.rest, <PyObject*> value, result)
    if self.has_begun:
        raise RuntimeError("cannot reuse already awaited coroutine")
    self.has_begun = True
    found = None if self.straight is None else join(self.straight, self.key)
    if found is None:
        return go_on(self, self.face._missed(self.key, self.default), result)
    if type(found) is tuple:
        return end((<tuple> found)[0], result)
    flight = <Flight> found
    try:
        return lead(self, flight, result)
    except BaseException:
        if self.rest is None:
            lose(self.straight, flight)
        raise


cdef int go_on(Asked self, object rest, PyObject** result) except -1:
    """Have another coroutine go on, which ends the flight if there is one."""
    self.rest = rest
    return PyIter_Send(<PyObject*> rest, <PyObject*> None, result)


cdef int end(object value, PyObject** result) except -1:
    Py_INCREF(value)
    result[0] = <PyObject*> value
    return 0


cdef int lead(Asked self, Flight flight, PyObject** result) except -1:
    """What becomes of a flight that is registered."""
    cdef Spare spare = None
    cdef int where = look_up(self.straight, flight)
    if where == NOWHERE:
        spare = spare_of(self.face, loop_of_now())
        where = STALE if spare is None else may_load(self.straight, flight)
    if where == FOUND:
        return end(self.default if flight.value is NOTHING else flight.value, result)
    if where == NOWHERE:
        return load(self, flight, spare, result)
    return go_on(self, self.face._led(flight, self.default, where != IN_MEMORY), result)


cdef int load(Asked self, Flight flight, Spare spare, PyObject** result) except -1:
    """Ask the origin, and go on in a task if that has to wait."""
    cdef Straight straight = self.straight
    cdef PyObject* found = NULL
    cdef int status = 0
    error = None
    context = PyContext_CopyCurrent()
    PyContext_Enter(context)
    try:
        enter_call(straight, flight)
        flight.is_bare = straight.afunction is not None
        if flight.is_bare:
            work = straight.afunction(flight.key)
        else:
            work = straight.origin.aload(flight.key, None)
        if type(work) is not CoroutineType:
            work = self.face._waiting(work)
        status = first_step(spare, work, &found)
        answer = take(found)
    except BaseException as failure:
        answer = error = failure
    finally:
        PyContext_Exit(context)
    if status == WAITS:
        return wait(self, flight, spare, context, work, answer, result)
    leave_call(straight, flight, error)
    if error is not None and not isinstance(error, Exception):
        raise error
    if error is not None or not land(straight, flight, answer):
        self.face._settled(flight, answer, seconds_since(flight.asked))
    if flight.is_leased or not flight.ended:
        lose(straight, flight)
    if flight.error is not None:
        raise flight.error
    return end(self.default if flight.value is NOTHING else flight.value, result)


cdef int wait(
    Asked self, Flight flight, Spare spare, object context, object work, object awaited,
    PyObject** result,
) except -1:
    """Wait, within the load's own task."""
    cdef Begun begun = Begun.__new__(Begun)
    begun.work = work
    begun.awaited = awaited
    flight.is_abandoned = spare.loop.is_closed
    rest = self.face._load_on(flight, self.default, begun)
    awaited = context.run(rest.send, None)
    task = hand_over(self.face, spare, rest, awaited, context)
    return go_on(self, self.face._wait_for(task), result)


cdef int step_by_slot(PyObject* self, PyObject* value, PyObject** result) except -1:
    return send_asked(<Asked> self, <object> value, result)


cdef PyObject* next_by_slot(PyObject* self) except? NULL:
    cdef PyObject* result = NULL
    if send_asked(<Asked> self, None, &result) == WAITS:
        return result
    value = take(result)
    stop_with(<PyObject*> value)
    return NULL


cdef void set_slots() noexcept:
    """Set the slots that Cython has no word for, or makes slower."""
    cdef TypeSlots* coroutine = <TypeSlots*> <PyObject*> Asked
    coroutine.tp_iternext = <void*> next_by_slot
    coroutine.tp_as_async.am_send = <void*> step_by_slot
    PyType_Modified(coroutine)


set_slots()
