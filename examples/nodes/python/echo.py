# splitbrain run "launch:python3 examples/nodes/python/echo.py" --workload echo

from splitbrain_node import Node

node = Node()


@node.on("echo")
def echo(body):
    return {"echo": body["echo"]}


node.run()
