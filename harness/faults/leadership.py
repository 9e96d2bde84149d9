"""Guesses who leads if no node says so: by logs, or by who answers changes soonest.

A foreign system need not tell who leads (`status`, WIRE.md). Its nodes' logs may show
it: the user gives a pattern, and the last line that matches names the leader.

The times of clients' operations show it, too. In most systems that have a leader,
changes go through it: other nodes refuse them, or pass them on and answer later. If all
nodes answer alike, none leads, and any will do. But if a node has said that it leads
before, or if none has answered a change for a while though some were asked for, a
leader is about to be found, and it is better to wait for it.
"""

from __future__ import annotations

from collections import deque
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Final

from harness.faults.fault import Skip
from harness.systems.abilities import LogLed
from harness.worlds.events import Logged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from harness.history import Op
    from harness.worlds.logs import Found
    from harness.worlds.places import NodePlace

RECENT_NS: Final = 3_000_000_000
"""Answers older than this don't count: a node that led then may lead no more."""

ANSWERS_MIN: Final = 5
"""Answers that a node needs for its median to count."""

ANSWERS_MAX: Final = 50
"""Answers that are remembered for each node."""

SOONER: Final = 0.8
"""A node counts as the soonest if its median is below this part of the next one's."""


class Leadership:
    """Watches clients' operations, and guesses who leads.

    Args:
        nodes: The nodes' names.
        changes_nothing: Functions that every node may answer by itself.
        seed: Draws the node if the answers show no leader.
        logged: Gives the last line of a log that shows who leads, if any did.
        names: Texts in such lines -> the nodes that they mean.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        changes_nothing: Collection[str] = (),
        seed: int | str = 0,
        logged: Callable[[], Found | None] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._changes_nothing = changes_nothing
        self._logged = logged
        self._names = names or {}
        self._random = Random(f"leader {seed}")
        self._began_ns: dict[int | str, int] = {}
        self._answers: dict[str, deque[tuple[int, int]]] = {
            node: deque(maxlen=ANSWERS_MAX) for node in nodes
        }
        self._now_ns = 0
        self._asked_ns: int | None = None  # when a change was asked for last
        self._told = False  # whether a node has ever said that it leads

    def watch(self, op: Op) -> None:
        """Take note of an event of the history."""
        self._now_ns = op.time
        if op.type == "invoke":
            self._began_ns[op.process] = op.time
            if op.f not in self._changes_nothing:
                self._asked_ns = op.time
            return
        began_ns = self._began_ns.pop(op.process, None)
        if began_ns is None or op.type != "ok" or op.f in self._changes_nothing:
            return
        if op.node in self._answers:
            self._answers[op.node].append((op.time, op.time - began_ns))

    def told(self) -> None:
        """Take note that a node says that it leads: so this cluster has leaders."""
        self._told = True

    def guess(self, among: Sequence[str]) -> tuple[str, str]:
        """The node of `among` that may lead, and why, for the title of a fault.

        Raises:
            Skip: The cluster has leaders, or none of them has answered a change of
                those asked for lately; but nothing tells who leads now.
        """
        leader, why = self._by_log()
        if leader in among:
            return leader, why
        since_ns = self._now_ns - RECENT_NS
        took = {
            node: [ns for at_ns, ns in answers if at_ns >= since_ns]
            for node, answers in self._answers.items()
        }
        answering = [node for node in among if took[node]]
        if len(answering) == 1 and len(among) > 1:
            return answering[0], "the only one that answers changes"
        medians = {n: median(took[n]) for n in answering if len(took[n]) >= ANSWERS_MIN}
        soonest = sorted(medians, key=lambda node: medians[node])[:2]
        if len(soonest) == 2 and medians[soonest[0]] < SOONER * medians[soonest[1]]:
            return soonest[0], "answers changes soonest"
        if self._asked_ns is not None and self._asked_ns >= since_ns and not answering:
            raise Skip("no leader is known: no node says so, and none answers changes")
        if self._told or leader:
            raise Skip("no leader is known: no node says so now")
        return self._random.choice(among), "drawn, as no leader is known"

    def _by_log(self) -> tuple[str, str]:
        """The node that the last line about it names, and why; empty if none does."""
        line = self._logged() if self._logged else None
        if line is None:
            return "", ""
        if line.said is None:
            return line.node, "its log says that it leads"
        return self._names.get(line.said, ""), f"as the log of {line.node} says"


def leader_line(system: object) -> Logged | None:
    """The line of a log that shows who leads, for a system that has such a line."""
    if isinstance(system, LogLed) and system.leader_pattern:
        return Logged(system.leader_pattern)
    return None


def names_of(places: Mapping[str, NodePlace]) -> dict[str, str]:
    """What logs may call nodes -> the node: its name, its address, its host.

    A host that several nodes share names none of them.
    """
    out = {name: name for name in places}
    hosts = [place.listen.host for place in places.values()]
    for name, place in places.items():
        out[str(place.listen)] = name
        if hosts.count(place.listen.host) == 1:
            out[place.listen.host] = name
    return out
