"""List-append: the order of versions can be read off the lists.

Transactions append elements to lists and read whole lists. A list holds the history of
its key, so a read shows every version before the one it returns (Kingsbury and Alvaro,
"Elle", 2020, sections 3 and 4). The longest list read from a key gives its version
order. Appends that are not in it came later, in an order that no read shows.

The modules, in the order of a check:

    scanned   `lists`, `scan`: what was read and appended, with what is wrong within one
              transaction
    ordered   `versions`: the version order of each key
    chosen    `repeats`: elements appended more than once, and their possible writers
    accused   `accusations`, `losses`: what single lists and elements show
    linked    `edges`: dependencies; `reasons`: what these are about
    settled   `views`, `settling`: weak levels, and orders that no list shows
    all       `inference`

Choices:
- Of lists that can't grow into each other (incompatible orders) the longest is taken to
  be right, as Elle does. If two are equally long, their common beginning is. A list out
  of that order depends on the writer of its last element and on nothing else.
- All reads before the transaction's own first append to the key count, not only the
  first one: a transaction that sees two states of a key is not repeatable.
- If an element was appended more than once, the append that was read has to be chosen:
  see `checkers.isolation.writers`.
- A list must show the appends of one transaction to its key in their order, without
  leaving out earlier ones. Otherwise its order is incompatible.
- Reads of a broken database may show elements of failed transactions. The other
  elements around them keep their order.
"""
