"""What the total_order checker is made of: sequences, events, rules, and their telling.

`sequences` reads what clients saw of the sequences that nodes delivered, `observed`
what nodes say of their own deliveries; `evidence` lists the breaches that there are,
`rules` finds them, and `telling` puts them into words.
"""
