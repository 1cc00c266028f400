"""A deterministic simulator of whole clusters: the product's code on a virtual machine park.

One seed decides everything: when messages come, what is lost, which disk operation is the last one
before the power goes. `simulate(seed)` runs one and raises `Violation` if a rule is broken.
"""

from __future__ import annotations

from tests.simulator.run import Report, Violation, simulate
from tests.simulator.shape import Options

__all__ = ["Options", "Report", "Violation", "simulate"]
