"""Final reads of workloads whose nodes are eventually consistent: they wait a while.

Such nodes may answer from what they know, and agree once they had time to tell each
other. So the final reads wait for a while after all faults were healed.
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
"""Longest wait. The final operations have ten seconds in all
(harness/run/controller.py), and the reads need some of them."""

SETTLE = Option(
    "settle_s",
    "5",
    "seconds from the last fault to the final reads",
    Whole(0, SETTLE_S_MAX),
)


def reads_when_settled(read: Invocation, settle_s: int, concurrency: int) -> Generator:
    """Final operations: wait `settle_s` seconds, then every thread reads its node."""
    reads = once_per_thread(lambda: [read], concurrency)
    return phases(sleep(settle_s), reads) if settle_s else reads
