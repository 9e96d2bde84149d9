"""Replication, commitment and the state machine (paper 5.3, 5.4.2; thesis 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.raft.log import Entry
from reference_impls.raft.members import CHANGES
from reference_impls.raft.server import FOLLOWER, LEADER, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_impls import kv
    from reference_impls.actor import Body, Now


class Replication(Server):
    """How entries get from the leader's log into everyone's state."""

    # --- the leader's side (paper 5.3) -------------------------------------------

    def on_heartbeat(self, now: Now) -> None:
        """Show that there is a leader, or stop being one (thesis 6.2)."""
        if self.role != LEADER:
            return
        if self.lost_touch(now):
            self.observe("lost_quorum", term=self.current_term)
            self.become_follower(self.current_term, None)
            return
        self.set_timer("heartbeat", self.heartbeat_ms)
        self.start_round(now)
        self.broadcast_appends(heartbeat=True)

    def lost_touch(self, now: Now) -> bool:
        """True when no majority answered for an election timeout (thesis 6.2)."""
        silence_ns = now.mono_ns - self.quorum_contact_ns
        is_silent = silence_ns > self.election_timeout_ms_max * 1e6
        return is_silent and not self.is_quorum([self.node])

    def start_round(self, now: Now) -> None:
        """All appends from here on belong to a new round, sent now or later."""
        self.round += 1
        self.sent_rounds.append((self.round, now.mono_ns))
        if self.is_quorum([self.node]):
            self.on_quorum_round(self.round)

    def on_batch(self, now: Now) -> None:
        """All that had arrived is here: replicate it, confirm leadership for reads."""
        if self.role != LEADER or self.transfer is not None:
            return  # the batch waits for a transfer to fail, or is refused
        if self.sent_rounds and not self.batch:
            return  # the end of the round under way begins the next one, for reads
        batch, self.batch = self.batch, []
        first = self.log.last_index + 1
        for index, (request, command) in enumerate(batch, first):
            self.abandon_proposed(index)
            self.proposed[index] = self.waiting(request, command)
        entries = [Entry(self.current_term, command) for _, command in batch]
        self.append_and_replicate(entries, now)

    def append_and_replicate(self, entries: list[Entry], now: Now) -> None:
        """Append to one's own log and send to everyone.

        The sends come before the `Persist`, so the followers' disks work in parallel
        with this one (thesis 10.2.1). This server counts itself at once, which is safe
        because whatever follows from that, such as a reply, comes after the `Persist`.
        """
        first = self.log.last_index + 1
        self.extend_log(entries)
        self.start_round(now)
        self.broadcast_appends(heartbeat=False)
        if entries:
            self.persist_entries(first, entries)
            self.observe("appended", first=first, entries=entries)
        self.advance_commit_index()

    def broadcast_appends(self, *, heartbeat: bool) -> None:
        """Send what each follower lacks, but one append, or chunk, at a time.

        Followers at the same point get the same body, for the world to encode once.
        """
        bodies: dict[tuple[int, bool], Body] = {}
        for peer in self.peers:
            next_index = self.next_index[peer]
            empty = peer in self.in_flight
            if empty:
                # Its answer will show whether the append got there. Compaction may have
                # overtaken it meanwhile.
                next_index = max(next_index, self.log.base + 1)
            if next_index <= self.log.base:
                if heartbeat or peer not in self.outgoing:
                    self.send_chunk(peer)
            elif heartbeat or not empty:
                point = (next_index, empty)
                if point not in bodies:
                    bodies[point] = self.append_entries(next_index, empty=empty)
                self.send_append(peer, bodies[point])

    def send_next(self, peer: str) -> None:
        """Send what a follower lacks next: entries, or a snapshot in their place."""
        if self.next_index[peer] <= self.log.base:
            self.send_chunk(peer)
        else:
            body = self.append_entries(self.next_index[peer], empty=False)
            self.send_append(peer, body)

    def send_append(self, peer: str, body: Body) -> None:
        """Send an AppendEntries, and remember it when it carries entries."""
        if body["entries"]:
            last = body["prev_log_index"] + len(body["entries"])
            self.in_flight[peer] = (self.round, last)
        self.sent_round[peer] = self.round
        self.send(peer, body)

    def append_entries(self, next_index: int, *, empty: bool) -> Body:
        """AppendEntries' arguments (Figure 2) for a follower at `next_index`."""
        count = 0 if empty else self.entries_per_append_max
        return {
            "type": "append_entries",
            "term": self.current_term,
            "prev_log_index": next_index - 1,
            "prev_log_term": self.log.term_at(next_index - 1),
            "entries": self.log.since(next_index, count),
            "leader_commit": self.commit_index,
            "round": self.round,
        }

    def on_append_entries_reply(self, src: str, body: Body) -> None:
        """Learn how far a follower is, and whether a majority still follows."""
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        if self.role != LEADER or body["term"] != self.current_term:
            return
        self.on_round_acked(src, body["round"])
        self.settle_in_flight(src, body)
        if body["success"]:
            self.on_match(src, body["match_index"])
        elif src not in self.in_flight and src not in self.outgoing:
            self.next_index[src] = self.back_up(body)
            self.send_next(src)

    def settle_in_flight(self, src: str, body: Body) -> None:
        """Was this the answer to the append in flight, or to something sent later?

        In the latter case the append was lost, or the answer to it was.
        """
        sent_round, last = self.in_flight.get(src, (0, 0))
        acked = body["round"]
        answered = not body["success"] or body["match_index"] >= last
        if acked > sent_round or (acked == sent_round and answered):
            self.in_flight.pop(src, None)

    def on_match(self, src: str, match_index: int) -> None:
        """The follower's log equals this one up to `match_index`; send it the rest."""
        match_index = min(match_index, self.log.last_index)
        if match_index > self.match_index[src]:
            self.match_index[src] = match_index
            self.advance_commit_index()
        if src in self.in_flight:
            return
        self.next_index[src] = self.match_index[src] + 1
        outgoing = self.outgoing.get(src)
        if outgoing is not None and match_index >= outgoing.snapshot.last_index:
            del self.outgoing[src]
        lacks_entries = self.next_index[src] <= self.log.last_index
        lacks_round = bool(self.waiting_reads) and self.sent_round[src] < self.round
        if (lacks_entries or lacks_round) and src not in self.outgoing:
            self.send_next(src)

    def back_up(self, body: Body) -> int:
        """Where to try next after a mismatch, a term at a time (paper 5.3).

        If this log has entries of the conflicting term, try behind the last of them;
        otherwise where the follower's entries of that term begin.
        """
        index: int = min(body["conflict_index"], self.log.last_index + 1)
        if body["conflict_term"]:
            index = self.log.last_index_of_term(body["conflict_term"]) + 1 or index
        return max(index, 1)

    def advance_commit_index(self) -> None:
        """Figure 2, leaders: commit what a majority stores, if it is of this term."""
        index = self.quorum_value(self.match_index, self.log.last_index)
        if index > self.commit_index and self.may_commit(index):
            self.commit(index)

    def may_commit(self, index: int) -> bool:
        """Count replicas of this term's entries only (paper 5.4.2, Figure 8)."""
        return self.log.term_at(index) == self.current_term

    def committed_in_this_term(self) -> bool:
        """Until then a leader may not know all that is committed (paper 8)."""
        return self.log.term_at(self.commit_index) == self.current_term

    # --- the follower's side (paper 5.3) -----------------------------------------

    def on_append_entries(self, src: str, body: Body, now: Now) -> None:
        """AppendEntries (Figure 2)."""
        if body["term"] < self.current_term:
            self.reply_to_append(src, body, success=False)
            return
        self.follow(src, body["term"], now)
        if not self.matches(body["prev_log_index"], body["prev_log_term"]):
            self.reply_to_append(src, body, success=False)
            return
        self.store_entries(body["prev_log_index"], body["entries"])
        last_new_entry = body["prev_log_index"] + len(body["entries"])
        self.commit(min(body["leader_commit"], last_new_entry))
        self.reply_to_append(src, body, success=True, match_index=last_new_entry)

    def follow(self, leader: str, term: int, now: Now) -> None:
        """A leader of this term or a later one was heard (Figure 2, candidates)."""
        assert term > self.current_term or self.role != LEADER, (
            f"{leader} and {self.node} both lead term {term}"
        )
        known = self.leader == leader and self.role == FOLLOWER
        if not known or term > self.current_term:
            self.become_follower(term, leader)
        self.heard_leader_ns = now.mono_ns
        self.reset_election_timer()

    def reply_to_append(
        self, src: str, body: Body, *, success: bool, match_index: int = 0
    ) -> None:
        """Answer, with where the logs part if they do."""
        conflict_index = conflict_term = 0
        if not success:
            conflict_index, conflict_term = self.conflict(body["prev_log_index"])
        self.send(
            src,
            {
                "type": "append_entries_reply",
                "term": self.current_term,
                "success": success,
                "match_index": match_index,
                "conflict_index": conflict_index,
                "conflict_term": conflict_term,
                "round": body["round"],
            },
        )

    def matches(self, prev_log_index: int, prev_log_term: int) -> bool:
        """Rule 2: this log holds the entry that precedes the new ones.

        What a snapshot covers is committed, and so it is in every leader's log.
        """
        if prev_log_index > self.log.last_index:
            return False
        if prev_log_index < self.log.base:
            return True
        return self.log.term_at(prev_log_index) == prev_log_term

    def conflict(self, prev_log_index: int) -> tuple[int, int]:
        """First index of the term that conflicts, and that term (0: log too short)."""
        if prev_log_index > self.log.last_index:
            return self.log.last_index + 1, 0
        index = max(prev_log_index, self.commit_index)
        term = self.log.term_at(index)
        while index > self.commit_index + 1 and self.log.term_at(index - 1) == term:
            index -= 1
        return index, term

    def store_entries(self, prev_log_index: int, entries: Sequence[Any]) -> None:
        """Rules 3 and 4: drop what conflicts, append what isn't there yet.

        An append that arrives late, after newer entries, must not truncate them: only a
        conflict does.
        """
        skip = self.already_stored(prev_log_index, entries)
        if skip == len(entries):
            return
        first = prev_log_index + 1 + skip
        new = [Entry(term, command) for term, command in entries[skip:]]
        self.truncate(first)
        self.extend_log(new)
        self.persist_entries(first, new)
        self.observe("appended", first=first, entries=new)

    def already_stored(self, prev_log_index: int, entries: Sequence[Any]) -> int:
        """How many of `entries` this log already holds, from the first on."""
        known = min(len(entries), self.log.last_index - prev_log_index)
        covered = max(0, self.log.base - prev_log_index)
        for i in range(covered, known):
            if self.log.term_at(prev_log_index + 1 + i) != entries[i][0]:
                return i
        return known

    def truncate(self, first: int) -> None:
        """Drop the entries from `first` on; what is committed never goes."""
        if first > self.log.last_index:
            return
        assert first > self.commit_index, (
            f"index {first} conflicts, but up to {self.commit_index} is committed"
        )
        self.observe("truncated", first=first, last=self.log.last_index)
        self.log.truncate(first)
        self.members.truncate(first)

    # --- commit and apply (paper 5.3) --------------------------------------------

    def commit(self, index: int) -> None:
        """Raise commit_index to `index`, if that is higher, and apply."""
        if index <= self.commit_index:
            return
        first = self.commit_index + 1
        self.commit_index = index
        self.observe("committed", first=first, last=index, term=self.current_term)
        while self.last_applied < self.commit_index:
            self.last_applied += 1
            self.apply(self.last_applied, self.log[self.last_applied])
        if self.role == LEADER:
            self.answer_confirmed_reads()
        self.compact()

    def apply(self, index: int, entry: Entry) -> None:
        """Apply one entry and answer whoever waits for this index."""
        result = self.carry_out(entry.command)
        waiting = self.proposed.pop(index, None)
        if waiting is None:
            return
        if waiting.term == entry.term and result is not None:
            self.answer(waiting.request, result)
        else:
            # Committed at its index is another entry, so this one never will be.
            self.refuse(waiting.request, "overwritten by another leader's entry")

    def carry_out(self, command: kv.Command) -> Body | None:
        """What a committed command does, and its reply; a no-op has none."""
        if command["type"] == "noop":
            return None
        if command["type"] in CHANGES:
            return {"type": f"{command['type']}_ok", "members": command["members"]}
        return self.apply_to_state(command)

    def apply_to_state(self, command: kv.Command) -> Body:
        """The state machine, which does a retried command once (thesis 6.3)."""
        return self.state.apply(command)
