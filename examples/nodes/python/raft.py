"""A small Raft with registers on it, and a bug for you to find: docs/tutorial.md.

    splitbrain run "launch:python3 raft.py" --nemesis partition,kill

Ongaro and Ousterhout 2014, Figure 2, without snapshots and changes of members. Any node
takes requests, and passes them on to the leader.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import time

from splitbrain_node import Failure, Node

HEARTBEAT_S = 0.05
ELECTION_S = (0.2, 0.4)
ANSWER_S = 1.5

node = Node()


class Disk:
    """Term, vote and log, in a file of JSON lines; each line is synced."""

    def __init__(self, path):
        self.term, self.vote, self.log = 0, None, []
        self._file = path.open("a+b")
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # a kill in mid-write; nobody was told of this line
            self._take(json.loads(line))
            end += len(line)
        self._file.truncate(end)
        os.fsync(self._file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # so must the file's name be durable
        os.close(folder)

    def _take(self, line):
        if "term" in line:
            self.term, self.vote = line["term"], line["vote"]
        else:  # what follows on an index takes the place of all that was there
            del self.log[line["after"] :]
            self.log += line["entries"]

    def save(self, **line):
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            sys.stderr.write(f"can't write: {error}\n")
            os._exit(1)  # nobody knows what is in the file now
        self._take(line)


disk = Disk(node.data / "raft.jsonl")
role, leader = "follower", None
heard_s = time.monotonic()
commit = applied = 0
registers, results = {}, {}  # results: index -> who waits for it
replicating = {}  # of the leader: peer -> what sends it the log
following = {}  # of the leader: peer -> [next index, match index]
news = asyncio.Event()


def follow(term, whom=None):
    """Become a follower, in this term."""
    global role, leader, heard_s
    if term > disk.term:
        disk.save(term=term, vote=None)
    role, leader, heard_s = "follower", whom, time.monotonic()


def last():
    return len(disk.log), disk.log[-1][0] if disk.log else 0


@node.on("status")
def status(_):
    return {"role": role, "term": disk.term, "leader": leader}


# elections (section 5.2)


@node.on("vote")
def vote(body):
    if body["term"] > disk.term:
        follow(body["term"])
    index, term = last()
    newer = (body["last_term"], body["last_index"]) >= (term, index)  # section 5.4.1
    granted = body["term"] == disk.term and newer and disk.vote in (None, body["from"])
    if granted:
        disk.save(term=disk.term, vote=body["from"])
        follow(disk.term)
    return {"term": disk.term, "granted": granted}


async def campaign():
    global role, leader
    disk.save(term=disk.term + 1, vote=node.name)
    role, leader, term = "candidate", None, disk.term
    index, last_term = last()
    ask = {"type": "vote", "term": term, "from": node.name}
    ask |= {"last_index": index, "last_term": last_term}
    votes = 1
    for call in asyncio.as_completed([node.call(p, ask, 0.2) for p in node.peers]):
        try:
            answer = await call
        except Failure:
            continue
        if answer["term"] > disk.term:
            follow(answer["term"])
        votes += answer["granted"]
        if votes >= node.majority and role == "candidate" and disk.term == term:
            role, leader = "leader", node.name
            following.clear()
            following.update({peer: [len(disk.log), 0] for peer in node.peers})
            # What older terms left is committed with an entry of this one (5.4.2).
            disk.save(after=len(disk.log), entries=[[term, None]])
            for peer in node.peers:
                replicating[peer] = asyncio.ensure_future(replicate(peer, term))


@node.background
async def watch_the_leader():
    global heard_s
    while True:
        patience_s = random.uniform(*ELECTION_S)
        await asyncio.sleep(patience_s)
        if role != "leader" and time.monotonic() - heard_s > patience_s:
            heard_s = time.monotonic()
            await campaign()


# the log (section 5.3)


@node.on("append")
def append(body):
    if body["term"] < disk.term:
        return {"term": disk.term, "fits": False}
    follow(body["term"], body["from"])
    after, entries = body["after"], body["entries"]
    if after > len(disk.log) or (
        after and disk.log[after - 1][0] != body["after_term"]
    ):
        return {"term": disk.term, "fits": False}
    for place, entry in enumerate(entries, start=after):
        if place >= len(disk.log) or disk.log[place][0] != entry[0]:
            disk.save(after=place, entries=entries[place - after :])
            break
    advance(min(body["commit"], after + len(entries)))
    return {"term": disk.term, "fits": True}


async def replicate(peer, term):
    while role == "leader" and disk.term == term:
        next_, _ = following[peer]
        entries = disk.log[next_ : next_ + 200]
        body = {"type": "append", "term": term, "from": node.name, "commit": commit}
        body |= {"after": next_, "after_term": disk.log[next_ - 1][0] if next_ else 0}
        try:
            answer = await node.call(peer, {**body, "entries": entries}, 0.3)
        except Failure:
            await asyncio.sleep(HEARTBEAT_S)
            continue
        if role != "leader" or disk.term != term:
            return
        if answer["term"] > term:
            follow(answer["term"])
        elif answer["fits"]:
            following[peer] = [next_ + len(entries), next_ + len(entries)]
            acknowledged()
        else:
            following[peer][0] = max(0, next_ - 1 - len(disk.log) // 20)
        if answer.get("fits") and following[peer][0] >= len(disk.log):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), HEARTBEAT_S)


def acknowledged():
    """Commit what a majority has, if it is of this term (section 5.4.2)."""
    matches = sorted([len(disk.log), *(match for _, match in following.values())])
    index = matches[-node.majority]
    if index > commit and disk.log[index - 1][0] == disk.term:
        advance(index)


def advance(index):
    global commit, applied
    commit = max(commit, index)
    while applied < commit:
        _, command = disk.log[applied]
        applied += 1
        waiting = results.pop(applied, None)
        result = apply(command) if command else None
        if waiting and not waiting.done():
            waiting.set_result((disk.log[applied - 1], result))


def apply(command):
    kind, key = command["type"], command["key"]
    if kind == "write":
        registers[key] = command["value"]
        return {}
    if key not in registers:
        return {"error": [20, f"there is no key {key}"]}
    if kind == "read":
        return {"value": registers[key]}
    if registers[key] != command["from"]:
        return {"error": [22, f"expected {command['from']}, found {registers[key]}"]}
    registers[key] = command["to"]
    return {}


# clients


@node.on("read", "write", "cas")
async def request(body):
    if role != "leader":
        if leader is None or leader == node.name or body.get("passed_on"):
            raise Failure(11, "there is no leader that this node knows of")
        return await node.call(leader, {**body, "passed_on": True}, ANSWER_S)
    if body["type"] == "read":
        return answered(apply(body))
    needed = {"read": [], "write": ["value"], "cas": ["from", "to"]}[body["type"]]
    entry = [disk.term, {name: body[name] for name in ("type", "key", *needed)}]
    disk.save(after=len(disk.log), entries=[entry])
    waiting = results[len(disk.log)] = asyncio.get_running_loop().create_future()
    news.set()
    news.clear()
    try:
        committed, result = await asyncio.wait_for(waiting, ANSWER_S)
    except TimeoutError as late:
        raise Failure(0, "no majority has answered yet") from late
    if committed != entry:
        raise Failure(0, "another leader took over")
    return answered(result)


def answered(result):
    if "error" in result:
        raise Failure(*result["error"])
    return result


node.run()
