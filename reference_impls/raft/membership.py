"""Membership changes, one server at a time, and leadership transfer (thesis 3.10, 4).

Single-server changes (thesis 4.1): any majority of the old members and any majority of
the new ones have a server in common, so a server may use a configuration as soon as it
is in its log. Two rules keep the configurations one step apart: the last change must be
committed before the next begins, and so must an entry of the leader's own term. The
second one the thesis lacked; without it two leaders' changes can part the cluster
(Ongaro, "bug in single-server membership changes", raft-dev, July 2015).

Servers that are no members are learners: they get the log, and pass requests on, but
count in no majority. A server that is to become a member is one already, and is brought
level first (thesis 4.2.1): rounds, each up to where the log ended when it began, until
one is over within an election timeout.

A leader that removes itself leads on until that is committed, without counting itself
(thesis 4.2.2), and then hands its leadership over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.actor import (
    MALFORMED_REQUEST,
    NODE_NOT_FOUND,
    PRECONDITION_FAILED,
    TIMEOUT,
    error,
)
from reference_impls.raft.log import Entry
from reference_impls.raft.members import CHANGES
from reference_impls.raft.server import LEADER, CatchUp, Server, Transfer

if TYPE_CHECKING:
    from reference_impls.actor import Body, Now, Received

CATCH_UP_ROUNDS_MAX = 10

ADMIN = {"add_server": "node", "remove_server": "node", "transfer_leadership": "to"}
"""An operator's requests, and which field names the server they are about."""


class Membership(Server):
    """How members come and go, and how leadership changes hands on purpose."""

    def on_admin(self, request: Received) -> None:
        """An operator's request; only the leader takes those."""
        kind = request.body["type"]
        name = request.body.get(ADMIN[kind])
        if type(name) is not str:
            text = f"{kind} needs {ADMIN[kind]!r}, a server's name"
            self.answer(request, error(MALFORMED_REQUEST, text))
        elif name not in self.servers:
            text = f"there is no server {name!r} (there are: {', '.join(self.servers)})"
            self.answer(request, error(NODE_NOT_FOUND, text))
        elif self.role != LEADER:
            leader = f"{self.leader} is" if self.leader else "and knows of none"
            self.refuse(request, f"isn't the leader, {leader}")
        elif kind == "transfer_leadership":
            self.on_transfer_leadership(request, name)
        else:
            self.on_change(request, name)

    def on_answer(self, src: str, now: Now) -> None:
        """A follower answered an append: someone may have waited for that."""
        if self.role == LEADER:
            self.on_progress(src, now)
            self.hand_over()

    # --- changes (thesis 4.1, Figure 4.1) ----------------------------------------

    def on_change(self, request: Received, name: str) -> None:
        """AddServer and RemoveServer, as far as they can be begun now."""
        adds = request.body["type"] == "add_server"
        if not self.may_change_members():
            self.refuse(request, "can't change the members yet")
        elif adds == (name in self.members.names):
            self.answer(request, self.changed(request.body["type"]))
        elif self.members.names == (name,):
            text = f"{name} is the only member"
            self.answer(request, error(PRECONDITION_FAILED, text))
        elif adds:
            self.bring_level(request, name, 1, request.now)
        else:
            rest = [other for other in self.members.names if other != name]
            self.change_members(request, name, rest, request.now)

    def may_change_members(self) -> bool:
        """One change at a time, and none before this term's no-op (raft-dev 2015)."""
        return (
            self.committed_in_this_term()
            and self.members.index <= self.commit_index
            and self.catch_up is None
            and self.transfer is None
        )

    def change_members(
        self, request: Received, name: str, names: list[str], now: Now
    ) -> None:
        """Append the new configuration, which counts from now on (thesis 4.1)."""
        command = {"type": request.body["type"], "node": name, "members": sorted(names)}
        index = self.log.last_index + 1
        self.abandon_proposed(index)
        self.proposed[index] = self.waiting(request, command)
        self.append_and_replicate([Entry(self.current_term, command)], now)

    def changed(self, kind: str) -> dict[str, Any]:
        """The answer to a change that is done."""
        return {"type": f"{kind}_ok", "members": list(self.members.names)}

    # --- catching up (thesis 4.2.1) ----------------------------------------------

    def bring_level(self, request: Received, name: str, round_: int, now: Now) -> None:
        """Begin a round: up to here, and soon."""
        target = self.log.last_index
        self.catch_up = CatchUp(request, name, target, round_, now.mono_ns)
        self.on_progress(name, now)

    def on_progress(self, src: str, now: Now) -> None:
        """A follower answered: is a round over, or all of it?"""
        catch_up = self.catch_up
        if catch_up is None or src != catch_up.node:
            return
        if self.match_index[src] < catch_up.target:
            return
        took_ns = now.mono_ns - catch_up.since_ns
        request, name = catch_up.request, catch_up.node
        if took_ns <= self.election_timeout_ms_min * 1e6:
            self.catch_up = None
            self.change_members(request, name, [*self.members.names, name], now)
        elif catch_up.round < CATCH_UP_ROUNDS_MAX:
            self.bring_level(request, name, catch_up.round + 1, now)
        else:
            self.give_up_catch_up(f"{name} can't keep up")

    def check_catch_up(self, now: Now) -> None:
        """A round that takes too long is the last: the server may be down."""
        catch_up = self.catch_up
        if catch_up is not None:
            took_ns = now.mono_ns - catch_up.since_ns
            if took_ns > self.request_timeout_ms * 1e6:
                self.give_up_catch_up(f"{catch_up.node} doesn't come level")

    def give_up_catch_up(self, why: str) -> None:
        """Nothing was appended, so nothing has changed."""
        assert self.catch_up is not None
        request, self.catch_up = self.catch_up.request, None
        self.refuse(request, why)

    # --- leaving (thesis 4.2.2) --------------------------------------------------

    def leave_if_removed(self) -> None:
        """A leader steps down once the configuration without it is committed."""
        if self.role != LEADER or self.node in self.members.names:
            return
        if self.members.index <= self.commit_index:
            heir = max(self.members.names, key=lambda n: self.match_index.get(n, 0))
            self.observe("left", term=self.current_term, heir=heir)
            self.send_timeout_now(heir)
            self.become_follower(self.current_term, None)

    # --- leadership transfer (thesis 3.10) ---------------------------------------

    def on_transfer_leadership(self, request: Received, to: str) -> None:
        """Take no new requests, bring `to` level, and tell it to stand at once."""
        if to == self.node:
            self.answer(request, self.transferred(to))
        elif to not in self.members.names:
            text = f"{to} is no member"
            self.answer(request, error(PRECONDITION_FAILED, text))
        elif self.transfer is not None or self.catch_up is not None:
            self.refuse(request, "is busy with another change")
        else:
            self.transfer = Transfer(request, to)
            self.set_timer("transfer", self.election_timeout_ms_max)
            self.hand_over()

    def hand_over(self) -> None:
        """Once the heir holds the whole log, it can win any vote."""
        if self.transfer is None or self.transfer.is_sent:
            return
        heir = self.transfer.to
        if self.match_index[heir] == self.log.last_index:
            self.transfer = self.transfer._replace(is_sent=True)
            self.observe("hands_over", term=self.current_term, to=heir)
            self.send_timeout_now(heir)

    def send_timeout_now(self, heir: str) -> None:
        """Let the heir disregard this leader.

        From here on voters may, too, however late the message arrives and whatever came
        of the transfer: so the lease is over for this term (thesis 6.4.1).
        """
        self.gave_up_lease = True
        self.send(heir, {"type": "timeout_now", "term": self.current_term})

    def on_timeout_now(self, body: Body, now: Now) -> None:
        """Stand for election at once, with the leader's blessing."""
        if body["term"] != self.current_term or self.role == LEADER:
            return
        if self.may_campaign():
            self.reset_election_timer()
            self.become_candidate(now, transfer=True)

    def on_transfer_timeout(self) -> None:
        """It took an election timeout, so serve on if this is still the leader."""
        if self.transfer is None:
            return
        text = f"{self.node}: {self.transfer.to} did not take over"
        request, self.transfer = self.transfer.request, None
        self.answer(request, error(TIMEOUT, text))
        if self.role == LEADER:
            self.set_timer("batch", 0)

    def settle_transfer(self, leader: str) -> None:
        """There is a new leader, and here is who."""
        if self.transfer is None:
            return
        request, to, _ = self.transfer
        self.transfer = None
        self.cancel_timer("transfer")
        if leader == to:
            self.answer(request, self.transferred(to))
        else:
            self.refuse(request, f"{leader} leads, not {to}")

    def transferred(self, to: str) -> dict[str, Any]:
        """The answer to a transfer that is done."""
        return {"type": "transfer_leadership_ok", "leader": to}


assert set(ADMIN) > CHANGES
