"""A node without peers that serves logs, one set, one counter, and ids (WIRE.md)."""

from __future__ import annotations

import json
import os
import socketserver
import threading
import time
from pathlib import Path
from typing import Any

STATE_FILE = Path(os.environ["SPLITBRAIN_DATA"]) / "state.json"
LOCK = threading.Lock()
STATE: dict[str, Any] = {"logs": {}, "offsets": {}, "set": [], "sum": 0, "ids": 0}


class RefusalError(Exception):
    """An error to answer with: its code, and a text."""


def save() -> None:
    beside = STATE_FILE.with_suffix(".new")
    with beside.open("w") as file:
        json.dump(STATE, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(STATE_FILE)


def do(body: dict[str, Any]) -> dict[str, Any]:
    """Serve a request; what an answer says is on the disk."""
    match body["type"]:
        case "send":
            log = STATE["logs"].setdefault(body["key"], [])
            log.append(body["msg"])
            save()
            return {"offset": len(log) - 1}
        case "poll":
            logs = STATE["logs"]
            asked = {k: o for k, o in body["offsets"].items() if k in logs}
            return {
                "msgs": {
                    key: [[at, logs[key][at]] for at in range(first, len(logs[key]))]
                    for key, first in asked.items()
                }
            }
        case "commit_offsets":
            STATE["offsets"].update(body["offsets"])
            save()
            return {}
        case "list_committed_offsets":
            known = STATE["offsets"]
            return {"offsets": {k: known[k] for k in body["keys"] if k in known}}
        case "add" if "delta" in body:
            STATE["sum"] += body["delta"]
            save()
            return {}
        case "add":
            STATE["set"].append(body["element"])
            save()
            return {}
        case "read":
            return {"value": STATE["set"] or STATE["sum"]}
        case "generate":
            STATE["ids"] += 1
            save()
            return {"id": f"{os.environ['SPLITBRAIN_NODE']}-{STATE['ids']}"}
        case "status":
            return {"role": "leader", "term": 0, "leader": "n1"}
        case "clock":
            return {"wall_ns": time.time_ns(), "mono_ns": time.monotonic_ns()}
        case _:
            raise RefusalError(10, f"{body['type']} is not supported")


class Node(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            try:
                message = json.loads(line)
                body = message["body"]
                src, msg_id, kind = message["src"], body["msg_id"], body["type"]
            except (ValueError, KeyError, TypeError):
                continue
            with LOCK:
                try:
                    told = {"type": f"{kind}_ok", **do(body)}
                except RefusalError as refusal:
                    code, text = refusal.args
                    told = {"type": "error", "code": code, "text": text}
                except KeyError as missing:
                    text = f"there is no {missing} in the request"
                    told = {"type": "error", "code": 12, "text": text}
            told["in_reply_to"] = msg_id
            answer = {"src": message["dest"], "dest": src, "body": told}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    if STATE_FILE.exists():
        STATE.update(json.loads(STATE_FILE.read_text()))
    host, _, port = os.environ["SPLITBRAIN_LISTEN"].rpartition(":")
    with Server((host, int(port)), Node) as server:
        server.serve_forever()
