"""A replicated register: every node has a copy, and majorities agree (ABD).

    splitbrain run "launch:python3 examples/nodes/python/abd.py" \
        --set register.cas=false --nemesis partition,kill,pause

Attiya, Bar-Noy and Dolev 1995, with many writers (Lynch and Shvartsman 1997). A value
has a timestamp [counter, node]. A write asks a majority for the newest timestamp and
gives a majority a newer one. A read asks a majority for the newest value and gives it
to a majority before it answers, or the next read might see an older one again.

It reads and writes while a majority of nodes is up and connected. It can't
compare and set, which takes consensus: the answer to `cas` is 10, and those operations
fail.
"""

from splitbrain_node import Failure, Journal, Node

node = Node()
copies = Journal(node.data / "copies.jsonl")  # key -> [timestamp, value]
NEVER = [[0, ""], None]


@node.on("abd_get")
def get(body):
    timestamp, value = copies.values.get(body["key"], NEVER)
    return {"timestamp": timestamp, "value": value}


@node.on("abd_put")
def put(body):
    if body["timestamp"] > copies.values.get(body["key"], NEVER)[0]:
        copies.put(body["key"], [body["timestamp"], body["value"]])
    return {}


async def newest(key):
    """The newest copy in a majority, and whether all of that majority have it."""
    try:
        found = await node.ask_majority({"type": "abd_get", "key": key})
    except Failure as failure:
        raise Failure(11, str(failure)) from failure  # Nothing was changed: definite.
    latest = max(found, key=lambda answer: answer["timestamp"])
    agreed = all(answer["timestamp"] == latest["timestamp"] for answer in found)
    return latest["timestamp"], latest["value"], agreed


async def spread(key, timestamp, value):
    """Have a majority keep a copy; a Failure (0) leaves open how many do."""
    copy = {"key": key, "timestamp": timestamp, "value": value}
    await node.ask_majority({"type": "abd_put", **copy})


@node.on("read")
async def read(body):
    timestamp, value, agreed = await newest(body["key"])
    if timestamp == NEVER[0]:
        raise Failure(20, f"there is no key {body['key']}")
    if not agreed:
        await spread(body["key"], timestamp, value)
    return {"value": value}


@node.on("write")
async def write(body):
    key, value = body["key"], body["value"]
    (counter, _), _, _ = await newest(key)
    # Our own copy counts as well, and takes the new value before anybody else does.
    # Else two writes through this node might choose the same timestamp: two at once, or
    # one before a kill that only another node has seen, and one after it.
    counter = max(counter, copies.values.get(key, NEVER)[0][0])
    timestamp = [counter + 1, node.name]
    put({"key": key, "timestamp": timestamp, "value": value})
    await spread(key, timestamp, value)
    return {}


node.run()
