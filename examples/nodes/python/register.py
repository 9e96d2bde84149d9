"""A register service: the first node by name has the data, the others pass requests on.

    splitbrain run "launch:python3 examples/nodes/python/register.py" \
        --nemesis partition,kill,pause

It is linearizable because one process does everything, one request at a time. Nothing
is replicated, so nothing works while the owner is down or cut off: it is safe, but not
available. Replace it by a protocol of your own, and let splitbrain tell you whether it
is still linearizable.
"""

from splitbrain_node import Failure, Journal, Node

node = Node()
OWNER = node.names[0]
journal = Journal(node.data / "journal.jsonl")


@node.on("status")
def status(body):
    role = "leader" if node.name == OWNER else "follower"
    return {"role": role, "term": 1, "leader": OWNER}


@node.on("read", "write", "cas")
def register(body):
    if node.name != OWNER:
        return node.call(OWNER, body)
    key, values = body["key"], journal.values
    if body["type"] == "write":
        journal.put(key, body["value"])
        return {}
    if body["type"] == "cas":
        before, after = body["from"], body["to"]
    if key not in values:
        raise Failure(20, f"there is no key {key}")
    if body["type"] == "read":
        return {"value": values[key]}
    if values[key] != before:
        raise Failure(22, f"expected {before}, but it is {values[key]}")
    journal.put(key, after)
    return {}


node.run()
