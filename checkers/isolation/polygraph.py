"""Orders of writes that nothing tells directly, found by what they would lead to.

Of two transactions that write one key, one comes first, and every reader of the first
one's version comes before the second. A history is serializable just when all these
choices can be made so that no cycle arises (Papadimitriou 1979), and satisfies snapshot
isolation when none arises without adjacent rw edges (Cerone and Gotsman 2016). Deciding
that is NP-complete. "Cobra" (Tan et al. 2020) and "PolySI" (Huang et al. 2023) hand it
to a solver after pruning: a choice that closes a cycle with what is known is out, so
that the other one becomes known, and may rule out more.

This is the pruning, which is polynomial and finds nearly everything that databases get
wrong; `checkers.isolation.execution` settles the rest. Parallel and prefix consistency,
which are not defined by one sequence of events, are settled by trying choices.

Reachability is held in integers with a bit for each vertex. For snapshot isolation
there are two copies of each vertex, the second one for arriving by a rw edge, which
must not be followed by another. For parallel snapshot isolation (no cycle with a single
rw edge, Cerone and Gotsman 2016) a path stays among the second copies.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from checkers.isolation.components import components, order_of
from checkers.isolation.cycles import CycleSearch
from checkers.isolation.evidence import Dilemma, cyclic
from checkers.isolation.graph import STEP, Graph, Kind, assemble, edges_of, join
from checkers.isolation.models import LEVELS
from checkers.isolation.reasons import linked
from checkers.isolation.transactions import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from checkers.isolation.evidence import Cyclic, Evidence
    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.reasons import Explains, Link
    from checkers.isolation.transactions import Transactions

COPIES_MAX = 24_000
"""Most vertices, copies counted, for which reachability is computed: 72 MB."""


SETTLED_COPIES_MAX = 5_000
"""Most vertices, copies counted, for trying choices: it may prune a hundred times."""

TRIED_TIMES_COPIES_MAX = 200_000
"""Choices times vertices after which a search gives up, unless it is told not to."""


class Choice(NamedTuple):
    """Two versions of a key whose order is not known."""

    a: int
    b: int


class Question(NamedTuple):
    """What is to be settled: a family of models, at a level.

    Attributes:
        name: What a contradiction is called.
        serial: Whether adjacent rw edges are part of a forbidden cycle: true for
            serializability, false for snapshot isolation.
        level: Which orders count beside dependencies; see `models.LEVELS`.
        parallel: Whether only cycles with a single rw edge are forbidden: true for
            parallel snapshot isolation and for PL-2+.
        of_cursors: Whether only reads by transactions that also write the key count;
            see `checkers.isolation.unfolded`. What comes before such a write comes
            before the read, so cursor stability is defined by one sequence of events.
        prefix: Whether cycles are forbidden in which each rw edge comes right after a
            wr or process edge: true for prefix consistency.
    """

    name: str
    serial: bool
    level: int
    parallel: bool = False
    of_cursors: bool = False
    prefix: bool = False


def questions(anomalies: frozenset[str]) -> list[Question]:
    """The questions behind these anomalies, the strongest first."""
    found = [part for part in all_questions(anomalies) if not part.parallel]
    if "G-cursor" in anomalies:
        found.append(Question("G-cursor", serial=True, level=0, of_cursors=True))
    return found


def all_questions(anomalies: frozenset[str]) -> list[Question]:
    """The questions of lists, those included that forbid only a single rw edge.

    Cursor stability is not among them: any order of unread elements that nothing
    contradicts satisfies it.
    """
    return [
        Question(name + suffix, serial, level, parallel)
        for level, suffix in reversed(list(enumerate(LEVELS)))
        for name, serial, parallel in (
            ("G2-item", True, False),
            ("G-SI", False, False),
            ("G-single", False, True),
        )
        if name + suffix in anomalies
    ]


@dataclass(frozen=True)
class Writes:
    """What there is to choose from.

    Attributes:
        by_key: Key -> the final versions of committed transactions.
        writer: Version -> row of its writer.
        readers: Version -> rows of its readers; without those that nobody read.
        note: Makes a `via` for edges that rest on the order of two versions, the first
            of which comes first by elimination.
    """

    by_key: Mapping[Hashable, Sequence[int]]
    writer: Mapping[int, int] | Sequence[int]
    readers: Mapping[int, Sequence[int]]
    note: Callable[[int, int], int]

    def choices(self) -> list[Choice]:
        """All pairs of versions of a key by different transactions."""
        return [
            Choice(a, b)
            for versions in self.by_key.values()
            for a, b in itertools.combinations(versions, 2)
            if self.writer[a] != self.writer[b]
        ]


class Polygraph:
    """Known dependencies, and the choices that are open.

    Args:
        transactions: The history.
        inference: Explains dependencies.
        dependencies: The dependencies that count.
        writes: What there is to choose from.
        question: What is to be settled.
        pause: Called now and then; may raise.

    Attributes:
        graph: The dependencies, with the orders that count.
        edges: All edges known, those included that pruning found.
    """

    def __init__(
        self,
        transactions: Transactions,
        inference: Explains,
        dependencies: Edges,
        writes: Writes,
        question: Question,
        pause: Callable[[], None],
    ) -> None:
        self.transactions = transactions
        self.inference = inference
        self.writes = writes
        self.question = question
        self.pause = pause
        self.graph = assemble(transactions, dependencies, question.level)
        self.edges = self.graph.edges
        self.size = len(self.graph.potential)
        self._copies = self.size if question.serial else 2 * self.size
        self._allowed: tuple[str, ...] = () if question.serial else ("G2",)
        if question.parallel:
            self._allowed = ("G2", "G-nonadjacent")
        if question.prefix:
            self._allowed = ("G2", "G-nonadjacent", "G-single")

    @property
    def is_small(self) -> bool:
        """Whether there is memory enough for pruning."""
        return self._copies <= COPIES_MAX

    def may_be_settled(self, *, exhaustive: bool) -> bool:
        """Whether it is worth the time to try choices."""
        return self._copies <= (COPIES_MAX if exhaustive else SETTLED_COPIES_MAX)

    # Pruning

    def prune(self) -> tuple[Evidence | None, list[Choice]]:
        """Make all choices of which only one way is left, until each has two.

        If what is known has a forbidden cycle, there is nothing to choose. Cost:
        vertices times edges / 64, and that some ten times.

        Returns:
            A contradiction, None if there is none; the choices still open.
        """
        if not self.is_right():
            return None, []
        narrowed = self._narrow(self.writes.choices())
        if isinstance(narrowed, list):
            return None, narrowed
        return self._dilemma(narrowed) if narrowed else self._cycle(), []

    def _narrow(self, choices: list[Choice]) -> list[Choice] | Choice | None:
        """Make all choices of which only one way is left.

        Returns:
            The choices with two ways left; or a choice that has none; or None if a
            cycle was closed.
        """
        masks = {version: self._mask(version) for version in set(chain(*choices))}
        while True:
            self.pause()
            reach = self._reach()
            if reach is None:
                return None
            forced: list[Choice] = []
            left: list[Choice] = []
            for choice in choices:
                reverse = Choice(choice.b, choice.a)
                is_out = self._closes_cycle(reach, masks, choice)
                is_reverse_out = self._closes_cycle(reach, masks, reverse)
                if is_out and is_reverse_out:
                    return choice
                if is_out or is_reverse_out:
                    forced.append(reverse if is_out else choice)
                else:
                    left.append(choice)
            choices = left
            news = [order for order in forced if not self._is_known(reach, order)]
            if not news:
                return choices
            self.edges = self._with(news)

    def settle(self, *, exhaustive: bool) -> tuple[Evidence | None, list[Choice]]:
        """Make all choices, and take back wrong ones, until there is no cycle.

        Exponential; gives up after some choices unless it is `exhaustive`.

        Returns:
            A contradiction, if there is no way to make them; the choices that stay
            open, if it gave up. Both are empty if all could be made.
        """
        finding, choices = self.prune()
        if finding or not choices:
            return finding, []
        known, root = self.edges, choices
        tried = 0
        made: list[tuple[Edges, list[Choice], int]] = []
        while choices:
            orders, size = self._guess(choices), len(choices)
            before = self.edges
            while True:
                tried += 1
                if tried * self._copies > TRIED_TIMES_COPIES_MAX and not exhaustive:
                    return None, root
                # Try all at once, then a half of them, and so on. If not even the first
                # one can be made, it is the other way round.
                some, rest = orders[:size], orders[size:]
                if not size:
                    some, rest = [Choice(orders[0].b, orders[0].a)], orders[1:]
                self.edges = self._with(some)
                narrowed = self._narrow(rest)
                if isinstance(narrowed, list):
                    choices = narrowed
                    if size:
                        made.append((before, orders, size))
                    break
                if not size:
                    if not made:
                        self.edges = known
                        return self._dilemma(root[0]), []
                    before, orders, size = made.pop()
                self.edges = before
                size //= 2
        return None, []

    def _guess(self, choices: list[Choice]) -> list[Choice]:
        """Orders for all choices as time suggests them, the surest first."""
        rows = self.transactions
        start, end = np.asarray(rows.start), np.asarray(rows.end)
        end = np.where(end == NEVER, start, end)
        guess = self.graph.potential.copy()
        guess[: len(rows)] = (start + end) // 2 * STEP
        plain = self.edges.where(self.edges.kind != Kind.RW)
        place = order_of(plain.source, plain.target, guess)
        assert place is not None
        writer = self.writes.writer

        def later(choice: Choice) -> int:
            return int(place[writer[choice.b]] - place[writer[choice.a]])

        made = [c if later(c) > 0 else Choice(c.b, c.a) for c in choices]
        return sorted(made, key=later, reverse=True)

    def _is_known(self, reach: list[int], order: Choice) -> bool:
        """Whether all edges that an order brings with it follow from known ones."""
        if self.question.prefix:
            return False  # even if they did, they would lead to other copies
        later = self.writes.writer[order.b]
        own = 1 << later
        by_rw = own if self.question.serial else own | own << self.size
        return bool(reach[self.writes.writer[order.a]] & own) and all(
            reach[reader] & by_rw for reader in self._readers(order.a)
        )

    def _mask(self, version: int) -> tuple[int, int]:
        """Vertices that must not be reached from the writer of a later version.

        Returns:
            Those not to be reached in any way, and those not to be reached once a rw
            edge has led to that writer.
        """
        writer = 1 << self.writes.writer[version]
        readers = 0
        for row in self._readers(version):
            readers |= 1 << row
        if self.question.serial:
            return writer | readers, 0
        if self.question.parallel or self.question.prefix:
            return writer | writer << self.size | readers, 0
        return writer | writer << self.size, readers

    def _closes_cycle(
        self, reach: list[int], masks: Mapping[int, tuple[int, int]], order: Choice
    ) -> bool:
        """Whether this order of two versions would close a cycle."""
        row = self.writes.writer[order.b]
        itself = ~(1 << row)
        plain, by_rw = masks[order.a]
        if self.question.prefix:
            return bool(reach[row + self.size] & plain & itself)
        if self.question.serial or self.question.parallel:
            return bool(reach[row] & plain & itself)
        return bool(reach[row] & plain or reach[row + self.size] & by_rw & itself)

    def _readers(self, version: int) -> Sequence[int]:
        return self.writes.readers.get(version, ())

    def _with(self, orders: Sequence[Choice]) -> Edges:
        """All edges, and those that these orders bring with them."""
        writer = self.writes.writer
        ww, rw = [], []
        for order in orders:
            via = self.writes.note(*order)
            later = writer[order.b]
            ww.append((writer[order.a], later, via))
            rw += [(reader, later, via) for reader in self._readers(order.a)]
        return join(
            self.edges,
            edges_of(Kind.WW, *np.array(ww, np.int64).reshape(-1, 3).T),
            edges_of(Kind.RW, *np.array(rw, np.int64).reshape(-1, 3).T),
        )

    def _doubled(self, edges: Edges) -> tuple[Column, Column]:
        """Sources and targets of the edges between copies of vertices."""
        if self.question.serial:
            return edges.source, edges.target
        is_rw = edges.kind == Kind.RW
        source = np.concatenate([edges.source, edges.source[~is_rw] + self.size])
        # A path arrives at the second copy, out of which no rw edge leads, by these.
        blocks = is_rw | (edges.kind == Kind.WW) if self.question.prefix else is_rw
        stays = np.ones_like(is_rw) if self.question.parallel else blocks
        target = np.concatenate(
            [
                edges.target + self.size * blocks,
                (edges.target + self.size * stays)[~is_rw],
            ]
        )
        return source, target

    def _reach(self) -> list[int] | None:
        """Vertex -> all that it reaches, itself included; None if there is a cycle."""
        count = self._copies
        after: list[list[int]] = [[] for _ in range(count)]
        missing = [0] * count
        sources, targets = self._doubled(self.edges)
        for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
            after[source].append(target)
            missing[target] += 1
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
        if self.question.parallel and any(
            reach[vertex] >> vertex + self.size & 1 for vertex in range(self.size)
        ):
            return None
        return reach

    def is_right(self) -> bool:
        """Whether what is known has no forbidden cycle."""
        if self.question.parallel:
            return self._reach() is not None
        potential = np.tile(self.graph.potential, 1 if self.question.serial else 2)
        return not components(*self._doubled(self.edges), potential)

    # What is wrong

    def _cycle(self) -> Cyclic:
        """A cycle among what was known and what became known at once."""
        return cyclic(self.question.name, self._forbidden(self.edges))

    def contradiction(
        self, implied: Sequence[tuple[int, int]], dilemma: tuple[int, int]
    ) -> Evidence:
        """Why there is no execution; see `Execution`, whose terms these are."""
        pairs = [self._versions(*rows) for rows in implied]
        self.edges = self._with([choice for choice in pairs if choice is not None])
        if not self.is_right():
            return self._cycle()
        choice = self._versions(*dilemma)
        assert choice is not None
        return self._dilemma(choice)

    def _versions(self, first: int, second: int) -> Choice | None:
        """Versions of one key by these two writers."""
        for versions in self.writes.by_key.values():
            mine = {self.writes.writer[version]: version for version in versions}
            if first in mine and second in mine:
                return Choice(mine[first], mine[second])
        return None

    def _dilemma(self, choice: Choice) -> Dilemma:
        """Neither order is possible: the cycle that each one closes."""
        a, b = (self.writes.writer[version] for version in choice)
        key = next(
            k for k, versions in self.writes.by_key.items() if choice.a in versions
        )
        one = self._forbidden(self._with([choice]))
        other = self._forbidden(self._with([Choice(choice.b, choice.a)]))
        rows = tuple(dict.fromkeys(link.source for link in (*one, *other)))
        cycles = tuple(one), tuple(other)
        return Dilemma(self.question.name, rows or (a, b), key, (a, b), cycles)

    def _forbidden(self, edges: Edges) -> list[Link]:
        """A short forbidden cycle; nothing if there is none."""
        graph = Graph(self.graph.transactions, self.graph.potential, edges)
        search = CycleSearch(graph, self.pause)
        search.run(2)
        if self.question.prefix:
            search.run_prefix()
        cycles = [
            cycle
            for name, found in search.found.items()
            for cycle in found
            if not name.startswith(self._allowed)
        ]
        if not cycles:
            return []
        shortest = min(cycles, key=lambda cycle: len(cycle.steps))
        return linked(self.inference, shortest.steps)
