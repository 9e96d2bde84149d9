"""What clients do: workloads, and the generators that they are made of.

    interface.py  Workload, WireCodec, Patient: a kind of test, as a plug-in
    generator/    what clients and the nemesis do next, composable and seeded

The workloads themselves are in the package `workloads`, one module each.
"""

from harness.workload.interface import (
    OP_TIMEOUT_S,
    Patient,
    WireCodec,
    Workload,
    WorkloadFactory,
    op_timeout_s,
)

__all__ = [
    "OP_TIMEOUT_S",
    "Patient",
    "WireCodec",
    "Workload",
    "WorkloadFactory",
    "op_timeout_s",
]
