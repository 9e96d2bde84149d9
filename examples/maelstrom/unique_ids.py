"""Unique ids without any coordination: the node's name, its start, and a number.

A node that is killed starts its numbers again, so each start takes a name of its own:
starts are counted in a file. Clocks would do on most days, but clocks jump.
"""

from node import Journal, Node

node = Node()
journal = Journal("starts")
start = len(journal.read()) + 1
journal.append([start])
count = 0


@node.on("generate")
def generate(src, body):
    global count
    with node.lock:
        count += 1
        return {"id": f"{node.name}-{start}-{count}"}


node.run()
