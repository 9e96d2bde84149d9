"""Roles and votes (paper 5.1, 5.2, 5.4.1; thesis 4.2.2, 4.2.3, 9.6).

How a server comes to lead, and stops leading.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_impls.raft.standing import CANDIDATE, FOLLOWER, PRE_CANDIDATE

if TYPE_CHECKING:
    from reference_impls.actor import Body, Now
    from reference_impls.core import Outbox
    from reference_impls.raft.leadership import Leadership
    from reference_impls.raft.log import Log
    from reference_impls.raft.membership import Membership
    from reference_impls.raft.options import Settings
    from reference_impls.raft.quorum import Quorum
    from reference_impls.raft.rounds import Rounds
    from reference_impls.raft.service import Service
    from reference_impls.raft.standing import Standing
    from reference_impls.raft.transfer import Transfer


@dataclass(eq=False)
class Election:
    """Votes and stands for election, and changes this server's role accordingly."""

    out: Outbox  # where votes are asked for and given
    settings: Settings  # the election timeout; whether to ask before standing
    standing: Standing  # the term, the vote and the role
    log: Log  # how up to date this server is; and who is a member
    quorum: Quorum  # whose votes count
    rounds: Rounds  # when a leader last heard from its majority
    leadership: Leadership  # what a leader does
    service: Service  # passes on to a new leader what still waits
    membership: Membership  # whether this server is a member
    transfer: Transfer  # leaves the leadership to another

    # who would vote for this server, or does
    votes: set[str] = field(default_factory=set)
    # when a leader was last heard, on this node's monotonic clock
    heard_leader_ns: int | None = None
    may_vote: bool = True  # False for a while after a restart, if there may be leases

    # --- followers (paper 5.1, 5.2) ----------------------------------------------

    def begin(self, *, again: bool) -> None:
        """Start as a follower (paper 5.2); `again` after an earlier life.

        That life may have heard from a leader a moment ago, and with leases that leader
        counts on this node to refuse its vote for the whole minimum timeout.
        """
        if again and self.settings.reads == "lease":
            self.may_vote = False
            self.out.set_timer("may_vote", self.settings.election_timeout_ms_min)
        self.reset_timer()

    def adopt_term(self, body: Body) -> None:
        """Follow in the message's term if that is a higher one (paper 5.1)."""
        if body["term"] > self.standing.current_term:
            self.become_follower(body["term"], None)

    def become_follower(self, term: int, leader: str | None) -> None:
        """Follow in `term`, and follow `leader` if there is one (paper 5.1)."""
        standing = self.standing
        new_term = term > standing.current_term
        if new_term:
            standing.enter_term(term, None)
        if standing.leads:
            self.leadership.end()
            self.reset_timer()
        new_leader = leader != standing.leader
        if standing.role != FOLLOWER or new_leader:
            self.out.observe("became_follower", term=term, leader=leader)
        standing.become(FOLLOWER, leader)
        if leader is not None and (new_term or new_leader):
            self.service.follow(leader)

    def follow(self, leader: str, term: int, now: Now) -> None:
        """Follow a leader of this term or a later one (Figure 2, candidates)."""
        standing = self.standing
        assert term > standing.current_term or not standing.leads, (
            f"{leader} and {self.out.node} both lead term {term}"
        )
        known = standing.leader == leader and standing.role == FOLLOWER
        if not known or term > standing.current_term:
            self.become_follower(term, leader)
        self.heard_leader_ns = now.mono_ns
        self.reset_timer()

    def reset_timer(self) -> None:
        """Wait for a leader; at random, so that split votes are rare (paper 5.2)."""
        self.out.set_timer(
            "election",
            self.settings.election_timeout_ms_min,
            self.settings.election_timeout_ms_max,
        )

    # --- candidates (paper 5.2) --------------------------------------------------

    def on_timeout(self, now: Now) -> None:
        """Stand for election, as no leader was heard for a timeout (paper 5.2)."""
        if self.standing.leads:
            return
        self.reset_timer()
        self.standing.leader = None
        self.heard_leader_ns = None
        if not self.may_campaign():
            self.become_follower(self.standing.current_term, None)
        elif self.settings.pre_vote:
            self.ask_for_pre_votes(now)
        else:
            self.become_candidate(now)

    def on_timeout_now(self, body: Body, now: Now) -> None:
        """Stand for election at once, as the leader asked for it (thesis 3.10)."""
        if body["term"] != self.standing.current_term or self.standing.leads:
            return
        if self.may_campaign():
            self.reset_timer()
            self.become_candidate(now, transfer=True)

    def may_campaign(self) -> bool:
        """True unless this server is known for sure to be no member.

        A server that the latest configuration leaves out must still stand for election
        while that configuration isn't known to be committed: the others may need its
        log (thesis 4.2.2, Figure 4.6). It doesn't count its own vote.
        """
        return not self.membership.is_removed()

    def ask_for_pre_votes(self, now: Now) -> None:
        """Would a majority vote for this server? The term stays as it is (thesis 9.6).

        Otherwise a server that was cut off for long comes back with a high term and
        deposes a leader that served everyone else well.
        """
        term = self.standing.current_term
        self.standing.become(PRE_CANDIDATE, None)
        self.votes = {self.out.node}
        self.out.observe("became_pre_candidate", term=term)
        self.send_to_members(self.vote_request("pre_vote", term + 1))
        if self.quorum.is_quorum(self.votes):
            self.become_candidate(now)

    def become_candidate(self, now: Now, *, transfer: bool = False) -> None:
        """Start an election: a new term, a vote for oneself, and ask the others.

        With `transfer` the leader itself asked for it, and so voters needn't protect
        it (thesis 4.2.3).
        """
        standing = self.standing
        standing.become(CANDIDATE, None)
        standing.enter_term(standing.current_term + 1, self.out.node)
        self.votes = {self.out.node}
        self.out.observe("became_candidate", term=standing.current_term)
        request = self.vote_request("request_vote", standing.current_term)
        self.send_to_members({**request, "transfer": transfer})
        if self.quorum.is_quorum(self.votes):
            self.become_leader(now)

    def send_to_members(self, body: Body) -> None:
        """Send to the other members, whose answers count."""
        for peer in self.out.peers:
            if peer in self.log.members.names:
                self.out.send(peer, body)

    def vote_request(self, kind: str, term: int) -> dict[str, Any]:
        """RequestVote's arguments, or PreVote's (Figure 2)."""
        return {
            "type": kind,
            "term": term,
            "last_log_index": self.log.last_index,
            "last_log_term": self.log.last_term,
        }

    # --- leaders -----------------------------------------------------------------

    def become_leader(self, now: Now) -> None:
        """Lead, as a majority voted for this server (paper 5.2)."""
        self.heard_leader_ns = None
        self.leadership.begin(now)

    def on_heartbeat(self, now: Now) -> None:
        """Show that there is a leader, or stop being one (thesis 6.2)."""
        if not self.standing.leads:
            return
        term = self.standing.current_term
        if self.rounds.lost_touch(now):
            self.out.observe("lost_quorum", term=term)
            self.become_follower(term, None)
        else:
            self.leadership.heartbeat(now)

    def leave_if_removed(self) -> None:
        """A leader steps down once it is known to be no member (thesis 4.2.2)."""
        if self.membership.is_removed():
            self.transfer.leave_to_the_best()
            self.become_follower(self.standing.current_term, None)

    # --- votes (paper 5.2, 5.4.1) ------------------------------------------------

    def on_pre_vote(self, src: str, body: Body, now: Now) -> None:
        """Say whether this server would vote, without any promise (thesis 9.6)."""
        if self.trusts_leader(now):
            return
        term = self.standing.current_term
        granted = body["term"] > term and self.is_up_to_date(body)
        self.out.send(
            src,
            {
                "type": "pre_vote_reply",
                "term": term,
                "for_term": body["term"],
                "vote_granted": granted,
                **self.identity(),
            },
        )

    def on_pre_vote_reply(self, src: str, body: Body, now: Now) -> None:
        """Count; start an election once a majority would vote for this server."""
        next_term = self.standing.current_term + 1
        if self.standing.role != PRE_CANDIDATE or body["for_term"] != next_term:
            return
        if body["vote_granted"]:
            self.votes.add(src)
        if self.quorum.is_quorum(self.votes):
            self.become_candidate(now)

    def on_request_vote(self, src: str, body: Body, now: Now) -> None:
        """RequestVote (Figure 2), ignored while there is a leader (thesis 4.2.3).

        It doesn't matter here which servers are members: this server's configuration
        may be older than the candidate's (thesis 4.1).
        """
        if self.trusts_leader(now) and not body["transfer"]:
            return
        self.adopt_term(body)
        granted = self.may_vote_for(src, body)
        if granted:
            self.grant_vote(src, body)
        self.out.send(
            src,
            {
                "type": "request_vote_reply",
                "term": self.standing.current_term,
                "vote_granted": granted,
                **self.identity(),
            },
        )

    def on_request_vote_reply(self, src: str, body: Body, now: Now) -> None:
        """Count votes; a candidate with votes from a majority leads (paper 5.2)."""
        standing = self.standing
        if standing.role != CANDIDATE or body["term"] != standing.current_term:
            return
        if body["vote_granted"]:
            self.votes.add(src)
        if self.quorum.is_quorum(self.votes):
            self.become_leader(now)

    def identity(self) -> dict[str, int]:
        """The field of an answer that tells the incarnation, unless that is 0."""
        incarnation = self.settings.incarnation
        return {"incarnation": incarnation} if incarnation else {}

    def may_vote_for(self, candidate: str, body: Body) -> bool:
        """RequestVote, rules 1 and 2: one vote per term, to an up-to-date log."""
        return (
            body["term"] == self.standing.current_term
            and self.standing.voted_for in {None, candidate}
            and self.is_up_to_date(body)
        )

    def grant_vote(self, candidate: str, body: Body) -> None:
        """Vote; the answer leaves only once the vote is durable."""
        self.standing.vote_for(candidate)
        self.out.observe(
            "voted",
            term=self.standing.current_term,
            candidate=candidate,
            last_log_index=body["last_log_index"],
            last_log_term=body["last_log_term"],
        )
        self.reset_timer()

    def is_up_to_date(self, body: Body) -> bool:
        """Is the candidate's log at least as up to date as this one? (paper 5.4.1)."""
        theirs = (body["last_log_term"], body["last_log_index"])
        return theirs >= (self.log.last_term, self.log.last_index)

    def trusts_leader(self, now: Now) -> bool:
        """Stickiness: a leader was heard of within the minimum election timeout.

        Vote requests are then ignored, their term too (thesis 4.2.3), so that no server
        deposes a leader that a majority hears, and a removed server least of all. The
        lease rests on this (thesis 6.4.1).
        """
        if not self.may_vote:
            return True
        heard_ns = (
            self.rounds.quorum_contact_ns
            if self.standing.leads
            else self.heard_leader_ns
        )
        if heard_ns is None:
            return False
        return now.mono_ns - heard_ns < self.settings.election_timeout_ms_min * 1e6
