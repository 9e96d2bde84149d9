"""Sockets: lines that arrive cut in any way, peers that come and go."""

from __future__ import annotations

import contextlib
import itertools
import json
import selectors
import socket
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from reference_impls.tests.processes import DEADLINE_S, free_ports, wait_for
from reference_impls.transport import (
    HELLO,
    RECONNECT_MS,
    USER_TIMEOUT_MS,
    Connection,
    PeerLink,
    Peers,
    listen,
)
from reference_impls.wire import MalformedError, decode, encode_reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference_impls.actor import Body

lines = st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b))


@given(lines=lines, cuts=st.lists(st.integers(0, 200)))
def test_lines_arrive_whole_however_the_bytes_are_cut(
    lines: list[bytes], cuts: list[int]
) -> None:
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []
    with selectors.DefaultSelector() as selector, ours, theirs:
        connection = Connection(
            theirs, selector, lambda _, line: heard.append(line), lambda *_: None
        )
        data = b"".join(line + b"\n" for line in lines) + b"unfinished"
        bounds = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
        for start, end in itertools.pairwise(bounds):
            ours.sendall(data[start:end])
            connection.read()
        assert heard == lines
        connection.close("")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_malformed(line: bytes) -> None:
    with contextlib.suppress(MalformedError):
        assert isinstance(decode(line).body["type"], str)


@given(
    request=st.dictionaries(st.sampled_from(["msg_id", "type"]), st.integers()),
    value=st.text(),
)
def test_an_answer_is_one_line_that_names_its_request(
    request: dict[str, int], value: str
) -> None:
    line = encode_reply("n1", "c\n1", request, {"type": "read_ok", "value": value})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    frame = decode(line)
    assert (frame.src, frame.dest) == ("n1", "c\n1")
    assert frame.body["value"] == value
    assert frame.body.get("in_reply_to") == request.get("msg_id")


class Peer:
    """A listening peer, a link to it, and a loop that runs until something is true."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.selector = selectors.DefaultSelector()
        self.alarm = False
        address = ("127.0.0.1", self.port)
        self.heard: list[bytes] = []
        self.link = PeerLink(
            "n1",
            "n2",
            address,
            self.selector,
            lambda _, line: self.heard.append(line),
            self.set_alarm,
        )

    def set_alarm(self, after_ms: float) -> None:
        self.alarm = True

    def turn(self) -> None:
        for key, mask in self.selector.select(0.01):
            key.data(mask)
        self.link.flush()

    def until(self, what: str) -> None:
        def is_so() -> bool:
            self.turn()
            return bool(getattr(self.link, what))

        wait_for(is_so, what)

    def until_heard(self) -> None:
        def is_heard() -> bool:
            self.turn()
            return bool(self.heard)

        wait_for(is_heard, "what comes back on the link")


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    listener.setblocking(True)
    while True:
        yield listener.accept()[0]


def next_line(sock: socket.socket) -> bytes:
    """The next line, and nothing that follows it."""
    sock.settimeout(DEADLINE_S)
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        assert byte, "closed within a line"
        line += byte
    return line[:-1]


def assert_says_who_it_is(sock: socket.socket) -> None:
    frame = decode(next_line(sock))
    assert frame == ("n1", "n2", {"type": HELLO})


def said(body: Body) -> bytes:
    return json.dumps(body).encode()


def test_a_link_delivers_drops_and_reconnects() -> None:
    peer = Peer()
    link = peer.link
    link.connect()
    peer.turn()
    early = link.frame(said({"type": "early"}))
    assert not link.write(early), "nobody listens yet: dropped"
    assert peer.alarm, "it will try again"

    with listen(("127.0.0.1", peer.port)) as listener:
        connections = accepted(listener)
        link.on_alarm()
        peer.until("connected")
        with next(connections) as first:
            assert_says_who_it_is(first)
            assert link.write(link.frame(said({"type": "ask"})))
            peer.turn()
            frame = decode(next_line(first))
            assert frame == ("n1", "n2", {"type": "ask"})
            first.sendall(b"an answer\n")
            peer.until_heard()
            assert peer.heard == [b"an answer"]

        def broken() -> bool:
            peer.turn()
            return not link.connected

        wait_for(broken, "the link to notice that the peer is gone")
        link.on_heard()
        peer.until("connected")
        with next(connections) as second:
            assert_says_who_it_is(second)
            assert link.write(link.frame(said({"type": "again"})))
            peer.turn()
            assert decode(next_line(second)).body == {"type": "again"}
    link.close_socket()
    peer.selector.close()
    assert link.dropped == 1


def test_a_peer_that_is_heard_from_again_and_again_does_not_end_an_attempt() -> None:
    peer = Peer()
    # An address that answers no SYN: a listener whose queue is full.
    with socket.create_server(("127.0.0.1", peer.port), backlog=0) as listener:
        crowd = [socket.socket() for _ in range(3)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        peer.link.on_heard()
        attempt = peer.link.sock
        peer.link.begun_s += 3600  # it stays young, however busy the machine is
        for _ in range(10):
            peer.link.on_heard()
        assert peer.link.sock is attempt
        peer.link.begun_s -= 3600 + RECONNECT_MS / 1000
        peer.link.on_heard()
        assert peer.link.sock not in {None, attempt}, "an old one may have backed off"
        for each in crowd:
            each.close()
    peer.link.close_socket()
    peer.selector.close()


class Pair:
    """Node n2, its links to n1 and n3, and connections that came in."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        nowhere = ("127.0.0.1", 1)
        self.links = {
            peer: PeerLink(
                "n2", peer, nowhere, selector, lambda *_: None, lambda _: None
            )
            for peer in ("n1", "n3")
        }
        self.peers = Peers("n2", self.links)

    def incoming(self) -> Connection:
        ours, theirs = socket.socketpair()
        theirs.close()
        return Connection(
            ours,
            self.selector,
            lambda *_: None,
            lambda connection, _: self.peers.forget(connection),
        )


def test_two_nodes_use_the_connection_of_the_one_whose_name_comes_first() -> None:
    with selectors.DefaultSelector() as selector:
        pair = Pair(selector)
        peers, links = pair.peers, pair.links
        for link in links.values():
            link.connected = True
        assert peers.way_to("n1") is links["n1"], "n1 has not said hello yet"
        of_n1, of_n3 = pair.incoming(), pair.incoming()
        peers.on_hello("n1", of_n1)
        peers.on_hello("n3", of_n3)
        assert peers.way_to("n1") is of_n1
        assert peers.way_to("n3") is links["n3"]
        links["n3"].connected = False
        assert peers.way_to("n3") is of_n3, "the other one stands by"
        again = pair.incoming()
        peers.on_hello("n1", again)
        assert peers.way_to("n1") is again, "the last one that it made"
        of_n1.close("")
        assert peers.way_to("n1") is again
        again.close("")
        assert peers.way_to("n1") is links["n1"]
        of_n3.close("")
        assert peers.way_to("n3") is links["n3"], "which drops what it is given"


def test_a_connection_to_a_peer_fails_soon_if_nothing_is_acknowledged() -> None:
    with listen(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as selector:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()):
            connection = Connection(
                listener.accept()[0], selector, lambda *_: None, lambda *_: None
            )
            assert connection.sock is not None
            option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert connection.sock.getsockopt(*option) == 0
            Pair(selector).peers.on_hello("n1", connection)
            assert connection.sock.getsockopt(*option) == USER_TIMEOUT_MS
            connection.close("")
