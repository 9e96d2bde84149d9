"""What workloads have in common whose nodes may answer from what they know.

Such nodes agree in the end, when they had time to tell each other. So the last reads
wait for a while after all faults were healed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.options import Whole
from harness.registry import Option
from harness.workload.generator import phases, sleep
from workloads.transactional import once_per_thread

if TYPE_CHECKING:
    from harness.workload.generator import Generator, Invocation

SETTLE_S_MAX = 8
"""Final operations have ten seconds (harness/run/controller.py), reads included."""

SETTLE = Option(
    "settle_s",
    "5",
    "seconds from the last fault to the final reads",
    Whole(0, SETTLE_S_MAX),
)


def reads_when_settled(read: Invocation, settle_s: int, concurrency: int) -> Generator:
    """Every thread reads, so every node is read, `settle_s` seconds from now."""
    reads = once_per_thread(lambda: [read], concurrency)
    return phases(sleep(settle_s), reads) if settle_s else reads
