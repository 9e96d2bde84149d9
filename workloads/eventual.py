"""The option of workloads whose nodes are eventually consistent: how long that takes.

Such nodes may answer from what they know, and agree once they had time to tell each
other. So their final reads come a while after all faults were healed
(`harness.workload.Settling`).
"""

from __future__ import annotations

from harness.options import Whole
from harness.registry import Option

SETTLE = Option(
    "settle_s",
    "5",
    "seconds from the last fault to the final reads",
    Whole(0, 300),
)
