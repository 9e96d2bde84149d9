"""Terms, roles and votes (paper 5.1, 5.2, 5.4.1; thesis 3.10, 4.2.2, 4.2.3, 9.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.raft.log import NOOP, Entry
from reference_impls.raft.server import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    PRE_CANDIDATE,
    Server,
)

if TYPE_CHECKING:
    from reference_impls.actor import Body, Now


class Election(Server):
    """How a server comes to lead, and stops leading."""

    # --- terms and roles (paper 5.1, 5.2) ----------------------------------------

    def become_follower(self, term: int, leader: str | None) -> None:
        """Follow in `term`; a higher term than one's own is adopted (paper 5.1)."""
        new_term = term > self.current_term
        if new_term:
            self.current_term = term
            self.voted_for = None
            self.persist_term_and_vote()
        if self.role == LEADER:
            self.resign()
        new_leader = leader != self.leader
        if self.role != FOLLOWER or new_leader:
            self.observe("became_follower", term=term, leader=leader)
        self.role = FOLLOWER
        self.leader = leader
        if leader is not None and (new_term or new_leader):
            self.on_new_leader(leader, None)

    def resign(self) -> None:
        """Stop leading: what never left fails for sure; the rest stays `proposed`."""
        self.leader = None
        self.cancel_timer("heartbeat")
        self.drop_reads("lost its leadership before it could answer the read")
        batch, self.batch = self.batch, []
        for request, _ in batch:
            self.refuse(request, "lost its leadership before it proposed the request")
        if self.catch_up is not None:
            request, self.catch_up = self.catch_up.request, None
            self.refuse(request, "lost its leadership before it changed the members")
        self.outgoing.clear()
        self.reset_election_timer()

    def on_election_timeout(self, now: Now) -> None:
        """No leader was heard of for an election timeout (paper 5.2)."""
        if self.role == LEADER:
            return
        self.reset_election_timer()
        self.leader = None
        self.heard_leader_ns = None
        if not self.may_campaign():
            self.become_follower(self.current_term, None)
        elif self.pre_vote:
            self.ask_for_pre_votes(now)
        else:
            self.become_candidate(now)

    def may_campaign(self) -> bool:
        """True for a member, and for one that may turn out to be one still.

        A server that is no member of a configuration not known to be committed must
        stand for election all the same: the others may need its log (thesis 4.2.2,
        Figure 4.6). It doesn't count its own vote.
        """
        is_member = self.node in self.members.names
        return is_member or self.members.index > self.commit_index

    def ask_for_pre_votes(self, now: Now) -> None:
        """Would a majority vote for this server? The term stays as it is (thesis 9.6).

        Otherwise a server that was cut off for long comes back with a high term and
        deposes a leader that served everyone else well.
        """
        self.role = PRE_CANDIDATE
        self.votes = {self.node}
        self.observe("became_pre_candidate", term=self.current_term)
        self.send_to_members(self.vote_request("pre_vote", self.current_term + 1))
        if self.is_quorum(self.votes):
            self.become_candidate(now)

    def become_candidate(self, now: Now, *, transfer: bool = False) -> None:
        """Start an election: a new term, a vote for oneself, and ask the others.

        With `transfer` the leader itself asked for it, and so voters needn't protect
        it (thesis 4.2.3).
        """
        self.role = CANDIDATE
        self.leader = None
        self.current_term += 1
        self.voted_for = self.node
        self.votes = {self.node}
        self.persist_term_and_vote()
        self.observe("became_candidate", term=self.current_term)
        request = self.vote_request("request_vote", self.current_term)
        self.send_to_members({**request, "transfer": transfer})
        if self.is_quorum(self.votes):
            self.become_leader(now)

    def send_to_members(self, body: Body) -> None:
        """Ask those whose answers count."""
        for peer in self.peers:
            if peer in self.members.names:
                self.send(peer, body)

    def vote_request(self, kind: str, term: int) -> dict[str, Any]:
        """RequestVote's arguments, or PreVote's (Figure 2)."""
        return {
            "type": kind,
            "term": term,
            "last_log_index": self.log.last_index,
            "last_log_term": self.log.last_term,
        }

    def become_leader(self, now: Now) -> None:
        """Lead this term: forget old leadership, and commit a no-op (paper 8)."""
        self.role = LEADER
        self.leader = self.node
        self.heard_leader_ns = None
        self.next_index = dict.fromkeys(self.peers, self.log.last_index + 1)
        self.match_index = dict.fromkeys(self.peers, 0)
        self.sent_round = dict.fromkeys(self.peers, 0)
        self.acked_round = dict.fromkeys(self.peers, 0)
        self.in_flight = {}
        self.round = 0
        self.sent_rounds.clear()
        self.gave_up_lease = False
        # The votes are a majority's word that this is the leader, as of now at best;
        # the lease starts with a round of its own, but stepping down counts from here.
        self.quorum_contact_ns = now.mono_ns
        self.cancel_timer("election")
        self.observe(
            "became_leader",
            term=self.current_term,
            last_log_index=self.log.last_index,
        )
        self.set_timer("heartbeat", self.heartbeat_ms)
        self.append_and_replicate([Entry(self.current_term, NOOP)], now)
        self.on_new_leader(self.node, now)

    def reset_election_timer(self) -> None:
        """Randomised, so that split votes are rare (paper 5.2)."""
        self.set_timer(
            "election", self.election_timeout_ms_min, self.election_timeout_ms_max
        )

    # --- votes (paper 5.2, 5.4.1) ------------------------------------------------

    def on_pre_vote(self, src: str, body: Body, now: Now) -> None:
        """Say whether one would vote, without promising anything (thesis 9.6)."""
        if self.trusts_leader(now):
            return
        granted = body["term"] > self.current_term and self.is_up_to_date(body)
        self.send(
            src,
            {
                "type": "pre_vote_reply",
                "term": self.current_term,
                "for_term": body["term"],
                "vote_granted": granted,
            },
        )

    def on_pre_vote_reply(self, src: str, body: Body, now: Now) -> None:
        """Count; a majority that would vote is worth an election."""
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        if self.role != PRE_CANDIDATE or body["for_term"] != self.current_term + 1:
            return
        if body["vote_granted"]:
            self.votes.add(src)
        if self.is_quorum(self.votes):
            self.become_candidate(now)

    def on_request_vote(self, src: str, body: Body, now: Now) -> None:
        """RequestVote (Figure 2), ignored while there is a leader (thesis 4.2.3).

        Who is a member doesn't matter here: this server's idea of that may be older
        than the candidate's (thesis 4.1).
        """
        if self.trusts_leader(now) and not body["transfer"]:
            return
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        granted = self.may_vote_for(src, body)
        if granted:
            self.grant_vote(src, body)
        self.send(
            src,
            {
                "type": "request_vote_reply",
                "term": self.current_term,
                "vote_granted": granted,
            },
        )

    def on_request_vote_reply(self, src: str, body: Body, now: Now) -> None:
        """Count; a candidate with votes from a majority leads (paper 5.2)."""
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        if self.role != CANDIDATE or body["term"] != self.current_term:
            return
        if body["vote_granted"]:
            self.votes.add(src)
        if self.is_quorum(self.votes):
            self.become_leader(now)

    def may_vote_for(self, candidate: str, body: Body) -> bool:
        """RequestVote, rules 1 and 2: one vote per term, to an up-to-date log."""
        return (
            body["term"] == self.current_term
            and self.voted_for in {None, candidate}
            and self.is_up_to_date(body)
        )

    def grant_vote(self, candidate: str, body: Body) -> None:
        """Vote; the answer leaves only once the vote is durable."""
        if self.voted_for != candidate:
            self.voted_for = candidate
            self.persist_term_and_vote()
        self.observe(
            "voted",
            term=self.current_term,
            candidate=candidate,
            last_log_index=body["last_log_index"],
            last_log_term=body["last_log_term"],
        )
        self.reset_election_timer()

    def is_up_to_date(self, body: Body) -> bool:
        """Is the candidate's log at least as up to date as this one? (paper 5.4.1)."""
        theirs = (body["last_log_term"], body["last_log_index"])
        return theirs >= (self.log.last_term, self.log.last_index)

    def trusts_leader(self, now: Now) -> bool:
        """Stickiness: a leader was heard of within the minimum election timeout.

        Vote requests are then ignored, their term too (thesis 4.2.3), so that nobody
        deposes a leader that a majority hears, a removed server least of all; the
        lease rests on it (thesis 6.4.1).
        """
        if not self.may_vote:
            return True
        heard_ns = (
            self.quorum_contact_ns if self.role == LEADER else self.heard_leader_ns
        )
        if heard_ns is None:
            return False
        return now.mono_ns - heard_ns < self.election_timeout_ms_min * 1e6
