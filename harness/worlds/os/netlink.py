"""The few rtnetlink(7) requests that build our network, batched.

A library could do this (pyroute2), but its import takes 0.11-0.16 s, a quarter of the
time in which five nodes should be ready; these requests together take a few
milliseconds. So neither a library nor the `ip` command is needed.

Requests are plain data. `Routing.run` sends a batch of them at once and reads the
kernel's acknowledgements. Interface indexes are chosen by the caller when it creates
an interface, so no answer is needed to write the next request.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence

# <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_link.h>, <linux/neighbour.h>
_NLMSG_ERROR = 2
_NLM_F_REQUEST, _NLM_F_ACK = 0x1, 0x4
_NLM_F_EXCL, _NLM_F_CREATE = 0x200, 0x400
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_NEWNEIGH = 16, 20, 24, 28
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_IFLA_NET_NS_FD = 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_PREFSRC = 1, 4, 7
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST = 254, 4, 253, 1
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 1, 2, 0x80
_IFF_UP = 0x1

LOOPBACK = 1
"""The interface index of `lo`, in every network namespace."""

_BATCH = 32
"""Requests sent before their acknowledgements are read. The acknowledgements must fit
the socket's receive buffer, of which each takes 0.8 KB."""


@dataclass(frozen=True)
class Request:
    """One request: message type, flags beyond REQUEST and ACK, and the payload."""

    what: str
    kind: int
    flags: int
    payload: bytes


@dataclass(frozen=True)
class Interface:
    """One end of a veth pair. `mac` is like "02:00:00:00:00:01"."""

    name: str
    index: int
    mac: str
    mtu: int = 1500


class Routing:
    """A routing socket of the network namespace that the opening thread is in."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, requests: Sequence[Request]) -> None:
        """Carry out the requests, in order.

        Raises:
            HarnessError: The kernel refused one; says which. The others may have been
                carried out.
        """
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            self._socket.send(
                b"".join(_message(number, one) for number, one in enumerate(batch))
            )
            self._check_acknowledged(batch)

    def _check_acknowledged(self, batch: Sequence[Request]) -> None:
        missing = len(batch)
        while missing:
            answer = memoryview(self._socket.recv(65536))
            while answer:
                length, kind, _, number, _ = struct.unpack_from("=IHHII", answer)
                if kind == _NLMSG_ERROR:
                    missing -= 1
                    (code,) = struct.unpack_from("=i", answer, 16)
                    if code != 0:
                        raise HarnessError(
                            f"the kernel would not {batch[number].what}: "
                            f"{os.strerror(-code)}"
                        )
                answer = answer[_aligned(length) :]


def veth(near: Interface, far: Interface, far_netns: int) -> Request:
    """Create a pair, `near` in this namespace, `far` in the one behind the fd.

    `near` is up at once; `far` can't be (the kernel opens it before it has a peer).
    """
    peer = _link_header(far.index, 0) + _link_attributes(far)
    peer += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", far_netns))
    info = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(
        _IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, peer)
    )
    return Request(
        f"create the veth pair {near.name}-{far.name}",
        _RTM_NEWLINK,
        _NLM_F_CREATE | _NLM_F_EXCL,
        _link_header(near.index, _IFF_UP)
        + _link_attributes(near)
        + _attribute(_IFLA_LINKINFO, info),
    )


def up(index: int) -> Request:
    """Switch an existing interface on."""
    return Request(
        f"switch interface {index} on", _RTM_NEWLINK, 0, _link_header(index, _IFF_UP)
    )


def address(index: int, ip: str, prefix_bits: int) -> Request:
    """Give an interface an IPv4 address; routes to its network come with it."""
    packed = socket.inet_aton(ip)
    return Request(
        f"give interface {index} the address {ip}/{prefix_bits}",
        _RTM_NEWADDR,
        _NLM_F_CREATE | _NLM_F_EXCL,
        struct.pack("=BBBBI", socket.AF_INET, prefix_bits, 0, 0, index)
        + _attribute(_IFA_LOCAL, packed)
        + _attribute(_IFA_ADDRESS, packed),
    )


def host_route(ip: str, index: int, source: str) -> Request:
    """Reach one host over an interface, from the address `source`."""
    header = struct.pack(
        "=BBBBBBBBI",
        socket.AF_INET,
        32,
        0,
        0,
        _RT_TABLE_MAIN,
        _RTPROT_STATIC,
        _RT_SCOPE_LINK,
        _RTN_UNICAST,
        0,
    )
    return Request(
        f"route {ip} over interface {index}",
        _RTM_NEWROUTE,
        _NLM_F_CREATE | _NLM_F_EXCL,
        header
        + _attribute(_RTA_DST, socket.inet_aton(ip))
        + _attribute(_RTA_OIF, struct.pack("=I", index))
        + _attribute(_RTA_PREFSRC, socket.inet_aton(source)),
    )


def neighbour(index: int, ip: str, mac: str) -> Request:
    """Set the MAC address of `ip` for good, so that ARP is never asked."""
    return Request(
        f"know {ip} as {mac} on interface {index}",
        _RTM_NEWNEIGH,
        _NLM_F_CREATE,
        struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, index, _NUD_PERMANENT, 0, 0)
        + _attribute(_NDA_DST, socket.inet_aton(ip))
        + _attribute(_NDA_LLADDR, packed_mac(mac)),
    )


def packed_mac(mac: str) -> bytes:
    """The six bytes of "02:00:00:00:00:01"."""
    return bytes.fromhex(mac.replace(":", ""))


def _link_header(index: int, flags: int) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _link_attributes(interface: Interface) -> bytes:
    return (
        _attribute(_IFLA_IFNAME, interface.name.encode() + b"\0")
        + _attribute(_IFLA_ADDRESS, packed_mac(interface.mac))
        + _attribute(_IFLA_MTU, struct.pack("=I", interface.mtu))
    )


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(_aligned(length) - length)


def _message(number: int, request: Request) -> bytes:
    length = 16 + len(request.payload)
    flags = _NLM_F_REQUEST | _NLM_F_ACK | request.flags
    header = struct.pack("=IHHII", length, request.kind, flags, number, 0)
    return header + request.payload + bytes(_aligned(length) - length)


def _aligned(length: int) -> int:
    """`length` rounded up to a multiple of four, to which netlink pads."""
    return (length + 3) & ~3
