"""Multi-Paxos with one rule broken, four times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_impls import kv
from reference_impls.multi_paxos import NOOP, Entry, MultiPaxos
from reference_impls.mutants import Mutant, power_amid, told_first
from reference_impls.mutants.logs import FsyncOmitted
from reference_impls.override import override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.actor import Effect, Received
    from reference_impls.paxos import Ballot


DIFFER = ("state-machines-differ", "stale-read", "lost-write", "lost-update")
"""What becomes of commands that were decided, or answered."""


class SkipsGap(MultiPaxos):
    """Gaps are skipped, not filled with no-ops (Lamport 2001, section 3).

    A new leader proposes nothing in a slot in which its majority accepted nothing. So
    replicas must pass over slots that are unknown to them, or they would never go on.
    But a command may be decided in such a slot all the same.
    """

    @override
    def fill_gaps(self, gaps: Sequence[int]) -> None:
        """Leave the gaps as they are."""
        self.pass_over(gaps)
        self.carry_out()

    @override
    def learn_decided(self, ballot: Ballot, decided: int) -> None:
        """Treat every slot up to `decided` that is unknown here as a gap."""
        slots = range(self.slot_out, decided + 1)
        self.pass_over([slot for slot in slots if slot not in self.accepted])
        super().learn_decided(ballot, decided)

    def pass_over(self, slots: Sequence[int]) -> None:
        """Go on as if nothing could be decided in these slots."""
        for slot in slots:
            self.chosen.setdefault(slot, Entry(self.ballot_num, NOOP))


class ReadWithoutQuorum(MultiPaxos):
    """Any server reads from its own state, which may be far behind."""

    @override
    def on_request(self, request: Received) -> None:
        """Answer a read at once."""
        command, _ = kv.parse(request.body)
        if command is not None and kv.is_read(command):
            self.answer(request, self.state.answer_read(command))
        else:
            super().on_request(request)


class PromiseBeforeFsync(MultiPaxos):
    """An acceptor promises before its promise is durable (Lamport 2001, 2.5).

    When the power fails, it accepts below a ballot whose leader counts on it.
    """

    @override
    def take_effects(self) -> list[Effect]:
        return told_first(super().take_effects(), lambda x: "ballot" in x)


MUTANTS: Mapping[str, Mutant] = {
    "skips-gap": Mutant(
        "skips-gap",
        SkipsGap,
        "a gap is skipped, not filled with a no-op",
        "Lamport 2001, Paxos Made Simple, 3",
        ("state-machines-differ",),
        "register",
        {},
        ("partition", "kill"),
    ),
    "read-without-quorum": Mutant(
        "read-without-quorum",
        ReadWithoutQuorum,
        "reads from the local state",
        "van Renesse and Altinbuken 2015, 2.1: reads are commands too",
        ("stale-read",),
        "register",
        {},
        ("partition",),
    ),
    "promise-before-fsync": Mutant(
        "promise-before-fsync",
        PromiseBeforeFsync,
        "a promise leaves before it is durable",
        "Lamport 2001, Paxos Made Simple, 2.5",
        ("term-went-back", "broken-promise", *DIFFER),
        "register",
        {},
        ("disk", "kill", "power"),
        {**power_amid("promised"), "kill.targets": "leader"},
    ),
    "fsync-omitted": Mutant(
        "fsync-omitted",
        MultiPaxos,
        "what was accepted is told, and never made durable",
        "Lamport 2001, Paxos Made Simple, 2.5; fsync(2)",
        ("term-went-back", "broken-promise", *DIFFER),
        "register",
        {},
        ("power",),
        {"power.kept_max": "0"},
        FsyncOmitted,
    ),
}
