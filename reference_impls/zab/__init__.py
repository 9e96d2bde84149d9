"""Zab (Junqueira, Reed and Serafini 2011; Medeiros 2012): primary-order broadcast.

A leader, the primary of an epoch, gives every transaction a zxid, (epoch, counter), and
broadcasts it; all nodes deliver in the order of zxids. A new leader first finds out
what may have been delivered and brings a quorum level with it, and only then goes on.

    election.py   phase 0, fast leader election: who likely has the latest history
    core.py       phases 1 to 3, discovery, synchronisation, broadcast; and requests
    history.py    the accepted transactions
    channel.py    FIFO channels between a leader and its followers
    service.py    the state machine: `kv`, and a list of delivered messages
    messages.py   zxids, votes and the shapes of messages
"""

from __future__ import annotations

from reference_impls.zab.core import (
    FORMAT_VERSION,
    MOMENTS,
    OPTIONS,
    SUMMARY,
    Zab,
    build,
)

__all__ = ["FORMAT_VERSION", "MOMENTS", "OPTIONS", "SUMMARY", "Zab", "build"]
