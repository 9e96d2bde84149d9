"""A set that grows: each node tells all others, now and then, what it has.

A set is a CRDT (Shapiro et al. 2011): to merge two states is to unite them, so it does
not matter how often, in which order, or how late they arrive.
"""

from node import Journal, Node

node = Node()
journal = Journal("elements")
elements = set(journal.read())


@node.on("add")
def add(src, body):
    with node.lock:
        journal.append([body["element"]])
        elements.add(body["element"])
    return {}


@node.on("read")
def read(src, body):
    with node.lock:
        return {"value": list(elements)}


@node.on("merge")
def merge(src, body):
    with node.lock:
        elements.update(body["elements"])


@node.every(1.0)
def replicate():
    with node.lock:
        state = list(elements)
    for other in node.others:
        node.send(other, {"type": "merge", "elements": state})


node.run()
