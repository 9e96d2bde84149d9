"""Rounds: proof that a leader still led at some moment, by its own clock.

Every message of a leader carries the number of the broadcast it belongs to, and its
answer, success or not, echoes it. A round that a majority answered in this term proves
that this server still led when the round was *sent*. Three rules rest on that one
fact: ReadIndex (thesis 6.4), the lease (6.4.1), and stepping down without a majority
(6.2).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference_impls.actor import Now
    from reference_impls.core import Outbox
    from reference_impls.raft.options import Settings
    from reference_impls.raft.quorum import Quorum

PATIENCE_MS = 10.0
"""A round that takes longer, as over slow links, does not hold up the next one."""


@dataclass(eq=False)
class Rounds:
    """The rounds of this leadership: begun, sent and answered."""

    out: Outbox  # names the other servers
    settings: Settings  # the election timeout
    quorum: Quorum  # whose answers count

    round: int = 0  # the last one begun; 0 before the first
    # the last round of which each server was sent a message
    sent_round: dict[str, int] = field(default_factory=dict)
    # the last round that each server answered
    acked_round: dict[str, int] = field(default_factory=dict)
    # the rounds no majority has answered yet, and when each was sent
    sent_rounds: deque[tuple[int, int]] = field(default_factory=deque)
    quorum_contact_ns: int = 0  # when the last round that a majority answered was sent

    def begin_term(self, now: Now) -> None:
        """Forget the rounds of an earlier leadership.

        The votes are a majority's word that this is the leader, as of now at best; the
        lease starts with a round of its own, but stepping down counts from here.
        """
        self.round = 0
        self.sent_round = dict.fromkeys(self.out.peers, 0)
        self.acked_round = dict.fromkeys(self.out.peers, 0)
        self.sent_rounds.clear()
        self.quorum_contact_ns = now.mono_ns

    def begin(self, now: Now) -> bool:
        """Begin a round, to which all messages from here on belong.

        Returns:
            True if this server is a majority by itself, so that the round is over.
        """
        self.round += 1
        self.sent_rounds.append((self.round, now.mono_ns))
        alone = self.quorum.is_quorum([self.out.node])
        if alone:
            self.end_up_to(self.round)
        return alone

    def hear(self, src: str, acked: int) -> bool:
        """Note that `src` answered a message of the round `acked`, in this term.

        Returns:
            False for an answer that says nothing new.
        """
        if not self.acked_round[src] < acked <= self.round:
            return False
        self.acked_round[src] = acked
        if self.sent_rounds:
            reached = self.quorum.reached_by_majority(self.acked_round, self.round)
            self.end_up_to(reached)
        return True

    def distrust(self, peer: str) -> None:
        """Forget what a server answered, which may be another by the same name."""
        self.acked_round[peer] = 0

    def end_up_to(self, acked: int) -> None:
        """End the rounds up to that one, which a majority has answered."""
        while self.sent_rounds and self.sent_rounds[0][0] <= acked:
            self.quorum_contact_ns = self.sent_rounds.popleft()[1]

    def patience_ms(self) -> float:
        """How long the next round may wait for more requests.

        Not at all, unless one is under way. The answers to that one come with further
        requests, as clients go on once they have theirs. Each server then handles a few
        large messages in place of many small ones, and syncs its disk less often.
        """
        return PATIENCE_MS if self.sent_rounds else 0.0

    def confirmed(self) -> int:
        """The last round that a majority answered."""
        return self.sent_rounds[0][0] - 1 if self.sent_rounds else self.round

    def lost_touch(self, now: Now) -> bool:
        """True when no majority answered for an election timeout (thesis 6.2)."""
        silence_ns = now.mono_ns - self.quorum_contact_ns
        is_silent = silence_ns > self.settings.election_timeout_ms_max * 1e6
        return is_silent and not self.quorum.is_quorum([self.out.node])
