"""List-append: the order of versions can be read off the lists.

Transactions append elements to lists and read whole lists. A list holds the
history of its key, so a read shows every version before the one it returns (Kingsbury
and Alvaro, "Elle", 2020, sections 3 and 4). The longest read of a key gives its version
order; what was appended and is not in it came later, in an order nobody saw.

The modules, in the order of a check:

    scanned   `lists`, `scan`: what was read and appended, with what is wrong within one
              transaction
    ordered   `versions`: the version order of each key
    chosen    `repeats`: elements of which it is open who wrote them
    accused   `accusations`, `losses`: what single lists and elements show
    linked    `edges`: dependencies; `reasons`: what these are about
    settled   `views`, `settling`: weak levels, and orders that no list shows
    all       `inference`

Choices:
- Of lists that can't grow into each other (incompatible orders) the longest is taken to
  be right, as Elle does; of two that are equally long, what they have in common. A list
  out of that order depends on the writer of its last element and on nothing else.
- Every read before the transaction's own first append to the key counts, not the first
  one alone: a transaction that sees two states of a key is not repeatable.
- Of an element that was appended more than once it has to be chosen which append of it
  was read: see `checkers.isolation.writers`.
- Appends of one transaction to one key stand in their order in every list, the first
  ones too; a list in which they don't is of incompatible order.
- Elements of failed transactions stand in reads as a broken database put them there;
  the order of the others around them still holds.
"""
