"""Mutants: protocols with one rule broken, to measure what the harness can find.

A mutant is the smallest subclass of a protocol's core that breaks one rule, or of the
part of a core that holds the rule. The module
`reference_impls.mutants.<protocol>` holds those of a protocol, in `MUTANTS`, by name.
`python -m reference_impls.runtime PROTOCOL --mutant NAME` runs one as a process,
`splitbrain run PROTOCOL --mutant NAME` puts one on trial, and `splitbrain bench
mutants` all of them. Each is tried first with the workload, options and faults that it
declares; nothing in the harness knows any mutant by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from reference_impls.actor import Persist

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reference_impls.actor import Effect, Record
    from reference_impls.wal import WriteAheadLog


@dataclass(frozen=True)
class Mutant:
    """One deliberately broken core.

    Attributes:
        name: What `--mutant` takes, such as "vote-not-durable".
        core: Subclass of the protocol's core class; its docstring names the rule.
        rule: The rule it breaks, in one line.
        source: Where the rule stands: "Ongaro and Ousterhout 2014, 5.2".
        anomalies: What checkers should find, under the checkers' names: the breach
            itself if nodes observe it, and what follows from it. Any of them convicts.
        workload: The workload that exposes it best.
        options: Options of the system to run it with, and of the workload, such as
            "consensus.keys".
        nemesis: Kinds of fault that expose it.
        limits: Options of these faults, such as "clock.drift", that keep them within
            what the unbroken protocol bears, or aim them at where the rule matters.
        log: The class of its log, where that breaks the rule; None: the shipped one.
    """

    name: str
    core: type[Any]
    rule: str
    source: str
    anomalies: tuple[str, ...]
    workload: str
    options: Mapping[str, str] = field(default_factory=dict)
    nemesis: tuple[str, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    log: type[WriteAheadLog] | None = None


def power_amid(events: str = "") -> dict[str, str]:
    """Options of `disk` and `power` for what is told before it is durable.

    An fsync takes a millisecond, and the power must go within it. So disks are slow,
    and the power waits for one of `events` (names with commas), which a node observes
    when it tells too early. If there are none, it goes at all nodes at once, most of
    which are busy with their disks. Nothing is kept.
    """
    slow = {"disk.modes": "slow", "disk.targets": "all", "disk.delay_max_ms": "1000"}
    whom = {"power.events": events} if events else {"power.targets": "all"}
    return {**slow, "power.kept_max": "0", "power.moments": "any", **whom}


def told_first(
    effects: Sequence[Effect], is_late: Callable[[Record], bool]
) -> list[Effect]:
    """A step's effects, those records last that should have come before messages.

    They are written in the same turn, so a killed process loses nothing by it. But what
    they answer has left when the disk begins to make them durable.
    """
    late = [x for x in effects if isinstance(x, Persist) and is_late(x.record)]
    return [x for x in effects if x not in late] + late


def with_part(core: type[Any], part: type[Any]) -> type[Any]:
    """A core that has `part` in place of the one that `part` derives from.

    Args:
        core: A core with `parts`, a dataclass of the classes that it is composed of.
        part: A subclass of one of these.
    """
    made = vars(core.parts).items()
    names = [name for name, known in made if issubclass(part, known)]
    assert len(names) == 1, f"{part} derives from {names or 'no part'}"
    parts = replace(core.parts, **{names[0]: part})
    return type(part.__name__, (core,), {"parts": parts, "__doc__": part.__doc__})
