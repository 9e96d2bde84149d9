"""The few operations that clients ask for while a protocol is explored.

Random operations, as the workloads draw them, would spread over many keys and find
little in so few. These are the shortest that put each promise at stake: writes of
different values to one register with reads after each; two values for one instance;
a transaction over all shards, and one that a shard must refuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import registry
from harness.errors import UsageError
from harness.history import Op
from harness.options import shown
from harness.systems import services

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.system import System
    from harness.workload import Workload
    from harness.workload.interface import WorkloadFactory

SPREAD = ("k0", "k1", "k2")
"""Keys that the reference protocols spread over all of two or three nodes."""

SCRIPTS: Mapping[str, Sequence[tuple[str, object, object]]] = {
    "consensus": (
        ("propose", 1, 0),
        ("propose", 2, 0),
        ("learn", None, 0),
        ("propose", 3, 0),
    ),
    "commit": (
        ("txn", {"id": "t1", "txn": [["w", key, 1] for key in SPREAD]}, None),
        ("txn", {"id": "t2", "txn": [["w", "k0", 2], ["add", "k3", -1]]}, None),
        ("txn", {"id": "t3", "txn": [["w", key, 3] for key in SPREAD]}, None),
    ),
    "register": (
        ("write", 1, 0),
        ("read", None, 0),
        ("write", 2, 0),
        ("read", None, 0),
        ("write", 3, 0),
        ("read", None, 0),
    ),
    "broadcast": (
        ("broadcast", 1, None),
        ("broadcast", 2, None),
        ("broadcast", 3, None),
    ),
}
"""Workload -> function, value and key of each of its operations, in their order.

Each is of a client of its own, so that none waits for another.
"""


class Script:
    """Operations, as clients ask for them, and the workload that judges their answers.

    Attributes:
        workload: Whose operations they are.
        ops: Their invocations, each of a process of its own.
        requests: Their bodies on the wire, with `msg_id`.
    """

    def __init__(self, workload: Workload, count: int) -> None:
        known = SCRIPTS[workload.name]
        if count > len(known):
            raise UsageError(
                f"--ops {count}: the script of {workload.name} has {len(known)} "
                "operations"
            )
        self.workload = workload
        self.ops = [
            Op(-1, -1, process, "invoke", f, value, key)
            for process, (f, value, key) in enumerate(known[:count])
        ]
        self.requests = [{**workload.codec.request(op), "msg_id": 1} for op in self.ops]


def script(system: System, asked: str, given: Mapping[str, str], count: int) -> Script:
    """The first `count` operations of a workload that the system serves.

    Args:
        system: Who is asked.
        asked: The workload's name; "" for the first with a script.
        given: Options of the workload.
        count: How many operations; may be 0.

    Raises:
        UsageError: The system doesn't serve it, it has no script, or its script is
            shorter.
    """
    served = [name for name in SCRIPTS if name in services.served(system)]
    name = asked or next(iter(served), "")
    if name not in SCRIPTS:
        raise UsageError(
            f"there is no script for workload {shown(name)}, as exhaustive exploration "
            f"needs one (there are: {', '.join(SCRIPTS)})"
            if asked
            else f"{system.name} serves no workload that has a script for exhaustive "
            f"exploration (there are: {', '.join(SCRIPTS)})"
        )
    factory: WorkloadFactory = registry.find("workload", name).factory
    workload = factory(given)
    services.check(system, workload)
    return Script(workload, count)
