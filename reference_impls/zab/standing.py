"""A node's state and phase, and the leader of the epoch that it lives in."""

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
    # what state and phase come to; asked for at every step
    leads: bool = False  # also while it is only a prospective leader
    follows: bool = False  # also a prospective leader
    serves: bool = False  # from the end of synchronization on

    def enter(self, state: str, phase: str, leader: str | None) -> None:
        """Change the state, and whose epoch this node lives in."""
        self.state, self.leader = state, leader
        self.leads = state == LEADING
        self.follows = state == FOLLOWING
        self.reach(phase)

    def reach(self, phase: str) -> None:
        """Go on to a phase with the same leader."""
        self.phase = phase
        self.serves = phase == BROADCAST
