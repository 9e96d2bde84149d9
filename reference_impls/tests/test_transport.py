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

from reference_impls.tests.processes import free_ports, wait_for
from reference_impls.transport import Connection, PeerLink, listen
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
        self.link = PeerLink("n1", "n2", address, self.selector, self.set_alarm)

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


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    listener.setblocking(True)
    while True:
        yield listener.accept()[0]


def said(body: Body) -> bytes:
    return json.dumps(body).encode()


def test_a_link_delivers_drops_and_reconnects() -> None:
    peer = Peer()
    link = peer.link
    link.connect()
    peer.turn()
    assert not link.write(said({"type": "early"})), "nobody listens yet: dropped"
    assert peer.alarm, "it will try again"

    with listen(("127.0.0.1", peer.port)) as listener:
        connections = accepted(listener)
        link.on_alarm()
        peer.until("connected")
        with next(connections) as first:
            assert link.write(said({"type": "hello"}))
            peer.turn()
            frame = decode(first.recv(1000).rstrip(b"\n"))
            assert (frame.src, frame.dest, frame.body) == (
                "n1",
                "n2",
                {"type": "hello"},
            )

        def broken() -> bool:
            peer.turn()
            return not link.connected

        wait_for(broken, "the link to notice that the peer is gone")
        link.on_heard()
        peer.until("connected")
        with next(connections) as second:
            assert link.write(said({"type": "again"}))
            peer.turn()
            assert decode(second.recv(1000).rstrip(b"\n")).body == {"type": "again"}
    link.close_socket()
    peer.selector.close()
    assert link.dropped == 1
