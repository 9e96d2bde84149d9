"""The cables between nodes: what a namespace holds once it is wired up."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.tests.osworld_nodes import isolated
from harness.worlds.os import netlink
from harness.worlds.os.namespaces import create_netns, in_netns
from harness.worlds.os.switch import why_no_switch
from harness.worlds.os.wiring import CONTROLLER_IP, wire

_OBSTACLE = why_no_switch()
pytestmark = pytest.mark.skipif(
    _OBSTACLE is not None, reason=f"no switch here: {_OBSTACLE}"
)


def setting(name: str) -> str:
    return Path("/proc/sys/net", name).read_text().strip()


def test_a_node_has_loopback_a_cable_to_the_switch_and_one_to_the_controller() -> None:
    def body() -> None:
        [first, second] = wire(["a", "b"])
        assert (first.name, first.ip, first.mac.hex()) == (
            "a",
            "198.18.0.1",
            "020000000001",
        )
        with in_netns(second.netns):
            names = {name for _, name in socket.if_nameindex()}
            addresses = Path("/proc/thread-self/net/fib_trie").read_text()
        # Kernels with tunnels built in add theirs to every namespace.
        assert {"lo", "eth0", "direct"} <= names
        assert second.ip in addresses
        assert first.ip not in addresses

    isolated(body)


def test_connections_outlive_long_cuts_and_recover_fast() -> None:
    def body() -> None:
        [node] = wire(["a"])
        with in_netns(node.netns):
            if not Path("/proc/sys/net/ipv4/tcp_rto_max_ms").exists():
                assert setting("ipv4/tcp_retries2") == "15"
                return
            assert setting("ipv4/tcp_rto_max_ms") == "1000"
            assert setting("ipv4/tcp_retries2") == "255"

    isolated(body)


def test_no_namespace_forwards_so_the_switch_is_the_only_way() -> None:
    def body() -> None:
        [node] = wire(["a"])
        assert setting("ipv4/ip_forward") == "0"
        with in_netns(node.netns):
            assert setting("ipv4/ip_forward") == "0"

    isolated(body)


def test_nothing_but_the_nodes_own_traffic_is_on_the_cables() -> None:
    def body() -> None:
        [node] = wire(["a"])
        inet6 = Path("/proc/thread-self/net/if_inet6")
        with in_netns(node.netns):
            lines = inet6.read_text().split("\n") if inet6.exists() else []
        assert [line for line in lines if line and not line.endswith(" lo")] == []
        with pytest.raises(BlockingIOError):
            node.port.recv(2048)

    isolated(body)


def test_a_node_sends_segments_that_fit_the_wire_with_checksums_filled_in() -> None:
    def body() -> None:
        [one, two] = wire(["a", "b"])
        with in_netns(one.netns):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.sendto(b"x" * 100, (two.ip, 1))
        one.port.settimeout(5.0)
        udp = one.port.recv(2048)[34:]
        pseudo = socket.inet_aton(one.ip) + socket.inet_aton(two.ip) + b"\0\x11\0\x6c"
        summed = pseudo + udp
        total = sum(int.from_bytes(summed[i : i + 2]) for i in range(0, len(summed), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert total == 0xFFFF

    isolated(body)


def test_the_controller_has_an_address_of_its_own() -> None:
    def body() -> None:
        [node] = wire(["a"])
        with in_netns(node.netns):
            listener = socket.create_server((node.ip, 7000))
        client = socket.create_connection((node.ip, 7000), 5.0)
        listener.settimeout(5.0)
        _, address = listener.accept()
        assert address == client.getsockname()
        assert address[0] == CONTROLLER_IP

    isolated(body)


def test_a_refusal_of_the_kernels_is_told_with_what_was_asked() -> None:
    def body() -> None:
        twice = netlink.veth(
            netlink.Interface("port1", 1000, "02:00:00:00:01:01"),
            netlink.Interface("eth0", 1000, "02:00:00:00:00:01"),
            create_netns(),
        )
        with netlink.Routing() as routing:
            routing.run([twice])
            words = "would not create the veth pair port1-eth0: File exists"
            with pytest.raises(HarnessError, match=words):
                routing.run([netlink.up(netlink.LOOPBACK), twice])

    isolated(body)


def test_forty_nodes_can_be_wired() -> None:
    def body() -> None:
        outlets = wire([f"n{number}" for number in range(1, 41)])
        assert len({outlet.mac for outlet in outlets}) == 40
        assert outlets[-1].ip == "198.18.0.40"

    isolated(body)
