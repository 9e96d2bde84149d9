"""Who was what when: the roles and terms of nodes, from what they observed.

Nodes write their steps to `nodes/NAME/observe.jsonl` (`Observe`). From these steps come
spans in which a node had one role:

- Raft, Multi-Paxos and Zab: follower, candidate, leader, ..., with its term or epoch;
- Paxos: a proposer, from its first promise to itself to what was chosen, or until it
  promised a higher ballot;
- atomic commit: a coordinator, from the first vote to its decision; a participant, from
  its vote to its decision; in doubt, from when it noticed that it waits for a decision
  that others may have made. A node that is several of these is shown as the last.

A node that is down has no role. Times are those of the run, as `Recording.moment_ns`
corrects them; a node's own steps stay in their order. Nodes of others have observed
nothing, and have no spans.

Cost: 5 us an observation that tells a role, and 0.4 us any other.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from harness.host import nodefiles
from harness.report.events import SLACK_NS
from harness.report.folder import mapping
from harness.run.store import decode_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.report.folder import Recording

SPANS_MAX = 20_000
"""Spans drawn; if there are more, the longest of them."""

BECAME = {
    "became_follower": "follower",
    "became_pre_candidate": "pre-candidate",
    "became_candidate": "candidate",
    "became_leader": "leader",
    "lost_quorum": "follower",
    "new_epoch": "synchronizing",
    "synchronizing": "synchronizing",
    "gave_up": "looking",
}
"""Step -> what the node is from then on."""

PROPOSING = {"promised", "proposed", "chosen", "learned"}
COMMITTING = {"voted", "in_doubt", "resolved", "precommitting", "decided"}
ROLES_OF_COMMIT = ("in doubt", "coordinator", "participant")
"""From the one that is shown before all others."""

_RARE = re.compile(rb'"kind": ?"(?!appended"|committed"|applied"|delivered"|accepted")')
_FIRST = b'\n{"seq":0,'

DOWN = "down"
"""The step that is added where a node was killed or exited."""

KILLED = ("killed", "lost")
"""Evidence of faults with the nodes that they killed."""

EXITED = {"kept-down", "node-ended", "node-exit"}
"""Kinds of notes that tell that a node has exited."""


class Span(NamedTuple):
    """A node's role for a while; `end_ns` is None if it had it to the end."""

    node: str
    start_ns: int
    end_ns: int | None
    role: str
    term: int | None


class Observation(msgspec.Struct):
    """The part of a line of observe.jsonl that roles depend on."""

    kind: str
    mono_ns: int = 0
    seq: int = -1
    term: Any = None
    epoch: Any = None
    accepted_epoch: Any = None
    ballot: Any = None
    undecided: Any = None
    id: Any = None
    key: Any = None
    by: Any = None
    role: Any = None
    coordinator: Any = None


class Step(NamedTuple):
    """An observation at its place in the run."""

    time_ns: int
    node: str
    kind: str
    told: Observation


def columns(folder: Recording) -> list[dict[str, Any]]:
    """The spans as the page has them, in us; by node, each in order of time."""
    return [
        {
            "node": span.node,
            "t": span.start_ns // 1000,
            "to": None if span.end_ns is None else span.end_ns // 1000,
            "role": span.role,
            "term": span.term,
        }
        for span in spans(folder)
    ]


def spans(folder: Recording) -> list[Span]:
    """The spans of all nodes, by node; none if the start of the run isn't known."""
    steps = sorted(_steps(folder), key=lambda step: step.time_ns)
    coordinators = _coordinators(steps)
    lanes = {node: _Lane(node) for node in folder.node_folders}
    for step in steps:
        lanes[step.node].take(step)
        if step.kind == "voted":
            name = repr(step.told.id)
            coordinator = lanes.get(coordinators.get(name, ""))
            if coordinator is not None:
                coordinator.coordinate(name, step.time_ns)
    found = [span for lane in lanes.values() for span in lane.finished()]
    if len(found) > SPANS_MAX:
        found.sort(key=_lasted_ns, reverse=True)
        del found[SPANS_MAX:]
    order = {node: position for position, node in enumerate(lanes)}
    return sorted(found, key=lambda span: (order[span.node], span.start_ns))


def _lasted_ns(span: Span) -> float:
    return float("inf") if span.end_ns is None else span.end_ns - span.start_ns


# From files to steps


def _steps(folder: Recording) -> Iterator[Step]:
    """The steps of all nodes, each node's in their order, and when it went down."""
    moments = _moments_of_death(folder)
    for node, place in folder.node_folders.items():
        try:
            data = nodefiles.content(place / "observe.jsonl")
        except FileNotFoundError:
            continue
        except OSError as problem:
            folder.problems.append(f"nodes/{node}/observe.jsonl: {problem.strerror}.")
            continue
        last_ns, last_seq = 0, -1
        for told in decode_lines(telling(data), Observation).items:
            moment_ns = folder.moment_ns(node, told.mono_ns)
            if moment_ns is None:
                return
            moment_ns = max(last_ns, moment_ns)
            if 0 <= told.seq <= last_seq:
                died_ns = _died_between(moments[node], last_ns, moment_ns)
                at_ns = moment_ns if died_ns is None else died_ns
                yield Step(at_ns, node, DOWN, Observation(DOWN))
            last_ns, last_seq = moment_ns, told.seq
            yield Step(moment_ns, node, told.kind, told)
        died_ns = _died_between(moments[node], last_ns, math.inf)
        if died_ns is not None:
            yield Step(died_ns, node, DOWN, Observation(DOWN))


def telling(data: bytes) -> bytes:
    """The lines of an observe.jsonl that tell a role, and each life's first and last.

    Replicas append and commit a thousand times for each step that is of interest here.
    """
    kept: dict[int, int] = {}  # start of a line -> its end

    def keep(at: int) -> int:
        start = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at) + 1 or len(data)
        kept[start] = end
        return end

    done = 0
    for found in _RARE.finditer(data):
        if found.start() >= done:
            done = keep(found.start())
    first = data.find(_FIRST)
    while first >= 0:
        keep(first)  # the newline: this is the line before
        keep(first + 1)
        first = data.find(_FIRST, first + len(_FIRST))
    keep(len(data) - 1)
    return b"".join(data[start:end] for start, end in sorted(kept.items()))


def _moments_of_death(folder: Recording) -> dict[str, list[int]]:
    """Node -> when it was killed or exited, in order, as far as the run tells."""
    moments = defaultdict(list)
    for fault in folder.faults:
        if fault.applied:
            for proof in KILLED:
                for node in mapping(fault.evidence.get(proof)):
                    moments[node].append(int(fault.start_ns))
    for note in folder.notes:
        if note.kind in EXITED:
            for node in note.nodes:
                moments[node].append(int(note.time_ns))
    for known in moments.values():
        known.sort()
    return moments


def _died_between(moments: list[int], last_ns: int, first_ns: float) -> int | None:
    """The end of a life, between its last step and the first of the next.

    Returns:
        None if it isn't known: a fault that starts its nodes again at once is said to
        begin after that.
    """
    for moment_ns in moments:
        if last_ns - SLACK_NS <= moment_ns <= first_ns:
            return max(last_ns, moment_ns)
    return None


def _coordinators(steps: list[Step]) -> dict[str, str]:
    """Transaction -> its coordinator, as far as any node told."""
    found: dict[str, str] = {}
    for step in steps:
        told = step.told
        if step.kind == "in_doubt" and isinstance(told.coordinator, str):
            found[repr(told.id)] = told.coordinator
        elif step.kind == "precommitting" or (
            step.kind == "decided" and told.role == "coordinator"
        ):
            found[repr(told.id)] = step.node
    return found


# From steps to spans


@dataclass
class _Lane:
    """The roles of one node, as its steps come."""

    node: str
    spans: list[Span] = field(default_factory=list)
    role: str = ""
    term: int | None = None
    since_ns: int = 0
    ballots: dict[str, int | None] = field(default_factory=dict)
    """Paxos: key -> the ballot under which this node proposes for it."""
    parts: dict[str, dict[str, None]] = field(
        default_factory=lambda: {role: {} for role in ROLES_OF_COMMIT}
    )
    """Atomic commit: role -> the transactions in which the node has it."""
    over: set[str] = field(default_factory=set)
    """The transactions whose coordinator it was, until it decided or died."""
    is_down: bool = False

    def take(self, step: Step) -> None:
        """Go on by one step."""
        kind, told, at_ns = step.kind, step.told, step.time_ns
        self.is_down = kind == DOWN
        if kind in BECAME:
            term = _whole(told.term if told.term is not None else told.epoch)
            self.become(BECAME[kind], term, at_ns)
        elif kind == "voted" and told.id is None:
            if self.role in {"", "follower"}:
                self.become("follower", _whole(told.term), at_ns)
        elif kind in COMMITTING:
            self.commit(kind, told, at_ns)
        elif kind in PROPOSING and told.key is not None:
            self.propose(kind, told, at_ns)
        elif kind == DOWN:
            self.ballots.clear()
            self.over.update(self.parts["coordinator"])
            for names in self.parts.values():
                names.clear()
            self.become("", None, at_ns)
        elif kind == "recovered" and told.undecided is None:
            role = "follower" if told.accepted_epoch is None else "looking"
            self.become(role, _whole(told.term), at_ns)

    def become(self, role: str, term: int | None, at_ns: int) -> None:
        """Have this role from now on; an empty one is none."""
        if (role, term) == (self.role, self.term):
            return
        if self.role and at_ns > self.since_ns:
            self.spans.append(
                Span(self.node, self.since_ns, at_ns, self.role, self.term)
            )
        self.role, self.term, self.since_ns = role, term, at_ns

    def finished(self) -> list[Span]:
        """All spans; the last is open."""
        if self.role:
            self.spans.append(
                Span(self.node, self.since_ns, None, self.role, self.term)
            )
        return self.spans

    def propose(self, kind: str, told: Observation, at_ns: int) -> None:
        """Paxos: propose for a key, or stop doing so."""
        key = repr(told.key)
        if kind in {"chosen", "learned"} or not _is_own(told.ballot, self.node):
            self.ballots.pop(key, None)
        else:
            self.ballots[key] = _whole(told.ballot[0])
        latest = next(reversed(self.ballots.values()), None)
        self.become("proposer" if self.ballots else "", latest, at_ns)

    def commit(self, kind: str, told: Observation, at_ns: int) -> None:
        """Atomic commit: take part in a transaction, or be done with it."""
        name, parts = repr(told.id), self.parts
        if kind == "voted":
            parts["participant"][name] = None
        elif kind == "in_doubt":
            parts["in doubt"][name] = None
        elif kind == "precommitting":
            parts["coordinator"][name] = None
        elif kind == "decided" and told.role == "coordinator":
            parts["coordinator"].pop(name, None)
            self.over.add(name)
        else:
            parts["in doubt"].pop(name, None)
            if kind == "decided":
                parts["participant"].pop(name, None)
        self._show_part(at_ns)

    def coordinate(self, name: str, at_ns: int) -> None:
        """Atomic commit: somebody has voted on a transaction of this coordinator's."""
        if name not in self.over and not self.is_down:
            self.parts["coordinator"][name] = None
            self._show_part(at_ns)

    def _show_part(self, at_ns: int) -> None:
        shown = (role for role in ROLES_OF_COMMIT if self.parts[role])
        self.become(next(shown, ""), None, at_ns)


def _is_own(ballot: Any, node: str) -> bool:
    """Whether this is a ballot of the node's: a number, and its name."""
    return isinstance(ballot, list) and len(ballot) == 2 and ballot[1] == node


def _whole(number: Any) -> int | None:
    is_one = isinstance(number, int) and not isinstance(number, bool)
    return number if is_one and abs(number) < 2**53 else None
