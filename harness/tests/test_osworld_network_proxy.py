"""The proxy rung: what each rule does to streams, with no privileges at all."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from harness.errors import HarnessError, UsageError
from harness.tests import osworld_nodes as nodes
from harness.tests.osworld_nodes import cluster
from harness.worlds.network import Link, LinkRule
from harness.worlds.os.ports import claim_block
from harness.worlds.os.proxy import ProxyNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.tests.osworld_nodes import Cluster

SEED = 7
TRAFFIC_LIMIT_S = 0.3
"""How long we look before we say that nothing comes through a cut."""


@contextmanager
def proxied(names: list[str]) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder:
        network = ProxyNetwork.create(names, Path(folder), seed=SEED)
        with cluster(network) as one:
            yield one


@pytest.fixture
def pair() -> Iterator[Cluster]:
    with proxied(["n1", "n2"]) as one:
        yield one


@pytest.fixture
def joined(pair: Cluster) -> Cluster:
    """Two nodes with a connection from n1 to n2."""
    pair.agents["n1"].call(nodes.connect, *pair.peer("n1", "n2"))
    pair.agents["n2"].call(nodes.accept)
    return pair


def cut(*links: Link) -> dict[Link, LinkRule]:
    return {link: LinkRule(cut=True) for link in links}


def test_bytes_flow_both_ways_on_a_healthy_link(joined: Cluster) -> None:
    joined.agents["n2"].begin(nodes.echo, 20)
    assert len(joined.agents["n1"].call(nodes.round_trips, 20)) == 20
    joined.agents["n2"].finish()
    counters = joined.counters()
    assert counters["n1", "n2"].forwarded == 20
    assert counters["n2", "n1"].forwarded == 20


def test_a_cut_holds_bytes_of_its_direction_only_and_the_heal_lets_them_flow(
    joined: Cluster,
) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    joined.rules(cut(("n1", "n2")))
    n1.call(nodes.send, b"held ")
    n1.call(nodes.send, b"in order")
    n2.call(nodes.send, b"free")
    assert n1.call(nodes.receive, 4, 5.0) == b"free"
    assert n2.call(nodes.receive, 13, TRAFFIC_LIMIT_S) is None
    joined.rules({})
    assert n2.call(nodes.receive, 13, 5.0) == b"held in order"
    assert joined.counters()["n1", "n2"].cut > 0
    assert joined.counters()["n2", "n1"].cut == 0


def test_a_reset_ends_a_connection_in_use_at_both_ends(joined: Cluster) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    joined.rules({("n1", "n2"): LinkRule(reset=1.0)})
    n1.call(nodes.send, b"lost with the connection")
    assert n1.call(nodes.fate_of_stream, 5.0) == "reset"
    assert n2.call(nodes.fate_of_stream, 5.0) == "reset"
    n1.call(nodes.connect, *joined.peer("n1", "n2"))
    n2.call(nodes.accept)
    counters = joined.counters()["n1", "n2"]
    assert (counters.resets, counters.connects) == (1, 1)


def test_a_half_open_connection_is_reset_for_its_sender_only(joined: Cluster) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    joined.rules({("n1", "n2"): LinkRule(half_open=1.0)})
    n1.call(nodes.send, b"never arrives")
    assert n1.call(nodes.fate_of_stream, 5.0) == "reset"
    n2.call(nodes.send, b"anybody there?")
    assert n2.call(nodes.fate_of_stream, TRAFFIC_LIMIT_S) == "open"
    joined.rules({})
    n2.call(nodes.send, b"still nobody?")
    assert n2.call(nodes.fate_of_stream, 5.0) == "reset"
    assert joined.counters()["n1", "n2"].resets == 1


@pytest.mark.parametrize("severed", [("n1", "n2"), ("n2", "n1")])
def test_a_new_connection_leads_nowhere_while_either_direction_is_cut(
    pair: Cluster, severed: Link
) -> None:
    n1, n2 = pair.agents["n1"], pair.agents["n2"]
    pair.rules(cut(severed))
    n1.call(nodes.connect, *pair.peer("n1", "n2"))
    n1.call(nodes.send, b"hello")
    assert n1.call(nodes.receive, 1, TRAFFIC_LIMIT_S) is None
    assert pair.counters()[severed].cut == 1
    assert pair.counters()["n1", "n2"].forwarded == 0
    pair.rules({})
    n2.call(nodes.accept)
    assert n2.call(nodes.receive, 5, 5.0) == b"hello"


def test_a_sender_stalls_when_a_cut_link_holds_a_buffers_worth(
    joined: Cluster,
) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    data = bytes(range(256)) * 80_000
    joined.rules(cut(("n1", "n2")))
    n1.begin(nodes.send, data)
    nodes.eventually(lambda: joined.counters()["n1", "n2"].cut > 0, "bytes arrive")
    assert not n1.has_answered_within(TRAFFIC_LIMIT_S)
    joined.rules({})
    n2.begin(nodes.receive, len(data), 10.0)
    n1.finish()
    assert n2.finish() == data


def test_the_end_of_a_connection_is_held_back_behind_its_bytes(
    joined: Cluster,
) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    joined.rules(cut(("n1", "n2")))
    n1.call(nodes.send, b"last words")
    n1.call(nodes.hang_up)
    assert n2.call(nodes.receive, 11, TRAFFIC_LIMIT_S) is None
    joined.rules({})
    assert n2.call(nodes.receive, 11, 5.0) == b"last words"


def test_one_direction_may_end_while_the_other_goes_on(joined: Cluster) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    n1.call(nodes.send, b"question")
    n1.call(nodes.end_sending)
    assert n2.call(nodes.receive, 9, 5.0) == b"question"
    n2.call(nodes.send, b"answer")
    n2.call(nodes.hang_up)
    assert n1.call(nodes.receive, 7, 5.0) == b"answer"


def test_finished_connections_leave_no_descriptors_behind(pair: Cluster) -> None:
    n1, n2 = pair.agents["n1"], pair.agents["n2"]
    proxy = psutil.Process(pair.network._sidecar.pid)
    pair.counters()  # answered when it has opened all that it needs
    before = proxy.num_fds()
    for first, second in ((n1, n2), (n2, n1)) * 3:
        n1.call(nodes.connect, *pair.peer("n1", "n2"))
        n2.call(nodes.accept)
        first.call(nodes.end_sending)
        assert second.call(nodes.receive, 1, 5.0) == b""
        second.call(nodes.hang_up)
        assert first.call(nodes.receive, 1, 5.0) == b""
    nodes.eventually(lambda: proxy.num_fds() == before, "all descriptors are closed")


def test_delay_adds_to_every_round_trip_and_is_gone_after_the_heal(
    joined: Cluster,
) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    n2.begin(nodes.echo, 20)
    joined.rules(dict.fromkeys(joined.links(), LinkRule(delay_ms=20)))
    assert min(n1.call(nodes.round_trips, 10)) >= 0.040
    assert joined.counters()["n1", "n2"].delayed == 10
    joined.rules({})
    assert min(n1.call(nodes.round_trips, 10)) < 0.020
    n2.finish()


def test_jitter_keeps_the_bytes_in_order(joined: Cluster) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    joined.rules({("n1", "n2"): LinkRule(delay_ms=5, jitter_ms=5)})
    data = bytes(range(250))
    n2.begin(nodes.receive, len(data), 5.0)
    for byte in data:
        n1.call(nodes.send, bytes([byte]))
    assert n2.finish() == data


def test_a_narrow_link_passes_no_more_than_its_bandwidth(joined: Cluster) -> None:
    n1, n2 = joined.agents["n1"], joined.agents["n2"]
    joined.rules({("n1", "n2"): LinkRule(bandwidth_kbit_s=8_000)})
    n2.begin(nodes.receive, 200_000, 5.0)
    start = time.monotonic()
    n1.call(nodes.send, bytes(200_000))
    assert len(n2.finish()) == 200_000
    assert time.monotonic() - start >= 0.2  # at 1 MB/s


def test_a_connection_to_a_node_that_is_down_is_reset(pair: Cluster) -> None:
    n1, n2 = pair.agents["n1"], pair.agents["n2"]
    n2.call(nodes.stop_listening)
    assert n1.call(nodes.is_reset, *pair.peer("n1", "n2"))


def test_clients_reach_a_node_that_is_cut_off(pair: Cluster) -> None:
    pair.rules(cut(*pair.links()))
    listen = pair.network.places["n2"].listen
    with socket.create_connection((listen.host, listen.port), 5.0) as client:
        pair.agents["n2"].call(nodes.accept)
        client.sendall(b"from a client")
        assert pair.agents["n2"].call(nodes.receive, 13, 5.0) == b"from a client"


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("loss", LinkRule(loss=0.1)),
        ("duplicate", LinkRule(duplicate=0.1)),
        ("reorder", LinkRule(reorder=0.1)),
        ("corrupt", LinkRule(corrupt=0.1)),
    ],
)
def test_faults_that_streams_cannot_have_are_refused(
    pair: Cluster, field: str, rule: LinkRule
) -> None:
    with pytest.raises(HarnessError, match=f"the proxy can't do {field}"):
        pair.rules({("n1", "n2"): rule})


def test_a_proxy_that_dies_is_a_harness_error_at_the_next_call(
    pair: Cluster,
) -> None:
    os.kill(pair.network._sidecar.pid, signal.SIGKILL)
    with pytest.raises(HarnessError, match=r"proxy process died \(killed by signal 9"):
        pair.counters()


def test_places_tell_each_node_the_doors_of_its_own_links() -> None:
    with proxied(["n1", "n2", "n3"]) as three:
        places = three.network.places
        doors = [there for place in places.values() for there in place.peers.values()]
        assert len(set(doors)) == 6
        listens = [place.listen for place in places.values()]
        assert set(doors).isdisjoint(listens)
        assert list(places["n1"].cluster.values()) == listens
        assert places["n3"].data_dir.is_dir()


def test_two_runs_at_once_never_choose_the_same_ports() -> None:
    one, two = claim_block(5), claim_block(5)
    with one.claim, two.claim:
        assert set(one.ports).isdisjoint(two.ports)


def test_more_nodes_than_ports_are_refused() -> None:
    with pytest.raises(UsageError, match="256 nodes are too many"):
        claim_block(256)


_CONTROLLER = """
import signal, sys, tempfile
from pathlib import Path
from harness.worlds.os.proxy import ProxyNetwork
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
network = ProxyNetwork.create(["n1", "n2"], Path(sys.argv[1]), seed=1)
print(network._sidecar.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_proxy_ends_with_its_controller(
    number: signal.Signals, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _CONTROLLER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as controller:
        assert controller.stdout is not None
        with contextlib.closing(controller.stdout):
            proxy = int(controller.stdout.readline())
        assert nodes.is_alive(proxy)
        controller.send_signal(number)
    nodes.eventually(lambda: not nodes.is_alive(proxy), "the proxy is gone")
