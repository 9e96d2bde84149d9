"""The check of an adapter: what does a node of yours get wrong, by WIRE.md?

check.py          a command in, a report out
examination.py    a cluster of it is started, talked to, killed and read
asking.py         requests, whose answers are looked at from all sides
tap.py            a connection on which nothing is passed over
conversations.py  what is said to nodes of each service, as data
patterns.py       requests with slots, and patterns of answers
rules.py          the rules, with the words of WIRE.md
looking.py        what a node's processes do, from /proc
findings.py       the report, as data and in words
"""
