"""What clients proposed and were told, and what acceptors and learners observed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.findings import name_of
from checkers.tallies import Kinds, outcome
from checkers.values import freeze

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.functions import Known
    from harness.history import History, Op

PROMISED, ACCEPTED, APPLIED = "promised", "accepted", "applied"
RECOVERED = "recovered"
"""An acceptor came back, bound by this ballot."""
LEARNING = {"learned", "chosen"}
KINDS = {PROMISED, ACCEPTED, *LEARNING}


class Learned(NamedTuple):
    """A node says that a value was chosen.

    Attributes:
        node: Who.
        value: What.
        op: Where it says so.
        told: Whether that is an answer to a client, or else an observation.
        ballot: At which it was chosen, if that is known.
    """

    node: str
    value: Any
    op: int
    told: bool
    ballot: Any = None


class Proposal(NamedTuple):
    """A client proposed a value: its invocation, and how the call ended."""

    invoked: int
    outcome: str


class Ballot(NamedTuple):
    """A ballot that an acceptor promised or accepted, with the event that says so."""

    ballot: Any
    kind: str
    op: int


class Accepted(NamedTuple):
    """A proposal that an acceptor accepted, with the event that says so."""

    node: str
    ballot: Any
    value: Any
    op: int


@dataclass
class Instance:
    """One instance of consensus.

    Attributes:
        key: Its key.
        learned: All values learned, in the order of the history.
        proposals: By frozen value.
        accepted: By (ballot, value): acceptor -> event. Frozen.
        at_ballot: By frozen ballot and value: who was the first to accept it.
    """

    key: Any
    learned: list[Learned] = field(default_factory=list)
    proposals: dict[Hashable, list[Proposal]] = field(
        default_factory=lambda: defaultdict(list)
    )
    accepted: dict[tuple[Hashable, Hashable], dict[str, int]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    at_ballot: dict[Hashable, dict[Hashable, Accepted]] = field(
        default_factory=lambda: defaultdict(dict)
    )


@dataclass
class Instances:
    """A history, read once.

    Attributes:
        by_key: The instances, by frozen key.
        acceptors: Nodes that promised or accepted anything.
        highest: Per (node, key): the highest ballot that it is bound by.
        last_accepted: Per (node, key): the highest proposal that it accepted.
        kinds: Of what was proposed to each instance.
        proposals_seen: Whether proposing clients are part of the history at all.
        acceptances_seen: Whether acceptances are.
    """

    by_key: dict[Hashable, Instance] = field(default_factory=dict)
    acceptors: set[str] = field(default_factory=set)
    highest: dict[tuple[str, Hashable], Ballot] = field(default_factory=dict)
    last_accepted: dict[tuple[str, Hashable], Accepted] = field(default_factory=dict)
    kinds: Kinds = field(default_factory=Kinds)
    proposals_seen: bool = False
    acceptances_seen: bool = False

    def of(self, key: Any) -> Instance:
        """The instance of that key."""
        frozen = freeze(key)
        if frozen not in self.by_key:
            self.by_key[frozen] = Instance(key)
        return self.by_key[frozen]


def take_call(instances: Instances, history: History, known: Known, op: Op) -> None:
    """Take note of what a client proposed, or was told."""
    role = known.role(op)
    if not role:
        return
    instance = instances.of(op.key)
    if role == "propose" and op.type == "invoke":
        instances.proposals_seen = True
        instances.kinds.note(freeze(op.key), op.value)
        proposal = Proposal(op.index, outcome(history, op))
        instance.proposals[freeze(op.value)].append(proposal)
    elif op.type == "ok" and op.value is not None:
        instance.learned.append(Learned(name_of(op), op.value, op.index, told=True))


def is_observation(op: Op) -> bool:
    """Whether a node says something of its own acceptor or learner."""
    tells = isinstance(op.value, dict) and not op.is_client
    return tells and op.f in {APPLIED, RECOVERED, *KINDS}


def ballot_of(proposal: Any) -> Any:
    """The ballot of a proposal, which is a pair of ballot and value."""
    return proposal[0] if isinstance(proposal, list | tuple) and proposal else proposal
