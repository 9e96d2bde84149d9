"""Zab (Junqueira, Reed and Serafini 2011; Medeiros 2012): primary-order broadcast.

A leader, the primary of an epoch, gives every transaction a zxid, (epoch, counter), and
broadcasts it; all nodes deliver in the order of zxids. A new leader first finds out
what may have been delivered and brings a quorum level with it, and only then goes on.

Names are the papers' in Python's spelling: `accepted_epoch` (f.p in Junqueira, Reed and
Serafini 2011, section V), `current_epoch` (f.a), `history` (h_f). Steps are cited by
their labels there: l.1.1 is the leader's first in phase 1, f.2.1 a follower's first in
phase 2. A node is composed of parts (`core.py`), each of which owns its state and holds
the rules about it. A part knows only those above it in this list:

    standing.py         state, phase and leader
    disk.py             what survives a crash: both epochs and the history
    sessions.py         what a leader and its followers say to each other, in order
    requests.py         requests under way, and their answers
    delivery.py         what is committed goes to the service; snapshots
    looking.py          phase 0, fast leader election, and giving up
    broadcast.py        phase 3
    synchronization.py  phase 2
    discovery.py        phase 1
    clients.py          clients' requests where they arrive
    core.py             the actor: the parts, and which event goes where

    election.py         a ballot box: who likely has the latest history
    history.py          the accepted transactions
    channel.py          FIFO channels between a leader and its followers
    service.py          the state machine: `kv`, and a list of delivered messages
    messages.py         zxids, votes and the shapes of messages
    options.py          what can be set

`reference_impls/tests/test_zab_paper.py` has a test for each step, by its label.
`reference_impls/mutants/zab.py` shows what breaks without a rule.

What survives a crash: `accepted_epoch`, `current_epoch` and `history`, through
`Persist`, before any message that depends on them leaves. All else is volatile.

Choices are told where they are made: the leader's own history begins its epoch
(`synchronization.py`), a leader that hears of a later epoch gives up (`discovery.py`),
requests go in batches (`broadcast.py`), sync is a broadcast (`clients.py`), requests
are passed on in sessions (`requests.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.zab.core import Zab
from reference_impls.zab.messages import FRAMED, OPEN
from reference_impls.zab.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "FORMAT_VERSION",
    "MESSAGES",
    "MOMENTS",
    "OPTIONS",
    "SUMMARY",
    "Zab",
    "build",
]

SUMMARY = "Zab: primary-order broadcast, with a replicated key-value store"
FORMAT_VERSION = 1
"""Version of the records in the log on disk."""

MOMENTS = (
    "new_epoch",
    "became_leader",
    "became_follower",
    "gave_up",
    "truncated",
    "delivered",
)
"""Events at which a fault may hurt most: something has begun, and isn't done yet."""

MESSAGES = (*OPEN, *FRAMED)
"""Types of message between nodes, in frames of a session or by themselves."""


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, Any],
    core: type[Zab] | None = None,
) -> Zab:
    """A node called `node`; `options` holds a value for each of OPTIONS.

    Args:
        node: Its name.
        peers: The other nodes' names.
        options: A value for each of OPTIONS.
        core: The class to build: Zab, or a mutant of it.

    Raises:
        ValueError: Options that make no sense together.
    """
    zab = (core or Zab)(node, peers, options)
    settings = zab.settings
    if settings.silence_ms_min > settings.silence_ms_max:
        raise ValueError("silence_ms_min is above silence_ms_max")
    if settings.tick_ms >= settings.silence_ms_min:
        raise ValueError("tick_ms must be below silence_ms_min")
    return zab
