"""Nodes that misbehave, for runs that must survive them.

    python bad_node.py MODE      with SPLITBRAIN_LISTEN in the environment

exit: ends at once. deaf: never listens. Then, answering reads with 7 and all else with
its `_ok`: garbage: answers with bytes that are no message; twice: answers everything
twice; late: answers each request only when the next one comes; flood: sends megabytes
that nobody asked for; mute: never answers; lie: answers reads with ever new values.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import time

MODE = sys.argv[1]


class Node(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        held: list[bytes] = []
        for count, line in enumerate(self.rfile):
            answer = reply(json.loads(line), count)
            if MODE == "garbage":
                answer = b"\xff\xfe\x00 not json at all\n[1,2]\n{}\n"
            elif MODE == "twice":
                answer *= 2
            elif MODE == "late":
                held.append(answer)
                answer = held.pop(0) if len(held) > 1 else b""
            elif MODE == "flood":
                answer = b'{"src":"x","dest":"y","body":{"type":"spam"}}\n' * 200_000
            elif MODE == "mute":
                answer = b""
            try:
                self.wfile.write(answer)
            except OSError:
                return


def reply(message: dict, count: int) -> bytes:  # type: ignore[type-arg]  # any JSON
    body = message["body"]
    out = {"type": body["type"] + "_ok", "in_reply_to": body.get("msg_id")}
    if body["type"] == "read":
        out["value"] = 10**9 + count if MODE == "lie" else None
    answer = {"src": message["dest"], "dest": message["src"], "body": out}
    return json.dumps(answer).encode() + b"\n"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if MODE == "exit":
    sys.stderr.write("cannot find my configuration\n")
    sys.exit(3)
if MODE == "deaf":
    time.sleep(600)
host, _, port = os.environ["SPLITBRAIN_LISTEN"].rpartition(":")
with Server((host, int(port)), Node) as server:
    server.serve_forever()
