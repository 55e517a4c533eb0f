"""Runs operations of several caches in every order in which their steps can come.

Each operation is a thread that stops at *points*: before and after what others can see or do. One
thread runs at a time, and which one goes on at a point is a decision. `explore` runs a world again
and again, with other decisions each time, until there are none that were not made. All is
deterministic: a schedule that fails is told, and fails again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE = 30.0
"""Seconds after which an operation that reaches no point counts as stuck."""


class Crash(BaseException):
    """The process of an operation is killed at a point."""


class StuckError(AssertionError):
    """Nobody can go on."""


@dataclass(eq=False)
class Client:
    """An operation under way: where it is, and whether it may go on."""

    name: str
    node: Any
    work: Callable[[], None]
    at: str = "start"
    ready: Callable[[], bool] | None = None
    done: bool = False
    error: BaseException | None = None
    killed: bool = False
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def may_run(self) -> bool:
        """Whether it waits for nobody."""
        return not self.done and (self.ready is None or self.ready())


class Schedule:
    """One run: decides by the ``decisions`` given, then always for the first that may run.

    Args:
        decisions: indices of alternatives, from the first decision on.
        switches: how often an operation that could go on is made to wait for another.
        crashes: how many nodes may be killed.
        is_locked: whether another operation of a node would have to wait for the one that asks.
    """

    def __init__(
        self,
        decisions: list[int],
        *,
        switches: int,
        crashes: int,
        is_locked: Callable[[Any], bool],
        crash: Callable[[Any], None],
    ) -> None:
        self._decisions = decisions
        self._switches, self._crashes = switches, crashes
        self._is_locked, self._crash = is_locked, crash
        self._clients: list[Client] = []
        self._back = threading.Semaphore(0)
        self._here = threading.local()
        self.taken: list[tuple[int, int]] = []
        """Of each decision which alternative was taken, and of how many."""
        self.trace: list[str] = []

    def add(self, name: str, node: Any, work: Callable[[], None]) -> None:
        """An operation that is to be run; one under way may add others."""
        self._clients.append(Client(name, node, work))

    def spawn(self, work: Callable[[], None]) -> bool:
        """Add an operation to the node of the one that runs; False if none does."""
        client = getattr(self._here, "client", None)
        if client is None:
            return False
        self.add(f"{client.name}, in the background", client.node, work)
        return True

    def point(self, name: str, ready: Callable[[], bool] | None = None) -> None:
        """Another operation may come between here; with ``ready`` it goes on when that holds."""
        client = getattr(self._here, "client", None)
        if client is None:
            return
        client.at = f"{name}!" if self._is_locked(client.node) else name
        client.ready = ready
        self._back.release()
        client.go.acquire()
        client.ready = None
        if client.killed:
            raise Crash

    def run(self) -> None:
        """Run all operations to their end."""
        last: Client | None = None
        threads: dict[Client, threading.Thread] = {}
        try:
            while True:
                client, kill = self._decide(last)
                if client is None:
                    break
                if kill:
                    self._kill(client.node, threads)
                    continue
                self.trace.append(f"{client.name} from {client.at}")
                self._resume(client, threads)
                last = client
        finally:
            self._end(self._clients, threads)
        for client in self._clients:
            if client.error is not None and not isinstance(client.error, Crash):
                raise client.error

    def _decide(self, last: Client | None) -> tuple[Client | None, bool]:
        """Who goes on, or whose node is killed."""
        waiting = [client for client in self._clients if not client.done]
        if not waiting:
            return None, False
        locked = {id(client.node) for client in waiting if self._stopped_in_a_lock(client)}
        able = [
            client
            for client in waiting
            if client.may_run()
            and (id(client.node) not in locked or self._stopped_in_a_lock(client))
        ]
        if not able:
            raise StuckError([f"{client.name} at {client.at}" for client in waiting])
        if last in able:
            able.remove(last)
            able.insert(0, last)
            if not self._switches:
                able = able[:1]
        choices = [(client, False) for client in able]
        if self._crashes:
            choices += [(client, True) for client in able if client.at != "start"]
        n = len(self.taken)
        chosen = self._decisions[n] if n < len(self._decisions) else 0
        self.taken.append((chosen, len(choices)))
        client, kill = choices[chosen]
        if kill:
            self._crashes -= 1
        elif last in able and client is not last:
            self._switches -= 1
        return client, kill

    def _stopped_in_a_lock(self, client: Client) -> bool:
        return client.at.endswith("!")

    def _kill(self, node: Any, threads: dict[Client, threading.Thread]) -> None:
        self.trace.append(f"{node} is killed")
        self._end([client for client in self._clients if client.node is node], threads)
        self._crash(node)

    def _end(self, clients: list[Client], threads: dict[Client, threading.Thread]) -> None:
        """Have them go no further: first those in a lock, which the others wait for."""
        for client in sorted(clients, key=self._stopped_in_a_lock, reverse=True):
            client.killed = True
            client.done |= client not in threads
            while not client.done:
                self._resume(client, threads)

    def _resume(self, client: Client, threads: dict[Client, threading.Thread]) -> None:
        """Let it run to its next point, or to its end."""
        if client not in threads:
            threads[client] = threading.Thread(target=self._work, args=(client,), daemon=True)
            threads[client].start()
        else:
            client.go.release()
        if not self._back.acquire(timeout=_PATIENCE):
            raise StuckError(f"{client.name} after {client.at}: " + "; ".join(self.trace))

    def _work(self, client: Client) -> None:
        self._here.client = client
        try:
            client.work()
        except BaseException as error:
            client.error = error
        client.done = True
        self._back.release()


def explore(
    make: Callable[[list[int]], Schedule], most: int = 1_000_000
) -> Iterator[tuple[Schedule, list[int]]]:
    """Schedules with every sequence of decisions, each to be run before the next is asked for."""
    decisions: list[int] = []
    for _ in range(most):
        schedule = make(decisions)
        yield schedule, decisions
        taken = schedule.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        decisions = [chosen for chosen, _ in taken]
        decisions[-1] += 1
    raise AssertionError(f"there are more than {most} schedules")
