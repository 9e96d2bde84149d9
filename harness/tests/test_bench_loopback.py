"""Clients that measure reference nodes on loopback, and what they refuse to count."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.bench import loopback
from harness.bench.loopback import LOADS, Client
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node() -> Iterator[Node]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Node(listener)


class Node:
    """The node's end of one client's connection, in the hands of a test."""

    def __init__(self, listener: socket.socket) -> None:
        self.client = Client(7, "n1", listener.getsockname()[1], LOADS["mixed"])
        self.sock, _ = listener.accept()

    def asked(self) -> dict[str, Any]:
        body: dict[str, Any] = msgspec.json.decode(self.sock.recv(4096))["body"]
        return body

    def answer(self, **body: Any) -> None:
        line = msgspec.json.encode({"src": "n1", "dest": "c7", "body": body}) + b"\n"
        # In two pieces, as TCP may deliver it.
        for piece in (line[:9], line[9:]):
            self.sock.sendall(piece)
            self.client.hear()

    def close(self) -> None:
        self.sock.close()
        self.client.sock.close()


def test_a_client_knows_what_its_own_key_holds(node: Node) -> None:
    node.client.ask()
    kinds = []
    for msg_id in range(1, 9):
        request = node.asked()
        assert (request["key"], request["msg_id"]) == (7, msg_id)
        kinds.append(request["type"])
        answer = {"type": f"{request['type']}_ok", "in_reply_to": msg_id}
        match request["type"]:
            case "write":
                held = request["value"]
            case "cas":
                assert request["from"] == held
                held = request["to"]
            case _:
                answer["value"] = held
        node.answer(**answer)
    assert kinds == ["write", "read", "cas", "read"] * 2
    assert (node.client.done, node.client.refused) == (8, 0)
    node.close()


def test_a_refused_request_is_not_counted_and_the_key_is_written_anew(
    node: Node,
) -> None:
    node.client.ask()
    node.asked()
    node.answer(type="write_ok", in_reply_to=1)
    assert node.asked()["type"] == "read"
    node.answer(type="error", code=11, text="no leader", in_reply_to=2)
    assert node.asked()["type"] == "write"
    assert (node.client.done, node.client.refused) == (1, 1)
    node.close()


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "read_ok", "value": 1, "in_reply_to": 1},
        {"type": "write_ok", "in_reply_to": 2},
        {"type": "write_ok"},
    ],
)
def test_a_wrong_answer_ends_the_measurement(
    node: Node, answer: dict[str, Any]
) -> None:
    node.client.ask()
    with pytest.raises(HarnessError, match="n1 answered"):
        node.answer(**answer)
    node.close()


@pytest.mark.nightly
@pytest.mark.parametrize("load", LOADS)
def test_nodes_are_measured_and_gone_afterwards(tmp_path: Path, load: str) -> None:
    answer = loopback.measure(tmp_path, load, 0.2)
    assert answer["ops_s"] > 100
    assert 0 < answer["client_s"] < answer["nodes_s"] * 5
    assert {node.stem for node in tmp_path.glob("*.log")} == set(loopback.NODES)
