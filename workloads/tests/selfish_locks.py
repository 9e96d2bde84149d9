"""A node that grants locks by itself, whatever its peers have granted (WIRE.md).

Each node is a correct lock service of its own, so that only two clients at different
nodes together can notice.
"""

from __future__ import annotations

import json
import os
import socketserver
import threading

from reference_impls.locks import Locks

LOCKS = Locks()
ONE_AT_A_TIME = threading.Lock()


class Node(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            message = json.loads(line)
            body = message["body"]
            if body["type"] not in {"acquire", "use", "release"}:
                answer = {"type": "error", "code": 10, "text": "not supported"}
            else:
                with ONE_AT_A_TIME:
                    answer = LOCKS.apply(body)
            answer["in_reply_to"] = body["msg_id"]
            reply = {"src": message["dest"], "dest": message["src"], "body": answer}
            self.wfile.write(json.dumps(reply).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    host, _, port = os.environ["SPLITBRAIN_LISTEN"].rpartition(":")
    Server((host, int(port)), Node).serve_forever()
