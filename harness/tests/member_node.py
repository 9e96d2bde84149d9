"""A foreign node that serves an operator (WIRE.md): members come and go, n1 stays.

n1 holds all data, and who the members are; the others pass on to it what they are asked
for. It refuses what comes through a node that is no member (40). Nobody else can lead,
so `transfer` is not supported (10). Standard library only, as somebody else's node.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

NAME = os.environ["SPLITBRAIN_NODE"]
PEERS = json.loads(os.environ["SPLITBRAIN_PEERS"])
DATA = Path(os.environ["SPLITBRAIN_DATA"])
OWNER = "n1"
JOURNAL = DATA / "journal"
JOINED = DATA / "joined"

Json = dict[str, Any]

registers: dict[Any, Any] = {}
members = sorted([NAME, *PEERS])


def error(code: int, text: str) -> Json:
    return {"type": "error", "code": code, "text": text}


def write_down(line: list[Any]) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(json.dumps(line) + "\n")
        journal.flush()
        os.fsync(journal.fileno())
    take_up(line)


def take_up(line: list[Any]) -> None:
    what, key, value = line
    if what == "members":
        members[:] = value
    else:
        registers[key] = value


def answer(body: Json, through: str) -> Json:
    """What the owner answers to a request that reached it through some node."""
    kind = body["type"]
    if kind == "members":
        return {"type": "members_ok", "members": members}
    if kind in {"add", "remove"}:
        return change(kind, body["node"])
    if kind not in {"read", "write", "cas"}:
        return error(10, f"{kind} is not supported")
    if through not in members:
        return error(40, f"{through} is no member")
    key = body["key"]
    if kind == "read":
        return {"type": "read_ok", "value": registers.get(key)}
    if kind == "cas" and registers.get(key) != body["from"]:
        return error(22, "it is another")
    write_down(["value", key, body["to" if kind == "cas" else "value"]])
    return {"type": f"{kind}_ok"}


def change(kind: str, node: str) -> Json:
    if node == OWNER and kind == "remove":
        return error(22, f"{OWNER} has all the data")
    if node not in [NAME, *PEERS]:
        return error(1, f"there is no {node}")
    others = [name for name in members if name != node]
    now = sorted([*others, node]) if kind == "add" else others
    if now != members:
        write_down(["members", None, now])
    return {"type": f"{kind}_ok"}


async def pass_on(body: Json) -> Json:
    host, _, port = PEERS[OWNER].rpartition(":")
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return error(11, f"{OWNER} can't be reached")
    try:
        async with asyncio.timeout(1.0):
            message = {"src": NAME, "dest": OWNER, "body": {**body, "through": NAME}}
            writer.write(json.dumps(message).encode() + b"\n")
            theirs: Json = json.loads(await reader.readline())["body"]
            return theirs
    except (OSError, ValueError):
        return error(13, f"{OWNER} was lost")
    finally:
        writer.close()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        message = json.loads(line)
        body = message["body"]
        own = NAME == OWNER
        told = answer(body, body.get("through", NAME)) if own else await pass_on(body)
        told = {**told, "in_reply_to": body.get("msg_id")}
        reply = {"src": NAME, "dest": message["src"], "body": told}
        writer.write(json.dumps(reply).encode() + b"\n")
    writer.close()


def recover() -> None:
    # An operator's promise: who has to join finds its directory empty, once.
    if os.environ["SPLITBRAIN_CLUSTER"] == "existing" and not JOINED.exists():
        assert not list(DATA.iterdir()), "it is to join, and has data"
    JOINED.touch()
    if JOURNAL.exists():
        for line in JOURNAL.read_text().splitlines():
            take_up(json.loads(line))


async def main() -> None:
    host, _, port = os.environ["SPLITBRAIN_LISTEN"].rpartition(":")
    async with await asyncio.start_server(serve, host, int(port)) as server:
        await server.serve_forever()


recover()
asyncio.run(main())
