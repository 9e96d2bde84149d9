"""Where a node stands: its state, its phase, and whose epoch it lives in."""

from __future__ import annotations

from dataclasses import dataclass

from reference_impls.zab.election import FOLLOWING, LEADING, LOOKING

ELECTION = "election"
DISCOVERY = "discovery"
SYNCHRONIZATION = "synchronization"
BROADCAST = "broadcast"


@dataclass(eq=False)
class Standing:
    """A node's part in the protocol; all of it is volatile."""

    state: str = LOOKING
    phase: str = ELECTION
    leader: str | None = None
    epoch: int = 0  # the one that this node leads; 0: not yet chosen

    def enter(self, state: str, phase: str, leader: str | None) -> None:
        """Change state, phase and leader together."""
        self.state, self.phase, self.leader = state, phase, leader

    @property
    def leads(self) -> bool:
        """True for a prospective leader and for one that serves."""
        return self.state == LEADING

    @property
    def follows(self) -> bool:
        """True for a follower, of a prospective leader too."""
        return self.state == FOLLOWING

    @property
    def serves(self) -> bool:
        """True from the end of synchronization on."""
        return self.phase == BROADCAST
