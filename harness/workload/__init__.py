"""What clients do: workloads, and the generators that they are made of.

    interface.py  Workload, WireCodec: a kind of test, as a plug-in; Opening, Settling
                  and Patient: what some of them ask for beside
    generator/    what clients and the nemesis do next, composable and seeded

The workloads themselves are in the package `workloads`, one module each.
"""

from harness.workload.interface import (
    OP_TIMEOUT_S,
    Opening,
    Patient,
    Settling,
    WireCodec,
    Workload,
    WorkloadFactory,
    op_timeout_s,
)

__all__ = [
    "OP_TIMEOUT_S",
    "Opening",
    "Patient",
    "Settling",
    "WireCodec",
    "Workload",
    "WorkloadFactory",
    "op_timeout_s",
]
