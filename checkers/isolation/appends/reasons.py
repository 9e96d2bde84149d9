"""What the dependencies of lists are about: keys, elements, and what was chosen."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from checkers.isolation.appends.lists import NOBODYS
from checkers.isolation.evidence import ListsDiffer
from checkers.isolation.graph import Kind
from checkers.isolation.reasons import AppendedAfter, Missed, Observed
from checkers.isolation.transactions import Copy, Outcome
from checkers.isolation.unfolded import Script

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from checkers.isolation.appends.lists import Key
    from checkers.isolation.appends.versions import Versions
    from checkers.isolation.evidence import Evidence
    from checkers.isolation.reasons import Why
    from checkers.isolation.transactions import MicroOps, Transactions
    from checkers.isolation.unfolded import About
    from checkers.isolation.walks import Cycle, Step
    from checkers.isolation.writers import Assignment, Group

_CERTAIN = frozenset({"duplicate-elements", "garbage-read"})
"""Anomalies that don't depend on the writers chosen for repeated elements."""

_OF_THEIR_ROWS = frozenset(
    {"G1a", "G1b", "future-read", "incompatible-order", "internal", "lost-append"}
)
"""Anomalies that depend on the writers of elements which their rows appended."""

_OF_THEIR_KEY = frozenset({"dirty-update", "lost-update"})
"""Anomalies that depend on the writers of all repeated elements of their key."""


class Reasons:
    """What each edge says, by its `via`, the number of a version.

    Attributes:
        eliminated: Versions in an order that no list shows, but without which there
            would be a cycle.
    """

    def __init__(self, versions: Versions) -> None:
        self.versions = versions
        self.eliminated: set[int] = set()

    def why(self, source: int, kind: Kind, via: int) -> Why:
        """Why `source` comes before the other end of an edge."""
        key, element = self.versions.of(via)
        match kind:
            case Kind.WR:
                return Observed("append", element, key.name)
            case Kind.RW:
                return Missed("append", element, key.name)
            case _ if via in self.eliminated:
                return AppendedAfter(element, key.name, is_eliminated=True)
            case _:
                earlier = _append_of(source, key, element)
                return AppendedAfter(element, key.name, earlier)

    def about(self, kind: Kind, via: int) -> About:
        """The key of an edge, and the element that its target read or appended.

        For a rw edge it is the last element that its source read.
        """
        key, element = self.versions.of(via)
        if kind != Kind.RW:
            return key.name, element
        at = via - key.base if via < len(self.versions) else len(key.order)
        return key.name, _last_known(key, key.order[:at])

    def script(self, micro_ops: MicroOps) -> Script:
        """What a transaction did; a list stands for the last append known in it."""
        script = Script()
        for place, (f, name, value) in enumerate(micro_ops):
            if f == "append":
                script.writes[name, value] = place
            else:
                key = self.versions.lists.keys[name]
                script.read((name, _last_known(key, value or ())), place)
        return script

    def eliminate(self, version: int) -> int:
        """A number for a version whose order behind another one was eliminated."""
        via = self.versions.number(*self.versions.of(version))
        self.eliminated.add(via)
        return via


def _append_of(row: int, key: Key, successor: Hashable) -> Hashable:
    """The last append of `row` to the key before `successor`."""
    elements = list(itertools.takewhile(lambda e: e != successor, key.order))
    mine = (e for e in reversed(elements) if key.writer.get(e) == row)
    return next(mine, None)


def _last_known(key: Key, value: Sequence[Hashable]) -> Hashable:
    """The last element of a list that somebody is known to have appended."""
    return next((e for e in reversed(value) if e in key.writer), NOBODYS)


class Grounds:
    """What was chosen that anomalies rest on; see `checkers.isolation.writers`.

    Args:
        transactions: The history.
        versions: The version orders under the assignment.
        assignment: What was chosen.
    """

    def __init__(
        self, transactions: Transactions, versions: Versions, assignment: Assignment
    ) -> None:
        self.transactions = transactions
        self.versions = versions
        self.assignment = assignment

    def of(self, found: Evidence, cycle: Cycle | None) -> set[Group]:
        """The choices that an anomaly rests on, or more than these."""
        if found.name in _CERTAIN:
            return set()
        if cycle is not None:
            return set().union(*map(self._of_step, cycle.steps))
        if isinstance(found, ListsDiffer):
            return set()  # they differ, whoever wrote them
        groups = self.assignment.groups()
        if found.name in _OF_THEIR_ROWS:
            rows = set(found.rows)
            groups = [g for g in groups if self.assignment.rows_of(g) & rows]
        elif found.name not in _OF_THEIR_KEY:
            return set(groups)
        return {group for group in groups if group[0] == found.key}

    def _of_step(self, step: Step) -> set[Group]:
        """What one edge rests on.

        It rests on who appended its element, and the elements next to that which have
        no writer, up to the next that has one. If the outcome of one of its
        transactions is unknown, it also rests on whether something was read that this
        transaction appended.
        """
        if step.kind not in {Kind.WW, Kind.WR, Kind.RW}:
            return set()
        key, element = self.versions.of(step.via)
        is_placed = step.via < len(self.versions)
        at = step.via - key.base if is_placed else len(key.order)
        elements = [element]
        for e in reversed(key.order[:at]):
            elements.append(e)
            if e in key.writer:
                break
        elements += itertools.takewhile(
            lambda e: e not in key.writer, key.order[at + 1 :]
        )
        out = {(key.name, e.value) for e in elements if type(e) is Copy}
        for row in (step.source, step.target):
            if self.transactions.outcome[row] != Outcome.OK:
                out |= self.assignment.groups_of(row)
        return out
