#!/usr/bin/env python3
r"""A bank on several shards: transactions by two-phase commit, in Python.

    splitbrain run "launch:python3 examples/foreign/bank/bank.py" --workload bank \
        --nodes 3 --nemesis partition,kill

Promise: transactions are atomic and strictly serializable, whatever happens to nodes:
cut off, paused, killed, or all without power at once. An account whose node is away, or
that a transaction in doubt holds, has to wait.

How it works: each account has one node. The node that a client asks coordinates. It
sends each node concerned its part of the transaction, one node after the other, always
in the same order, so nobody waits in a circle. A participant waits a moment for the
locks on its accounts, works out what becomes of them, writes that down, and votes yes.
Or it votes no, if it can't do its part or does not get the locks. If all vote yes, the
coordinator writes down that the transaction commits, and tells the participants until
they have heard it, after a restart too. They carry that out and let go of the locks. A
participant in doubt asks the coordinator; that one answers "abort" if it neither wrote
down a commit nor still collects votes (presumed abort: Mohan, Lindsay and Obermarck
1986).

Bugs, each by `--bug NAME`:

    reads-without-locks     reads take no locks
    locks-released-early    a participant lets go of what it only reads when it votes
    visible-when-prepared   a participant shows what it voted for before it commits
    commit-on-majority      the coordinator commits when most have voted yes
    aborts-in-doubt         a participant in doubt gives up by itself
    prepared-not-stored     a participant forgets what it voted for when it is killed
    presumed-commit         the coordinator says "commit" of what it has forgotten
    committed-twice         a commit that comes again is carried out again
    ack-before-fsync        nobody waits for the disk
"""

import asyncio
import itertools
import json
import os
import sys
import uuid
import zlib
from pathlib import Path
from typing import Any

NAME = os.environ["SPLITBRAIN_NODE"]
LISTEN = os.environ["SPLITBRAIN_LISTEN"]  # "host:port"
PEERS = json.loads(os.environ["SPLITBRAIN_PEERS"])  # name -> "host:port"
JOURNAL = Path(os.environ["SPLITBRAIN_DATA"]) / "journal.jsonl"
BUG = sys.argv[2] if sys.argv[1:2] == ["--bug"] else ""

NODES = sorted([NAME, *PEERS])
LINE_BYTES_MAX = 1 << 20
LOCKS_WITHIN_S = 0.3
ANSWER_WITHIN_S = 0.6
DOUBT_S = 0.3
"""How long a participant waits for the decision before it asks."""
ASK_EVERY_S = 0.1

Json = dict[str, Any]
MicroOps = list[list[Any]]


class Refused(Exception):  # noqa: N818
    """An answer of type `error`; its code says if anything may have happened."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.body = {"type": "error", "code": code, "text": text}


def node_of(key: str) -> str:
    """The node that has an account."""
    return NODES[zlib.crc32(key.encode()) % len(NODES)]


class Journal:
    """What must survive: lines of JSON, each on disk before anybody hears of it."""

    def __init__(self) -> None:
        self.file = JOURNAL.open("a+b")
        self.file.seek(0)
        self.entries: list[Json] = []
        whole = 0
        for line in self.file:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if entry is None:
                break  # the end came in mid-write, and nobody was told
            self.entries.append(entry)
            whole += len(line)
        self.file.truncate(whole)
        os.fsync(self.file.fileno())
        folder = os.open(JOURNAL.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def write(self, *, durable: bool = True, **entry: Any) -> None:
        """Write an entry. A disk that fails ends the process; a restart reads it."""
        self.file.write(json.dumps(entry).encode() + b"\n")
        self.file.flush()
        if durable and BUG != "ack-before-fsync":
            os.fsync(self.file.fileno())


class Participant:
    """This node's accounts, and its part in transactions that are not decided yet."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.accounts: dict[str, Any] = {}
        self.prepared: dict[str, dict[str, Any]] = {}  # id -> what it will write
        self.locks: dict[str, str] = {}  # account -> the id that holds it
        self.turn = asyncio.Lock()  # who has it is the next one to get locks
        self.freed = asyncio.Event()
        self.over: set[str] = set()  # transactions that are not to be prepared (again)
        for entry in journal.entries:
            match entry:
                case {"prepared": name, "writes": writes, "locks": locks}:
                    if BUG != "prepared-not-stored":
                        self.prepared[name] = writes
                        self.locks.update(dict.fromkeys(locks, name))
                case {"over": name, "commits": commits}:
                    self.finish(name, commits)
        for name in self.prepared:
            doubt(self, name)

    async def prepare(self, name: str, txn: MicroOps) -> Json:
        """Vote on a part of a transaction; a yes brings the results of its reads."""
        keys = {key for _, key, _ in txn}
        reads_only = all(f == "r" for f, _, _ in txn)
        takes_locks = not (reads_only and BUG == "reads-without-locks")
        if takes_locks:
            try:
                async with asyncio.timeout(LOCKS_WITHIN_S), self.turn:
                    while keys & self.locks.keys():
                        self.freed.clear()
                        await self.freed.wait()
                    return self.vote(name, txn, keys)
            except TimeoutError:
                return {"type": "prepare_ok", "vote": "busy"}
        return self.vote(name, txn, set())

    def vote(self, name: str, txn: MicroOps, keys: set[str]) -> Json:
        """Prepare a part of a transaction, and lock `keys`, which are free."""
        if name in self.over:
            return {"type": "prepare_ok", "vote": "busy"}
        writes: dict[str, Any] = {}
        done = []
        for f, key, value in txn:
            now = writes.get(key, self.accounts.get(key))
            if f == "add":
                value = (now or 0) + value
                if value < 0:
                    return {"type": "prepare_ok", "vote": "no"}
            if f != "r":
                writes[key] = now = value
            done.append([f, key, now])
        if BUG == "locks-released-early":
            keys &= writes.keys()
        if keys:
            self.journal.write(prepared=name, writes=writes, locks=sorted(keys))
            self.prepared[name] = writes
            self.locks.update(dict.fromkeys(keys, name))
            doubt(self, name)
        if BUG == "visible-when-prepared":
            self.accounts.update(writes)
            self.release(name)
        return {"type": "prepare_ok", "vote": "yes", "done": done}

    def decide(self, name: str, *, commits: bool) -> Json:
        """Carry out what the coordinator decided."""
        if name not in self.over or (BUG == "committed-twice" and commits):
            self.journal.write(over=name, commits=commits)
            self.finish(name, commits)
        return {"type": "decide_ok"}

    def finish(self, name: str, commits: bool) -> None:
        """Write what was prepared, or forget it."""
        writes = self.prepared.get(name, {})
        if BUG != "committed-twice":
            self.prepared.pop(name, None)
        if commits:
            self.accounts.update(writes)
        self.release(name)
        self.over.add(name)

    def release(self, name: str) -> None:
        """Let go of the locks of a transaction."""
        self.locks = {key: held for key, held in self.locks.items() if held != name}
        self.freed.set()


def doubt(participant: Participant, name: str) -> None:
    """Ask the coordinator for its decision, if it doesn't tell by itself."""

    async def ask() -> None:
        coordinator = name.partition("/")[0]
        await asyncio.sleep(DOUBT_S)
        while name not in participant.over:
            if BUG == "aborts-in-doubt":
                participant.decide(name, commits=False)
                return
            try:
                answer = await call(coordinator, {"type": "decision", "id": name})
                if answer["type"] == "decision_ok":
                    participant.decide(name, commits=answer["commits"])
                    return
            except Refused:
                pass
            await asyncio.sleep(ASK_EVERY_S)

    begin(ask())


class Coordinator:
    """Decides about transactions of the clients that ask this node."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.open: set[str] = set()
        self.committed: set[str] = set()
        untold: dict[str, list[str]] = {}
        for entry in journal.entries:
            match entry:
                case {"committed": name, "nodes": nodes}:
                    self.committed.add(name)
                    untold[name] = nodes
                case {"told": name}:
                    untold.pop(name, None)
        for name, nodes in untold.items():
            begin(self.tell_all(nodes, name, commits=True))

    async def carry_out(self, txn: MicroOps) -> MicroOps:
        """The transaction with its results, once it is committed."""
        name = f"{NAME}/{uuid.uuid4().hex}"  # not even a restart makes it again
        parts: dict[str, MicroOps] = {}
        for op in txn:
            parts.setdefault(node_of(op[1]), []).append(op)
        self.open.add(name)
        try:
            votes = await self.collect(name, parts)
            yes = [vote for vote in votes.values() if vote.get("vote") == "yes"]
            needed = len(parts)
            if BUG == "commit-on-majority":
                needed = len(parts) // 2 + 1
            commits = len(yes) >= needed
            if commits:
                self.journal.write(committed=name, nodes=list(parts))
                self.committed.add(name)
        finally:
            self.open.remove(name)  # from here on its absence means "abort"
        begin(self.tell_all(list(votes), name, commits=commits))
        if not commits:
            if any(vote.get("vote") == "no" for vote in votes.values()):
                raise Refused(14, "an account would be overdrawn")
            raise Refused(30, "accounts are busy, or away")
        results = {node: iter(vote.get("done", [])) for node, vote in votes.items()}
        return [next(results[node_of(op[1])], op) for op in txn]

    async def collect(self, name: str, parts: dict[str, MicroOps]) -> dict[str, Json]:
        """Node -> its vote, or an error if there was none in time; up to the first."""
        votes: dict[str, Json] = {}
        for node in sorted(parts):
            request = {"type": "prepare", "id": name, "txn": parts[node]}
            try:
                votes[node] = await call(node, request)
            except Refused as refused:
                votes[node] = refused.body
            if votes[node].get("vote") != "yes" and BUG != "commit-on-majority":
                break
        return votes

    async def tell_all(self, nodes: list[str], name: str, *, commits: bool) -> None:
        """Bring the participants the decision, and note that they have it."""
        tells = (self.tell(node, name, commits=commits) for node in nodes)
        await asyncio.gather(*tells)
        if commits:
            self.journal.write(durable=False, told=name)

    async def tell(self, node: str, name: str, *, commits: bool) -> None:
        """Bring a participant the decision, until it has it."""
        decision = {"type": "decide", "id": name, "commits": commits}
        answer: Json = {}
        while answer.get("type") != "decide_ok":
            try:
                answer = await call(node, decision)
            except Refused:
                await asyncio.sleep(ASK_EVERY_S)

    def decision(self, name: str) -> Json:
        """What was decided; no answer while that is open."""
        if name in self.open:
            raise Refused(11, "not decided yet")
        commits = name in self.committed or BUG == "presumed-commit"
        return {"type": "decision_ok", "commits": commits}


# --- messages -----------------------------------------------------------------------

tasks: set[asyncio.Task[None]] = set()


def begin(work: Any) -> None:
    """Run something in the background."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


links: dict[str, "Link"] = {}
ids = itertools.count(1)


class Link:
    """A connection to a peer; answers find their requests by id, in any order."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer
        self.waiting: dict[int, asyncio.Future[Json]] = {}

    async def listen(self) -> None:
        """Hand out answers until the peer hangs up."""
        try:
            while line := await self.reader.readline():
                body = json.loads(line)["body"]
                answer = self.waiting.get(body["in_reply_to"])
                if answer is not None and not answer.done():
                    answer.set_result(body)
        except (OSError, ValueError):
            pass
        finally:
            self.writer.close()


async def call(node: str, body: Json) -> Json:
    """What a node answers, be it this one; Refused(0) if it doesn't in time."""
    if node == NAME:
        return await handle(body)
    link = links.get(node)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            if link is None or link.writer.is_closing():
                host, port = PEERS[node].rsplit(":", 1)
                link = Link(
                    *await asyncio.open_connection(
                        host, int(port), limit=LINE_BYTES_MAX
                    )
                )
                links[node] = link
                begin(link.listen())
            number = next(ids)
            link.waiting[number] = answer = asyncio.get_running_loop().create_future()
            try:
                message = {
                    "src": NAME,
                    "dest": node,
                    "body": {**body, "msg_id": number},
                }
                link.writer.write(json.dumps(message).encode() + b"\n")
                return await answer
            finally:
                del link.waiting[number]
    except OSError:  # TimeoutError is one, too
        if link is not None:
            link.writer.transport.abort()
        raise Refused(0, f"{node} did not answer") from None


async def handle(body: Json) -> Json:
    """Carry out what a node asks for."""
    match body:
        case {"type": "prepare", "id": name, "txn": txn}:
            return await participant.prepare(name, txn)
        case {"type": "decide", "id": name, "commits": commits}:
            return participant.decide(name, commits=commits)
        case {"type": "decision", "id": name}:
            return coordinator.decision(name)
    raise Refused(10, f"{body['type']} is not supported")


def checked(txn: Any) -> MicroOps:
    """A client's transaction, if we can do such."""
    if not isinstance(txn, list):
        raise Refused(12, "there is no txn in the request")
    for op in txn:
        match op:
            case ["r", str(), None] | ["w", str(), _] | ["add", str(), int()]:
                pass
            case _:
                raise Refused(12, f"not supported in a transaction: {op}")
    return txn


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a client or a node; a peer's requests don't wait for each other."""

    async def answer(message: Json) -> None:
        body = message["body"]
        try:
            if body["type"] == "txn":
                done = await coordinator.carry_out(checked(body.get("txn")))
                out: Json = {"type": "txn_ok", "txn": done}
            else:
                out = await handle(body)
        except Refused as refused:
            out = dict(refused.body)
        out["in_reply_to"] = body["msg_id"]
        reply = {"src": NAME, "dest": message["src"], "body": out}
        writer.write(json.dumps(reply).encode() + b"\n")

    try:
        while line := await reader.readline():
            try:
                message = json.loads(line)
                message["src"], message["body"]["type"], message["body"]["msg_id"]
            except (ValueError, TypeError, KeyError):
                continue  # no message, so nobody to answer
            begin(answer(message))
    except (OSError, ValueError):
        pass  # it hung up, or its line was too long
    finally:
        writer.close()


async def main() -> None:
    """Read the journal, then serve until killed."""
    global participant, coordinator
    journal = Journal()
    participant, coordinator = Participant(journal), Coordinator(journal)
    host, port = LISTEN.rsplit(":", 1)
    server = await asyncio.start_server(serve, host, int(port), limit=LINE_BYTES_MAX)
    await server.serve_forever()


asyncio.run(main())
