"""Multi-Paxos with one rule broken, twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_impls import kv
from reference_impls.multi_paxos import NOOP, Entry, MultiPaxos
from reference_impls.mutants import Mutant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.actor import Received


class SkipsGap(MultiPaxos):
    """A new leader skips gaps, and doesn't fill them with no-ops (Lamport 2001, 3).

    It goes on as if nothing could ever be decided there. No majority was asked to
    accept that, so a later leader may find a command there, and decide it.
    """

    def fill_gaps(self, gaps: Sequence[int]) -> None:
        """Take them for done."""
        self.chosen.update((slot, Entry(self.ballot_num, NOOP)) for slot in gaps)
        self.carry_out()


class ReadWithoutQuorum(MultiPaxos):
    """Any server reads from its own state, which may be far behind."""

    def on_request(self, request: Received) -> None:
        """Answer a read at once."""
        command, _ = kv.parse(request.body)
        if command is not None and kv.is_read(command):
            self.answer(request, self.state.answer_read(command))
        else:
            super().on_request(request)


MUTANTS: Mapping[str, Mutant] = {
    "skips-gap": Mutant(
        "skips-gap",
        SkipsGap,
        "a gap is skipped, not filled with a no-op",
        "Lamport 2001, Paxos Made Simple, 3",
        "lost-update",
        "register",
        {"entries_per_message_max": "1"},  # so that messages get lost one by one
        ("partition", "kill"),
    ),
    "read-without-quorum": Mutant(
        "read-without-quorum",
        ReadWithoutQuorum,
        "reads from the local state",
        "van Renesse and Altinbuken 2015, 2.1: reads are commands too",
        "stale-read",
        "register",
        {},
        ("partition",),
    ),
}
