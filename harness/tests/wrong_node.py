"""A register that keeps all rules, but for the one that it is told to break.

    python wrong_node.py RIGHT|BREACH

The first node owns all registers, in a journal; the others pass requests on to it. It
knows the members, too, until it is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

BREACH = sys.argv[1]
ME = os.environ["SPLITBRAIN_NODE"]
HOST, _, PORT = os.environ["SPLITBRAIN_LISTEN"].rpartition(":")
PEERS: dict[str, str] = json.loads(os.environ["SPLITBRAIN_PEERS"])
DATA = Path(os.environ["SPLITBRAIN_DATA"])
OWNER = "n1"

if BREACH == "data-in-tmp":
    DATA = Path("/tmp/wrong_node-data")
    DATA.mkdir(exist_ok=True)
JOURNAL = DATA / "journal"

LOCK = threading.Lock()
ONE_AT_A_TIME = threading.Lock()
FIRST_CONNECTION: list[Any] = []
STORE: dict[str, Any] = {}
MEMBERS = {ME, *PEERS}
COUNT = 0


class RefusalError(Exception):
    """An error to answer with."""

    def __init__(self, code: Any, text: str) -> None:
        super().__init__(text)
        self.code = code


def recover() -> None:
    if JOURNAL.exists():
        for line in JOURNAL.read_text().splitlines():
            with contextlib.suppress(ValueError):
                key, value = json.loads(line)
                STORE[key] = value


def put(key: str, value: Any) -> None:
    if BREACH != "forgets":
        with JOURNAL.open("a") as journal:
            journal.write(json.dumps([key, value]) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
    STORE[key] = value


def member(body: dict[str, Any], name: str) -> Any:
    if name not in body:
        if BREACH == "no-12":
            return None
        raise RefusalError(12, f"there is no {name} in the request")
    return body[name]


def administer(body: dict[str, Any]) -> dict[str, Any]:
    """Serve a request of an operator, at the owner."""
    kind = body["type"]
    if kind == "members":
        told = [ME] if BREACH == "members-alone" else sorted(MEMBERS)
        return {"type": "members_ok", "members": told}
    node = member(body, "node")
    if node not in {ME, *PEERS} and BREACH != "adds-anybody":
        raise RefusalError(1, f"there is no {node}")
    if kind == "transfer" and node != ME and BREACH != "transfer-in-vain":
        raise RefusalError(10, "nobody else can lead")
    if kind == "add":
        MEMBERS.add(node)
    if kind == "remove" and {node} == MEMBERS:
        raise RefusalError(22, f"{node} is the only member")
    if kind == "remove" and BREACH != "removes-in-vain":
        MEMBERS.discard(node)
    return {"type": f"{kind}_ok"}


def do(body: dict[str, Any]) -> dict[str, Any]:
    """Serve a request of the register workload, at the owner."""
    global COUNT  # a node is one process
    kind = body["type"]
    key = json.dumps(member(body, "key"))
    COUNT += 1
    if BREACH == "slow" and COUNT > 60:
        time.sleep(0.4)
    if kind == "read":
        if BREACH == "no-value":
            return {"type": "read_ok"}
        if key not in STORE:
            raise RefusalError(
                {"code-text": "20", "code-none": None}.get(BREACH, 20), "no such key"
            )
        value = STORE[key]
        if BREACH == "floats" and type(value) is int:
            value = float(value)
        if BREACH == "surrogates":
            value = "\ud800"
        if BREACH == "texts" and type(value) is int:
            value = str(value)
        return {"type": "read_ok", "value": value}
    if kind == "write":
        value = member(body, "value")
        put(key, value)
        if BREACH == "lies" and COUNT % 9 == 0:
            raise RefusalError(11, "not now, though it is done")
        return {"type": "read_ok" if BREACH == "type" else "write_ok"}
    expected, wanted = member(body, "from"), member(body, "to")
    if BREACH == "cas-always":
        put(key, wanted)
        return {"type": "cas_ok"}
    if key not in STORE:
        raise RefusalError(20, "no such key")
    if STORE[key] != expected:
        raise RefusalError(13 if BREACH == "cas-indefinite" else 22, "another value")
    put(key, wanted)
    return {"type": "cas_ok"}


def forward(body: dict[str, Any]) -> dict[str, Any]:
    """Have the owner serve a request."""
    host, _, port = PEERS[OWNER].rpartition(":")
    try:
        link = socket.create_connection((host, int(port)), 1)
    except OSError as problem:
        raise RefusalError(11, str(problem)) from problem
    with link:
        link.settimeout(1.5)
        request = {"src": ME, "dest": OWNER, "body": {**body, "msg_id": 1}}
        try:
            link.sendall(json.dumps(request).encode() + b"\n")
            answer = link.makefile().readline()
            told: dict[str, Any] = json.loads(answer)["body"]
        except (OSError, ValueError) as problem:
            raise RefusalError(0, str(problem)) from problem
    if told["type"] == "error":
        raise RefusalError(told.get("code"), told["text"])
    del told["in_reply_to"]
    return told


def serve(body: dict[str, Any]) -> dict[str, Any]:
    kind = body["type"]
    if BREACH == "takes-its-time":
        time.sleep(0.3)
    if kind == "status":
        term: Any = "1" if BREACH == "status" else 1
        role = "leader" if ME == OWNER else "follower"
        return {"type": "status_ok", "role": role, "term": term, "leader": OWNER}
    if kind == "clock":
        wall_ns = int(time.time()) if BREACH == "clock" else time.time_ns()
        return {"type": "clock_ok", "wall_ns": wall_ns, "mono_ns": time.monotonic_ns()}
    operators = kind in {"members", "add", "remove", "transfer"}
    if operators and BREACH == "no-members":
        raise RefusalError(10, f"{kind} is not supported")
    if not operators and kind not in {"read", "write", "cas"}:
        if BREACH == "no-10":
            raise RefusalError(12, "what?")
        raise RefusalError(10, f"{kind} is not supported")
    if ME != OWNER and (operators or BREACH != "peers"):
        return forward(body)
    with LOCK:
        return administer(body) if operators else do(body)


def answer(line: bytes) -> tuple[int | None, bytes]:
    """The id of a request, and the line that answers it; no line for no message."""
    try:
        message = json.loads(line)
        src, body = message["src"], message["body"]
        msg_id, _ = body["msg_id"], body["type"]
    except (ValueError, KeyError, TypeError):
        if BREACH == "chokes":
            raise
        return None, b""
    try:
        told = serve(body)
    except RefusalError as refusal:
        told = {"type": "error", "code": refusal.code, "text": str(refusal)}
        if refusal.code is None:
            del told["code"]
    reply: dict[str, Any] = {
        "src": "somebody" if BREACH == "src" else ME,
        "dest": "c1" if BREACH == "dest" else src,
        "body": {**told, "in_reply_to": msg_id},
    }
    if BREACH == "id-missing":
        del reply["body"]["in_reply_to"]
    if BREACH == "id-text":
        reply["body"]["in_reply_to"] = str(msg_id)
    if BREACH == "id-wrong":
        reply["body"]["in_reply_to"] = msg_id + 1
    if BREACH == "no-src":
        del reply["src"]
    if BREACH == "too-long":
        reply["body"]["padding"] = "x" * (1 << 20)
    text = json.dumps(reply, indent=2 if BREACH == "pretty" else None)
    return msg_id, text.encode() + b"\n"


def handle(connection: socket.socket) -> None:
    FIRST_CONNECTION.append(connection)
    try:
        if BREACH == "one-recv":
            while data := connection.recv(1 << 20):
                connection.sendall(answer(data)[1])
            return
        for line in connection.makefile("rb"):
            if BREACH == "short-lines" and len(line) > 1 << 16:
                return
            reply = answer(line)[1]
            if not reply:
                continue
            if BREACH == "stdout":
                sys.stdout.write(reply.decode())
                sys.stdout.flush()
                continue
            if BREACH == "no-newline":
                reply = reply.rstrip()
            if BREACH == "glued":
                reply = reply.rstrip() + reply
            if BREACH == "twice":
                reply += reply
            if BREACH == "silent":
                continue
            if BREACH == "dies" and b"frobnicate" in line:
                os._exit(3)
            if BREACH == "other-connection" and ME == OWNER:
                living = [c for c in FIRST_CONNECTION if c.fileno() >= 0]
                living[0].sendall(reply)
                continue
            connection.sendall(reply)
            if BREACH == "closes":
                return
    except (OSError, ValueError, KeyError, TypeError):
        pass
    finally:
        FIRST_CONNECTION.remove(connection)
        connection.close()


def listening() -> socket.socket:
    host, port = HOST, int(PORT)
    if BREACH == "ipv6":
        host = "::1"
    if BREACH == "localhost":
        host = "127.0.0.1"
    if BREACH == "other-port":
        port += 1
    if BREACH == "fixed-port":
        host, port = "0.0.0.0", 9_000
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(64)
    return listener


def main() -> None:
    if BREACH == "exits":
        sys.exit("wrong_node: this is no good")
    if BREACH == "daemon" and os.fork():
        os._exit(0)
    if BREACH == "deaf":
        time.sleep(1e6)
    if BREACH == "late":
        time.sleep(1.5)
    if BREACH == "late-again":
        if (DATA / "seen").exists():
            time.sleep(1.5)
        (DATA / "seen").touch()
    if BREACH == "no-restart" and JOURNAL.exists():
        sys.exit("wrong_node: there is a journal already")
    if BREACH == "ignores-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if BREACH != "forgets":
        recover()
    listener = listening()
    while True:
        connection, _ = listener.accept()
        if BREACH == "one-client":
            handle(connection)
        else:
            threading.Thread(target=handle, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
