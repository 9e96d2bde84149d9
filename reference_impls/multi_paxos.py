"""Multi-Paxos (van Renesse and Altinbuken 2015; Lamport 2001, section 3), serving `kv`.

A log of instances of Paxos, called slots. Each server is replica, acceptor and, when
its turn comes, leader; below, "PMMC" is the paper of 2015, "Paxos Made Moderately
Complex", whose names are used: `ballot_num, accepted, slot_in, slot_out, proposals,
decisions`.

- *Phase 1, once for all slots.* A server that hasn't heard from a leader for a while
  chooses a higher ballot and has the acceptors `prepare` (PMMC: a scout). With promises
  from a majority its ballot is adopted. For every slot it proposes again what the
  highest ballot had there, and fills gaps with no-ops (Lamport 3).
- *Phase 2, for every slot.* The leader assigns clients' commands to slots and has them
  accepted (PMMC: commanders). What a majority accepted is decided.
- *Replicas* carry out what is decided, in the order of slots. Every message of the
  leader says up to which slot all is decided. What a replica accepted in such a slot
  under the leader's ballot is what was decided, as a ballot has one value there. It
  asks for the decisions of other slots.

What survives a crash: `ballot_num` and `accepted`, through `Persist`, before any answer
leaves, and how far decisions had been known.

Choices:

- *A ballot* is (round, server), as in `paxos`. Clients and checkers know it as a whole
  number, the term: ballots of one round differ by the server's place among all.
- *Decided is accepted for good.* Replica and acceptor share one log. An acceptor tells
  a candidate how far it knows the decisions, and what it accepted beyond (PMMC 4.2).
  The candidate learns all decisions that any of its majority knows before it leads.
- *Window.* At most `window` slots are under way (PMMC: WINDOW), and an acceptor takes
  no more than two windows beyond what it knows to be decided. So promises are of
  bounded size, and an acceptor that fell behind catches up first.
- *Heartbeats* are accepts without commands. Accepts that got lost are sent again with
  them.
- *Reads* go through the log like writes.
- *No pre-vote.* A server that was cut off comes back with a higher ballot, and an
  election follows. PMMC has no pre-vote either.
- *What a client is told.* A command belongs to one slot for good, and is recognised by
  the ballot that first proposed it. If another command is decided in the slot, the
  command has failed for sure. If none is known to be decided in time, the answer is 13:
  nobody knows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from reference_impls import kv
from reference_impls.actor import (
    COUNT,
    CRASH,
    MS,
    Actor,
    Body,
    Effect,
    Event,
    Now,
    Option,
    Received,
    Record,
    TimerFired,
    error,
)
from reference_impls.core import is_count, well_formed
from reference_impls.forwarding import FORWARD_MESSAGES, ForwardingCore, Waiting
from reference_impls.override import override
from reference_impls.paxos import NO_BALLOT, Ballot, is_ballot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reference_impls.core import Fields

canonical = json.JSONEncoder(sort_keys=True).encode
"""The JSON of a command, the same on every server."""

SUMMARY = "Multi-Paxos with a replicated key-value store"
FORMAT_VERSION = 1
"""Version of the records in the log on disk."""

MOMENTS = (
    "became_candidate",
    "promised",
    "became_leader",
    "became_follower",
    "accepted",
    "applied",
)
"""Events at which a fault may hurt most: something has begun, and isn't done yet."""

OPTIONS = (
    Option(
        "election_timeout_ms_min", "150", "least wait for a leader before electing", MS
    ),
    Option(
        "election_timeout_ms_max", "300", "most wait for a leader before electing", MS
    ),
    Option("heartbeat_ms", "50", "how often a leader shows that it is there", MS),
    Option("window", "128", "most slots that are proposed and not decided", COUNT),
    Option("entries_per_message_max", "128", "most slots in one message", COUNT),
    Option("request_timeout_ms", "1000", "when an unanswered request is given up", MS),
)

FOLLOWER = "follower"
CANDIDATE = "candidate"
LEADER = "leader"

NOOP: kv.Command = {"type": "noop"}


class Entry(NamedTuple):
    """A command in its slot; a list of two in JSON.

    Attributes:
        origin: The ballot that first proposed it there. With the slot it identifies the
            command, however often later leaders propose it again.
        command: A client's command, or NOOP.
    """

    origin: Ballot
    command: kv.Command


class PValue(NamedTuple):
    """An entry accepted in a slot under a ballot (PMMC: pvalue); a JSON list of two."""

    ballot: Ballot
    entry: Entry


class Promise(NamedTuple):
    """An acceptor's answer to a prepare.

    Attributes:
        decided: The last slot up to which the acceptor knows all decisions.
        accepted: What it accepted in later slots.
    """

    decided: int
    accepted: Mapping[int, PValue]


class MultiPaxos(ForwardingCore):
    """One server. The rules live in small methods, each with its source."""

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        super().__init__(node, peers, options["request_timeout_ms"])
        self.election_timeout_ms_min: float = options["election_timeout_ms_min"]
        self.election_timeout_ms_max: float = options["election_timeout_ms_max"]
        self.heartbeat_ms: float = options["heartbeat_ms"]
        self.window: int = options["window"]
        self.entries_per_message_max: int = options["entries_per_message_max"]

        # acceptor: on disk before any message that depends on it leaves
        self.ballot_num = NO_BALLOT
        self.accepted: dict[int, PValue] = {}  # in slots not known to be decided

        # replica: rebuilt from disk and peers
        self.decisions: list[Entry] = [Entry(NO_BALLOT, NOOP)]  # the first slot is 1
        self.chosen: dict[int, Entry] = {}  # decided, but a slot before isn't known
        self.state = kv.KeyValueStore()
        self.proposed: dict[int, Waiting] = {}  # by slot; outlives leadership

        # volatile
        self.role = FOLLOWER
        self.leader: str | None = None
        self.highest_seen = NO_BALLOT  # in refusals
        self.promises: dict[str, Promise] = {}  # candidate only

        # leader only: made anew at each election
        self.slot_in = 1  # the next slot to propose a command for
        self.proposals: dict[int, Entry] = {}  # not decided yet
        self.accepted_by: dict[int, set[str]] = {}
        self.sent_in: dict[int, int] = {}  # slot -> heartbeat after which it was sent
        self.heartbeat = 0
        self.heard_ns: dict[str, int] = {}
        self.batch: list[tuple[Received, kv.Command]] = []

    # --- the actor ---------------------------------------------------------------

    @override
    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin as a follower with what the disk remembers."""
        for record in recovered:
            self.recover(record)
        self.recovered_term = self.term_of(self.ballot_num)
        if recovered:
            self.observe("recovered", ballot=self.ballot_num, decided=self.decided)
        self.reset_election_timer()
        return self.take_effects()

    @override
    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, TimerFired):
            self.on_timer(event.name, event.now)
        elif event.src in self.peers:
            self.on_peer_message(event)
        else:
            self.on_request(event)
        self.check_invariants()
        return self.take_effects()

    @override
    def status(self) -> dict[str, Any]:
        """This server's role, term, leader, ballot and decisions."""
        return {
            "role": self.role,
            "term": self.term_of(self.ballot_num),
            "leader": self.leader,
            "ballot": self.ballot_num,
            "decided": self.decided,
        }

    def on_timer(self, name: str, now: Now) -> None:
        """Dispatch a timer."""
        match name:
            case "election":
                self.on_election_timeout(now)
            case "heartbeat":
                self.on_heartbeat(now)
            case "batch":
                self.on_batch()
            case "sweep":
                self.on_sweep()
            case _:
                pass

    def on_peer_message(self, event: Received) -> None:
        """Dispatch a peer's message, once it is known to make sense."""
        src, body, now = event.src, event.body, event.now
        if not well_formed(body, MESSAGES):
            return
        match body["type"]:
            case "accept":
                self.on_accept(src, body)
            case "accepted":
                self.on_accepted(src, body, now)
            case "forward":
                self.on_forward(event)
            case "forward_reply":
                self.on_forward_reply(body)
            case "prepare":
                self.on_prepare(src, Ballot(*body["ballot"]))
            case "promise":
                self.on_promise(src, body, now)
            case "refused":
                self.on_refused(Ballot(*body["promised"]))
            case "catch_up":
                self.on_catch_up(src, body["slot"])
            case _:
                self.on_decisions(src, body, now)

    def check_invariants(self) -> None:
        """Assert what holds after every step, whatever messages said."""
        assert self.slot_out not in self.chosen, "decided, but not carried out"
        if self.role == LEADER:
            assert self.ballot_num.server == self.node, "leads another's ballot"
            assert self.slot_in >= self.slot_out, "would propose in a decided slot"
        else:
            assert not self.batch, "requests wait without a leader"

    @property
    def decided(self) -> int:
        """The last slot up to which this server knows all decisions."""
        return len(self.decisions) - 1

    @property
    def slot_out(self) -> int:
        """The next slot to carry out (PMMC: slot_out)."""
        return len(self.decisions)

    def term_of(self, ballot: Ballot) -> int:
        """A ballot as a number: in the same order, and one for each ballot."""
        if ballot.server not in self.servers:
            return 0
        return ballot.round * len(self.servers) + self.servers.index(ballot.server)

    # --- phase 1: candidates and acceptors (PMMC: scouts) ------------------------

    def on_election_timeout(self, now: Now) -> None:
        """Prepare all slots under a higher ballot, as no leader was heard from.

        This server's own promise is durable before anyone hears of the ballot, so no
        later life of it uses the ballot again.
        """
        if self.role == LEADER:
            return
        highest = max(self.ballot_num, self.highest_seen)
        self.promise(Ballot(highest.round + 1, self.node))
        self.role = CANDIDATE
        self.observe("became_candidate", term=self.term_of(self.ballot_num))
        self.broadcast({"type": "prepare", "ballot": self.ballot_num})
        self.promises = {self.node: Promise(self.decided, dict(self.accepted))}
        self.lead_if_adopted(now)

    def on_prepare(self, src: str, ballot: Ballot) -> None:
        """Phase 1(b): promise, and tell what is decided and accepted (PMMC: p1b)."""
        if not self.may_promise(ballot):
            self.refuse_ballot(src, ballot)
            return
        self.promise(ballot)
        body = {
            "type": "promise",
            "ballot": ballot,
            "decided": self.decided,
            "accepted": [[slot, *pvalue] for slot, pvalue in self.accepted.items()],
        }
        self.send(src, body)

    def may_promise(self, ballot: Ballot) -> bool:
        """True above the ballot of any prepare answered so far (Lamport 2.2, 1(b))."""
        return ballot > self.ballot_num

    def promise(self, ballot: Ballot) -> None:
        """Accept nothing below `ballot` from now on, and follow no leader of before."""
        self.ballot_num = ballot
        self.persist({"ballot": ballot, "decided": self.decided})
        self.follow(None)
        self.observe("promised", ballot=ballot)
        self.reset_election_timer()

    def refuse_ballot(self, src: str, ballot: Ballot) -> None:
        """Tell the sender of `ballot` which ballot this acceptor has promised."""
        self.send(
            src, {"type": "refused", "ballot": ballot, "promised": self.ballot_num}
        )

    def on_promise(self, src: str, body: Body, now: Now) -> None:
        """Count promises; with a majority of them the ballot is adopted."""
        if self.role != CANDIDATE or Ballot(*body["ballot"]) != self.ballot_num:
            return
        accepted = {
            slot: PValue(Ballot(*ballot), as_entry(entry))
            for slot, ballot, entry in body["accepted"]
        }
        self.promises[src] = Promise(body["decided"], accepted)
        self.lead_if_adopted(now)

    def lead_if_adopted(self, now: Now) -> None:
        """Lead once a majority promised and all decisions that it knows are known here.

        If the acceptor that knows more goes away, the next candidacy asks another
        majority.
        """
        if not self.is_quorum(self.promises):
            return
        furthest = max(self.promises, key=lambda src: self.promises[src].decided)
        if self.promises[furthest].decided > self.decided:
            self.ask_to_catch_up(furthest)
        else:
            self.become_leader(now)

    def become_leader(self, now: Now) -> None:
        """Take over: propose again what may have been decided (PMMC: adopted).

        If a command was decided in a slot beyond those whose decisions this majority
        knows, then one of this majority accepted it, and its promise says so.
        """
        highest = self.highest_pvalues()
        self.role = LEADER
        self.leader = self.node
        self.slot_in = max(highest, default=self.decided) + 1
        self.proposals, self.accepted_by, self.sent_in = {}, {}, {}
        self.heard_ns = dict.fromkeys(self.peers, now.mono_ns)
        self.promises = {}
        self.cancel_timer("election")
        self.set_timer("heartbeat", self.heartbeat_ms)
        gaps = [s for s in range(self.slot_out, self.slot_in) if s not in highest]
        self.observe(
            "became_leader",
            term=self.term_of(self.ballot_num),
            slot_in=self.slot_in,
            gaps=gaps,
        )
        self.propose_entries({slot: p.entry for slot, p in highest.items()})
        self.fill_gaps(gaps)
        self.broadcast_heartbeat()

    def highest_pvalues(self) -> dict[int, PValue]:
        """Undecided slot -> the pvalue of the highest ballot there (PMMC: pmax)."""
        highest: dict[int, PValue] = {}
        for promise in self.promises.values():
            for slot, pvalue in promise.accepted.items():
                if slot <= self.decided:
                    continue
                if slot not in highest or pvalue.ballot > highest[slot].ballot:
                    highest[slot] = pvalue
        return highest

    def fill_gaps(self, gaps: Sequence[int]) -> None:
        """Propose no-ops in slots where nothing can have been decided (Lamport 3)."""
        self.propose_entries({slot: Entry(self.ballot_num, NOOP) for slot in gaps})

    def on_refused(self, promised: Ballot) -> None:
        """Give up this ballot: an acceptor promised a higher one (PMMC: preempted)."""
        self.highest_seen = max(self.highest_seen, promised)
        if promised > self.ballot_num and self.role != FOLLOWER:
            self.follow(None)
            self.reset_election_timer()

    def follow(self, leader: str | None) -> None:
        """Follow `leader`, or wait for one if it is None."""
        if self.leader is not None and leader != self.leader:
            self.abandon_forwarded("its leader is another now")
        if self.role == LEADER:
            self.resign()
        if self.role != FOLLOWER or leader != self.leader:
            term = self.term_of(self.ballot_num)
            self.observe("became_follower", term=term, leader=leader)
        self.role = FOLLOWER
        self.leader = leader

    def resign(self) -> None:
        """Stop leading.

        Requests that never left fail for sure; the others stay in `proposed`.
        """
        self.cancel_timer("heartbeat")
        self.proposals, self.accepted_by = {}, {}
        for request, _ in self.batch:
            self.refuse(request, "lost its leadership before it proposed the request")
        self.batch.clear()

    # --- phase 2, the leader's side (PMMC: commanders) ---------------------------

    def on_batch(self) -> None:
        """Give the requests that have arrived slots, as far as the window goes."""
        if self.role != LEADER:
            return
        room = max(0, self.decided + self.window + 1 - self.slot_in)
        batch, self.batch = self.batch[:room], self.batch[room:]
        term = self.term_of(self.ballot_num)
        entries: dict[int, Entry] = {}
        for slot, (request, command) in enumerate(batch, self.slot_in):
            self.abandon_proposed(slot)
            self.proposed[slot] = self.waiting(request, term)
            entries[slot] = Entry(self.ballot_num, command)
        self.slot_in += len(batch)
        self.propose_entries(entries)

    def propose_entries(self, entries: Mapping[int, Entry]) -> None:
        """Phase 2(a): ask the acceptors to accept each entry in its slot."""
        self.proposals.update(entries)
        for slot in entries:
            self.accepted_by[slot] = set()
        self.send_accepts(entries)

    def send_accepts(self, slots: Iterable[int]) -> None:
        """Send one message for each run of slots, which makes one record on every disk.

        The messages come before this server's own `Persist`, so that all disks work at
        the same time. This server counts itself at once. That is safe: what follows
        from it, such as an answer, comes after the `Persist`.
        """
        for run in runs(slots, self.entries_per_message_max):
            for slot in run:
                self.sent_in[slot] = self.heartbeat
            entries = [self.proposals[slot] for slot in run]
            self.broadcast(self.accept_message(run[0], entries))
            count = self.accept(self.ballot_num, run[0], entries)
            self.count_accepted(self.node, run[0], count)

    def accept_message(self, slot: int, entries: Sequence[Entry]) -> Body:
        """An accept for the slots from `slot` on."""
        return {
            "type": "accept",
            "ballot": self.ballot_num,
            "slot": slot,
            "entries": entries,
            "decided": self.decided,
        }

    def broadcast_heartbeat(self) -> None:
        """Show who leads, and how far decisions are known."""
        self.broadcast(self.accept_message(self.slot_out, []))

    def on_accepted(self, src: str, body: Body, now: Now) -> None:
        """Count acceptors; what a majority accepted is decided."""
        if self.role != LEADER or Ballot(*body["ballot"]) != self.ballot_num:
            return
        self.heard_ns[src] = now.mono_ns
        self.count_accepted(src, body["slot"], body["count"])

    def count_accepted(self, src: str, slot: int, count: int) -> None:
        """Count that `src` accepted `count` slots from `slot` on under this ballot."""
        for accepted in range(slot, min(slot + count, self.slot_in)):
            acceptors = self.accepted_by.get(accepted)
            if acceptors is None:
                continue
            acceptors.add(src)
            if self.is_quorum(acceptors):
                self.chosen[accepted] = self.proposals.pop(accepted)
                del self.accepted_by[accepted], self.sent_in[accepted]
        self.carry_out()

    def on_heartbeat(self, now: Now) -> None:
        """Send a heartbeat and what got lost, or stop leading if out of touch."""
        if self.role != LEADER:
            return
        if self.lost_touch(now):
            self.observe("lost_quorum", term=self.term_of(self.ballot_num))
            self.follow(None)
            self.reset_election_timer()
            return
        self.set_timer("heartbeat", self.heartbeat_ms)
        self.heartbeat += 1
        self.send_accepts(self.overdue())
        self.broadcast_heartbeat()

    def lost_touch(self, now: Now) -> bool:
        """True when no majority answered for an election timeout.

        Safety doesn't rest on it: it only lets clients have an answer sooner.
        """
        since_ns = now.mono_ns - self.election_timeout_ms_max * 1e6
        present = {src for src, heard in self.heard_ns.items() if heard >= since_ns}
        return not self.is_quorum({*present, self.node})

    def overdue(self) -> list[int]:
        """Slots sent before the last heartbeat and not decided; the lowest of them."""
        late = [s for s in self.proposals if self.sent_in[s] < self.heartbeat - 1]
        return sorted(late)[: self.entries_per_message_max]

    # --- phase 2, the acceptor's side --------------------------------------------

    def on_accept(self, src: str, body: Body) -> None:
        """Phase 2(b): accept, unless bound by a promise (PMMC: p2b)."""
        ballot = Ballot(*body["ballot"])
        if not self.may_accept(ballot):
            self.refuse_ballot(src, ballot)
            return
        if ballot > self.ballot_num:
            self.promise(ballot)
        self.follow(src)
        self.reset_election_timer()
        self.learn_decided(ballot, body["decided"])
        entries = [as_entry(entry) for entry in body["entries"]]
        count = self.accept(ballot, body["slot"], entries)
        self.send(
            src,
            {
                "type": "accepted",
                "ballot": ballot,
                "slot": body["slot"],
                "count": count,
            },
        )
        if not entries and self.decided < body["decided"]:
            self.ask_to_catch_up(src)

    def may_accept(self, ballot: Ballot) -> bool:
        """True if this acceptor has promised no higher ballot (Lamport 2.2, P1a)."""
        return ballot >= self.ballot_num

    def accept(self, ballot: Ballot, slot: int, entries: Sequence[Entry]) -> int:
        """Accept entries from `slot` on, as far as the window goes.

        Returns:
            How many are accepted. Decided slots count too: they hold the same value,
            for good.
        """
        last = self.decided + 2 * self.window
        count = min(len(entries), max(0, last + 1 - slot))
        pvalues = {
            s: PValue(ballot, entry)
            for s, entry in enumerate(entries[:count], slot)
            if s > self.decided and self.accepted.get(s) != PValue(ballot, entry)
        }
        if pvalues:
            self.accepted.update(pvalues)
            self.persist_accepted(pvalues)
            self.observe("accepted", ballot=ballot, slots=list(pvalues))
        return count

    # --- replicas (PMMC 2.1) -----------------------------------------------------

    def learn_decided(self, ballot: Ballot, decided: int) -> None:
        """Learn decisions up to slot `decided`, all of which the leader knows.

        What was accepted here under the leader's `ballot` is what was decided; what was
        accepted under an older ballot need not be.
        """
        for slot in range(self.slot_out, decided + 1):
            if slot in self.chosen:
                continue
            pvalue = self.accepted.get(slot)
            if pvalue is None or pvalue.ballot != ballot:
                break
            self.chosen[slot] = pvalue.entry
        self.carry_out()

    def carry_out(self) -> None:
        """Carry out decisions in the order of slots, as far as they are known."""
        if self.slot_out not in self.chosen:
            return
        lacking: list[tuple[int, Entry]] = []
        while self.slot_out in self.chosen:
            slot = self.slot_out
            entry = self.chosen.pop(slot)
            if not self.holds(slot, entry):
                lacking.append((slot, entry))
            self.accepted.pop(slot, None)
            self.decisions.append(entry)
            self.perform(slot, entry)
        if lacking:
            self.persist({"learned": lacking, "decided": self.decided})
        if self.batch:
            self.set_timer("batch", 0)  # there is room in the window again

    def holds(self, slot: int, entry: Entry) -> bool:
        """True when this disk has that entry in that slot already."""
        pvalue = self.accepted.get(slot)
        return pvalue is not None and pvalue.entry.origin == entry.origin

    def perform(self, slot: int, entry: Entry) -> None:
        """Carry out one command and answer the request that waits for its slot."""
        result = None
        if entry.command["type"] != "noop":
            result = self.state.apply(entry.command)
        term = self.term_of(entry.origin)
        text = canonical(entry.command)
        self.observe("applied", index=slot, term=term, hash=crc32(text.encode()))
        waiting = self.proposed.pop(slot, None)
        if waiting is None:
            return
        if waiting.term == term and result is not None:
            self.answer(waiting.request, result)
        else:
            # Another command is decided in its slot, so this one never will be.
            self.refuse(waiting.request, "another command was decided in its place")

    def ask_to_catch_up(self, src: str) -> None:
        """Ask for decisions; the next heartbeat makes this replica ask again."""
        self.send(src, {"type": "catch_up", "slot": self.slot_out})

    def on_catch_up(self, src: str, slot: int) -> None:
        """Hand another replica the decisions from `slot` on."""
        entries = self.decisions[max(1, slot) : slot + self.entries_per_message_max]
        if entries:
            body = {
                "type": "decisions",
                "slot": max(1, slot),
                "entries": entries,
                "decided": self.decided,
            }
            self.send(src, body)

    def on_decisions(self, src: str, body: Body, now: Now) -> None:
        """Learn the decisions that this replica asked for, and ask for the rest."""
        before = self.decided
        for slot, entry in enumerate(body["entries"], body["slot"]):
            if slot > self.decided:
                self.chosen.setdefault(slot, as_entry(entry))
        self.carry_out()
        if self.role == CANDIDATE and self.decided > before:
            self.reset_election_timer()
            self.lead_if_adopted(now)
        elif before < self.decided < body["decided"]:
            self.ask_to_catch_up(src)

    # --- requests ----------------------------------------------------------------

    def on_request(self, request: Received) -> None:
        """Check a client's request, then serve it or pass it on."""
        command, flaw = kv.parse(request.body)
        if command is None:
            assert flaw is not None
            self.answer(request, flaw)
        elif self.role == LEADER:
            self.serve(request, command)
        elif self.leader is not None:
            term = self.term_of(self.ballot_num)
            self.forward(request, command, self.leader, term)
        else:
            self.refuse(request, "no leader is known")

    @override
    def leading_term(self) -> int | None:
        return self.term_of(self.ballot_num) if self.role == LEADER else None

    @override
    def serve(self, request: Received, command: kv.Command) -> None:
        """Put a command, read or write, into the batch that gets slots next."""
        self.batch.append((request, command))
        self.set_timer("batch", 0)

    @override
    def give_up_proposed(self) -> bool:
        for slot in [s for s, w in self.proposed.items() if w.since < self.sweep]:
            self.abandon_proposed(slot)
        return bool(self.proposed)

    def abandon_proposed(self, slot: int) -> None:
        """Answer the request that waits for `slot`: nobody knows what is decided."""
        waiting = self.proposed.pop(slot, None)
        if waiting is not None:
            text = f"{self.node}: proposed, but not known to be decided"
            self.answer(waiting.request, error(CRASH, text))

    # --- the disk ----------------------------------------------------------------

    def persist_accepted(self, pvalues: Mapping[int, PValue]) -> None:
        """Persist what was accepted, and up to which slot decisions are known."""
        record = [[slot, *pvalue] for slot, pvalue in pvalues.items()]
        self.persist({"accepted": record, "decided": self.decided})

    def recover(self, record: Record) -> None:
        """Take back what was persisted; all records are replayed in their order.

        A record says up to which slot decisions are known. The decision in such a slot
        is what was learned, or else what had been accepted there before the record.
        """
        if "ballot" in record:
            self.ballot_num = max(self.ballot_num, Ballot(*record["ballot"]))
        for slot, entry in record.get("learned", ()):
            self.chosen[slot] = as_entry(entry)
        for slot, ballot, entry in record.get("accepted", ()):
            self.accepted[slot] = PValue(Ballot(*ballot), as_entry(entry))
            self.ballot_num = max(self.ballot_num, Ballot(*ballot))
        while self.decided < record["decided"]:
            slot = self.slot_out
            accepted = self.accepted.pop(slot, None)
            entry = self.chosen.pop(slot, accepted and accepted.entry)
            assert entry is not None, f"slot {slot} is decided, but not on the disk"
            self.decisions.append(entry)
            if entry.command["type"] != "noop":
                self.state.apply(entry.command)

    def reset_election_timer(self) -> None:
        """Wait for a leader, for a random time, so that candidates rarely meet."""
        self.set_timer(
            "election", self.election_timeout_ms_min, self.election_timeout_ms_max
        )


def runs(slots: Iterable[int], length_max: int) -> list[list[int]]:
    """Slots in order, cut into runs without gaps, none longer than `length_max`."""
    cut: list[list[int]] = []
    for slot in sorted(slots):
        if cut and cut[-1][-1] + 1 == slot and len(cut[-1]) < length_max:
            cut[-1].append(slot)
        else:
            cut.append([slot])
    return cut


# --- what peers say --------------------------------------------------------------


def as_entry(value: Sequence[Any]) -> Entry:
    """An entry out of JSON."""
    return Entry(Ballot(*value[0]), value[1])


def is_entry(value: Any) -> bool:
    """True for an origin and a command that this state machine knows."""
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 2
        or not is_ballot(value[0])
    ):
        return False
    command = value[1]
    if type(command) is not dict:
        return False
    return command.get("type") == "noop" or kv.parse(command)[0] is not None


def is_entries(value: Any) -> bool:
    """True for a list of entries."""
    return isinstance(value, list) and all(map(is_entry, value))


def is_accepted(value: Any) -> bool:
    """True for a list of slot, ballot and entry."""
    return isinstance(value, list) and all(
        isinstance(one, list)
        and len(one) == 3
        and is_count(one[0])
        and is_ballot(one[1])
        and is_entry(one[2])
        for one in value
    )


MESSAGES: Mapping[str, Fields] = {
    "prepare": {"ballot": is_ballot},
    "promise": {"ballot": is_ballot, "decided": is_count, "accepted": is_accepted},
    "accept": {
        "ballot": is_ballot,
        "slot": is_count,
        "entries": is_entries,
        "decided": is_count,
    },
    "accepted": {"ballot": is_ballot, "slot": is_count, "count": is_count},
    "refused": {"ballot": is_ballot, "promised": is_ballot},
    "catch_up": {"slot": is_count},
    "decisions": {"slot": is_count, "entries": is_entries, "decided": is_count},
    **FORWARD_MESSAGES,
}
"""The messages between peers: type -> field -> its check."""


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, Any],
    core: type[MultiPaxos] = MultiPaxos,
) -> Actor:
    """A server called `node`; `options` holds a value for each of OPTIONS.

    Raises:
        ValueError: Options that make no sense together.
    """
    server = core(node, peers, options)
    if server.election_timeout_ms_min > server.election_timeout_ms_max:
        raise ValueError("election_timeout_ms_min is above election_timeout_ms_max")
    if server.heartbeat_ms >= server.election_timeout_ms_min:
        raise ValueError("heartbeat_ms must be below election_timeout_ms_min")
    return server
