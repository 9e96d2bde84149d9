"""The router rung: what each rule does to messages, with no privileges at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.worlds.events import Passed
from harness.worlds.network import LinkRule, MessageRule
from harness.worlds.os.router import RouterNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.worlds.network import LinkCounters

SEED = 7
FOREVER_S = 20.0
GREETING = b'{"type":"hello"}'


class End:
    """A node's end of the network: the part that the program beside it plays."""

    def __init__(self, network: RouterNetwork, name: str) -> None:
        door = next(iter(network.places[name].peers.values()))
        self._socket = socket.create_connection((door.host, door.port), timeout=0.1)
        self._socket.settimeout(FOREVER_S)
        self._socket.sendall(name.encode() + b"\n")
        self._file = self._socket.makefile("rb")

    def send(self, dest: str, *messages: bytes, latency_s: float = 0.0) -> None:
        head = f"{dest} {latency_s} ".encode()
        self._socket.sendall(b"".join(head + each + b"\n" for each in messages))

    def receive(self, count: int) -> list[bytes]:
        return [self._file.readline().rstrip(b"\n") for _ in range(count)]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Net:
    """Three nodes n1 to n3; rules are set from outside any event loop."""

    def __init__(self, network: RouterNetwork) -> None:
        self.network = network
        self.ends = {name: End(network, name) for name in network.places}
        # Each end is known once something that was sent to it has come.
        for name, end in self.ends.items():
            for other in self.ends.values():
                if other is not end:
                    self.until_known(other, name)

    def until_known(self, end: End, name: str) -> None:
        target = self.ends[name]._socket
        target.settimeout(0.02)
        try:
            while True:
                end.send(name, b"known?")
                with contextlib.suppress(TimeoutError):
                    target.recv(1 << 16)
                    break
            with contextlib.suppress(TimeoutError):
                while True:
                    target.recv(1 << 16)
        finally:
            target.settimeout(FOREVER_S)

    def rule(self, a: str, b: str, rule: LinkRule) -> None:
        asyncio.run(self.network.set_rules({(a, b): rule}))

    def heal(self) -> None:
        asyncio.run(self.network.set_rules({}))

    def counters(self, a: str, b: str) -> LinkCounters:
        return asyncio.run(self.network.counters())[a, b]


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    network = RouterNetwork.create(
        ["n1", "n2", "n3"], tmp_path, seed=SEED, messages=[Passed('"type":"hello"')]
    )
    try:
        net = Net(network)
        yield net
        for end in net.ends.values():
            end.close()
    finally:
        asyncio.run(network.close())


def test_messages_arrive_in_order_and_are_counted(net: Net) -> None:
    n1, n2 = net.ends["n1"], net.ends["n2"]
    sent = [b"%d" % i for i in range(1000)]
    n1.send("n2", *sent)
    assert n2.receive(1000) == sent
    before = sum(net.network.passed(Passed('"type":"hello"')).values())
    n2.send("n1", GREETING)
    assert n1.receive(1) == [GREETING]
    assert before == 0
    assert net.network.passed(Passed('"type":"hello"'))["n2", "n1"] == 1


def test_a_cut_loses_messages_for_good_in_its_direction_only(net: Net) -> None:
    n1, n2 = net.ends["n1"], net.ends["n2"]
    net.rule("n1", "n2", LinkRule(cut=True))
    n1.send("n2", b"lost", b"lost")
    n2.send("n1", b"passes")
    assert n1.receive(1) == [b"passes"]
    cut = net.counters("n1", "n2").cut
    while cut < 2:
        cut = net.counters("n1", "n2").cut
    net.heal()
    n1.send("n2", b"after")
    assert n2.receive(1) == [b"after"]


def test_each_message_is_lost_or_doubled_by_itself(net: Net) -> None:
    n1, n2 = net.ends["n1"], net.ends["n2"]
    net.rule("n1", "n2", LinkRule(loss=0.5))
    sent = [b"%d" % i for i in range(200)]
    n1.send("n2", *sent)
    while sum(vars(net.counters("n1", "n2")).values()) < 200:
        pass
    lost = net.counters("n1", "n2").lost
    assert 60 < lost < 140
    net.rule("n1", "n2", LinkRule(duplicate=1.0))
    n1.send("n2", b"twice", b"end")
    got = n2.receive(200 - lost + 4)
    assert got[-4:] == [b"twice", b"twice", b"end", b"end"]
    assert got[:-4] == sorted(got[:-4], key=int)
    assert set(got[:-4]) < set(sent)


def test_delays_keep_the_order_and_latencies_of_messages_do_not(net: Net) -> None:
    n1, n2 = net.ends["n1"], net.ends["n2"]
    net.rule("n1", "n2", LinkRule(delay_ms=100))
    begun_s = time.monotonic()
    n1.send("n2", b"a", b"b")
    assert n2.receive(2) == [b"a", b"b"]
    assert time.monotonic() - begun_s > 0.09
    net.heal()
    n1._socket.sendall(b"n2 0.5 slow\nn2 0 fast\n")
    assert n2.receive(2) == [b"fast", b"slow"]


def test_a_cut_takes_messages_that_are_on_their_way(net: Net) -> None:
    n1, n2 = net.ends["n1"], net.ends["n2"]
    n1.send("n2", b"on its way", latency_s=2.0)
    n1.send("n3", b"end")
    net.ends["n3"].receive(1)
    net.rule("n1", "n2", LinkRule(cut=True))
    while not net.counters("n1", "n2").cut:
        time.sleep(0.01)
    net.heal()
    n1.send("n2", b"after")
    assert n2.receive(1) == [b"after"]


@pytest.mark.parametrize(
    "rule",
    [
        LinkRule(corrupt=1.0),
        LinkRule(mtu_bytes=100),
        LinkRule(messages=(MessageRule('"type":"hello"', loss=1.0),)),
        LinkRule(messages=(MessageRule('"type":"hello"', reset=1.0),)),
    ],
)
def test_a_message_that_is_spoilt_too_long_or_of_a_type_is_lost(
    net: Net, rule: LinkRule
) -> None:
    n1, n2 = net.ends["n1"], net.ends["n2"]
    net.rule("n1", "n2", rule)
    n1.send("n2", GREETING + b" " * 100)
    n1.send("n3", b"end")
    net.ends["n3"].receive(1)
    net.heal()
    n1.send("n2", b"after")
    assert n2.receive(1) == [b"after"]


def test_a_long_message_arrives_whole_and_its_type_is_seen(net: Net) -> None:
    message = GREETING + b"x" * (1 << 20)
    net.ends["n1"].send("n2", message)
    assert net.ends["n2"].receive(1) == [message]
    assert net.network.passed(Passed('"type":"hello"'))["n1", "n2"] == 1


def test_who_reads_late_gets_everything(net: Net) -> None:
    n1, n2 = net.ends["n1"], net.ends["n2"]
    sent = [b"%d" % i + b"." * 1000 for i in range(10_000)]
    n1.send("n2", *sent)  # more than sockets hold
    assert n2.receive(10_000) == sent


def test_what_was_for_a_process_that_ended_never_reaches_the_next(net: Net) -> None:
    n1, n2 = net.ends["n1"], net.ends["n2"]
    before = net.counters("n1", "n2").forwarded
    n1.send("n2", *[b"unread" * 1000] * 1000)
    while net.counters("n1", "n2").forwarded < before + 1000:
        pass
    n2.close()
    net.ends["n2"] = n2 = End(net.network, "n2")
    net.until_known(n1, "n2")
    n1.send("n2", b"new")
    assert n2.receive(1) == [b"new"]


@pytest.mark.parametrize(
    "line",
    [b"", b"n2", b"n9 0 x", b"n1 0 x", b"n2 nan x", b"n2 soon x", b"\xff \xff \xff"],
)
def test_lines_that_make_no_sense_are_passed_over(net: Net, line: bytes) -> None:
    net.ends["n1"]._socket.sendall(line + b"\n")
    net.ends["n1"].send("n2", b"after")
    assert net.ends["n2"].receive(1) == [b"after"]


@pytest.mark.parametrize("said", [b"n9\n", b"n1\nn2 0 " + b"x" * (3 << 20)])
def test_who_is_no_node_or_never_ends_a_line_is_cut_off(net: Net, said: bytes) -> None:
    door = next(iter(net.network.places["n1"].peers.values()))
    with socket.create_connection((door.host, door.port)) as stranger:
        with contextlib.suppress(OSError):
            stranger.sendall(said)
        with contextlib.suppress(ConnectionError):
            assert stranger.recv(1) == b""


def test_there_are_no_connections_to_reset(net: Net) -> None:
    with pytest.raises(HarnessError, match="the router can't do reset on a link"):
        net.rule("n1", "n2", LinkRule(reset=0.5))
