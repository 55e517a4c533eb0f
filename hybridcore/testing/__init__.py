"""What tests of an application that caches need: origins that fail, slow down and lie on demand."""

from hybridcore.testing.clock import SimulatedClock
from hybridcore.testing.faulty import Fault, FaultyOrigin

__all__ = ["Fault", "FaultyOrigin", "SimulatedClock"]
