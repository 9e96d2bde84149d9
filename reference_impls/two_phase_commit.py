"""Two-phase commit (Gray 1978; Bernstein, Hadzilacos and Goodman 1987, 7.4), sharded.

Phase 1: the coordinator asks all participants to vote. It decides to commit if all of
them vote yes, and to abort if one votes no or doesn't answer in time. Phase 2: it tells
them, and goes on telling them until each has acknowledged. What both phases have in
common with three-phase commit is in `atomic_commit`; here is what makes two phases.

A participant that has voted yes is *uncertain*: it may neither commit nor abort until
it hears the decision, and holds its locks meanwhile. If the coordinator is silent for
too long, the participant asks (cooperative termination): the coordinator, which may be
back, and the other participants, any of which can abort for all if it has not voted
yes. When all that it can reach are uncertain too, it waits. That is two-phase commit's
weakness: it *blocks* while the coordinator is away at the wrong moment. `in_doubt` and
`resolved` show who waited and for how long. It is never wrong, though: no timing, crash
or lost message breaks AC1 to AC4, and AC5 holds as all of it is repeated until it
succeeds.

Presumed abort (Mohan, Lindsay and Obermarck 1986): a coordinator answers with abort
when it is asked about a transaction that it doesn't remember. That is safe as a commit
is durable before anyone hears of it, so what isn't remembered was not committed. For
the same reason a coordinator that comes back aborts what it had not decided.

What survives a crash: see `atomic_commit`. A coordinator that came back without its log
would answer abort about every transaction, also about those that it had committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls import atomic_commit
from reference_impls.atomic_commit import (
    ABORT,
    COMMIT,
    AtomicCommit,
    Coordinated,
    Part,
    check_times,
)
from reference_impls.override import override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.actor import Actor, Body

SUMMARY = "two-phase commit over a sharded key-value store"
FORMAT_VERSION = atomic_commit.FORMAT_VERSION
MOMENTS = atomic_commit.MOMENTS
MESSAGES = atomic_commit.MESSAGES

OPTIONS = atomic_commit.options(
    vote_timeout_ms="500", lock_timeout_ms="250", decision_timeout_ms="600"
)


class TwoPhaseCommit(AtomicCommit):
    """One node. BHG 7.4's protocol, with presumed abort."""

    @override
    def on_all_yes(self, coordinated: Coordinated) -> None:
        """Commit, as all voted yes (BHG 7.4, step 3)."""
        self.decide(coordinated, COMMIT, self.node)

    @override
    def on_decision_timeout(self, part: Part) -> None:
        """Ask for the decision, and ask again (BHG 7.4, cooperative termination)."""
        self.doubt(part)
        self.ask(part)

    @override
    def on_inquire(self, src: str, body: Body) -> None:
        """Tell an uncertain participant the decision, if it is known.

        A coordinator that hasn't decided doesn't answer: it will tell everybody soon.
        """
        if body["coordinator"] != self.node:
            self.help_decide(src, body)
            return
        coordinated = self.coordinated.get(body["id"])
        if coordinated is None:
            self.presume_abort(src, body)
        elif coordinated.decision is not None:
            self.tell(coordinated, src)

    @override
    def on_vote_for_unknown(self, src: str, body: Body) -> None:
        """Presume abort: a crash made this coordinator forget the transaction."""
        self.presume_abort(src, body)

    def presume_abort(self, src: str, body: Body) -> None:
        """Answer with abort: what isn't remembered was not committed."""
        self.send_decision(src, body["id"], self.node, ABORT)

    @override
    def on_resume(self) -> None:
        """Go on after a crash (BHG 7.4, recovery).

        As coordinator, abort what was undecided, as votes may have been missed, and
        tell again what was decided. As participant, ask about all that is prepared.
        """
        super().on_resume()
        for coordinated in self.coordinated.values():
            if coordinated.decision is None:
                self.decide(coordinated, ABORT, self.node)
        for part in list(self.open_parts.values()):
            self.on_decision_timeout(part)


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, Any],
    core: type[TwoPhaseCommit] | None = None,
) -> Actor:
    """A node called `node`; `options` holds a value for each of OPTIONS.

    Args:
        node: Its name.
        peers: The names of the others.
        options: A value for each of OPTIONS.
        core: The class to build: TwoPhaseCommit, or a mutant of it.

    Raises:
        ValueError: Options that make no sense together.
    """
    actor = (core or TwoPhaseCommit)(node, peers, options)
    check_times(actor)
    return actor
