"""The check of an adapter: what does a node of yours get wrong, by WIRE.md?

check.py          a command in, a report out
examination.py    a cluster of it is started, talked to, killed and read
subject.py        the nodes, their clients, and what was seen of them so far
connections.py    several clients, requests in pieces, noise
talking.py        refusals, and each service's conversation
members.py        an operator's requests
lasting.py        what is left of changes at other nodes, and after kills
nodes.py          nodes are started and killed
marks.py          changes that can be looked for later
asking.py         requests, whose answers are looked at from all sides
tap.py            a connection on which nothing is passed over
conversations.py  what is said to nodes of each service, as data
patterns.py       requests with slots, and patterns of answers
rules.py          the rules, with the words of WIRE.md
looking.py        what a node's processes do, from /proc
findings.py       the report, as data and in words
"""
