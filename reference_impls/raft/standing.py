"""A server's place in its term: its vote, its role, and the leader that it follows.

Terms act as a logical clock (paper 5.1). The term and the vote are on disk before
anyone hears of either; role and leader are volatile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reference_impls.actor import Record
    from reference_impls.core import Outbox

FOLLOWER = "follower"
PRE_CANDIDATE = "pre_candidate"
CANDIDATE = "candidate"
LEADER = "leader"


@dataclass(eq=False)
class Standing:
    """The term, and this server's place in it."""

    out: Outbox  # where the term and the vote are made durable

    # persistent
    current_term: int = 0
    voted_for: str | None = None
    # volatile
    role: str = FOLLOWER
    leader: str | None = None
    leads: bool = False  # the role is LEADER; asked for at every step

    def become(self, role: str, leader: str | None) -> None:
        """Change the role, and who leads as far as this server knows."""
        self.role = role
        self.leader = leader
        self.leads = role == LEADER

    def enter_term(self, term: int, voted_for: str | None) -> None:
        """Begin a later term with this vote, or none yet (paper 5.1)."""
        assert term > self.current_term, "terms only grow"
        self.current_term = term
        self.voted_for = voted_for
        self.persist()

    def vote_for(self, candidate: str) -> None:
        """Vote in this term; nobody hears of the vote before it is durable."""
        if self.voted_for != candidate:
            self.voted_for = candidate
            self.persist()

    def persist(self) -> None:
        """Make term and vote durable before anyone hears of either (Figure 2)."""
        self.out.persist(self.record())

    def record(self) -> dict[str, Any]:
        """Term and vote, in one record so that no vote is taken for another term's."""
        return {"term": self.current_term, "voted_for": self.voted_for}

    def recover(self, record: Record) -> None:
        """Take back the term and the vote, if the record holds them."""
        if "term" in record:
            self.current_term = record["term"]
            self.voted_for = record["voted_for"]
