"""The checkers that judge a run: its workload's, and its system's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import registry
from harness.run.spec import AVAILABILITY, options_for
from harness.verdict import Checker, Unpromised

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.run.spec import TestSpec


def of_operations(spec: TestSpec) -> dict[str, Checker]:
    """The checkers of the workload, and those that the spec asks for besides.

    Raises:
        UsageError: There is no such checker or workload, or not with these options.
    """
    _, others = options_for(spec)
    workload = registry.find("workload", spec.workload).factory(others[spec.workload])
    checkers = dict(workload.checkers())
    if spec.availability is not None:
        factory = registry.find("checker", AVAILABILITY).factory
        given = {"minimum": str(spec.availability), **others[AVAILABILITY]}
        checkers[AVAILABILITY] = factory(given)
    for name in spec.also:
        if name == AVAILABILITY and spec.availability is not None:
            continue
        more = registry.find("checker", name).factory(others[name])
        checkers[f"{name}_also" if name in checkers else name] = Unpromised(more)
    return checkers


def of_observations(invariants: Iterable[str]) -> dict[str, Checker]:
    """The checkers of what nodes observed of themselves, by their names.

    Raises:
        UsageError: There is no such checker.
    """
    return {name: registry.find("checker", name).factory({}) for name in invariants}
