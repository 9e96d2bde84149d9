"""What the raft_invariants checker is made of: logs, rules, and how breaches are told.

`logs` rebuilds what each server's log held from what the server observed, `evidence`
lists the breaches that there are, `rules` finds them, and `telling` puts them into
words.
"""
