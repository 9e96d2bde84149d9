"""Makes a node's place in the run folder, the same on both rungs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.system import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def make_place(
    name: str,
    cluster: Mapping[str, Endpoint],
    peers: Mapping[str, Endpoint],
    run_dir: Path,
) -> NodePlace:
    """A place with its directories made.

    Args:
        name: The node's.
        cluster: Where every node listens.
        peers: Where this node reaches every other.
        run_dir: Gets `nodes/NAME/data`; the log goes to `nodes/NAME/log`.
    """
    node_dir = run_dir / "nodes" / name
    data_dir = node_dir / "data"
    data_dir.mkdir(parents=True, exist_ok=True)
    return NodePlace(
        name=name,
        listen=cluster[name],
        peers=dict(peers),
        data_dir=data_dir,
        log_path=node_dir / "log",
        cluster=dict(cluster),
    )
