#!/usr/bin/env python3
"""A chain of registers (van Renesse and Schneider 2004), read anywhere (CRAQ).

    splitbrain run "launch:python3 harness/tests/chain_node.py" --nodes 3

The nodes stand in the order of their names, for good. The head numbers the updates;
each node stores an update, then passes it on; what the tail has stored is committed,
and the tail says so to the node whose client asked. How far the tail has come is told
up the chain, so that a node may answer a read by itself where it knows that its value
is committed; otherwise it asks the tail (Terrace and Freedman 2009, 2.3). A node that
is down or cut off stops all updates: this is safe, and not at all available.

Messages between nodes may get lost. Each node tells the one before it how far it has
come, which passes on from there.

With `--forgetful` the nodes store an update only when they know that it is committed,
and after a restart the middle goes on from where the tail is: all that the tail has,
it thinks, has passed through the middle. What was in flight when it was killed, it
lacks for good, and it answers reads with what was there before.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

NAME = os.environ["SPLITBRAIN_NODE"]
LISTEN = os.environ["SPLITBRAIN_LISTEN"]
PEERS: dict[str, str] = json.loads(os.environ["SPLITBRAIN_PEERS"])
DATA = Path(os.environ["SPLITBRAIN_DATA"])
FORGETFUL = "--forgetful" in sys.argv

CHAIN = sorted([NAME, *PEERS])
PLACE = CHAIN.index(NAME)
HEAD, TAIL = CHAIN[0], CHAIN[-1]
BEFORE = CHAIN[PLACE - 1] if PLACE else None
AFTER = CHAIN[PLACE + 1] if NAME != TAIL else None

TELL_S = 0.02
PATIENCE_S = 0.15
"""After so long without progress, updates are passed on again."""
SILENCE_S = 0.4
"""A peer that was silent for so long is connected to anew."""
REQUEST_S = 1.5
AT_ONCE_MAX = 200
LINE_BYTES_MAX = 1 << 20

Json = dict[str, Any]


class Peer:
    """The way to another node: messages arrive in order, or get lost."""

    def __init__(self, address: str) -> None:
        self.host, _, self.port = address.rpartition(":")
        self.writer: asyncio.StreamWriter | None = None
        self.heard_s = time.monotonic()

    async def keep_up(self) -> None:
        """Connect, and again whenever the connection seems to lead nowhere."""
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    _, self.writer = await asyncio.open_connection(self.host, self.port)
            except OSError:
                await asyncio.sleep(TELL_S)
                continue
            self.heard_s = time.monotonic()
            left_s = SILENCE_S
            while left_s > 0 and not self.writer.is_closing():
                await asyncio.sleep(min(left_s, TELL_S))
                left_s = self.heard_s + SILENCE_S - time.monotonic()
            self.writer.transport.abort()
            self.writer = None

    def send(self, message: Json) -> None:
        """Send `message` if there is a connection that isn't stuffed."""
        if self.writer is None or self.writer.is_closing():
            return
        if self.writer.transport.get_write_buffer_size() < LINE_BYTES_MAX:
            self.writer.write(json.dumps(message).encode() + b"\n")


class Node:
    """One link of the chain.

    Attributes:
        latest: key -> (number of the last update of it, value).
        flying: Updates that aren't committed as far as is known, by number.
        last: Number of the last update that this node has.
        committed: All updates up to this one are.
        asked: Requests of this node's clients that another node will answer.
    """

    def __init__(self) -> None:
        self.peers = {name: Peer(address) for name, address in PEERS.items()}
        self.latest: dict[Any, tuple[int, Any]] = {}
        self.flying: dict[int, Json] = {}
        self.last = self.committed = 0
        self.asked: dict[str, asyncio.Future[Json]] = {}
        # A restarted node must not take an answer to its former self for its own.
        self.life = os.urandom(8).hex()
        self.count = 0
        self.progress_s = time.monotonic()
        self.in_place = not FORGETFUL or BEFORE is None or AFTER is None
        # A kill leaves the page cache alone, so what is written is stored.
        self.journal = (DATA / "journal.jsonl").open("a+b", buffering=0)
        self.load()

    def load(self) -> None:
        """Take up what was stored before a restart."""
        self.journal.seek(0)
        end = 0
        for line in self.journal.readlines():
            if not line.endswith(b"\n"):
                break  # a kill in mid-write: nobody was told of this one
            self.put(json.loads(line))
            end += len(line)
        self.journal.truncate(end)
        if FORGETFUL or AFTER is None:
            self.commit(self.last, store=False)

    def put(self, update: Json) -> None:
        self.last = update["seq"]
        self.latest[update["key"]] = (self.last, update["value"])
        self.flying[self.last] = update

    def store(self, update: Json) -> None:
        self.journal.write(json.dumps(update).encode() + b"\n")

    def commit(self, seq: int, *, store: bool = FORGETFUL) -> None:
        """All updates up to `seq` are committed."""
        for number in range(self.committed + 1, seq + 1):
            update = self.flying.pop(number, None)
            if store and update is not None:
                self.store(update)
        self.committed = max(self.committed, seq)

    # --- along the chain

    def accept(self, update: Json) -> None:
        """The next update, from the head itself or the node before."""
        if update["seq"] != self.last + 1 or not self.in_place:
            return  # seen, or one in between got lost: it will come again
        if not FORGETFUL:
            self.store(update)
        self.put(update)
        if AFTER is not None:
            self.send(AFTER, update)
            return
        self.commit(self.last)
        self.send(update["origin"], {"type": "done", "id": update["id"]})

    def heard_from_after(self, told: Json) -> None:
        """How far the next node has come: `last` stored there, `committed` known."""
        if told["last"] > self.last:
            assert FORGETFUL, "an update went past this node"
            self.last = told["last"]
        self.in_place = True
        if told["committed"] > self.committed:
            self.commit(told["committed"])
            self.progress_s = time.monotonic()
        if time.monotonic() - self.progress_s > PATIENCE_S:
            self.progress_s = time.monotonic()
            for seq in range(told["last"] + 1, self.last + 1)[:AT_ONCE_MAX]:
                if AFTER is not None and seq in self.flying:
                    self.send(AFTER, self.flying[seq])

    async def tell(self) -> None:
        """Tell every peer that this node lives, and how far it has come."""
        while True:
            told = {"type": "told", "last": self.last, "committed": self.committed}
            for name in PEERS:
                if self.in_place:
                    self.send(name, told)
                else:
                    self.send(name, {"type": "alive"})
            await asyncio.sleep(TELL_S)

    def send(self, name: str, body: Json) -> None:
        if name == NAME:
            self.take(body)
        else:
            self.peers[name].send({**body, "src": NAME})

    def take(self, message: Json) -> None:
        """A message of another node's, or of this one to itself."""
        match message["type"]:
            case "told":
                if message["src"] == AFTER:
                    self.heard_from_after(message)
            case "accept":
                self.accept(message)
            case "change":
                self.change(message)
            case "look":
                _, value = self.latest.get(message["key"], (0, None))
                answer = {"type": "done", "id": message["id"], "value": value}
                self.send(message["origin"], answer)
            case "done":
                future = self.asked.pop(message["id"], None)
                if future is not None and not future.done():
                    future.set_result(message)
            case _:
                pass  # a sign of life

    def change(self, request: Json) -> None:
        """The head gives an update its place, or refuses it."""
        body, key = request["body"], request["body"]["key"]
        about = {"id": request["id"], "origin": request["origin"], "key": key}
        value = body["value"] if body["type"] == "write" else body["to"]
        if body["type"] == "cas":
            _, now = self.latest.get(key, (0, None))
            if now is None or now != body["from"]:
                code = 20 if now is None else 22
                self.send(request["origin"], {"type": "done", "code": code, **about})
                return
        seq = self.last + 1
        self.accept({"type": "accept", "seq": seq, "value": value, **about})

    # --- clients

    async def answer(self, body: Json) -> Json:
        """The answer to a client's request."""
        kind = body["type"]
        if kind == "clock":
            wall_ns, mono_ns = time.time_ns(), time.monotonic_ns()
            return {"type": "clock_ok", "wall_ns": wall_ns, "mono_ns": mono_ns}
        if kind == "read":
            seq, value = self.latest.get(body["key"], (0, None))
            if seq > self.committed or not self.in_place:
                done = await self.ask(TAIL, {"type": "look", "key": body["key"]})
                if "value" not in done:
                    return done
                value = done["value"]
            if value is None:
                return {"type": "error", "code": 20, "text": "no such key"}
            return {"type": "read_ok", "value": value}
        if kind in ("write", "cas"):
            done = await self.ask(HEAD, {"type": "change", "body": body})
            if done["type"] == "error":
                return done
            if "code" in done:
                return {"type": "error", "code": done["code"], "text": "not so"}
            return {"type": f"{kind}_ok"}
        return {"type": "error", "code": 10, "text": f"{kind} is not supported"}

    async def ask(self, name: str, request: Json) -> Json:
        """What became of a request to the head or the tail; or an error."""
        self.count += 1
        me = f"{self.life}-{self.count}"
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self.asked[me] = future
        self.send(name, {"id": me, "origin": NAME, **request})
        try:
            async with asyncio.timeout(REQUEST_S):
                return await future
        except TimeoutError:
            return {"type": "error", "code": 0, "text": f"{name} did not answer"}
        finally:
            self.asked.pop(me, None)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection, of a client or of another node."""
        try:
            while line := await reader.readline():
                message: Json = json.loads(line)
                if "type" in message:
                    self.peers[message["src"]].heard_s = time.monotonic()
                    self.take(message)
                    continue
                body = await self.answer(message["body"])
                body["in_reply_to"] = message["body"]["msg_id"]
                reply = {"src": NAME, "dest": message["src"], "body": body}
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # it is gone, or was cut off in the middle of a line
        finally:
            writer.close()


async def main() -> None:
    """Serve until killed."""
    node = Node()
    host, port = LISTEN.rsplit(":", 1)
    server = await asyncio.start_server(node.serve, host, int(port))
    async with asyncio.TaskGroup() as group:
        group.create_task(node.tell())
        for peer in node.peers.values():
            group.create_task(peer.keep_up())
        group.create_task(server.serve_forever())


if __name__ == "__main__":
    asyncio.run(main())
