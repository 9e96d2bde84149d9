"""What the atomic_commit checker is made of: accounts, rules, and their telling.

`accounts` reads what clients, nodes and participants said of each transaction,
`evidence` lists the breaches that there are, `rules` finds them, and `telling` puts
them into words.
"""
