"""Logs as in Kafka, in Maelstrom's store `lin-kv`, so that all nodes agree.

Message 5 of log k is under the key `k/5`. A sender looks for the first offset that is
free and takes it, in one step: who finds it taken tries the next.
"""

from node import Node, Refused

NO_KEY, TAKEN = 20, 22
POLLED_MAX = 10

node = Node()
ends = {}  # log -> an offset up to which everything is taken, as far as this node knows


def get(key, default):
    try:
        return node.ask("lin-kv", {"type": "read", "key": key})["value"]
    except Refused as refused:
        if refused.code != NO_KEY:
            raise
        return default


def change(key, before, after):
    """Put `after` in the place of `before`; False if somebody else was faster."""
    request = {"type": "cas", "key": key, "from": before, "to": after}
    try:
        node.ask("lin-kv", {**request, "create_if_not_exists": True})
    except Refused as refused:
        if refused.code != TAKEN:
            raise
        return False
    return True


@node.on("send")
def send(src, body):
    log = body["key"]
    offset = ends.get(log, 0)
    # Nothing equals what a client sends, in a list with the name of the request: so a
    # cas succeeds only where there is nothing yet.
    message = [src, body["msg_id"], body["msg"]]
    while not change(f"{log}/{offset}", message, message):
        offset += 1
    ends[log] = offset + 1
    return {"offset": offset}


@node.on("poll")
def poll(src, body):
    found = {}
    for log, offset in body["offsets"].items():
        found[log] = []
        while len(found[log]) < POLLED_MAX:
            message = get(f"{log}/{offset}", None)
            if message is None:
                break
            found[log].append([offset, message[2]])
            offset += 1
    return {"msgs": found}


@node.on("commit_offsets")
def commit_offsets(src, body):
    for log, offset in body["offsets"].items():
        before = get(f"{log}/committed", -1)
        while before < offset and not change(f"{log}/committed", before, offset):
            before = get(f"{log}/committed", -1)
    return {}


@node.on("list_committed_offsets")
def list_committed_offsets(src, body):
    offsets = {log: get(f"{log}/committed", -1) for log in body["keys"]}
    return {"offsets": {log: at for log, at in offsets.items() if at >= 0}}


node.run()
