"""A node that answers with whatever a seeded generator draws, for runs.

    python hostile_node.py SEED      with SPLITBRAIN_LISTEN in the environment

Some answers are right, so that a run goes on. Others have odd fields, are cut short,
come twice, late, in halves, or with noise between them; and some connections are closed
in the middle of an answer, for writing only, or reset.
"""

from __future__ import annotations

import json
import os
import random
import socket
import socketserver
import struct
import sys
from typing import Any

ODD: list[Any] = [
    *(None, True, -1, 1.5, 2**63, 10**400, "", "1", "\x00", "\u2028", [], {}, [1]),
    *({"a": [None]}, [[[[]]]], "x" * 3_000),
]
NOISE = [
    *(b"\n", b"\r\n", b"null\n", b"{}\n", b"[" * 5_000 + b"\n", b"\xff\xfe\x00\n"),
    *(b'{"src":"a","dest":"b","body":null}\n', b"\x1b[31m\n", b'"\\ud800"\n'),
    *(b'{"src":"a","dest":"b","body":{"in_reply_to":1}}\n', b"x" * (1 << 20) + b"y\n"),
]
NO_LINGER = struct.pack("ii", 1, 0)


class Node(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        rng = random.Random(f"{sys.argv[1]} {self.client_address[1] % 7}")
        for line in self.rfile:
            try:
                self.answer(json.loads(line), rng)
            except OSError:
                return

    def answer(self, request: dict[str, Any], rng: random.Random) -> None:
        asked = request["body"]
        body = {"type": f"{asked['type']}_ok", "in_reply_to": asked["msg_id"]}
        body["value"] = rng.choice([None, 1, *ODD])
        message = {"src": request["dest"], "dest": request["src"], "body": body}
        how = rng.randrange(12)
        if how == 0:
            body[rng.choice(list(body))] = rng.choice(ODD)
        elif how == 1:
            message[rng.choice(list(message))] = rng.choice(ODD)
        elif how == 2:
            body.update(type="error", code=rng.choice([11, 20, *ODD]))
        data = json.dumps(message).encode() + b"\n"
        if how == 3:
            data *= 2
        elif how == 4:
            data = rng.choice(NOISE) + data
        elif how == 5:
            data = data[: rng.randrange(len(data))] + b"\n"
        half = rng.randrange(len(data))
        self.wfile.write(data[:half])
        if how == 6:
            self.connection.shutdown(socket.SHUT_WR)
        elif how == 7:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            raise OSError("reset")
        self.wfile.write(data[half:])


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    host, _, port = os.environ["SPLITBRAIN_LISTEN"].rpartition(":")
    with Server((host, int(port)), Node) as server:
        server.serve_forever()
