"""Sequential consistency of registers: sessions, orders, and proofs of none.

`calls` reads a history, `versions` judges what each session may rely on, `order` looks
for one order of all operations, and `saturation` for the proof that there is none.
`evidence` lists the breaches that there are, and `telling` puts them into words.
"""
