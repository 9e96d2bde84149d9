"""A counter, for both `g-counter` and `pn-counter`: a CRDT (Shapiro et al. 2011).

Each node adds up its own increments and decrements. It tells all others, now and then,
the sums of every node that it knows of; of two sums of one node the later one counts,
which is the one of more additions.
"""

from node import Journal, Node

node = Node()
journal = Journal("deltas")
own = list(journal.read())
sums = {}  # node -> [how many additions, their sum]


@node.on("init")
def init(src, body):
    sums[node.name] = [len(own), sum(own)]
    return {}


@node.on("add")
def add(src, body):
    with node.lock:
        journal.append([body["delta"]])
        count, total = sums[node.name]
        sums[node.name] = [count + 1, total + body["delta"]]
    return {}


@node.on("read")
def read(src, body):
    with node.lock:
        return {"value": sum(total for _, total in sums.values())}


@node.on("merge")
def merge(src, body):
    with node.lock:
        for name, told in body["sums"].items():
            sums[name] = max(sums.get(name, told), told)


@node.every(1.0)
def replicate():
    with node.lock:
        state = dict(sums)
    for other in node.others:
        node.send(other, {"type": "merge", "sums": state})


node.run()
