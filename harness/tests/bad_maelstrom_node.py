"""Maelstrom nodes that misbehave, for runs that must survive them.

    python bad_maelstrom_node.py MODE

dies: ends at once, with words. silent: never answers init. refuses: answers init with
an error. Then, echoing: prints: also prints lines that are no messages. floods: prints
them without end. strangers: also sends to nobody, answers what nobody asked, and takes
itself for the program beside it. long: prints a line of 2 MiB.
"""

from __future__ import annotations

import json
import sys

MODE = sys.argv[1]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def send(dest: str, body: dict[str, object]) -> None:
    say(json.dumps({"src": "n1", "dest": dest, "body": body}))


if MODE == "dies":
    sys.exit("cannot find my configuration")
if MODE in {"prints", "silent"}:
    say("Hello, world!")
for line in sys.stdin:
    message = json.loads(line)
    body = message["body"]
    if "msg_id" not in body:
        continue
    out = {"type": body["type"] + "_ok", "in_reply_to": body["msg_id"]}
    if body["type"] == "init":
        if MODE == "silent":
            continue
        if MODE == "refuses":
            out |= {"type": "error", "code": 13, "text": "I am tired"}
    elif MODE == "prints":
        say(f"got {line}")
    elif MODE == "floods":
        while True:
            say("x" * 100)
    elif MODE == "strangers":
        send("nobody", {"type": "hello"})
        send(message["src"], {**out, "in_reply_to": 10**9})
        send("c-harness", {"type": "report", "ready": False, "printed": -5})
        send("lin-kv", {"type": [], "key": {"a": []}, "msg_id": 1})
    elif MODE == "long":
        say("x" * (2 << 20))
    send(message["src"], {**out, "echo": body.get("echo")})
