"""Write-behind: writes that wait for the origin, where reads see them."""

from hybridcore.write_queue.base import Operation, WriteSink
from hybridcore.write_queue.in_memory import MemoryQueue

__all__ = ["MemoryQueue", "Operation", "WriteSink"]
