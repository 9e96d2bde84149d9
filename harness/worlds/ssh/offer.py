"""The capabilities of machines that are reached over SSH."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.worlds.capabilities import (
    ACTS,
    CLOCKS,
    LINK_FIELDS,
    Capabilities,
    Offer,
)
from harness.worlds.os import relay
from harness.worlds.ssh import firewall
from harness.worlds.ssh.connecting import ask_all, check_installed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.worlds.ssh.hosts import Host

NFT, PROXY = "ssh-nft", "ssh-proxy"
"""The two networks: links are cut by nftables, or by relays on the nodes' hosts."""
ALIKE = {NFT: "switch", PROXY: "proxy"}
"""The network of one machine that is alike for systems: on the first each node has an
address by itself; on the second its peers reach it at other addresses."""
NO_DISKS = "disks of other machines can't be harmed yet (run without --hosts)"


STREAMS_ONLY = "nftables cuts links and loses packets (--network proxy does it)"
FRAMES_ONLY = "that takes nodes on one machine (run without --hosts)"


@dataclass(frozen=True)
class Survey:
    """What hosts said that they can do.

    Attributes:
        hosts: The hosts, in the order of the file.
        found: What each has found out about itself.
    """

    hosts: Sequence[Host]
    found: Sequence[Mapping[str, Any]]

    def placed(self, nodes: Sequence[str]) -> dict[str, Host]:
        """Node -> its host: in order, and from the first again if there are too few."""
        return {
            node: self.hosts[number % len(self.hosts)]
            for number, node in enumerate(nodes)
        }

    def ssh_port(self, host: Host) -> int:
        """The port on which a host's SSH server has seen us."""
        return int(self.found[self.hosts.index(host)]["ssh_port"])

    def why_not_nft(self, nodes: int) -> str:
        """Why the links of so many nodes can't be cut by nftables; empty if they can.

        It tells nodes and clients by the addresses of their machines.
        """
        if nodes > len(self.hosts):
            return f"it takes a host for each of the {nodes} nodes"
        used = list(zip(self.hosts, self.found, strict=True))[:nodes]
        addresses = [host.node_address for host, _ in used]
        if len(set(addresses)) < len(addresses):
            return "two hosts have one address"
        for host, found in used:
            if found["why_no_nft"]:
                return f"{host.name}: {found['why_no_nft']}"
            if _plain(found["controller"]) in addresses:
                return f"clients come from {found['controller']}, where a node is"
        return ""

    def choose(
        self, network: str, nodes: int, rungs: frozenset[str]
    ) -> tuple[str, str]:
        """The network for a run, and why no better one was chosen.

        Args:
            network: What was asked for: "auto" or "proxy".
            nodes: How many there are.
            rungs: Those that the system can run on.

        Raises:
            UsageError: There is none that will do.
        """
        if network not in {"auto", "proxy"}:
            raise UsageError(
                f"--network {network} is for nodes on this machine; with --hosts it "
                "is auto or proxy"
            )
        if rungs.isdisjoint(ALIKE.values()):
            raise UsageError("--hosts: nodes of this system run on this machine only")
        if nodes == 1:
            return PROXY, ""  # it has no links, so either will do
        why = self.why_not_nft(nodes) if network == "auto" else "proxy was asked for"
        if not why and ALIKE[NFT] in rungs:
            return NFT, ""
        if ALIKE[PROXY] not in rungs:
            raise UsageError(
                "--hosts: nodes of this system need an address each, so their links "
                f"can only be cut by nftables, which can't be used: {why}"
            )
        told = (
            ""
            if network == "proxy"
            else (
                "links go through proxies on the hosts, which cut, delay, slow and "
                f"reset TCP connections; nftables can't be used: {why}"
            )
        )
        return PROXY, told

    def offer(self, rung: str, nodes: int) -> Offer:
        """What can be done to nodes there."""
        used = list(zip(self.hosts, self.found, strict=True))[:nodes]
        why_no_clocks = next(
            (f"{h.name}: {f['why_no_clocks']}" for h, f in used if f["why_no_clocks"]),
            "",
        )
        return Offer(
            f"the {rung} network",
            Capabilities(
                firewall.FIELDS if rung == NFT else relay.FIELDS,
                ACTS,
                frozenset(() if why_no_clocks else CLOCKS),
            ),
            {
                "clocks": why_no_clocks,
                "disks": NO_DISKS,
                **dict.fromkeys(relay.FIELDS - firewall.FIELDS, STREAMS_ONLY),
                **dict.fromkeys(LINK_FIELDS - relay.FIELDS, FRAMES_ONLY),
            },
        )


def _plain(address: str) -> str:
    """An address without what only makes it look like another."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)


def survey(path: Path) -> Survey:
    """Ask all hosts of a file what they can do.

    Raises:
        UsageError: The file is wrong, or a host refuses us.
        HostError: A host can't be reached or used.
    """
    check_installed()
    from harness.worlds.ssh import hosts

    named = hosts.read(path)
    found = asyncio.run(ask_all(named, "look"))
    for host, told in zip(named, found, strict=True):
        if not told["has_address"]:
            raise UsageError(
                f"{path}: {host.name}: {host.node_address} is no address of that "
                "machine, so no node can listen there; give its own as node_address"
            )
    return Survey(named, found)
