"""InstallSnapshot from the follower's side (paper 7, Figure 13).

The whole snapshot is acknowledged like an append: the follower's log equals the
leader's up to the snapshot's index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_impls.raft.snapshot import Incoming, Snapshot

if TYPE_CHECKING:
    from reference_impls.actor import Body, Now
    from reference_impls.core import Outbox
    from reference_impls.raft.compaction import Compaction
    from reference_impls.raft.election import Election
    from reference_impls.raft.following import Following
    from reference_impls.raft.machine import StateMachine
    from reference_impls.raft.standing import Standing


@dataclass(eq=False)
class SnapshotReceiver:
    """A snapshot that comes in, chunk by chunk."""

    out: Outbox  # where answers go
    standing: Standing  # the term
    election: Election  # learns that there is a leader
    machine: StateMachine  # what is committed, and so needs no snapshot
    compaction: Compaction  # installs the snapshot
    following: Following  # acknowledges it

    incoming: Incoming | None = None  # the chunks so far

    def on_install_snapshot(self, src: str, body: Body, now: Now) -> None:
        """InstallSnapshot (Figure 13)."""
        if body["term"] < self.standing.current_term:  # rule 1
            self.reply(src, body, 0)
            return
        self.election.follow(src, body["term"], now)
        index = body["last_included_index"]
        if index > self.machine.commit_index and not self.take_chunk(body):
            assert self.incoming is not None
            self.reply(src, body, self.incoming.size)
            return
        self.incoming = None
        self.following.reply(src, body, success=True, match_index=index)

    def take_chunk(self, body: Body) -> bool:
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
        self.compaction.install(snapshot, contents)
        return True

    def reply(self, src: str, body: Body, offset: int) -> None:
        """Answer with the offset that is wanted next."""
        self.out.send(
            src,
            {
                "type": "install_snapshot_reply",
                "term": self.standing.current_term,
                "last_included_index": body["last_included_index"],
                "offset": offset,
                "round": body["round"],
                **self.election.identity(),
            },
        )
