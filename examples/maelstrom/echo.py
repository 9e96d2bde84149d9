"""Maelstrom's first exercise: say what you are told."""

from node import Node

node = Node()


@node.on("echo")
def echo(src, body):
    return {"echo": body["echo"]}


node.run()
