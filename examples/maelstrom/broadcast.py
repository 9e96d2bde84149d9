"""Broadcast: each message goes to the neighbours at once, and again until they have it.

What a node has, it keeps in a file, so that a kill takes nothing away that it has
acknowledged.
"""

from node import Journal, Node

node = Node()
journal = Journal("messages")
messages = set(journal.read())
neighbours = []
unconfirmed = {}  # neighbour -> messages that it has not confirmed


def take(message, sender=None):
    """Keep a message, and pass it on to all neighbours but the sender."""
    with node.lock:
        if message in messages:
            return
        journal.append([message])
        messages.add(message)
        others = [each for each in neighbours if each != sender]
        for other in others:
            unconfirmed[other].add(message)
    for other in others:
        node.send(other, {"type": "gossip", "messages": [message]})


@node.on("topology")
def topology(src, body):
    with node.lock:
        neighbours[:] = body["topology"][node.name]
        unconfirmed.update((each, set(messages)) for each in neighbours)
    return {}


@node.on("broadcast")
def broadcast(src, body):
    take(body["message"])
    return {}


@node.on("gossip")
def gossip(src, body):
    for message in body["messages"]:
        take(message, src)
    node.send(src, {"type": "have", "messages": body["messages"]})


@node.on("have")
def have(src, body):
    with node.lock:
        unconfirmed[src].difference_update(body["messages"])


@node.on("read")
def read(src, body):
    with node.lock:
        return {"messages": list(messages)}


@node.every(0.5)
def again():
    with node.lock:
        late = {each: list(some) for each, some in unconfirmed.items() if some}
    for neighbour, some in late.items():
        node.send(neighbour, {"type": "gossip", "messages": some[:1000]})


node.run()
