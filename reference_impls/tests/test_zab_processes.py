"""Zab as real processes: it serves, survives its leader, and remembers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from reference_impls.tests.processes import Processes, wait_for

if TYPE_CHECKING:
    from pathlib import Path


def delivered(nodes: Processes, name: str) -> list[Any] | None:
    """The messages that the node delivered; None while it doesn't serve."""
    messages: list[Any] | None = nodes.call(name, type="delivered").get("messages")
    return messages


def test_what_was_answered_outlives_the_leader_and_then_every_process(
    tmp_path: Path,
) -> None:
    with Processes(tmp_path, 3, "reads=sync", "snapshot_txns=2", protocol="zab") as zab:
        first = zab.leader()
        for message in range(10):
            zab.call_until_ok("n1", type="broadcast", message=message)
        zab.call_until_ok("n2", type="write", key="x", value="kept")
        zab.kill(first)
        zab.leader(without=first)
        for name in zab.running:
            assert zab.call_until_ok(name, type="read", key="x")["value"] == "kept"
        for name in list(zab.running):
            zab.kill(name)
        for name in zab.names:
            zab.start(name)
        zab.leader()
        for name in zab.names:
            zab.call_until_ok(name, type="sync")
            messages = wait_for(partial(delivered, zab, name), f"{name} to serve")
            # A broadcast whose answer is late is sent again, so it may come twice.
            assert list(dict.fromkeys(m for _, _, m in messages)) == list(range(10))
            zxids = [(epoch, counter) for epoch, counter, _ in messages]
            assert zxids == sorted(zxids)
