"""Read-write registers: the order of versions has to be inferred.

Transactions write values to registers and read them. Where values are unique it is
certain who wrote what was read; which of two writes came first shows only here and
there (Kingsbury and Alvaro, "Elle", 2020, section 4.3). Sources of that order, each an
assumption about the database but for the first:

- initial: every key begins as nil, before whatever is written to it;
- wfr-keys: a transaction that reads a version of a key and then writes one replaces it,
  if with others between;
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
- Every read before the transaction's own first write of the key counts, as in
  `checkers.isolation.appends`.
- A read after the transaction's own write of the key, of anything but that, breaks
  internal consistency. For models without it, it is a read like any other, and what it
  saw has a writer.
- A value that nobody wrote is an anomaly, and for the rest a version like any other.
- Each write of a value that was written more than once is a version of its own, and so
  is a write of nil. Where a read may be of several of them it is open, and orders
  nothing; see `checkers.isolation.candidates` and `checkers.isolation.assignments`.
- nil precedes all versions, yet an edge goes only to those that no other known version
  precedes; the others follow from them.
"""
