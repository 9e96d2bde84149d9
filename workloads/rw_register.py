"""Transactions that write registers and read them: isolation of what most stores are.

Maelstrom's `txn-rw-register`, and Jepsen's `rw-register`. Every value is written once
to its register, so a read names the write that it saw. But reads don't show in which
order registers were written: that is inferred, or searched for. So this is a blunter
test than `list_append`, for stores that have no lists. A register is given up for a new
one after `writes_per_key` writes (`workloads.objects`).

Promise: strict serializability, or what `consistency` asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.rw_register import INITIAL
from harness.options import Whole
from harness.override import override
from harness.registry import Option, Plugin
from workloads.list_append import SHARED_OPTIONS, ListAppend
from workloads.transactional import COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.workload import WorkloadFactory

OPTIONS = (
    Option("keys", "6", "registers in use at a time", Whole(1, 1000)),
    Option(
        "writes_per_key", "30", "writes to a register before a new one follows", COUNT
    ),
    *SHARED_OPTIONS,
    INITIAL,
)


class RwRegister(ListAppend):
    """The workload that this module describes."""

    name = "rw_register"
    requires = frozenset({"txn-register"})
    options = OPTIONS
    change = "w"
    changes_option = "writes_per_key"
    judge = "rw-register"

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self._initial = options.get(INITIAL.name, INITIAL.default)

    @override
    def judged_by(self) -> dict[str, str]:
        return {**super().judged_by(), INITIAL.name: self._initial}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "rw_register",
    "transactions that write registers and read them; judged by their dependencies",
    RwRegister,
    OPTIONS,
)
