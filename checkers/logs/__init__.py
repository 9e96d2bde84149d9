"""What the kafka checker is made of: steps of clients, logs of keys, rules, cycles.

`steps` reads what clients did, `orders` finds each key's log; `evidence` lists the
breaches that there are, `rules` and `cycles` find them, `telling` puts them into words,
and `lag` says how far polls were behind.
"""
