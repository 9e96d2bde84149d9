"""Leadership transfer: the leader brings an heir level, which then stands at once.

Thesis 3.10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls.actor import PRECONDITION_FAILED, TIMEOUT, error

if TYPE_CHECKING:
    from reference_impls.actor import Received
    from reference_impls.core import Outbox
    from reference_impls.raft.log import Log
    from reference_impls.raft.options import Settings
    from reference_impls.raft.reads import Reads
    from reference_impls.raft.replication import Replication
    from reference_impls.raft.requests import Requests
    from reference_impls.raft.standing import Standing


class UnderWay(NamedTuple):
    """Leadership on its way to another server.

    Attributes:
        request: The operator's request.
        to: The heir.
        is_sent: Whether the heir was told to stand for election.
    """

    request: Received
    to: str
    is_sent: bool = False


@dataclass(eq=False)
class Transfer:
    """Hands the leadership over on purpose."""

    out: Outbox  # where the heir is told
    settings: Settings  # how long a transfer may take
    standing: Standing  # the term, and whether this server leads it
    log: Log  # what the heir must hold
    replication: Replication  # how far the heir is
    reads: Reads  # lose their lease
    requests: Requests  # answers whoever asked for the transfer

    # the transfer that is going on; it may outlive the leadership
    under_way: UnderWay | None = None

    def on_request(self, request: Received, to: str, *, is_busy: bool) -> None:
        """Take no new requests, bring `to` level, and tell it to stand at once.

        Args:
            request: The operator's request.
            to: The heir.
            is_busy: Whether a server is about to be added.
        """
        if to == self.out.node:
            self.requests.answer(request, done())
        elif to not in self.log.members.names:
            text = f"{to} is no member"
            self.requests.answer(request, error(PRECONDITION_FAILED, text))
        elif self.under_way is not None or is_busy:
            self.requests.refuse(request, "is busy with another change")
        else:
            self.under_way = UnderWay(request, to)
            self.out.set_timer("transfer", self.settings.election_timeout_ms_max)
            self.hand_over()

    def hand_over(self) -> None:
        """Tell the heir to stand once it holds the whole log, and so can win."""
        if self.under_way is None or self.under_way.is_sent:
            return
        heir = self.under_way.to
        if self.replication.match_index[heir] == self.log.last_index:
            self.under_way = self.under_way._replace(is_sent=True)
            term = self.standing.current_term
            self.out.observe("hands_over", term=term, to=heir)
            self.send_timeout_now(heir)

    def leave_to_the_best(self) -> None:
        """Hand over to the member that holds most of the log (thesis 4.2.2)."""
        match_index = self.replication.match_index
        heir = max(self.log.members.names, key=lambda name: match_index.get(name, 0))
        self.out.observe("left", term=self.standing.current_term, heir=heir)
        self.send_timeout_now(heir)

    def send_timeout_now(self, heir: str) -> None:
        """Tell the heir to stand for election at once, and give up the lease.

        The heir's voters may disregard this leader from here on, however late the
        message arrives and whatever became of the transfer (thesis 6.4.1).
        """
        self.reads.give_up_lease()
        body = {"type": "timeout_now", "term": self.standing.current_term}
        self.out.send(heir, body)

    def on_timeout(self) -> None:
        """Give up after an election timeout, and serve on if this still leads."""
        if self.under_way is None:
            return
        text = f"{self.out.node}: {self.under_way.to} did not take over"
        request, self.under_way = self.under_way.request, None
        self.requests.answer(request, error(TIMEOUT, text))
        if self.standing.leads:
            self.out.set_timer("batch", 0)

    def settle(self, leader: str) -> None:
        """End the transfer, as it is known who leads now."""
        if self.under_way is None:
            return
        request, to, _ = self.under_way
        self.under_way = None
        self.out.cancel_timer("transfer")
        if leader == to:
            self.requests.answer(request, done())
        else:
            self.requests.refuse(request, f"{leader} leads, not {to}")


def done() -> dict[str, Any]:
    """The answer to a transfer that is done."""
    return {"type": "transfer_ok"}
