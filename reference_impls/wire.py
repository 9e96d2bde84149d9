"""The wire protocol: JSON lines `{"src", "dest", "body"}`, as in Maelstrom.

The reference nodes have a codec of their own, apart from the harness's, so that a
mistake in one can't hide behind the same mistake in the other. Bytes may come from
anyone: `decode` returns a frame of the right shape, or raises `MalformedError`, which
says what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls.json_text import decode as decode_json
from reference_impls.json_text import encode as encode_json

if TYPE_CHECKING:
    from reference_impls.actor import Body

CLIENT_LINE_BYTES_MAX = 1 << 20
PEER_LINE_BYTES_MAX = 1 << 25
"""A peer's line may hold a whole batch of clients' commands."""
DEPTH_MAX = 100
"""Most objects and arrays in each other. Python's codec recurses: what it can just
decode, it can't encode again (for a peer, or the disk) from further down the stack."""


class MalformedError(Exception):
    """A line that isn't a frame.

    Attributes:
        text: What is wrong with the line.
        src: The sender, to be told; "?" if the line doesn't say.
        body: The body, to be answered; empty if the line has none.
    """

    def __init__(self, text: str, src: str = "?", body: Body | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.src = src
        self.body: Body = body or {}


class Frame(NamedTuple):
    """One message between two named parties."""

    src: str
    dest: str
    body: dict[str, Any]


def decode(line: bytes) -> Frame:
    """The frame on a line.

    Raises:
        MalformedError: The line isn't a frame.
    """
    try:
        value = decode_json(line.decode())
    except (ValueError, RecursionError) as e:
        raise MalformedError(f"not a line of JSON: {e}") from None
    if type(value) is not dict:
        raise MalformedError("a message is a JSON object")
    if line.count(b"[") + line.count(b"{") > DEPTH_MAX and is_deep(value):
        raise MalformedError(f"nested more than {DEPTH_MAX} deep")
    src, dest, body = value.get("src"), value.get("dest"), value.get("body")
    if type(src) is not str or type(dest) is not str:
        raise MalformedError('"src" and "dest" are strings')
    if type(body) is not dict:
        raise MalformedError('"body" is an object', src)
    if type(body.get("type")) is not str:
        raise MalformedError('"type" of the body is a string', src, body)
    return Frame(src, dest, body)


def is_deep(value: Any) -> bool:
    """True for more than DEPTH_MAX objects and arrays in each other."""
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def frame_prefix(src: str, dest: str) -> bytes:
    """A frame up to its body; the rest is the body's JSON and `FRAME_SUFFIX`."""
    return f'{{"src":{encode_json(src)},"dest":{encode_json(dest)},"body":'.encode()


FRAME_SUFFIX = b"}\n"


def encode_reply(node: str, dest: str, request: Body, reply: Body) -> bytes:
    """A line that answers `request`."""
    body = dict(reply)
    if "msg_id" in request:
        body["in_reply_to"] = request["msg_id"]
    return frame_prefix(node, dest) + encode_json(body).encode() + FRAME_SUFFIX
