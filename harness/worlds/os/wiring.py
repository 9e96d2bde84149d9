"""The cables: a network namespace per node, and veth(4) pairs to reach it by.

Inside the run's own network namespace (the hub) each node i has two cables:

    node: eth0  198.18.0.i  <->  hub: port_i    no address; the switch's raw socket
    node: direct            <->  hub: direct_i  routed by the kernel, never faulted

The controller is 198.18.255.254, on the hub's loopback, and reaches 198.18.0.i over
direct_i; the node answers over `direct`. So a node listens on one address for peers and
clients alike. Peers reach it through the switch only, as no namespace forwards; and a
node that is cut off from its peers still talks to its clients. 198.18.0.0/15 is set
aside for tests of networks (RFC 2544).

Neighbours know each other's MAC address for good. ARP would work, under the same rules
as all traffic, but an entry that failed during a cut delays the heal by seconds.

IPv6 is off on the cables, so that nothing but the nodes' own traffic is on them.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.worlds.os import netlink
from harness.worlds.os.namespaces import create_netns, in_netns

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES_MAX = 250
CONTROLLER_IP = "198.18.255.254"

_PREFIX_BITS = 24
_ETH0, _DIRECT = 1000, 1001
"""Interface indexes in a node's namespace. They are far from those of interfaces that
some kernel modules (tunnels) create in every new namespace."""
_HUB_PORT, _HUB_DIRECT = 1000, 2000
"""Interface indexes in the hub, less the node's number."""

# <linux/if_packet.h>, <linux/if_ether.h>, <linux/sockios.h>, <linux/ethtool.h>
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33
_SIOCETHTOOL = 0x8946
_SET_TX_CHECKSUMS, _SET_TSO, _SET_GSO = 0x17, 0x1F, 0x24
_PORT_BUFFER_BYTES = 8 << 20

_TCP_SETTINGS = {
    # A connection that stalled during a cut goes on within a second of the heal. With
    # the kernel's 120 s it would wait out an exponential backoff first.
    "tcp_rto_max_ms": "1000",
    # It has to outlive a long cut all the same: retries come once a second now, so more
    # of them are needed before it gives up after minutes.
    "tcp_retries2": "255",
    # Connects, too, go on for as many seconds as the default backoff adds up to.
    "tcp_syn_retries": "127",
}
_NODE_SETTINGS = {
    # A node may bind all ports of its own address, though it holds no capability.
    "ipv4/ip_unprivileged_port_start": "0",
}
_QUIET_SETTINGS = {
    "ipv6/conf/default/disable_ipv6": "1",
    # New namespaces inherit this from the host; ours are no routers.
    "ipv4/ip_forward": "0",
}


@dataclass(frozen=True)
class Outlet:
    """The place where a node is plugged in.

    Attributes:
        name: The node's name.
        ip: The node's only address.
        mac: The MAC address of its eth0.
        netns: The node's network namespace.
        port: The switch's end of the node's cable.
    """

    name: str
    ip: str
    mac: bytes
    netns: int
    port: socket.socket


def wire(names: Sequence[str]) -> list[Outlet]:
    """Lay the cables for these nodes in the namespace the caller is in.

    The caller must be single-threaded and own its network namespace (`run_isolated`),
    as this adds interfaces and addresses to it. Cost: about 4 ms a node.

    Raises:
        UsageError: There are too many nodes.
        HarnessError, OSError: The kernel can't do a part of it.
    """
    if len(names) > NODES_MAX:
        raise UsageError(f"{len(names)} nodes are too many: at most {NODES_MAX}")
    _set(_QUIET_SETTINGS)
    namespaces = [create_netns() for _ in names]
    numbers = range(1, len(names) + 1)
    for netns in namespaces:
        with in_netns(netns):
            _set(_QUIET_SETTINGS)
            _set(_NODE_SETTINGS)
            _set({f"ipv4/{name}": value for name, value in _tcp_settings().items()})
    with netlink.Routing() as routing:
        routing.run([netlink.up(netlink.LOOPBACK)])
        routing.run([netlink.address(netlink.LOOPBACK, CONTROLLER_IP, 32)])
        for number, netns in zip(numbers, namespaces, strict=True):
            routing.run(_cables(number, netns))
    for number, netns in zip(numbers, namespaces, strict=True):
        with in_netns(netns), netlink.Routing() as routing:
            routing.run(_inside(number, numbers))
            _send_real_frames("eth0")
    return [
        Outlet(
            name,
            ip_of(number),
            netlink.packed_mac(_mac(0, number)),
            netns,
            _raw_socket(f"port{number}"),
        )
        for name, number, netns in zip(names, numbers, namespaces, strict=True)
    ]


def ip_of(number: int) -> str:
    """The address of the number-th node, from 1."""
    return f"198.18.0.{number}"


def _mac(role: int, number: int) -> str:
    """A locally administered address; role 0 is a node's eth0."""
    return f"02:00:00:00:{role:02x}:{number:02x}"


def _cables(number: int, netns: int) -> list[netlink.Request]:
    """The requests made in the hub for one node."""
    hub_direct = _HUB_DIRECT + number
    return [
        netlink.veth(
            netlink.Interface(f"port{number}", _HUB_PORT + number, _mac(1, number)),
            netlink.Interface("eth0", _ETH0, _mac(0, number)),
            netns,
        ),
        netlink.veth(
            netlink.Interface(f"direct{number}", hub_direct, _mac(3, number)),
            netlink.Interface("direct", _DIRECT, _mac(2, number)),
            netns,
        ),
        netlink.neighbour(hub_direct, ip_of(number), _mac(2, number)),
        netlink.host_route(ip_of(number), hub_direct, CONTROLLER_IP),
    ]


def _inside(number: int, numbers: range) -> list[netlink.Request]:
    """The requests made in the namespace of one node."""
    return [
        netlink.up(netlink.LOOPBACK),
        netlink.up(_ETH0),
        netlink.up(_DIRECT),
        netlink.address(_ETH0, ip_of(number), _PREFIX_BITS),
        netlink.neighbour(_DIRECT, CONTROLLER_IP, _mac(3, number)),
        netlink.host_route(CONTROLLER_IP, _DIRECT, ip_of(number)),
        *(
            netlink.neighbour(_ETH0, ip_of(other), _mac(0, other))
            for other in numbers
            if other != number
        ),
    ]


def _tcp_settings() -> dict[str, str]:
    """The TCP settings, if the kernel can cap the backoff (from 6.15 on); else none.

    The kernel's own settings fit each other; the others here are for a capped backoff.
    """
    can_cap = Path("/proc/sys/net/ipv4/tcp_rto_max_ms").exists()
    return _TCP_SETTINGS if can_cap else {}


def _set(settings: dict[str, str]) -> None:
    """Write those of these network sysctls that the namespace we are in has."""
    for name, value in settings.items():
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(f"/proc/sys/net/{name}", os.O_WRONLY)
            try:
                os.write(descriptor, value.encode())
            finally:
                os.close(descriptor)


def _send_real_frames(interface: str) -> None:
    """Make an interface send frames that a cable could carry.

    By default veth passes on segments of up to 64 KiB without checksums, as the other
    end is on the same machine. The switch would lose or corrupt such a segment as a
    whole, and receivers would not notice a flipped bit.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in (_SET_TX_CHECKSUMS, _SET_TSO, _SET_GSO):
            value = array.array("I", [command, 0])
            request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def _raw_socket(interface: str) -> socket.socket:
    """A socket that reads the whole frames arriving on an interface, and sends such."""
    # Protocol 0 until it is bound: else it would collect frames of all interfaces.
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    try:
        port.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _PORT_BUFFER_BYTES)
    except PermissionError:
        # In a user namespace the buffer is as large as net.core.rmem_max allows.
        port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PORT_BUFFER_BYTES)
    port.bind((interface, _ETH_P_ALL))
    port.setblocking(False)
    return port
