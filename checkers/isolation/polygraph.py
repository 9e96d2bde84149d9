"""Orders of writes that nothing tells directly, found by what they would lead to.

Of two transactions that write one key, one comes first, and every reader of the first
one's version comes before the second. A history is serializable just when all these
choices can be made so that no cycle arises (Papadimitriou 1979), and satisfies snapshot
isolation when none arises without adjacent rw edges (Cerone and Gotsman 2016). Deciding
that is NP-complete. "Cobra" (Tan et al. 2020) and "PolySI" (Huang et al. 2023) hand it
to a solver after pruning: a choice that closes a cycle with what is known is out, so
that the other one becomes known, and may rule out more.

Here there is pruning, which finds contradictions in polynomial time, and then guessing:
the half of the choices about which a likely order of all transactions is clearest are
made by that order, what that rules out is pruned, and so on. If nothing is left and
there is no cycle, the history is proved right. If a guess leads to a contradiction,
nothing is proved and the choices are reported as open; there is no going back.

Reachability is held in integers with a bit for each vertex. For snapshot isolation
there are two copies of each vertex, the second one for arriving by a rw edge, which
must not be followed by another.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from checkers.isolation.components import components
from checkers.isolation.cycles import CycleSearch
from checkers.isolation.findings import Finding, Reason, explain_step, show, tell
from checkers.isolation.graph import Graph, Kind, edges_of, join
from checkers.isolation.transactions import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from checkers.isolation.cycles import Cycle, Step
    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.registers import Registers

COPIES_MAX = 24_000
"""Vertices, copies counted, above which reachability would take too much memory (72 MB
at this number). Then one guess is all that is tried."""


class Choice(NamedTuple):
    """Two versions of a key of which nobody said which is the first."""

    a: int
    b: int


@dataclass
class Settlement:
    """What became of the choices.

    Attributes:
        contradiction: Why no way of choosing is right, if that was found.
        open: Choices that nothing forces.
        is_proved: Whether some way of choosing is right.
    """

    contradiction: Finding | None = None
    open: list[Choice] = field(default_factory=list)
    is_proved: bool = False


class Polygraph:
    """Known dependencies, and the choices that are open.

    Args:
        registers: The history.
        graph: Its dependencies, with the orders that count. It has no forbidden cycle.
        name: What a contradiction is called.
        serial: Whether adjacent rw edges are part of a forbidden cycle: true for
            serializability, false for snapshot isolation.
        pause: Called now and then; may raise.
    """

    def __init__(
        self,
        registers: Registers,
        graph: Graph,
        name: str,
        *,
        serial: bool,
        pause: Callable[[], None],
    ) -> None:
        self.registers = registers
        self.graph = graph
        self.name = name
        self.serial = serial
        self.pause = pause
        self.size = len(graph.potential)
        self._copies = self.size if serial else 2 * self.size
        self.edges = graph.edges
        self.readers: dict[int, list[int]] = defaultdict(list)
        for read in registers.reads:
            if not read.again:
                self.readers[read.version].append(read.row)
        self.versions = self._versions()
        self._masks = {v: self._mask(v) for vs in self.versions.values() for v in vs}

    def settle(self) -> Settlement:
        """Prune, then guess. Cost: vertices times edges / 64, some ten times."""
        if not self._is_right(self.edges):
            return Settlement()
        choices = [
            Choice(a, b)
            for versions in self.versions.values()
            for a, b in itertools.combinations(versions, 2)
        ]
        if self._copies > COPIES_MAX:
            return Settlement(None, choices, self._is_right(self._guess()))
        contradiction, choices = self._prune(choices)
        if contradiction is not None:
            return Settlement(contradiction)
        left = choices
        while left:
            if self._is_right(self._guess()):
                return Settlement(None, choices, is_proved=True)
            self._assume(left)
            wrong, left = self._prune(left)
            if wrong is not None:
                return Settlement(None, choices)
        return Settlement(None, choices, is_proved=True)

    def _versions(self) -> dict[Hashable, list[int]]:
        """Key -> the final versions that committed transactions wrote, if several."""
        registers = self.registers
        happened = {registers.writer[read.version] for read in registers.reads}
        versions: dict[Hashable, list[int]] = defaultdict(list)
        for row, writes in enumerate(registers.writes):
            if registers.transactions.outcome[row] == Outcome.OK or row in happened:
                for key, version in writes.items():
                    if registers.writer[version] == row:
                        versions[key].append(version)
        return {key: found for key, found in versions.items() if len(found) > 1}

    # Pruning

    def _prune(self, choices: list[Choice]) -> tuple[Finding | None, list[Choice]]:
        """Make the choices that only one way is left for, until there is none.

        Returns a contradiction, if that leads to one, and the choices still open.
        """
        while True:
            self.pause()
            reach = self._reach()
            if reach is None:
                return self._cycle(), choices
            forced: list[Choice] = []
            left: list[Choice] = []
            for choice in choices:
                reverse = Choice(choice.b, choice.a)
                is_out = self._closes_cycle(reach, *choice)
                is_reverse_out = self._closes_cycle(reach, *reverse)
                if is_out and is_reverse_out:
                    return self._dilemma(choice), choices
                if is_out or is_reverse_out:
                    forced.append(reverse if is_out else choice)
                else:
                    left.append(choice)
            if not forced:
                return None, left
            choices = left
            self.edges = self._with(forced)

    def _mask(self, version: int) -> tuple[int, int]:
        """Vertices that must not be reached from the writer of a later version.

        First as it is, then after arriving at it by rw, as a reader's successor.
        """
        writer = 1 << self.registers.writer[version]
        readers = 0
        for row in self.readers[version]:
            readers |= 1 << row
        if self.serial:
            return writer | readers, 0
        return writer | writer << self.size, readers

    def _closes_cycle(self, reach: list[int], earlier: int, later: int) -> bool:
        """Whether this order of two versions would close a cycle."""
        row = self.registers.writer[later]
        itself = ~(1 << row)
        plain, by_rw = self._masks[earlier]
        if self.serial:
            return bool(reach[row] & plain & itself)
        return bool(reach[row] & plain or reach[row + self.size] & by_rw & itself)

    def _with(self, orders: list[Choice]) -> Edges:
        """All edges, with those that these orders bring with them."""
        writer = self.registers.writer
        ww, rw = [], []
        for order in orders:
            via = self.registers.before.note(*order)
            later = writer[order.b]
            ww.append((writer[order.a], later, via))
            rw += [(reader, later, via) for reader in self.readers[order.a]]
        return join(
            self.edges,
            edges_of(Kind.WW, *np.array(ww, np.int64).reshape(-1, 3).T),
            edges_of(Kind.RW, *np.array(rw, np.int64).reshape(-1, 3).T),
        )

    def _doubled(self, edges: Edges) -> tuple[Column, Column]:
        """Sources and targets of the edges between copies of vertices."""
        if self.serial:
            return edges.source, edges.target
        is_rw = edges.kind == Kind.RW
        source = np.concatenate([edges.source, edges.source[~is_rw] + self.size])
        target = np.concatenate(
            [edges.target + self.size * is_rw, edges.target[~is_rw]]
        )
        return source, target

    def _successors(self) -> tuple[list[list[int]], list[int]]:
        """Copy -> what follows it; and how many there are before each."""
        after: list[list[int]] = [[] for _ in range(self._copies)]
        missing = [0] * self._copies
        sources, targets = self._doubled(self.edges)
        for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
            after[source].append(target)
            missing[target] += 1
        return after, missing

    def _reach(self) -> list[int] | None:
        """Vertex -> all that it reaches, itself included; None if there is a cycle."""
        count = self._copies
        after, missing = self._successors()
        ready = [vertex for vertex in range(count) if not missing[vertex]]
        for vertex in ready:  # grows while it is walked
            for target in after[vertex]:
                missing[target] -= 1
                if not missing[target]:
                    ready.append(target)
        if len(ready) < count:
            return None
        reach = [0] * count
        for vertex in reversed(ready):
            reached = 1 << vertex
            for target in after[vertex]:
                reached |= reach[target]
            reach[vertex] = reached
        return reach

    # Guessing

    def _places(self) -> list[int]:
        """A likely order that no known edge contradicts: the place of each vertex.

        Of the vertices at hand, always the one that began first; where nobody knows
        when, the one with the fewest before it in its session.
        """
        after, missing = self._successors()
        when = self._beginnings()
        heap = [(when[v % self.size], v) for v, n in enumerate(missing) if not n]
        heapq.heapify(heap)
        place = [0] * self._copies
        for clock in range(self._copies):
            _, vertex = heapq.heappop(heap)
            place[vertex] = clock
            for target in after[vertex]:
                missing[target] -= 1
                if not missing[target]:
                    heapq.heappush(heap, (when[target % self.size], target))
        return place

    def _beginnings(self) -> list[int]:
        rows = self.registers.transactions
        if rows.has_realtime:
            potential: list[int] = self.graph.potential.tolist()
            return potential
        lengths: Counter[int] = Counter()
        out = []
        for process in rows.process:
            lengths[process] += 1
            out.append(lengths[process])
        return out

    def _guess(self) -> Edges:
        """All edges, if the writers of each key come in the likely order."""
        place, writer = self._places(), self.registers.writer
        return self._with(
            [
                Choice(*pair)
                for versions in self.versions.values()
                for pair in itertools.pairwise(
                    sorted(versions, key=lambda version: place[writer[version]])
                )
            ]
        )

    def _assume(self, choices: list[Choice]) -> None:
        """Make the half of the choices whose writers are farthest apart."""
        place, writer = self._places(), self.registers.writer
        apart = {c: place[writer[c.b]] - place[writer[c.a]] for c in choices}
        clearest = sorted(choices, key=lambda c: -abs(apart[c]))
        self.edges = self._with(
            [
                choice if apart[choice] > 0 else Choice(choice.b, choice.a)
                for choice in clearest[: len(choices) // 2 + 1]
            ]
        )

    def _is_right(self, edges: Edges) -> bool:
        """Whether edges have no forbidden cycle."""
        potential = np.tile(self.graph.potential, 1 if self.serial else 2)
        return not components(*self._doubled(edges), potential)

    # Telling

    def _cycle(self) -> Finding:
        """A cycle among what was known and what became known at once."""
        found = self._forbidden(self.edges)
        assert found is not None
        return tell(self.registers.transactions, self.name, self._reasons(found))

    def _dilemma(self, choice: Choice) -> Finding:
        """Neither order is possible: the cycle that each one closes."""
        registers = self.registers
        name = registers.transactions.name
        a, b = (name(registers.writer[version]) for version in choice)
        key = registers.key_of[choice.a]
        texts: list[str] = []
        reasons: list[Reason] = []
        for earlier, later in (choice, (choice.b, choice.a)):
            edges = self._with([Choice(earlier, later)])
            cycle = self._forbidden(edges)
            assert cycle is not None
            steps = self._reasons(cycle)
            reasons += steps
            first = name(registers.writer[earlier])
            told = tell(registers.transactions, self.name, steps).text
            texts.append(f"If {first} was the first: {told}")
        rows = dict.fromkeys(reason.source for reason in reasons)
        text = f"{a} and {b} both wrote key {show(key)}. " + " ".join(texts)
        return Finding(self.name, tuple(rows), text, key, reasons)

    def _forbidden(self, edges: Edges) -> Cycle | None:
        """A shortest forbidden cycle of those that a search comes upon."""
        graph = Graph(self.graph.transactions, self.graph.potential, edges)
        search = CycleSearch(graph, self.pause)
        search.run(2)
        cycles = [
            cycle
            for name, found in search.found.items()
            for cycle in found
            if self.serial or not name.startswith("G2")
        ]
        return min(cycles, key=lambda cycle: len(cycle.steps), default=None)

    def _reasons(self, cycle: Cycle) -> list[Reason]:
        return [self._reason(step) for step in cycle.steps]

    def _reason(self, step: Step) -> Reason:
        text = explain_step(self.registers.transactions, self.registers, step)
        return Reason(step.source, step.target, step.kind.name.lower(), text)


def describe(registers: Registers, choices: list[Choice]) -> str:
    """Which orders stay open, in a clause."""
    name = registers.transactions.name
    a, b = (name(registers.writer[version]) for version in choices[0])
    key = show(registers.key_of[choices[0].a])
    return (
        f"which of two writes came first stays open for {len(choices)} pairs, such as "
        f"those of {a} and {b} to key {key}"
    )
