"""A linearizable key-value store, by means of Maelstrom's service `lin-kv`.

Each request is passed on. When the service does not answer, nobody knows whether it did
what it was asked, and that is what the client is told (error 0).
"""

from node import Node

node = Node()


@node.on("read")
@node.on("write")
@node.on("cas")
def pass_on(src, body):
    answer = node.ask("lin-kv", {k: v for k, v in body.items() if k != "msg_id"})
    return {k: v for k, v in answer.items() if k not in ("msg_id", "in_reply_to")}


node.run()
