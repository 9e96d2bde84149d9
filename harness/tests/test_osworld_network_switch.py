"""The switch rung, over real namespaces: what each rule does to real traffic."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import struct
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, UsageError
from harness.tests import osworld_nodes as nodes
from harness.tests.osworld_nodes import cluster, isolated
from harness.worlds.network import Link, LinkRule, MessageRule
from harness.worlds.os.capture import Capture
from harness.worlds.os.switch import SwitchNetwork, get_through, why_no_switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.tests.osworld_nodes import Cluster

_OBSTACLE = why_no_switch()
pytestmark = pytest.mark.skipif(
    _OBSTACLE is not None, reason=f"no switch here: {_OBSTACLE}"
)

FIVE = ["n1", "n2", "n3", "n4", "n5"]
SEED = 7


@contextmanager
def switched(names: list[str], pcap: Path | None = None) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder:
        network = SwitchNetwork.create(
            names, Path(folder), port=7000, seed=SEED, pcap=pcap
        )
        with cluster(network) as one:
            yield one


def on_two_nodes(body: Callable[[Cluster], None]) -> None:
    def run() -> None:
        with switched(["n1", "n2"]) as pair:
            body(pair)

    isolated(run)


def cut(*links: Link) -> dict[Link, LinkRule]:
    return {link: LinkRule(cut=True) for link in links}


def both_ways(*pairs: str) -> set[Link]:
    """`both_ways("13")`: the links n1 -> n3 and n3 -> n1."""
    links = {(f"n{pair[0]}", f"n{pair[1]}") for pair in pairs}
    return links | {(b, a) for a, b in links}


PARTITIONS = {
    "halves": both_ways("13", "14", "15", "23", "24", "25"),
    "one node": both_ways("31", "32", "34", "35"),
    "bridge over n3": both_ways("14", "15", "24", "25"),
    "majorities ring": both_ways("13", "14", "24", "25", "35"),
    "everyone alone": both_ways(*map("".join, itertools.combinations("12345", 2))),
}


def test_every_partition_gives_exactly_its_connectivity_matrix_and_heals() -> None:
    def body() -> None:
        with switched(FIVE) as five:
            everything = five.links()
            assert five.connections() == everything
            for name, severed in PARTITIONS.items():
                five.rules(cut(*severed))
                assert five.connections() == everything - severed, name
            five.rules({})
            assert five.connections() == everything

    isolated(body)


def test_a_one_way_cut_blocks_that_direction_only() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        pair.rules(cut(("n1", "n2")))
        for sender, receiver, arrives in ((n1, n2, False), (n2, n1, True)):
            there = pair.network.places["n2" if sender is n1 else "n1"].listen
            sender.call(nodes.send_datagrams, there.host, there.port, 1)
            if arrives:
                assert receiver.call(nodes.collect_datagrams, 0.01) == [0]
        counters = pair.counters()
        assert (counters["n1", "n2"].cut, counters["n1", "n2"].forwarded) == (1, 0)
        assert (counters["n2", "n1"].cut, counters["n2", "n1"].forwarded) == (0, 1)
        # A connect needs both directions, for its handshake.
        assert pair.connections() == set()

    on_two_nodes(body)


def test_the_controller_reaches_a_node_that_is_cut_off_from_its_peers() -> None:
    def body() -> None:
        with switched(FIVE) as five:
            five.rules(cut(*five.links()))
            everyone = {
                name: (place.listen.host, place.listen.port)
                for name, place in five.network.places.items()
            }
            assert sorted(nodes.reachable(everyone)) == FIVE
            assert sum(count.cut for count in five.counters().values()) == 0

    isolated(body)


def test_a_connection_stalls_across_a_cut_and_goes_on_after_the_heal() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        pair.rules(cut(*pair.links()))
        n1.call(nodes.send, b"written during the cut")
        assert n2.call(nodes.receive, 22, 0.5) is None
        pair.rules({})
        assert n2.call(nodes.receive, 22, 5.0) == b"written during the cut"
        assert pair.counters()["n1", "n2"].cut > 0

    on_two_nodes(body)


@pytest.mark.parametrize("severed", [("n1", "n2"), ("n2", "n1")])
def test_a_connection_goes_on_after_a_one_way_cut_either_way(severed: Link) -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        pair.rules(cut(severed))
        n1.call(nodes.send, b"first")
        nodes.eventually(lambda: pair.counters()[severed].cut > 1, "the cut bites")
        pair.rules({})
        n1.call(nodes.send, b" second")
        assert n2.call(nodes.receive, 12, 5.0) == b"first second"
        n2.call(nodes.send, b"reply")
        assert n1.call(nodes.receive, 5, 5.0) == b"reply"

    on_two_nodes(body)


def test_a_connect_begun_during_a_cut_succeeds_after_the_heal() -> None:
    def body(pair: Cluster) -> None:
        pair.rules(cut(*pair.links()))
        pair.agents["n1"].begin(nodes.connect, *pair.peer("n1", "n2"))
        nodes.eventually(
            lambda: pair.counters()["n1", "n2"].cut > 0, "a SYN met the cut"
        )
        pair.rules({})
        # Not at the next try of the kernel's: the heal itself lets the SYN pass.
        assert pair.counters()["n1", "n2"].forwarded > 0
        pair.agents["n1"].finish()

    on_two_nodes(body)


def test_a_reset_ends_a_connection_in_use_at_both_ends() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        pair.rules(dict.fromkeys(pair.links(), LinkRule(reset=1.0)))
        n1.call(nodes.send, b"lost with the connection")
        # The kernels obey: the numbers and the checksums of the resets are right.
        assert n1.call(nodes.fate_of_stream, 5.0) == "reset"
        assert n2.call(nodes.fate_of_stream, 5.0) == "reset"
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        counters = pair.counters()["n1", "n2"]
        assert (counters.resets, counters.connects) == (1, 1)
        pair.rules({})
        n2.call(nodes.accept)
        n1.call(nodes.send, b"new")
        assert n2.call(nodes.receive, 3, 5.0) == b"new"

    on_two_nodes(body)


def test_a_half_open_connection_is_reset_for_its_sender_only() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        pair.rules({("n1", "n2"): LinkRule(half_open=1.0)})
        n1.call(nodes.send, b"never arrives")
        assert n1.call(nodes.fate_of_stream, 5.0) == "reset"
        n2.call(nodes.send, b"anybody there?")
        assert n2.call(nodes.fate_of_stream, 0.3) == "open"
        assert pair.counters()["n1", "n2"].resets == 1
        pair.rules({})
        # n1's kernel may speak again, and it knows no such connection.
        assert n2.call(nodes.fate_of_stream, 5.0) == "reset"

    on_two_nodes(body)


def test_a_small_mtu_swallows_long_frames_until_the_heal() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        pair.rules({("n1", "n2"): LinkRule(mtu_bytes=600)})
        n1.call(nodes.send, b"short")
        assert n2.call(nodes.receive, 5, 5.0) == b"short"
        n1.call(nodes.send, bytes(1000))
        assert n2.call(nodes.receive, 1000, 0.3) is None
        assert pair.counters()["n1", "n2"].oversized > 0
        assert pair.counters()["n2", "n1"].oversized == 0
        pair.rules({})
        assert n2.call(nodes.receive, 1000, 5.0) == bytes(1000)

    on_two_nodes(body)


def test_a_message_that_a_pattern_names_resets_its_connection_and_others_pass() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        rule = MessageRule('"type":"vote"', reset=1.0)
        pair.rules({("n1", "n2"): LinkRule(messages=(rule,))})
        n1.call(nodes.send, b'{"type":"ping"}')
        assert n2.call(nodes.receive, 15, 5.0) == b'{"type":"ping"}'
        n1.call(nodes.send, b'{"type":"vote"}')
        assert n1.call(nodes.fate_of_stream, 5.0) == "reset"
        assert n2.call(nodes.fate_of_stream, 5.0) == "reset"
        counters = pair.counters()["n1", "n2"]
        assert (counters.matched, counters.resets) == (1, 1)

    on_two_nodes(body)


def _burst(pair: Cluster, rule: LinkRule, count: int) -> list[int]:
    """Numbers that arrive at n2 of datagrams sent by n1 under a rule."""
    pair.rules({("n1", "n2"): rule})
    pair.agents["n2"].begin(nodes.collect_datagrams, 0.8)
    pair.agents["n1"].call(nodes.send_datagrams, *pair.peer("n1", "n2"), count)
    arrived: list[int] = pair.agents["n2"].finish()
    return arrived


def test_loss_loses_its_share_and_counts_every_frame() -> None:
    def body(pair: Cluster) -> None:
        arrived = _burst(pair, LinkRule(loss=0.2), 2000)
        counters = pair.counters()["n1", "n2"]
        assert 1450 < len(arrived) < 1750
        assert counters.forwarded == len(arrived)
        assert counters.lost == 2000 - len(arrived)

    on_two_nodes(body)


def test_duplicates_arrive_and_are_counted() -> None:
    def body(pair: Cluster) -> None:
        arrived = _burst(pair, LinkRule(duplicate=0.3), 1000)
        extra = len(arrived) - 1000
        assert set(arrived) == set(range(1000))
        assert 200 < extra < 400
        assert pair.counters()["n1", "n2"].duplicated == extra

    on_two_nodes(body)


def test_reordered_datagrams_arrive_all_but_out_of_order() -> None:
    def body(pair: Cluster) -> None:
        arrived = _burst(pair, LinkRule(reorder=0.2), 1000)
        assert sorted(arrived) == list(range(1000))
        highest, late = -1, 0
        for number in arrived:
            late += number < highest
            highest = max(highest, number)
        assert late > 100
        assert pair.counters()["n1", "n2"].reordered == late

    on_two_nodes(body)


def test_jitter_delays_but_never_reorders() -> None:
    def body(pair: Cluster) -> None:
        arrived = _burst(pair, LinkRule(delay_ms=5, jitter_ms=5), 500)
        assert arrived == list(range(500))
        assert pair.counters()["n1", "n2"].delayed > 400

    on_two_nodes(body)


def test_corrupted_datagrams_fail_the_receivers_checksum() -> None:
    def body(pair: Cluster) -> None:
        n2 = pair.agents["n2"]
        arrived = _burst(pair, LinkRule(corrupt=0.3), 1000)
        corrupted = pair.counters()["n1", "n2"].corrupted
        assert 200 < corrupted < 400
        # A few flips hit what no checksum covers: they arrive none the worse.
        assert 1000 - corrupted <= len(arrived) < 1000 - corrupted // 2
        assert n2.call(nodes.checksum_errors) > corrupted // 2

    on_two_nodes(body)


def test_delay_adds_to_every_round_trip_and_is_gone_after_the_heal() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        n2.begin(nodes.echo, 20)
        pair.rules(dict.fromkeys(pair.links(), LinkRule(delay_ms=20)))
        assert min(n1.call(nodes.round_trips, 10)) >= 0.040
        pair.rules({})
        assert min(n1.call(nodes.round_trips, 10)) < 0.020
        n2.finish()

    on_two_nodes(body)


def test_a_narrow_link_passes_no_more_than_its_bandwidth() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        pair.rules({("n1", "n2"): LinkRule(bandwidth_kbit_s=8_000)})
        n2.begin(nodes.receive, 100_000, 5.0)
        start = time.monotonic()
        n1.call(nodes.send, bytes(100_000))
        assert len(n2.finish()) == 100_000
        assert time.monotonic() - start >= 0.1  # at 1 MB/s

    on_two_nodes(body)


def test_bulk_data_crosses_a_lossy_reordering_duplicating_link_intact() -> None:
    def body(pair: Cluster) -> None:
        n1, n2 = pair.agents["n1"], pair.agents["n2"]
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        bad = LinkRule(
            loss=0.02, duplicate=0.05, reorder=0.05, corrupt=0.02, delay_ms=1
        )
        pair.rules(dict.fromkeys(pair.links(), bad))
        data = bytes(range(256)) * 400
        n2.begin(nodes.receive, len(data), 10.0)
        n1.call(nodes.send, data)
        assert n2.finish() == data

    on_two_nodes(body)


def test_places_give_every_node_an_address_of_its_own_and_a_data_directory() -> None:
    def body(pair: Cluster) -> None:
        place = pair.network.places["n2"]
        assert str(place.listen) == "198.18.0.2:7000"
        assert {name: str(at) for name, at in place.peers.items()} == {
            "n1": "198.18.0.1:7000"
        }
        assert list(place.cluster) == ["n1", "n2"]
        assert place.data_dir.is_dir()
        assert place.data_dir.parent == place.log_path.parent
        assert not place.log_path.exists()

    on_two_nodes(body)


def test_a_capture_shows_every_frame_and_the_fate_of_those_that_rules_touched(
    tmp_path: Path,
) -> None:
    pcap = tmp_path / "network.pcap"

    def body() -> None:
        with switched(["n1", "n2"], pcap) as pair:
            n1, n2 = pair.agents["n1"], pair.agents["n2"]
            n1.call(nodes.send_datagrams, *pair.peer("n1", "n2"), 1)
            assert n2.call(nodes.collect_datagrams, 0.01) == [0]
            pair.rules(cut(("n2", "n1")))
            n2.call(nodes.send_datagrams, *pair.peer("n2", "n1"), 2)
            nodes.eventually(
                lambda: pair.counters()["n2", "n1"].cut == 2, "both were cut"
            )

    isolated(body)
    blocks = list(pcapng_blocks(pcap.read_bytes()))
    assert [kind for kind, _ in blocks] == [0x0A0D0D0A, 1, 1, 6, 6, 6, 5, 5]
    assert [b"n1" in blocks[1][1], b"n2" in blocks[2][1]] == [True, True]
    packets = [body for _, body in blocks[3:6]]
    assert [packet[0] for packet in packets] == [0, 1, 1]
    assert [b"n2 -> n1: cut" in packet for packet in packets] == [False, True, True]
    # The frame: to n2's address, from n1's, IPv4; the datagram "0" at its end.
    assert packets[0][20:34].hex() == "020000000002" + "020000000001" + "0800"
    assert packets[0][20 + 14 + 20 + 8 :][:1] == b"0"


def test_a_capture_ends_at_its_bound_and_counts_what_it_left_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "network.pcap"
    capture = Capture(path, ["n1", "n2"], bytes_max=1000)
    for number in range(20):
        capture.record(number % 2, bytes(60), "")
    capture.close()
    assert path.stat().st_size < 1300
    blocks = list(pcapng_blocks(path.read_bytes()))
    recorded = sum(kind == 6 for kind, _ in blocks)
    assert 0 < recorded < 20
    counts = [
        struct.unpack_from("=HHQHHQ", body, 12) for kind, body in blocks if kind == 5
    ]
    assert [received for _, _, received, *_ in counts] == [10, 10]
    assert sum(dropped for *_, dropped in counts) == 20 - recorded


def pcapng_blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block; checks that both lengths agree."""
    while data:
        kind, length = struct.unpack_from("=II", data)
        assert length % 4 == 0
        assert struct.unpack_from("=I", data, length - 4) == (length,)
        yield kind, data[8 : length - 4]
        data = data[length:]


def test_a_switch_that_dies_is_a_harness_error_at_the_next_call() -> None:
    def body(pair: Cluster) -> None:
        sidecar = pair.network._sidecar
        os.kill(sidecar.pid, signal.SIGKILL)
        with pytest.raises(
            HarnessError, match=r"switch process died \(killed by signal 9\)"
        ):
            pair.rules({})
        with pytest.raises(HarnessError, match="switch process died"):
            pair.counters()

    on_two_nodes(body)


def test_a_rule_for_a_link_that_is_not_there_is_refused() -> None:
    def body(pair: Cluster) -> None:
        with pytest.raises(HarnessError, match="no link n1 -> n9"):
            pair.rules(cut(("n1", "n9")))

    on_two_nodes(body)


def test_more_nodes_than_addresses_are_refused() -> None:
    def body() -> None:
        names = [f"n{number}" for number in range(1, 252)]
        with pytest.raises(UsageError, match="251 nodes are too many"):
            SwitchNetwork.create(names, Path("/nonexistent"), port=7000, seed=SEED)

    isolated(body)


def test_a_switch_that_loses_the_first_datagrams_still_counts_as_working() -> None:
    """A single lost datagram once failed a run on a busy machine."""

    class Lossy(socket.socket):
        sent = 0

        def sendto(self, *args: Any) -> int:
            self.sent += 1
            return 0 if self.sent <= 2 else super().sendto(*args)

    with (
        Lossy(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        assert get_through(sender, receiver)
        assert sender.sent >= 3
