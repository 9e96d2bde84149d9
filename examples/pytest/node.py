#!/usr/bin/env python3
"""A register on several nodes: n1 has the data, the others pass requests on to it.

    splitbrain run "launch:python3 node.py" --nodes 3 --nemesis partition,kill

With `--cached-reads`, a node that n1 does not answer reads from what it saw pass last.
That looks harmless, and keeps reads going while n1 is away. It is what the tests find.

WIRE.md describes the protocol. Needs Python 3.11 or later and nothing else.
"""

import contextlib
import json
import os
import socket
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

NAME = os.environ["SPLITBRAIN_NODE"]
LISTEN = os.environ["SPLITBRAIN_LISTEN"]  # "host:port"
PEERS = json.loads(os.environ["SPLITBRAIN_PEERS"])  # name -> "host:port"
JOURNAL = Path(os.environ["SPLITBRAIN_DATA"]) / "journal.jsonl"

PRIMARY = "n1"
CACHED_READS = "--cached-reads" in sys.argv[1:]
PATIENCE_S = 0.3

Body = dict[str, Any]


def error(code: int, text: str) -> Body:
    """An answer of type error; its code says whether anything may have happened."""
    return {"type": "error", "code": code, "text": text}


class Primary:
    """The data, in memory and in a journal."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[Any, Any] = {}
        self.journal = JOURNAL.open("a+b")
        self.journal.seek(0)
        whole = 0
        for line in self.journal:
            if not line.endswith(b"\n"):
                break  # a kill in the middle of a write that nobody was told about
            key, value = json.loads(line)
            self.values[key] = value
            whole += len(line)
        self.journal.truncate(whole)

    def answer(self, body: Body) -> Body:
        """Carry out a request; one at a time, so this order is the order."""
        with self.lock:
            kind, key = body["type"], body["key"]
            if kind == "write":
                self.put(key, body["value"])
                return {"type": "write_ok"}
            if key not in self.values:
                return error(20, f"there is no key {key}")
            value = self.values[key]
            if kind == "read":
                return {"type": "read_ok", "value": value}
            if value != body["from"]:
                return error(22, f"expected {body['from']}, but it is {value}")
            self.put(key, body["to"])
            return {"type": "cas_ok"}

    def put(self, key: Any, value: Any) -> None:
        """Durable first, visible second."""
        self.journal.write(json.dumps([key, value]).encode() + b"\n")
        self.journal.flush()
        os.fsync(self.journal.fileno())
        self.values[key] = value


class Secondary:
    """Passes the requests of one client on to the primary."""

    seen: dict[Any, Any] = {}  # noqa: RUF012  # key -> value; all clients share it

    def __init__(self) -> None:
        self.upstream: Any = None

    def answer(self, body: Body) -> Body:
        """The primary's answer, or else an error, or a cached value."""
        answer = self.ask(body)
        key, kind = body["key"], body["type"]
        if answer["type"] == "read_ok":
            self.seen[key] = answer["value"]
        elif answer["type"] == "write_ok":
            self.seen[key] = body["value"]
        is_lost = answer["type"] == "error" and answer["code"] in {0, 11}
        if CACHED_READS and is_lost and kind == "read" and key in self.seen:
            return {"type": "read_ok", "value": self.seen[key]}
        return answer

    def ask(self, body: Body) -> Body:
        """What the primary says, if it does so in time."""
        if self.upstream is None:
            host, port = PEERS[PRIMARY].rsplit(":", 1)
            try:
                link = socket.create_connection((host, int(port)), PATIENCE_S)
            except OSError:
                return error(11, f"{PRIMARY} can't be reached")  # nothing was sent
            self.upstream = link.makefile("rwb")
            link.close()  # it stays open as long as the file
        try:
            send(self.upstream, NAME, PRIMARY, body)
            answer: Body = json.loads(self.upstream.readline())["body"]
        except (OSError, ValueError):
            # It may have happened, and its answer may still come: leave that link.
            self.close()
            return error(0, f"{PRIMARY} did not answer")
        return answer

    def close(self) -> None:
        """Hang up."""
        if self.upstream is not None:
            link, self.upstream = self.upstream, None
            with contextlib.suppress(OSError):  # something is unsent, and stays so
                link.close()


def send(stream: Any, source: str, target: str, body: Body) -> None:
    """Send a message as a line."""
    message = {"src": source, "dest": target, "body": body}
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


class Connection(socketserver.StreamRequestHandler):
    """A client, or another node."""

    def handle(self) -> None:
        """Answer requests until the other side hangs up."""
        service = primary or Secondary()
        try:
            for line in self.rfile:
                message = json.loads(line)
                body = message["body"]
                if body["type"] in {"read", "write", "cas"}:
                    answer = dict(service.answer(body))
                else:
                    answer = error(10, f"{body['type']} is not supported")
                answer["in_reply_to"] = body["msg_id"]
                send(self.wfile, NAME, message["src"], answer)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # it hung up, or does not speak our language
        finally:
            if isinstance(service, Secondary):
                service.close()


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 100


primary = Primary() if NAME == PRIMARY else None
host, port = LISTEN.rsplit(":", 1)
Server((host, int(port)), Connection).serve_forever()
