"""What the consensus checker is made of: instances, rules, and their telling.

`instances` holds what is known of each instance of consensus and of each acceptor,
`evidence` lists the breaches that there are, `rules` finds them, and `telling` puts
them into words.
"""
