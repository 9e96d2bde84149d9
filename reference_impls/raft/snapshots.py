"""Log compaction, and snapshots for followers that are too far behind (paper 7).

A server takes a snapshot by itself once `snapshot_entries` entries were applied since
the last. It goes to disk in one record that replaces all earlier ones, so the log there
shrinks as the one in memory does.

A follower that needs what the leader has compacted gets the snapshot in chunks, one at
a time; heartbeats repeat the chunk that it wants. The whole is acknowledged like an
append: the follower's log equals the leader's up to the snapshot's index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.raft.log import Log
from reference_impls.raft.server import LEADER, Server
from reference_impls.raft.snapshot import Contents, Incoming, Outgoing, Snapshot

if TYPE_CHECKING:
    from reference_impls.actor import Body, Now


class Snapshots(Server):
    """How a log gets shorter, and what follows from that."""

    # --- taking one (paper 7) ----------------------------------------------------

    def compact(self) -> None:
        """Replace what was applied by a snapshot, if it is long enough."""
        length = self.last_applied - self.log.base
        if self.snapshot_entries and length >= self.snapshot_entries:
            self.take_snapshot()

    def take_snapshot(self) -> None:
        """Replace the log up to `last_applied` by the state it amounts to."""
        index, term = self.last_applied, self.log.term_at(self.last_applied)
        self.snapshot = Snapshot.of(index, term, self.state_data(), self.members)
        self.log.compact(index, term)
        self.members.compact(index)
        self.persist_snapshot()
        self.observe("took_snapshot", index=index, term=term)

    def state_data(self) -> dict[str, Any]:
        """The state as data, with the sessions: a copy may come later (thesis 6.3)."""
        return self.state.as_data()

    def recover_snapshot(self, index: int, term: int, text: str) -> None:
        """Begin with a snapshot from the disk."""
        snapshot = Snapshot(index, term, text)
        contents = snapshot.contents()
        assert contents is not None, "the disk holds a snapshot that is none"
        self.log = Log(index, term)
        self.adopt_snapshot(snapshot, contents)

    def adopt_snapshot(self, snapshot: Snapshot, contents: Contents) -> None:
        """Stand where the snapshot stands."""
        self.snapshot = snapshot
        self.state, self.members = contents
        self.commit_index = self.last_applied = snapshot.last_index

    # --- sending one (paper 7, Figure 13) ----------------------------------------

    def send_chunk(self, peer: str) -> None:
        """Send the next chunk of the snapshot that the follower is getting.

        It goes on with the one it began even if there is a newer one now.
        """
        outgoing = self.outgoing.get(peer)
        if outgoing is None:
            assert self.snapshot is not None, "compacted without a snapshot"
            outgoing = self.outgoing[peer] = Outgoing(self.snapshot)
        self.in_flight.pop(peer, None)
        self.sent_round[peer] = self.round
        self.send(
            peer,
            {
                "type": "install_snapshot",
                "term": self.current_term,
                **outgoing.chunk(self.snapshot_chunk_chars),
                "round": self.round,
            },
        )

    def on_install_snapshot_reply(self, src: str, body: Body) -> None:
        """Send the chunk that the follower wants, if that is news.

        Answers to older rounds are old: a heartbeat has repeated the chunk since.
        """
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        if self.role != LEADER or body["term"] != self.current_term:
            return
        self.on_round_acked(src, body["round"])
        outgoing = self.outgoing.get(src)
        if outgoing is None or body["round"] < self.sent_round[src]:
            return
        if body["last_included_index"] != outgoing.snapshot.last_index:
            return
        wanted = body["offset"]
        if wanted != outgoing.offset and wanted < len(outgoing.snapshot.text):
            outgoing.offset = wanted
            self.send_chunk(src)

    # --- receiving one (paper 7, Figure 13) --------------------------------------

    def on_install_snapshot(self, src: str, body: Body, now: Now) -> None:
        """InstallSnapshot (Figure 13)."""
        if body["term"] < self.current_term:
            self.reply_to_chunk(src, body, 0)
            return
        self.follow(src, body["term"], now)
        index = body["last_included_index"]
        if index > self.commit_index and not self.receive_chunk(body):
            assert self.incoming is not None
            self.reply_to_chunk(src, body, self.incoming.size)
            return
        self.incoming = None
        self.reply_to_append(src, body, success=True, match_index=index)

    def receive_chunk(self, body: Body) -> bool:
        """Add the chunk to what came before; True once the snapshot is installed."""
        term, index = body["term"], body["last_included_index"]
        if self.incoming is None or (self.incoming.term, self.incoming.index) != (
            term,
            index,
        ):
            self.incoming = Incoming(term, index)
        if not self.incoming.take(body["offset"], body["data"]) or not body["done"]:
            return False
        text = self.incoming.text()
        self.incoming = Incoming(term, index)
        snapshot = Snapshot(index, body["last_included_term"], text)
        contents = snapshot.contents()
        if contents is None:
            return False
        self.install(snapshot, contents)
        return True

    def install(self, snapshot: Snapshot, contents: Contents) -> None:
        """Replace state and log by the snapshot; keep entries that follow it."""
        assert snapshot.last_index > self.commit_index, "a snapshot of the past"
        for index in [i for i in self.proposed if i <= snapshot.last_index]:
            self.abandon_proposed(index)
        self.log.compact(snapshot.last_index, snapshot.last_term)
        self.adopt_snapshot(snapshot, contents)
        kept = self.log.since(self.log.base + 1)
        self.log.truncate(self.log.base + 1)
        self.extend_log(kept)
        self.persist_snapshot()
        self.observe(
            "installed_snapshot",
            index=snapshot.last_index,
            term=snapshot.last_term,
            last_log_index=self.log.last_index,
        )

    def reply_to_chunk(self, src: str, body: Body, offset: int) -> None:
        """Answer with what is wanted next."""
        self.send(
            src,
            {
                "type": "install_snapshot_reply",
                "term": self.current_term,
                "last_included_index": body["last_included_index"],
                "offset": offset,
                "round": body["round"],
            },
        )
