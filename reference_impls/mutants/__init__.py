"""Mutants: protocols with one rule broken, to measure what the harness can find.

A mutant is the smallest subclass of a protocol's core that breaks one rule. The module
`reference_impls.mutants.<protocol>` holds those of a protocol, in `MUTANTS`, by name.
`python -m reference_impls.runtime PROTOCOL --mutant NAME` runs one as a process,
`splitbrain run PROTOCOL --mutant NAME` puts one on trial, and `splitbrain bench
mutants` all of them. What each mutant declares is what it is tried with first; nothing
in the harness knows any mutant by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Mutant:
    """One deliberately broken core.

    Attributes:
        name: As given to `--mutant`: "vote-not-durable".
        core: Subclass of the protocol's core class; its docstring names the rule.
        rule: The rule it breaks, in one line.
        source: Where the rule stands: "Ongaro and Ousterhout 2014, 5.2".
        anomalies: What a checker should find, by the checkers' names: the breach itself
            where nodes can tell of it, and what it does to others. Any of them will do.
        workload: The workload that exposes it best.
        options: Options of the system to run it with.
        nemesis: Kinds of fault that expose it.
        limits: Options of these, "clock.drift": within what the protocol, unbroken,
            bears them.
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
