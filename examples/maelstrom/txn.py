"""Transactions, for both `txn-list-append` and `txn-rw-register`.

They are strictly serializable. All is in Maelstrom's linearizable store `lin-kv`.
Values never change there: each has a version, a name that was never used before. Only
the root changes, which tells the version of every key. A transaction reads the root,
writes what it changes as new versions, and puts a new root in the place of the old one
if nobody else was faster. Otherwise it starts again, and gives up with error 30 after
some tries.
"""

import json
import uuid

from node import Node, Refused

NO_KEY, CHANGED, CONFLICT = 20, 22, 30
TRIES = 20

node = Node()
values = {}  # version -> value, of those that this node has seen


def read_root():
    try:
        return node.ask("lin-kv", {"type": "read", "key": "root"})["value"]
    except Refused as refused:
        if refused.code != NO_KEY:
            raise
        return {}


def change_root(before, after):
    """Put `after` in the place of `before`; False if somebody else was faster."""
    swap = {"type": "cas", "key": "root", "from": before, "to": after}
    try:
        node.ask("lin-kv", {**swap, "create_if_not_exists": True})
    except Refused as refused:
        if refused.code != CHANGED:
            raise
        return False
    return True


def value_of(version):
    if version is None:
        return None
    if version not in values:
        answer = node.ask("lin-kv", {"type": "read", "key": version})
        values[version] = answer["value"]
    return values[version]


def attempt(txn):
    """The micro-operations with their results; None if others were faster."""
    root = read_root()
    changed, results = {}, []
    for f, key, value in txn:
        name = json.dumps(key)
        now = changed[name] if name in changed else value_of(root.get(name))
        if f == "r":
            value = now
        else:
            changed[name] = [*(now or []), value] if f == "append" else value
        results.append([f, key, value])
    versions = {name: uuid.uuid4().hex for name in changed}
    for name, version in versions.items():
        node.ask("lin-kv", {"type": "write", "key": version, "value": changed[name]})
    if changed and not change_root(root, {**root, **versions}):
        return None
    return results


@node.on("txn")
def transact(src, body):
    for _ in range(TRIES):
        results = attempt(body["txn"])
        if results is not None:
            return {"txn": results}
    raise Refused(CONFLICT, "others were faster")


node.run()
