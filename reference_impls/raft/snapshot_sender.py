"""InstallSnapshot from the leader's side (paper 7, Figure 13).

A follower that needs what the leader has compacted gets the snapshot in chunks, one at
a time; heartbeats repeat the chunk that it wants.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reference_impls.raft.snapshot import Outgoing

if TYPE_CHECKING:
    from reference_impls.actor import Body
    from reference_impls.core import Outbox
    from reference_impls.raft.compaction import Compaction
    from reference_impls.raft.options import Settings
    from reference_impls.raft.rounds import Rounds
    from reference_impls.raft.standing import Standing


@dataclass(eq=False)
class SnapshotSender:
    """The snapshots on their way to followers."""

    out: Outbox  # where chunks go
    settings: Settings  # how long a chunk is
    standing: Standing  # the term
    rounds: Rounds  # the broadcast that a chunk belongs to
    compaction: Compaction  # has the snapshot

    # how far each follower's snapshot has come
    outgoing: dict[str, Outgoing] = field(default_factory=dict)

    def send_chunk(self, peer: str) -> None:
        """Send the next chunk of the snapshot that the follower is getting.

        It goes on with the snapshot that it began, even if there is a newer one now.
        """
        outgoing = self.outgoing.get(peer)
        if outgoing is None:
            snapshot = self.compaction.snapshot
            assert snapshot is not None, "compacted without a snapshot"
            outgoing = self.outgoing[peer] = Outgoing(snapshot)
        self.rounds.sent_round[peer] = self.rounds.round
        self.out.send(
            peer,
            {
                "type": "install_snapshot",
                "term": self.standing.current_term,
                **outgoing.chunk(self.settings.snapshot_chunk_chars),
                "round": self.rounds.round,
            },
        )

    def take_answer(self, src: str, body: Body) -> bool:
        """Note which chunk the follower wants.

        Answers to older rounds are old: a heartbeat has repeated the chunk since.

        Returns:
            True if it wants another chunk than the one it was sent.
        """
        outgoing = self.outgoing.get(src)
        if outgoing is None or body["round"] < self.rounds.sent_round[src]:
            return False
        if body["last_included_index"] != outgoing.snapshot.last_index:
            return False
        wanted = body["offset"]
        if wanted == outgoing.offset or wanted >= len(outgoing.snapshot.text):
            return False
        outgoing.offset = wanted
        return True

    def on_match(self, src: str, match_index: int) -> None:
        """Stop sending a snapshot to a follower that is level with it."""
        outgoing = self.outgoing.get(src)
        if outgoing is not None and match_index >= outgoing.snapshot.last_index:
            del self.outgoing[src]

    def give_up(self, peer: str) -> None:
        """Send no more of a snapshot to one follower."""
        self.outgoing.pop(peer, None)

    def end(self) -> None:
        """Send no more of any snapshot."""
        self.outgoing.clear()
