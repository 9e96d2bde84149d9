"""The definitions of consistency models, tried out on every possible execution.

For a handful of transactions only: each oracle goes through all orders. They share no
code with the checkers, not even the reading of histories.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.history import History

State = dict[Any, Any]


@dataclass(frozen=True, eq=False)
class Call:
    """One transaction: what it asked and, if it returned ok, what came of it."""

    index: int
    process: int | str
    invoked: int
    returned: int | None
    outcome: str
    micro_ops: tuple[Any, ...]


def calls(history: History) -> list[Call]:
    """All transactions that may have happened, failed ones left out."""
    found = []
    for i, (invoke, end) in enumerate(history.calls()):
        outcome = "info" if end is None else end.type
        if outcome != "fail":
            ok = outcome == "ok" and end is not None
            value = end.value if ok and end is not None else invoke.value
            returned = end.index if ok and end is not None else None
            micro_ops = tuple(tuple(micro_op) for micro_op in value)
            found.append(
                Call(i, invoke.process, invoke.index, returned, outcome, micro_ops)
            )
    return found


def worlds(history: History) -> Iterator[list[Call]]:
    """All sets of transactions that may have happened: the ok ones, and some others."""
    every = calls(history)
    certain = [call for call in every if call.outcome == "ok"]
    doubtful = [call for call in every if call.outcome != "ok"]
    for size in range(len(doubtful) + 1):
        for chosen in itertools.combinations(doubtful, size):
            yield sorted([*certain, *chosen], key=lambda call: call.index)


def run(call: Call, state: State) -> State | None:
    """The state after the transaction, or None if it can't have read what it did."""
    state = dict(state)
    for f, key, value in call.micro_ops:
        if f == "append":
            state[key] = (*state.get(key, ()), value)
        elif f == "w":
            state[key] = value
        elif call.outcome == "ok":
            read = tuple(value) if isinstance(value, list) else value
            now = state.get(key)
            if read != now and (read or now):
                return None
    return state


def same_session(a: Call, b: Call) -> bool:
    """Whether the one's process ran it before the other."""
    return a.process == b.process and a.index < b.index and a.outcome == "ok"


def real_time(a: Call, b: Call) -> bool:
    """Whether the one had returned before the other was invoked."""
    return a.returned is not None and a.returned < b.invoked


def either(a: Call, b: Call) -> bool:
    """Session order or real time."""
    return same_session(a, b) or real_time(a, b)


def no_order(_a: Call, _b: Call) -> bool:
    """Nothing has to come before anything."""
    return False


def is_serializable(
    history: History, before: Callable[[Call, Call], bool] = no_order
) -> bool:
    """Whether one transaction after the other gives what was read."""

    def can_go_on(left: Sequence[Call], state: State) -> bool:
        if not left:
            return True
        for call in left:
            others = [other for other in left if other is not call]
            if not any(before(other, call) for other in others):
                after = run(call, state)
                if after is not None and can_go_on(others, after):
                    return True
        return False

    return any(can_go_on(world, {}) for world in worlds(history))


def is_snapshot_isolated(
    history: History, before: Callable[[Call, Call], bool] = no_order
) -> bool:
    """Whether snapshots and commits can be put in an order that gives what was read.

    Each transaction reads a snapshot of what was committed when it began, and commits
    only if nobody committed to what it writes since then (first committer wins).
    """

    def writes(call: Call) -> set[Any]:
        return {key for f, key, _ in call.micro_ops if f != "r"}

    def can_go_on(
        waiting: frozenset[Call], running: dict[Call, set[Any]], state: State
    ) -> bool:
        if not waiting and not running:
            return True
        for call in waiting:
            held_up = any(before(other, call) for other in (waiting | set(running)))
            if not held_up and run(call, state) is not None:
                more = {other: set(lost) for other, lost in running.items()}
                if can_go_on(waiting - {call}, {**more, call: set()}, state):
                    return True
        for call, lost in running.items():
            if writes(call) & lost:
                continue
            after = dict(state)
            for f, key, value in call.micro_ops:
                if f == "append":
                    after[key] = (*after.get(key, ()), value)
                elif f == "w":
                    after[key] = value
            rest = {
                other: known | writes(call)
                for other, known in running.items()
                if other is not call
            }
            if can_go_on(waiting, rest, after):
                return True
        return False

    return any(can_go_on(frozenset(world), {}, {}) for world in worlds(history))


def satisfies_axiom(history: History, axiom: str, *, sessions: bool) -> bool:
    """Biswas and Enea's definitions, for registers: some commit order satisfies it.

    Every read must be of the last write of the key in its own transaction or, without
    one, of the last write in another transaction that committed, or of nil.
    """
    return any(
        _some_order(world, axiom, sessions=sessions) for world in worlds(history)
    )


def _some_order(world: list[Call], axiom: str, *, sessions: bool) -> bool:
    final = {call: {k: v for f, k, v in call.micro_ops if f == "w"} for call in world}
    source: dict[tuple[Call, int], Call | None] = {}
    for call in world:
        if call.outcome != "ok":
            continue
        mine: dict[Any, Any] = {}
        seen: dict[Any, Any] = {}
        for i, (f, key, value) in enumerate(call.micro_ops):
            if f == "w":
                mine[key] = value
            elif key in mine:
                if mine[key] != value:
                    return False
            else:
                if seen.setdefault(key, value) != value and axiom != "read-committed":
                    return False
                writers = [
                    c for c in world if c is not call and final[c].get(key) == value
                ]
                if value is not None and not writers:
                    return False
                source[call, i] = writers[0] if value is not None else None
    so = {(a, b) for a in world for b in world if sessions and same_session(a, b)}
    wr = {(a, b) for (b, _), a in source.items() if a is not None and a is not b}
    direct = so | wr
    reach = set(direct)
    for middle, a, b in itertools.product(world, repeat=3):
        if (a, middle) in reach and (middle, b) in reach:
            reach.add((a, b))

    def sees(seen: Call, reader: Call, at: int) -> bool:
        if axiom == "read-committed":
            return any(source.get((reader, i)) is seen for i in range(at))
        return (seen, reader) in (direct if axiom == "read-atomic" else reach)

    for order in itertools.permutations(world):
        place = {call: i for i, call in enumerate(order)}
        if any(place[a] > place[b] for a, b in direct):
            continue
        if all(
            place[other] < (place[writer] if writer is not None else -1)
            for (reader, at), writer in source.items()
            for other in world
            if other is not writer
            and other is not reader
            and reader.micro_ops[at][1] in final[other]
            and sees(other, reader, at)
        ):
            return True
    return False


Version = tuple[Any, Call]
"""A value, and who wrote it; nil is written by nobody."""


@dataclass(frozen=True)
class _Deed:
    """What a transaction did: reads of others' versions in order, and final writes."""

    reads: tuple[tuple[Any, Any], ...]
    writes: tuple[tuple[Any, Any], ...]


def _deed(call: Call) -> _Deed:
    reads, writes = [], {}
    for f, key, value in call.micro_ops:
        if f != "r":
            writes[key] = value
        elif call.outcome == "ok" and key not in writes:
            if isinstance(value, list):
                value = value[-1] if value else None
            reads.append((key, value))
    return _Deed(tuple(reads), tuple(writes.items()))


def keeps_guarantee(history: History, guarantee: str) -> bool:
    """Terry et al.'s guarantees: versions of each key can be ordered as they demand."""
    every = calls(history)
    deeds = {call: _deed(call) for call in every}
    seen = {
        (key, element)
        for call in every
        if call.outcome == "ok"
        for f, key, value in call.micro_ops
        if f == "r"
        for element in (value if isinstance(value, list) else [value])
    }
    writer = {
        (key, value): call
        for call in every
        for f, key, value in call.micro_ops
        if f != "r" and (call.outcome == "ok" or (key, value) in seen)
    }
    demands = set(_demands(every, deeds, writer, guarantee))
    return all(
        any(
            all(order.index(a) <= order.index(b) for k, a, b in demands if k == key)
            for order in _orders(history, key, [v for k, v in writer if k == key])
        )
        for key in {key for key, _, _ in demands}
    )


def _orders(history: History, key: Any, values: list[Any]) -> Iterator[list[Any]]:
    """Orders of a key's versions, nil first, that no list contradicts."""
    lists = [
        micro_op[2]
        for op in history
        if op.type == "ok"
        for micro_op in op.value
        if micro_op[0] == "r" and micro_op[1] == key and isinstance(micro_op[2], list)
    ]
    known = max(lists, key=len, default=[])
    rest = [value for value in values if value not in known]
    for order in itertools.permutations(rest):
        yield [None, *known, *order]


def _demands(
    every: list[Call],
    deeds: dict[Call, _Deed],
    writer: dict[tuple[Any, Any], Call],
    guarantee: str,
) -> Iterator[tuple[Any, Any, Any]]:
    """(key, a, b): version a of the key must not come after b."""

    def apart(key: Any, a: Any, b: Any) -> bool:
        one, other = writer.get((key, a)), writer.get((key, b))
        known = one is not None and (other is not None or b is None)
        return known and one is not other

    def past(call: Call) -> list[Call]:
        return [c for c in every if same_session(c, call)]

    for call in every:
        reads, writes = deeds[call].reads, deeds[call].writes
        for at, (key, value) in enumerate(reads):
            if guarantee in {"read-your-writes", "monotonic-reads"}:
                before = past(call)
            else:
                others = {writer.get(read) for read in reads[:at]} - {None, call}
                before = [c for other in others if other for c in past(other)]
            by_reads = guarantee in {"monotonic-reads", "writes-follow-reads"}
            for c in before:
                for k, v in deeds[c].reads if by_reads else deeds[c].writes:
                    if k == key and apart(key, v, value):
                        yield key, v, value
        for key, value in writes:
            if guarantee == "monotonic-writes" and (key, value) in writer:
                for c in past(call):
                    for k, v in deeds[c].writes:
                        if k == key and apart(key, v, value):
                            yield key, v, value
            if guarantee == "writes-follow-reads" and (key, value) in writer:
                for c in [*past(call), call]:
                    for k, v in deeds[c].reads:
                        if k == key and apart(key, v, value):
                            yield key, v, value


@dataclass(frozen=True)
class Axioms:
    """Which of Cerone, Bernardi and Gotsman's axioms (2015) a model has.

    All have that reads are internally consistent and return the last visible write, and
    that sessions see their own past.
    """

    transitive: bool = False
    prefix: bool = False
    no_conflict: bool = False


AXIOMS = {
    "read-atomic": Axioms(),
    "causal": Axioms(transitive=True),
    "parallel-snapshot-isolation": Axioms(transitive=True, no_conflict=True),
    "prefix": Axioms(transitive=True, prefix=True),
    "strong-session-snapshot-isolation": Axioms(
        transitive=True, prefix=True, no_conflict=True
    ),
}


def has_abstract_execution(history: History, axioms: Axioms) -> bool:
    """Whether visibility and arbitration can be chosen so that the axioms hold.

    For lists, a list is the version that its last element made, and arbitration must
    order elements as lists show them, those that were never read last.
    """
    return any(_some_arbitration(history, world, axioms) for world in worlds(history))


def _some_arbitration(history: History, world: list[Call], axioms: Axioms) -> bool:
    deeds = {call: _deed(call) for call in world}
    if not all(map(_is_internal, world)):
        return False
    for order in itertools.permutations(world):
        if _shows_otherwise(history, order, deeds):
            continue
        pairs = list(itertools.combinations(range(len(order)), 2))
        must = {(a, b) for a, b in pairs if same_session(order[a], order[b])}
        if len(must) < sum(
            same_session(a, b) for a, b in itertools.permutations(order, 2)
        ):
            continue
        free = [pair for pair in pairs if pair not in must]
        for chosen in itertools.product((False, True), repeat=len(free)):
            visible = must | {p for p, yes in zip(free, chosen, strict=True) if yes}
            if _holds(visible, order, deeds, axioms):
                return True
    return False


def _is_internal(call: Call) -> bool:
    """Reads agree with the transaction's own reads and writes before them."""
    known: dict[Any, Any] = {}
    for f, key, value in call.micro_ops:
        if call.outcome == "ok" and f == "r":
            read = value or None if isinstance(value, list) else value
            if f == "r" and known.setdefault(key, read) != read:
                return False
        elif f == "w":
            known[key] = value
    return True


def _shows_otherwise(
    history: History, order: Sequence[Call], deeds: dict[Call, _Deed]
) -> bool:
    """Whether lists show a key's elements in another order."""
    for key in {key for call in order for key, _ in deeds[call].writes}:
        values = [v for call in order for k, v in deeds[call].writes if k == key]
        if not any(values == shown[1:] for shown in _orders(history, key, values)):
            return True
    return False


def _holds(
    visible: set[tuple[int, int]],
    order: Sequence[Call],
    deeds: dict[Call, _Deed],
    axioms: Axioms,
) -> bool:
    places = range(len(order))
    for a, b, c in itertools.combinations(places, 3):
        follows = axioms.prefix or (axioms.transitive and (a, b) in visible)
        if follows and (b, c) in visible and (a, c) not in visible:
            return False
    written = [dict(deeds[call].writes) for call in order]
    for a, b in itertools.combinations(places, 2):
        conflict = axioms.no_conflict and written[a].keys() & written[b].keys()
        if conflict and (a, b) not in visible:
            return False
    for reader in places:
        for key, value in deeds[order[reader]].reads:
            seen = [w for w in range(reader) if (w, reader) in visible]
            latest = [written[w][key] for w in seen if key in written[w]]
            if (latest[-1] if latest else None) != value:
                return False
    return True


@dataclass(frozen=True)
class _Dependency:
    """An edge of Adya's graphs; events are places in a transaction.

    Attributes:
        leaves, arrives: The read that a rw edge begins at; the read or write that a wr
            or ww edge leads to.
    """

    source: Call
    target: Call
    kind: str
    key: Any
    leaves: int = -1
    arrives: int = -1


def satisfies_adya(history: History, model: str) -> bool:
    """Adya's levels between PL-2 and PL-3: some version order has no phenomenon."""
    return any(
        _is_free_of(model, world, dependencies)
        for world in worlds(history)
        for dependencies in _version_orders(history, world)
    )


def _version_orders(history: History, world: list[Call]) -> Iterator[list[_Dependency]]:
    """The dependencies that each order of each key's versions leads to.

    None if something was read that nobody left there (G1a, G1b) or that the reader
    wrote later on, or if two lists don't fit together. Reads of a transaction's own
    writes are left out.
    """
    is_list = any(f == "append" for call in world for f, _, _ in call.micro_ops)
    versions: dict[Any, list[tuple[Any, Call, int]]] = {}
    final: dict[Any, set[Any]] = {}
    for call in world:
        last = {k: v for f, k, v in call.micro_ops if f != "r"}
        for place, (f, key, value) in enumerate(call.micro_ops):
            if f != "r" and (is_list or last[key] == value):
                versions.setdefault(key, []).append((value, call, place))
        for key, value in last.items():
            final.setdefault(key, set()).add(value)
    reads: list[tuple[Call, int, Any, Any]] = []
    lists = [
        (key, value)
        for call in world
        if call.outcome == "ok"
        for f, key, value in call.micro_ops
        if f == "r" and isinstance(value, list)
    ]
    longest = {key: max((v for k, v in lists if k == key), key=len) for key, _ in lists}
    if any(longest[key][: len(value)] != value for key, value in lists):
        return
    for call in world:
        mine: set[Any] = set()
        for place, (f, key, value) in enumerate(call.micro_ops):
            if f != "r":
                mine.add(key)
            elif call.outcome == "ok":
                if isinstance(value, list):
                    value = value[-1] if value else None
                if key not in mine:
                    reads.append((call, place, key, value))
    if any(v is not None and v not in final.get(k, ()) for _, _, k, v in reads):
        return
    if any(
        own[1:] == [k, v]
        for c, _, k, v in reads
        for own in map(list, c.micro_ops)
        if own[0] != "r"
    ):
        return
    choices = []
    for key, known in versions.items():
        seen = longest.get(key, [])
        if [v for v in seen if v not in {value for value, _, _ in known}]:
            return
        rest = [one for one in known if one[0] not in seen]
        first = [one for v in seen for one in known if one[0] == v]
        choices.append(
            [(key, [*first, *order]) for order in itertools.permutations(rest)]
        )
    for orders in itertools.product(*choices):
        yield list(_dependencies(dict(orders), reads))


def _dependencies(
    orders: dict[Any, list[tuple[Any, Call, int]]],
    reads: list[tuple[Call, int, Any, Any]],
) -> Iterator[_Dependency]:
    for key, order in orders.items():
        for (_, a, _), (_, b, place) in itertools.pairwise(order):
            if a is not b:
                yield _Dependency(a, b, "ww", key, arrives=place)
    for call, place, key, value in reads:
        order = orders.get(key, [])
        at = next((i for i, (v, _, _) in enumerate(order) if v == value), -1)
        if at >= 0 and order[at][1] is not call:
            yield _Dependency(order[at][1], call, "wr", key, arrives=place)
        if at + 1 < len(order) and order[at + 1][1] is not call:
            yield _Dependency(call, order[at + 1][1], "rw", key, leaves=place)


def _is_free_of(model: str, world: list[Call], edges: list[_Dependency]) -> bool:
    """Whether a history has none of the phenomena that a level proscribes."""
    plain = [e for e in edges if e.kind != "rw"]
    if any(_reaches(e.target, e.source, plain) for e in plain):
        return False
    singles = [e for e in edges if e.kind == "rw"]
    match model:
        case "cursor-stability":
            return not any(
                _reaches(
                    e.target,
                    e.source,
                    [o for o in plain if o.kind == "ww" and o.key == e.key],
                )
                for e in singles
            )
        case "monotonic-view":
            return not any(
                _returns_by(e, [], edges, dict.fromkeys(world, ())) for e in singles
            )
        case "monotonic-snapshot-read":
            return any(
                not any(_returns_by(e, order, edges, snapshots) for e in singles)
                for order in itertools.permutations(world)
                for snapshots in [_earliest_snapshots(order, edges)]
            )
        case "consistent-view" | "forward-consistent-view":
            return not any(_reaches(e.target, e.source, plain) for e in singles)
        case "update-serializable":
            if any(_reaches(e.target, e.source, plain) for e in singles):
                return False
            updates = {c for c in world if any(f != "r" for f, _, _ in c.micro_ops)}
            return not any(
                _reaches(
                    e.target,
                    e.source,
                    [o for o in edges if {o.source, o.target} <= updates | {call}],
                )
                for call in world
                for e in singles
                if {e.source, e.target} <= updates | {call}
            )
        case _:
            raise AssertionError(model)


def _reaches(start: Call, goal: Call, edges: list[_Dependency]) -> bool:
    reached = {start}
    while more := {e.target for e in edges if e.source in reached} - reached:
        reached |= more
    return goal in reached


def _earliest_snapshots(
    order: Sequence[Call], edges: list[_Dependency]
) -> dict[Call, tuple[int, ...]]:
    """Transaction -> how many had committed when each of its events took place.

    As early as can be: what was read had been committed, and time goes on.
    """
    snapshots = {}
    for call in order:
        now, mine = 0, []
        for place in range(len(call.micro_ops)):
            sources = [
                order.index(e.source) + 1
                for e in edges
                if e.kind == "wr" and e.target is call and e.arrives == place
            ]
            now = max([now, *sources])
            mine.append(now)
        snapshots[call] = tuple(mine)
    return snapshots


def _returns_by(
    single: _Dependency,
    order: Sequence[Call],
    edges: list[_Dependency],
    snapshots: Mapping[Call, Sequence[int]],
) -> bool:
    """Whether a rw edge closes a cycle in the unfolded graph of its source.

    With an order of commits, and snapshots, in the one that has start edges as well.
    """
    home, place = single.source, single.leaves
    now = snapshots[home]
    if order and now[place] > order.index(home):
        return True  # it saw its own commit, or later ones
    events = [
        e for e in edges if e.kind != "rw" and e.target is home and e.arrives <= place
    ]
    others = [e for e in edges if e.kind != "rw" and home not in {e.source, e.target}]
    ends = {e.source for e in events} | set(order[: now[place]] if order else ())
    return any(_reaches(single.target, end, others) for end in ends)
