"""An exploration that was asked for: set up, carried out, and its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from harness.campaign.exhaustive.judging import Judge
from harness.campaign.exhaustive.scripts import SCRIPTS, script
from harness.campaign.exhaustive.search import (
    INTERRUPTED,
    MEMORY,
    STATES_MAX,
    Search,
)
from harness.campaign.exhaustive.space import Bounds, Space
from harness.campaign.exhaustive.telling import steps
from harness.errors import EXIT_INVALID, EXIT_UNKNOWN, EXIT_VALID, UsageError
from harness.run import assembling
from harness.run.spec import system_options
from harness.systems import mutants
from harness.systems.abilities import Explorable, Sized
from harness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.campaign.exhaustive.search import Found
    from harness.campaign.exhaustive.telling import Step
    from harness.data import Json

DEPTH_MAX = 1_000


@dataclass(frozen=True)
class Asked:
    """What is to be explored.

    Attributes:
        system: Its name.
        options: `--set` texts: the system's own, and with a dot those of the workload.
        mutant: The mutant in its place; "" for none. It brings its options.
        workload: Whose operations clients ask for; "" for the mutant's, or the first
            that the system serves and that has a script.
        nodes: How many.
        ops: How many operations.
        bounds: How much may happen on a way.
        depth: Most moves on a way; None: as many as the budget allows.
        budget_s: Seconds; None for no limit.
    """

    system: str
    options: Mapping[str, str] = field(default_factory=dict)
    mutant: str = ""
    workload: str = ""
    nodes: int = 3
    ops: int = 2
    bounds: Bounds = field(default_factory=Bounds)
    depth: int | None = None
    budget_s: float | None = None


@dataclass(frozen=True)
class Explored:
    """The result of an exploration.

    Attributes:
        asked: What was asked for.
        found: What the search came to.
        way: The steps to the breach; none without one.
        workload: Whose operations clients asked for.
        spoke: Checkers that had something to judge.
    """

    asked: Asked
    found: Found
    way: tuple[Step, ...]
    workload: str
    spoke: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why nothing is known; empty if something is."""
        found = self.found
        if found.breach is not None:
            return ""
        if found.cut == INTERRUPTED:
            return f"interrupted, with no violation up to depth {found.depth}"
        if found.cut and self.asked.depth is not None:
            more = f"more than {STATES_MAX:,} states were reached"
            why = more if found.cut == MEMORY else "the budget was used up"
            return (
                f"{why} beyond depth {found.depth}, up to which there is no violation, "
                f"and depth {self.asked.depth} was asked for"
            )
        if not self.spoke:
            return (
                f"up to depth {found.depth} nothing happened that a checker could "
                "judge: go deeper"
            )
        return ""

    @property
    def verdict(self) -> Verdict:
        """Invalid if a promise is broken; valid if none is, within the bounds."""
        if self.found.breach is not None:
            return Verdict.INVALID
        return Verdict.UNKNOWN if self.reason else Verdict.VALID

    @property
    def status(self) -> int:
        """The exit status."""
        match self.verdict:
            case Verdict.INVALID:
                return EXIT_INVALID
            case Verdict.UNKNOWN:
                return EXIT_UNKNOWN
            case Verdict.VALID:
                return EXIT_VALID

    @property
    def text(self) -> str:
        """The result for people."""
        found = self.found
        lines = []
        if found.breach is not None:
            lines += [f"{i:3}. {each.text}" for i, each in enumerate(self.way, 1)]
            lines += [
                "",
                f"{found.breach.anomaly} ({found.breach.checker})",
                found.breach.explanation,
                "",
                f"{self._name()}: a promise is broken after {found.depth} moves, and "
                "no fewer",
            ]
        elif self.reason:
            lines.append(f"{self._name()}: unknown: {self.reason}")
        elif found.complete:
            lines.append(
                f"{self._name()}: no violation; there is no more within these bounds, "
                f"whatever the depth: {found.states:,} states, the last at depth "
                f"{found.depth}"
            )
        else:
            lines.append(
                f"{self._name()}: no violation up to depth {found.depth}: "
                f"{found.states:,} states"
            )
        return "\n".join([*lines, *self._figures()])

    def _name(self) -> str:
        mutant = f", mutant {self.asked.mutant}" if self.asked.mutant else ""
        return f"{self.asked.system}{mutant}"

    def _figures(self) -> list[str]:
        found, asked, bounds = self.found, self.asked, self.asked.bounds
        rate = found.transitions / max(1e-9, found.seconds)
        timeouts = "any" if bounds.timeouts is None else str(bounds.timeouts)
        return [
            f"bounds: nodes {asked.nodes}, operations of {self.workload} {asked.ops}, "
            f"crashes {bounds.crashes}, copied messages {bounds.copies}, timeouts "
            f"{timeouts}; messages in any order, clocks at any rate",
            f"{found.states:,} states, {found.transitions:,} transitions "
            f"({rate:,.0f} a second), {found.steps:,} different steps of nodes, "
            f"{found.seconds:.1f} s",
            f"{found.judged:,} different histories, judged by "
            f"{', '.join(self.spoke) or 'no checker, as they hold nothing to judge'}",
        ]

    def as_json(self) -> dict[str, Json]:
        """The result as data."""
        found = self.found
        breach = found.breach
        return {
            "system": self.asked.system,
            "mutant": self.asked.mutant or None,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "workload": self.workload,
            "nodes": self.asked.nodes,
            "ops": self.asked.ops,
            "bounds": asdict(self.asked.bounds),
            "depth": found.depth,
            "complete": found.complete,
            "ended_by": found.cut or None,
            "states": found.states,
            "transitions": found.transitions,
            "steps": found.steps,
            "judged": found.judged,
            "judged_by": list(self.spoke),
            "seconds": round(found.seconds, 3),
            "breach": None
            if breach is None
            else {
                "checker": breach.checker,
                "anomaly": breach.anomaly,
                "explanation": breach.explanation,
            },
            "way": [
                {"node": each.node, "what": each.what, "then": list(each.then)}
                for each in self.way
            ],
        }


def prepare(asked: Asked) -> tuple[Space, Judge]:
    """The space to search, and who judges it.

    Raises:
        UsageError: It can't be explored; says why.
    """
    own = system_options(asked.options)
    name = asked.workload
    if asked.mutant:
        system = assembling.configure(asked.system, {})
        declared = mutants.find(system.name, asked.mutant)
        own = {**system_options(declared.options), **own}
        if not name and declared.workload in SCRIPTS:
            name = declared.workload
    system = assembling.configure(asked.system, own)
    if asked.mutant:
        assembling.mutate(system, asked.mutant)
    if not isinstance(system, Explorable):
        raise UsageError(
            f"{system.name} can't be explored exhaustively: that takes nodes that are "
            "sans-IO cores, as those of the reference protocols are"
        )
    if system.beyond_cores:
        raise UsageError(
            f"{system.name} can't be explored exhaustively like this: it rests on "
            f"{system.beyond_cores}, and only cores are explored; "
            "splitbrain run can try it"
        )
    nodes = tuple(f"n{number}" for number in range(1, asked.nodes + 1))
    if isinstance(system, Sized):
        system.check_nodes(nodes)
    said = script(system, name, workload_options(asked, name), asked.ops)
    space = Space(
        system, nodes, said, asked.bounds, interchangeable=system.interchangeable
    )
    return space, Judge(space, system.invariants)


def workload_options(asked: Asked, workload: str) -> dict[str, str]:
    """The options that `--set` gives to the workload.

    Raises:
        UsageError: One is for something else.
    """
    out = {}
    for key, text in asked.options.items():
        owner, dot, name = key.partition(".")
        if dot and owner != workload:
            raise UsageError(
                f"--set {key}: {owner!r} takes no part in this; for a workload's "
                "option, name it with --workload"
            )
        if dot:
            out[name] = text
    return out


def explore(
    asked: Asked, show: Callable[[int, int, float], None] = lambda *_: None
) -> Explored:
    """Explore, until a promise is broken, the depth is reached, or the budget used up.

    Args:
        asked: What.
        show: Told about the depth, the states and the seconds so far, now and then.

    Raises:
        UsageError: It can't be explored; says why.
    """
    space, judge = prepare(asked)
    depth = DEPTH_MAX if asked.depth is None else asked.depth
    found = Search(space, judge, depth, asked.budget_s, show).run()
    way = tuple(steps(space, found))
    spoke = tuple(sorted(judge.spoke))
    return Explored(asked, found, way, space.script.workload.name, spoke)
