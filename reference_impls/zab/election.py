"""Fast leader election (Medeiros 2012, 4.1): phase 0, which finds a likely leader.

Every node that is LOOKING votes, first for itself, and tells everyone. A node that
hears of a better vote in its round adopts that vote and tells everyone. A vote is
better when it names a node whose history is more recent, by (epoch, zxid, id). When a
quorum votes alike, the node named leads and the others follow. Rounds keep elections
apart: votes of an earlier round don't count, and a node joins a later round with a
fresh vote.

Nothing here is durable, and nothing rests on its outcome but progress: discovery checks
again that the leader's history is the most recent of a quorum
(`Discovery.on_ack_epoch`).

Choices: a node that is heard for the first time in a round is answered, because it may
not have been listening when this node told its vote. ZooKeeper waits for its next
timeout.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any

from reference_impls.zab.messages import Vote, Zxid

if TYPE_CHECKING:
    from collections.abc import Callable

    from reference_impls.actor import Body

LOOKING = "LOOKING"
FOLLOWING = "FOLLOWING"
LEADING = "LEADING"


class Tell(Enum):
    """Who should hear this node's vote now."""

    NOBODY = "nobody"
    SENDER = "sender"
    ALL = "all"


class Election:
    """One node's ballot box.

    Args:
        node: This node.
        size: How many nodes vote.
        order: The key by which votes are compared: the higher, the better.
    """

    def __init__(self, node: str, size: int, order: Callable[[Vote], Any]) -> None:
        self.node = node
        self.size = size
        self.order = order
        self.round = 0
        self.own = self.vote = Vote(0, Zxid(0, 0), node)
        self.votes: dict[str, Vote] = {}
        self.settled: dict[str, tuple[str, int, Vote]] = {}  # state, round, vote

    def begin(self, own: Vote) -> None:
        """Begin a new round, in which this node votes for itself."""
        self.own = own
        self.settled.clear()
        self.join(self.round + 1, own)

    def join(self, number: int, vote: Vote) -> None:
        """Vote afresh in that round."""
        self.round = number
        self.vote = vote
        self.votes = {self.node: vote}

    def hear(self, src: str, body: Body) -> Tell:
        """Count what `src` told; says who should hear of this node's vote now."""
        epoch, zxid, leader = body["vote"]
        vote = Vote(epoch, Zxid(*zxid), leader)
        if body["state"] == LOOKING:
            self.settled.pop(src, None)
            return self.hear_vote(src, body["round"], vote)
        self.settled[src] = (body["state"], body["round"], vote)
        if body["round"] == self.round:
            self.votes[src] = vote
        return Tell.NOBODY

    def hear_vote(self, src: str, number: int, vote: Vote) -> Tell:
        """Count the vote of a node that is looking, too."""
        if number < self.round:
            return Tell.SENDER
        if number > self.round:
            self.join(number, max(self.own, vote, key=self.order))
            tell = Tell.ALL
        elif self.order(vote) > self.order(self.vote):
            self.vote = self.votes[self.node] = vote
            tell = Tell.ALL
        else:
            tell = Tell.NOBODY if src in self.votes else Tell.SENDER
        self.votes[src] = vote
        return tell

    def supporters(self) -> int:
        """How many vote for the same leader as this node."""
        return sum(vote.leader == self.vote.leader for vote in self.votes.values())

    def has_quorum(self) -> bool:
        """True when a majority votes as this node does."""
        return 2 * self.supporters() > self.size

    def is_unanimous(self) -> bool:
        """True when all nodes vote as this one, so that no better vote can come."""
        return self.supporters() == self.size

    def serving_leader(self) -> str | None:
        """The leader that a majority follows already, so that no election is needed.

        This node then votes as they did, so that others can count its vote.

        Returns:
            None unless there is such a leader, and it says itself that it leads.
        """
        followers = Counter(vote.leader for _, _, vote in self.settled.values())
        for leader, count in followers.items():
            state, number, vote = self.settled.get(leader, (LOOKING, 0, self.vote))
            if 2 * count > self.size and state == LEADING and leader != self.node:
                self.join(number, vote)
                return leader
        return None
