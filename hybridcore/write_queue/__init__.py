"""Write-behind: writes that wait for the origin, on disk or in memory, where reads see them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hybridcore.write_queue.base import Operation, WriteSink
from hybridcore.write_queue.in_memory import MemoryQueue

if TYPE_CHECKING:
    from hybridcore.write_queue.dead_letters import DeadLetter, DeadLetters
    from hybridcore.write_queue.delivery import Delivery, delivery_of
    from hybridcore.write_queue.durable import WriteQueue
    from hybridcore.write_queue.exits import exit_on_sigterm
    from hybridcore.write_queue.redelivery import Redelivery

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "MemoryQueue",
    "Operation",
    "Redelivery",
    "WriteQueue",
    "WriteSink",
    "delivery_of",
    "exit_on_sigterm",
]

_LAZY = {
    "DeadLetter": "dead_letters",
    "DeadLetters": "dead_letters",
    "Delivery": "delivery",
    "Redelivery": "redelivery",
    "WriteQueue": "durable",
    "delivery_of": "delivery",
    "exit_on_sigterm": "exits",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
