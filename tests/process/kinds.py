"""Every kind of fault there is, for those who draw among them."""

from __future__ import annotations

from typing import Final

from tests.process.damage_faults import DAMAGES
from tests.process.faults import FAULTS
from tests.process.member_faults import MEMBERSHIPS
from tests.process.partition_faults import PARTITIONS
from tests.process.scene import Fault
from tests.process.shim_faults import SHIM_FAULTS

ON_RIGS: Final[dict[str, Fault]] = {**PARTITIONS, **SHIM_FAULTS, **DAMAGES, **MEMBERSHIPS}
KINDS: Final[dict[str, Fault]] = {**FAULTS, **ON_RIGS}
