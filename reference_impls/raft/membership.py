"""Membership changes, one server at a time (thesis 4).

Single-server changes (thesis 4.1): any majority of the old members and any majority of
the new ones have a server in common, so a server may use a configuration as soon as it
is in its log. Two rules keep the configurations one step apart: the last change must be
committed before the next begins, and so must an entry of the leader's own term. The
thesis lacked the second rule; without it two leaders' changes can split the cluster
(Ongaro, "bug in single-server membership changes", raft-dev, July 2015).

Servers that are no members are learners: they get the log, and pass requests on, but
count in no majority. So a server that is to become a member is a learner already. It is
first brought level (thesis 4.2.1), in rounds: each goes up to where the log ended when
it began. Once a round is over within an election timeout, the server becomes a member.

A leader that removes itself leads on until that is committed, without counting itself
(thesis 4.2.2), and then hands its leadership over.

A change that was made before is appended again. So its answer, too, waits for a
majority: a leader that was deposed would vouch for members of long ago, and an operator
who believes that a server is no member may empty its disk.

A server that joins may have an empty disk, though this leader knew it with a full one.
So what it said before is void, and it is added as the incarnation that it shows after
that (`members.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls.actor import (
    MALFORMED_REQUEST,
    NODE_NOT_FOUND,
    NOT_A_MEMBER,
    PRECONDITION_FAILED,
    error,
)
from reference_impls.raft.log import Entry
from reference_impls.raft.members import CHANGES

if TYPE_CHECKING:
    from reference_impls.actor import Now, Received
    from reference_impls.core import Outbox
    from reference_impls.raft.log import Log
    from reference_impls.raft.machine import StateMachine
    from reference_impls.raft.options import Settings
    from reference_impls.raft.replication import Replication
    from reference_impls.raft.requests import Requests
    from reference_impls.raft.standing import Standing
    from reference_impls.raft.transfer import Transfer

CATCH_UP_ROUNDS_MAX = 10

ADMIN = frozenset({*CHANGES, "transfer", "members"})
"""An operator's requests; all but `members` name a server in the field `node`."""


class CatchUp(NamedTuple):
    """A server that is to become a member, and is brought level before (thesis 4.2.1).

    Attributes:
        request: The operator's request.
        node: The server.
        target: The round ends when the server holds the log up to this index.
        round: Rounds so far, this one included.
        since_ns: When the round began, on the leader's monotonic clock.
    """

    request: Received
    node: str
    target: int
    round: int
    since_ns: int


@dataclass(eq=False)
class Membership:
    """Changes the members, one at a time, as an operator asks the leader to."""

    out: Outbox  # names the servers
    settings: Settings  # how long it may take to come level
    standing: Standing  # the term, and whether this server leads it
    log: Log  # holds the configurations
    machine: StateMachine  # what is committed
    # appends a configuration, and knows how far a new server is
    replication: Replication
    requests: Requests  # answers the operator
    transfer: Transfer  # the other thing an operator may ask for

    catch_up: CatchUp | None = None  # the server that is being brought level

    def on_admin(self, request: Received) -> None:
        """Begin what an operator asks for, if this server leads and it is possible."""
        answer, servers = self.requests.answer, self.out.servers
        kind = request.body["type"]
        name = request.body.get("node")
        if kind == "members":
            self.tell(request)
        elif type(name) is not str:
            text = f"{kind} needs 'node', a server's name"
            answer(request, error(MALFORMED_REQUEST, text))
        elif name not in servers:
            text = f"there is no server {name!r} (there are: {', '.join(servers)})"
            answer(request, error(NODE_NOT_FOUND, text))
        elif not self.standing.leads:
            self.pass_by(request)
        elif kind == "transfer":
            is_busy = self.catch_up is not None
            self.transfer.on_request(request, name, is_busy=is_busy)
        else:
            self.on_change(request, name)

    def tell(self, request: Received) -> None:
        """Name the members, if this server leads; committed or not, they count."""
        if self.standing.leads:
            members = list(self.log.members.names)
            self.requests.answer(request, {"type": "members_ok", "members": members})
        else:
            self.pass_by(request)

    def pass_by(self, request: Received) -> None:
        """Say that an operator has to ask the leader, and who that is."""
        if self.is_removed():
            text = f"{self.out.node} is no member"
            self.requests.answer(request, error(NOT_A_MEMBER, text))
            return
        leader = self.standing.leader
        known = f"{leader} is" if leader else "and knows of none"
        self.requests.refuse(request, f"isn't the leader, {known}")

    # --- changes (thesis 4.1, Figure 4.1) ----------------------------------------

    def on_change(self, request: Received, name: str) -> None:
        """Begin AddServer or RemoveServer, or answer why it can't begin now."""
        members = self.log.members.names
        adds = request.body["type"] == "add"
        if not self.may_change():
            self.requests.refuse(request, "can't change the members yet")
        elif adds == (name in members):
            self.change(request, name, list(members), request.now)
        elif members == (name,):
            text = f"{name} is the only member"
            self.requests.answer(request, error(PRECONDITION_FAILED, text))
        elif adds:
            self.replication.distrust(name)
            self.bring_level(request, name, 1, request.now)
            self.replication.heartbeat(request.now)  # which asks how far it is
        else:
            rest = [other for other in members if other != name]
            self.change(request, name, rest, request.now)

    def may_change(self) -> bool:
        """True if no change is under way and this term's no-op is committed."""
        return (
            self.committed_in_this_term()
            and self.log.members.index <= self.machine.commit_index
            and self.catch_up is None
            and self.transfer.under_way is None
        )

    def committed_in_this_term(self) -> bool:
        """Is this leader's no-op committed? (raft-dev, July 2015).

        Until then the last leader's change may be alive, in a log that this one can't
        see, and two majorities of configurations two steps apart need not meet.
        """
        last_committed = self.log.term_at(self.machine.commit_index)
        return last_committed == self.standing.current_term

    def change(self, request: Received, name: str, names: list[str], now: Now) -> None:
        """Append the new configuration, which counts from now on (thesis 4.1)."""
        members, kind = self.log.members, request.body["type"]
        command: dict[str, Any] = {"type": kind, "node": name, "members": sorted(names)}
        incarnations = {n: i for n, i in members.incarnations.items() if n in names}
        if name in names and name not in members.names:
            shown = self.replication.quorum.shown.get(name, 0)
            incarnations |= {name: shown} if shown else {}
        if incarnations:
            command["incarnations"] = incarnations
        self.requests.propose_at(self.log.last_index + 1, request, command)
        self.replication.append([Entry(self.standing.current_term, command)], now)

    def is_removed(self) -> bool:
        """Is this server known for sure to be no member? (thesis 4.2.2)."""
        members = self.log.members
        return (
            not members.has(self.out.node, self.settings.incarnation)
            and members.index <= self.machine.commit_index
        )

    # --- catching up (thesis 4.2.1) ----------------------------------------------

    def bring_level(self, request: Received, name: str, round_: int, now: Now) -> None:
        """Begin a round, which goes up to where the log ends now."""
        target = self.log.last_index
        self.catch_up = CatchUp(request, name, target, round_, now.mono_ns)
        self.on_progress(name, now)

    def on_progress(self, src: str, now: Now) -> None:
        """End the round, or the catching up, if the follower's answer says so."""
        catch_up = self.catch_up
        if catch_up is None or src != catch_up.node:
            return
        if self.replication.match_index[src] < catch_up.target:
            return
        took_ns = now.mono_ns - catch_up.since_ns
        request, name = catch_up.request, catch_up.node
        if took_ns <= self.settings.election_timeout_ms_min * 1e6:
            self.catch_up = None
            self.change(request, name, [*self.log.members.names, name], now)
        elif catch_up.round < CATCH_UP_ROUNDS_MAX:
            self.bring_level(request, name, catch_up.round + 1, now)
        else:
            self.give_up_catch_up(f"{name} can't keep up")

    def check_catch_up(self, now: Now) -> None:
        """Give up if the round takes too long: the server may be down."""
        catch_up = self.catch_up
        if catch_up is not None:
            took_ns = now.mono_ns - catch_up.since_ns
            if took_ns > self.settings.request_timeout_ms * 1e6:
                self.give_up_catch_up(f"{catch_up.node} doesn't come level")

    def give_up_catch_up(self, why: str) -> None:
        """Refuse to add the server; nothing was appended, so nothing has changed."""
        if self.catch_up is not None:
            request, self.catch_up = self.catch_up.request, None
            self.requests.refuse(request, why)
