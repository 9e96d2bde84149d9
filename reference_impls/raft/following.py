"""AppendEntries from the follower's side (paper 5.3, Figure 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reference_impls.raft.log import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_impls.actor import Body, Now
    from reference_impls.core import Outbox
    from reference_impls.raft.commitment import Commitment
    from reference_impls.raft.election import Election
    from reference_impls.raft.log import Log
    from reference_impls.raft.machine import StateMachine
    from reference_impls.raft.standing import Standing


@dataclass(eq=False)
class Following:
    """Makes a follower's log equal the leader's."""

    out: Outbox  # where answers go
    standing: Standing  # the term
    election: Election  # learns that there is a leader
    log: Log  # the follower's
    machine: StateMachine  # what is committed, and so never truncated
    commitment: Commitment  # commits what the leader has committed

    def on_append_entries(self, src: str, body: Body, now: Now) -> None:
        """AppendEntries, the receiver's rules 1 to 5 (Figure 2)."""
        if body["term"] < self.standing.current_term:  # rule 1
            self.reply(src, body, success=False)
            return
        self.election.follow(src, body["term"], now)
        prev_log_index, entries = body["prev_log_index"], body["entries"]
        if not self.matches(prev_log_index, body["prev_log_term"]):
            self.reply(src, body, success=False)
            return
        self.store_entries(prev_log_index, entries)
        last_new_entry = prev_log_index + len(entries)
        self.commitment.commit(min(body["leader_commit"], last_new_entry))  # rule 5
        self.reply(src, body, success=True, match_index=last_new_entry)

    def matches(self, prev_log_index: int, prev_log_term: int) -> bool:
        """Rule 2: this log holds the entry that precedes the new ones.

        What a snapshot covers is committed, and so it is in every leader's log.
        """
        if prev_log_index > self.log.last_index:
            return False
        if prev_log_index < self.log.base:
            return True
        return self.log.term_at(prev_log_index) == prev_log_term

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
        self.log.extend(new)
        self.log.persist(first, new)
        self.out.observe("appended", first=first, entries=new)

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
        committed, last = self.machine.commit_index, self.log.last_index
        if first > last:
            return
        assert first > committed, (
            f"index {first} conflicts, but up to {committed} is committed"
        )
        self.out.observe("truncated", first=first, last=last)
        self.log.truncate(first)

    # --- answers -----------------------------------------------------------------

    def reply(
        self, src: str, body: Body, *, success: bool, match_index: int = 0
    ) -> None:
        """Answer the leader, with where the logs part if they do."""
        conflict_index = conflict_term = 0
        if not success:
            conflict_index, conflict_term = self.conflict(body["prev_log_index"])
        self.out.send(
            src,
            {
                "type": "append_entries_reply",
                "term": self.standing.current_term,
                "success": success,
                "match_index": match_index,
                "conflict_index": conflict_index,
                "conflict_term": conflict_term,
                "round": body["round"],
                **self.election.identity(),
            },
        )

    def conflict(self, prev_log_index: int) -> tuple[int, int]:
        """The index at which the leader may try next, a whole term back (paper 5.3).

        Returns:
            First index of the term that conflicts, and that term; 0 as the term means
            that the log is too short, and ends before the index.
        """
        log, committed = self.log, self.machine.commit_index
        if prev_log_index > log.last_index:
            return log.last_index + 1, 0
        index = max(prev_log_index, committed)
        term = log.term_at(index)
        while index > committed + 1 and log.term_at(index - 1) == term:
            index -= 1
        return index, term
