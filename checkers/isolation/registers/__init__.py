"""Read-write registers: the order of versions has to be inferred.

Transactions write values to registers and read them. If values are unique it is certain
who wrote what was read, but which of two writes came first shows only here and there
(Kingsbury and Alvaro, "Elle", 2020, section 4.3). There are four sources of that order.
All but the first are assumptions about the database:

- initial: every key begins as nil, before whatever is written to it;
- wfr-keys: what a transaction writes to a key comes after what it read from it, though
  perhaps not right after it;
- sequential-keys: each key by itself is sequentially consistent, so that a process sees
  its versions in their order;
- linearizable-keys: each key by itself is linearizable, so that real time orders them.

Where a source contradicts the earlier ones on a key (cyclic versions), that is an
anomaly, and the source is left out for the key.

The modules, in the order of a check:

    scanned   `scan`: versions, who wrote them, who read them
    split     `sources`: versions that may be of several writers, and who these are
    accused   `accusations`: what single reads and updates show
    ordered   `orders`: version orders, by each source
    settled   `settling`: weak levels, and orders by elimination
    all       `inference`

Choices:
- All reads before the transaction's own first write of the key count, as in
  `checkers.isolation.appends`.
- A read that comes after the transaction's own write of the key, and returns something
  else, breaks internal consistency. For models that don't demand that, it is a read
  like any other, from the writer of its value.
- A value that nobody wrote is an anomaly, and apart from that a version like any other.
- Each write of a value that was written more than once is a version of its own, and so
  is a write of nil. A read that may be of several of them is open, and orders nothing;
  see `checkers.isolation.candidates` and `checkers.isolation.assignments`.
- nil precedes all versions, yet an edge goes only to those that no other known version
  precedes; the others follow from them.
"""
