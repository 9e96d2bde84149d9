"""Clients' requests: checked, then served by the leader or passed on (thesis 6).

Requests wait until everything that has arrived was delivered (a timer of 0 ms), and on
a real machine until the round under way is over. Then they go to the log, the disk and
the followers together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reference_impls import kv
from reference_impls.actor import MALFORMED_REQUEST, error
from reference_impls.raft.log import Entry
from reference_impls.raft.membership import ADMIN
from reference_impls.raft.requests import SERVERS

if TYPE_CHECKING:
    from reference_impls.actor import Now, Received
    from reference_impls.core import Outbox
    from reference_impls.raft.log import Log
    from reference_impls.raft.membership import Membership
    from reference_impls.raft.options import Settings
    from reference_impls.raft.reads import Reads
    from reference_impls.raft.replication import Replication
    from reference_impls.raft.requests import Requests
    from reference_impls.raft.rounds import Rounds
    from reference_impls.raft.standing import Standing
    from reference_impls.raft.transfer import Transfer

ANYONE = {"client": ""}


@dataclass(eq=False)
class Service:
    """Handles a request where it arrives."""

    out: Outbox  # sets the timer of the batch
    settings: Settings  # the way of reading
    standing: Standing  # who leads
    log: Log  # where a batch goes
    rounds: Rounds  # the one under way, which may make another one needless
    requests: Requests  # answers, and passes on
    reads: Reads  # reads that needn't go through the log
    replication: Replication  # appends a batch
    membership: Membership  # an operator's requests
    transfer: Transfer  # stops the service while it is under way

    # what goes to the log next; leaders only
    batch: list[tuple[Received, kv.Command]] = field(default_factory=list)

    def on_request(self, request: Received) -> None:
        """Check a client's request, then serve it or pass it on."""
        kind = request.body.get("type")
        if type(kind) is str and kind in ADMIN:
            self.membership.on_admin(request)
            return
        command, flaw = kv.parse(request.body)
        if command is None:
            assert flaw is not None
            self.requests.answer(request, flaw)
            return
        if command.get("retry", ANYONE)["client"].startswith(SERVERS):
            text = f"clients that begin with {SERVERS!r} are the servers' own"
            self.requests.answer(request, error(MALFORMED_REQUEST, text))
        elif self.settings.reads == "local" and kv.is_read(command):
            self.reads.answer_from_state(request, command)
        elif self.standing.leads:
            self.serve(request, command)
        elif self.standing.leader is not None:
            self.requests.forward(request, command)
        else:
            self.requests.refuse(request, "no leader is known")

    def on_forward(self, request: Received) -> None:
        """Serve a request that a follower passed on, or refuse it."""
        if not self.standing.leads:
            self.requests.refuse(request, "does not lead")
            return
        command, flaw = kv.parse(request.body["request"])
        if command is None:
            assert flaw is not None
            self.requests.answer(request, flaw)
        else:
            self.serve(request, command)

    def serve(self, request: Received, command: kv.Command) -> None:
        """Serve a command as the leader, a read in the way that is set."""
        reads = self.settings.reads
        if not kv.is_read(command) or reads == "log":
            self.propose(request, command)
        elif reads == "lease" and self.reads.has_lease(request.now):
            self.reads.answer_from_state(request, command)
        else:
            self.reads.read_index(request, command)

    def propose(self, request: Received, command: kv.Command) -> None:
        """Put the command into the batch that goes to the log next."""
        self.batch.append((request, command))
        self.out.gather("batch", self.rounds.patience_ms())

    def on_batch(self, now: Now) -> None:
        """Replicate all that has arrived; confirm leadership for reads that wait."""
        if not self.standing.leads or self.transfer.under_way is not None:
            return  # the batch waits for a transfer to fail, or is refused
        if self.rounds.sent_rounds and not self.batch:
            return  # the end of the round under way begins the next one, for reads
        batch, self.batch = self.batch, []
        first = self.log.last_index + 1
        for index, (request, command) in enumerate(batch, first):
            self.requests.propose_at(index, request, command)
        term = self.standing.current_term
        entries = [Entry(term, command) for _, command in batch]
        self.replication.append(entries, now)

    def on_answer(self) -> None:
        """Replicate what has gathered during a round, now that the round is over."""
        is_open = self.transfer.under_way is None and not self.rounds.sent_rounds
        if self.batch and is_open:
            self.out.set_timer("batch", 0)

    def refuse_batch(self) -> None:
        """Refuse what never left this server; what did stays `proposed`."""
        batch, self.batch = self.batch, []
        for request, _ in batch:
            why = "lost its leadership before it proposed the request"
            self.requests.refuse(request, why)

    # --- a leader is known -------------------------------------------------------

    def follow(self, leader: str) -> None:
        """Pass on to a new leader what is still unanswered."""
        self.transfer.settle(leader)
        self.requests.forward_again()

    def lead(self, now: Now) -> None:
        """Serve what this server had passed on while it followed."""
        self.transfer.settle(self.out.node)
        for request, command in self.requests.own_forwards(now):
            self.serve(request, command)
