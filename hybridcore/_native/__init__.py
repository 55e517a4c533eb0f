"""The compiled modules that run without the GIL. Python code imports their classes from here.

Those that need it switch it on in a free-threaded interpreter, so they are imported at use.
"""

try:
    from hybridcore._native.footprint import footprint_of
    from hybridcore._native.front import AsyncFront, Front
    from hybridcore._native.generation import Generation
    from hybridcore._native.locks import KeyLock
    from hybridcore._native.memory import MemoryStore
    from hybridcore._native.plain import MAX_DEPTH, is_plain, is_well_formed, new_struct
    from hybridcore._native.straight import MISSING, Flight, Straight, led_in_context
except ModuleNotFoundError as error:
    raise ImportError(
        f"hybridcore was imported from a source tree without its compiled modules ({error.name} is "
        "missing). Build and install it with: pip install -e ."
    ) from error

__all__ = [
    "MAX_DEPTH",
    "MISSING",
    "AsyncFront",
    "Flight",
    "Front",
    "Generation",
    "KeyLock",
    "MemoryStore",
    "Straight",
    "footprint_of",
    "is_plain",
    "is_well_formed",
    "led_in_context",
    "new_struct",
]
