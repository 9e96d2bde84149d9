"""Where nodes live and what they are started with, in either world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Endpoint:
    """A TCP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class NodePlace:
    """Where a node lives and what it may touch.

    Attributes:
        name: "n1", "n2", ...
        listen: Where the node listens, for clients and peers alike. On the switch rung
            each node has an address of its own, so any other port there is free too.
        peers: For every other node, the endpoint at which *this* node reaches it.
        data_dir: A directory that survives kills.
        log_path: Where its stdout and stderr go.
        cluster: Every node's own `listen`, this one's included, in cluster order.
            Systems that need one address book for all (etcd) use it; it is what peers
            see only on the switch rung.
        joins: How often the node's disk was emptied while it was no member. If it ever
            was, the node has to join the cluster that there is, and must not begin one.
    """

    name: str
    listen: Endpoint
    peers: Mapping[str, Endpoint]
    data_dir: Path
    log_path: Path
    cluster: Mapping[str, Endpoint]
    joins: int = 0


@dataclass(frozen=True)
class Launch:
    """A command to run for a node, and what it needs.

    Attributes:
        argv: The command.
        env: Added to a small clean environment.
        cwd: The node's working directory; None for the controller's.
        writable: Files and folders that it may write beside its data folder, its /tmp
            and its /dev/shm. They must exist, except for files in the run folder.
        trusted: Leave it uncaged (`harness.worlds.os.cage`), for systems that mount or
            trace: it keeps the run's capabilities, and could harm the run.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    writable: Sequence[Path] = ()
    trusted: bool = False


def make_place(
    name: str,
    cluster: Mapping[str, Endpoint],
    peers: Mapping[str, Endpoint],
    run_dir: Path,
) -> NodePlace:
    """A node's place; makes its directories.

    Args:
        name: The node's name.
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
