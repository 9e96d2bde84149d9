"""What consistency models demand of registers, tried out on everything that may be.

Values may be written more than once, nil and the initial value may be written as well,
and true is not 1. So a read is of any write of what it shows, and each oracle tries all
of these, beside all orders. They share no code with the checkers.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.history import History

Name = tuple[bool, Any]
"""A value or a key by which it differs from those that JSON tells from it."""


def name(value: Any) -> Name:
    return type(value) is bool, value


@dataclass(frozen=True, eq=False)
class Call:
    """One transaction: what it asked and, if it returned ok, what came of it."""

    index: int
    process: int
    invoked: int
    returned: int | None
    outcome: str
    steps: tuple[tuple[str, Name, Name], ...]

    @property
    def left(self) -> dict[Name, Name]:
        """Key -> the value that it left."""
        return {key: value for f, key, value in self.steps if f == "w"}


@dataclass(frozen=True)
class Case:
    """A history, and what keys begin with.

    Attributes:
        initial: The values that unwritten keys may show.
        own_writes_show: Whether transactions read what they wrote themselves.
    """

    calls: tuple[Call, ...]
    initial: frozenset[Name]
    own_writes_show: bool = True

    def worlds(self) -> Iterator[tuple[Call, ...]]:
        """All sets of transactions that may have happened."""
        certain = [call for call in self.calls if call.outcome == "ok"]
        doubtful = [call for call in self.calls if call.outcome == "info"]
        for size in range(len(doubtful) + 1):
            for chosen in itertools.combinations(doubtful, size):
                yield tuple(sorted([*certain, *chosen], key=lambda call: call.index))


def case(
    history: History, initial: Any = None, *, own_writes_show: bool = True
) -> Case:
    found = []
    for i, (invoke, end) in enumerate(history.calls()):
        outcome = "info" if end is None else str(end.type)
        ok = outcome == "ok"
        value = end.value if end is not None and ok else invoke.value
        steps = tuple((f, name(key), name(val)) for f, key, val in value)
        returned = end.index if end is not None and ok else None
        found.append(
            Call(i, int(invoke.process), invoke.index, returned, outcome, steps)
        )
    return Case(tuple(found), frozenset({name(None), name(initial)}), own_writes_show)


# Orders


def no_order(_a: Call, _b: Call) -> bool:
    return False


def same_session(a: Call, b: Call) -> bool:
    return a.process == b.process and a.index < b.index and a.outcome == "ok"


def real_time(a: Call, b: Call) -> bool:
    """Whether the one had returned before the other was invoked, or its process."""
    return same_session(a, b) or (a.returned is not None and a.returned < b.invoked)


# Executions


def run(case: Case, call: Call, state: Mapping[Name, Name]) -> dict[Name, Name] | None:
    """The state after the transaction, or None if it can't have read what it did."""
    after = dict(state)
    for f, key, value in call.steps:
        if f == "w":
            after[key] = value
        elif call.outcome == "ok":
            seen = after if case.own_writes_show else state
            fits = seen[key] == value if key in seen else value in case.initial
            if not fits:
                return None
    return after


def is_serializable(case: Case, before: Callable[[Call, Call], bool]) -> bool:
    """Whether one transaction after the other gives what was read."""

    def can_go_on(left: frozenset[Call], state: dict[Name, Name]) -> bool:
        if not left:
            return True
        for call in left:
            others = left - {call}
            if not any(before(other, call) for other in others):
                after = run(case, call, state)
                if after is not None and can_go_on(others, after):
                    return True
        return False

    return any(can_go_on(frozenset(world), {}) for world in case.worlds())


def is_snapshot_isolated(case: Case, before: Callable[[Call, Call], bool]) -> bool:
    """Whether snapshots and commits in some order give what was read.

    A transaction commits only if nobody committed to what it writes since it began.
    """

    def can_go_on(
        waiting: frozenset[Call],
        running: dict[Call, frozenset[Name]],
        state: dict[Name, Name],
    ) -> bool:
        if not waiting and not running:
            return True
        for call in waiting:
            held_up = any(before(other, call) for other in (waiting | set(running)))
            if not held_up and run(case, call, state) is not None:
                started = {**running, call: frozenset[Name]()}
                if can_go_on(waiting - {call}, started, state):
                    return True
        for call, lost in running.items():
            if call.left.keys() & lost:
                continue
            rest = {
                other: known | call.left.keys()
                for other, known in running.items()
                if other is not call
            }
            if can_go_on(waiting, rest, {**state, **call.left}):
                return True
        return False

    return any(can_go_on(frozenset(world), {}, {}) for world in case.worlds())


# Sources of reads


@dataclass(frozen=True)
class Read:
    """A read of what the transaction itself had not left there.

    Attributes:
        late: Whether it had written the key before.
    """

    call: Call
    place: int
    key: Name
    value: Name
    late: bool


Source = Call | str
"""Who wrote what a read saw; INITIAL, or NOBODY if that orders nothing."""

INITIAL, NOBODY = "initial", "nobody"


def reads_of(case: Case, call: Call) -> list[Read]:
    found: list[Read] = []
    if call.outcome != "ok":
        return found
    mine: dict[Name, list[Name]] = defaultdict(list)
    for place, (f, key, value) in enumerate(call.steps):
        if f == "w":
            mine[key].append(value)
        elif not case.own_writes_show or not mine[key] or mine[key][-1] != value:
            found.append(Read(call, place, key, value, late=bool(mine[key])))
    return found


def sourcings(
    case: Case, world: Sequence[Call], *, fouls: bool
) -> Iterator[dict[Read, Source]]:
    """All choices of sources.

    Args:
        case: The history.
        world: The transactions that happened.
        fouls: Whether reads may be of what failed, was replaced by its own writer, was
            written by the reader later on, or by nobody.
    """
    reads = [read for call in world for read in reads_of(case, call)]
    choices: list[list[Source]] = []
    for read in reads:
        about = ("w", read.key, read.value)
        others = [call for call in world if call is not read.call]
        sources: list[Source] = [INITIAL] if read.value in case.initial else []
        sources += [
            call
            for call in others
            if call.left.get(read.key) == read.value or (fouls and about in call.steps)
        ]
        failed = any(c.outcome == "fail" and about in c.steps for c in case.calls)
        is_own = about in read.call.steps
        if read.late and about in read.call.steps[: read.place]:
            sources = [NOBODY]  # it is its own, and older
        elif fouls and (is_own or failed or not sources):
            sources = [NOBODY]
        choices.append(sources)
    for chosen in itertools.product(*choices):
        yield dict(zip(reads, chosen, strict=True))


def is_internal(case: Case, call: Call) -> bool:
    """Reads agree with the transaction's own reads and writes before them."""
    if call.outcome != "ok":
        return True
    read: dict[Name, Name] = {}
    written: dict[Name, Name] = {}
    for f, key, value in call.steps:
        if f == "w":
            written[key] = value
            continue
        is_own = case.own_writes_show and key in written
        known = written[key] if is_own else read.setdefault(key, value)
        may_differ = not is_own and {known, value} <= case.initial
        if known != value and not may_differ:
            return False
    return True


def reads_no_garbage(case: Case) -> bool:
    """Read uncommitted, as far as registers show it."""
    return all(
        read.value in case.initial
        or any(("w", read.key, read.value) in call.steps for call in case.calls)
        for call in case.calls
        for read in reads_of(case, call)
    )


# Axioms of Biswas and Enea


def satisfies_axiom(case: Case, axiom: str) -> bool:
    """Whether the reads are of such sources that some commit order has the axiom."""
    return any(
        _some_commit_order(world, sources, axiom)
        for world in case.worlds()
        if axiom == "read-committed" or all(is_internal(case, call) for call in world)
        for sources in sourcings(case, world, fouls=False)
    )


def _some_commit_order(
    world: Sequence[Call], sources: dict[Read, Source], axiom: str
) -> bool:
    if axiom != "read-committed":
        once: dict[tuple[Call, Name], Source] = {}
        for read, source in sources.items():
            if once.setdefault((read.call, read.key), source) != source:
                return False
    sessions = axiom != "read-committed"
    direct = {(a, b) for a in world for b in world if sessions and same_session(a, b)}
    direct |= {(s, r.call) for r, s in sources.items() if isinstance(s, Call)}
    reach = _closure(world, direct)

    def sees(seen: Call, reader: Read) -> bool:
        if axiom == "read-committed":
            return any(
                source is seen and other.call is reader.call
                for other, source in sources.items()
                if other.place < reader.place
            )
        pairs = direct if axiom == "read-atomic" else reach
        return (seen, reader.call) in pairs

    demands = set(direct)
    for read, source in sources.items():
        for other in world:
            if (
                other is not source
                and other is not read.call
                and source != NOBODY
                and read.key in other.left
                and sees(other, read)
            ):
                if not isinstance(source, Call):
                    return False
                demands.add((other, source))
    return not any((call, call) in _closure(world, demands) for call in world)


def _closure(
    world: Sequence[Call], pairs: set[tuple[Call, Call]]
) -> set[tuple[Call, Call]]:
    reach = set(pairs)
    for middle, a, b in itertools.product(world, repeat=3):
        if (a, middle) in reach and (middle, b) in reach:
            reach.add((a, b))
    return reach


# Abstract executions of Cerone, Bernardi and Gotsman


@dataclass(frozen=True)
class Axioms:
    """Which of the axioms a model has, beside those of read atomic."""

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


def has_abstract_execution(case: Case, axioms: Axioms) -> bool:
    """Whether visibility and arbitration can be chosen so that the axioms hold."""
    return any(
        _some_arbitration(case, world, axioms)
        for world in case.worlds()
        if all(is_internal(case, call) for call in world)
    )


def _some_arbitration(case: Case, world: Sequence[Call], axioms: Axioms) -> bool:
    for order in itertools.permutations(world):
        pairs = list(itertools.combinations(range(len(order)), 2))
        if any(same_session(order[b], order[a]) for a, b in pairs):
            continue
        must = {(a, b) for a, b in pairs if same_session(order[a], order[b])}
        if axioms.no_conflict:
            must |= {(a, b) for a, b in pairs if order[a].left.keys() & order[b].left}
        free = [pair for pair in pairs if pair not in must]
        for chosen in itertools.product((False, True), repeat=len(free)):
            visible = must | {p for p, yes in zip(free, chosen, strict=True) if yes}
            if _holds(case, visible, order, axioms):
                return True
    return False


def _holds(
    case: Case, visible: set[tuple[int, int]], order: Sequence[Call], axioms: Axioms
) -> bool:
    for a, b, c in itertools.combinations(range(len(order)), 3):
        follows = axioms.prefix or (axioms.transitive and (a, b) in visible)
        if follows and (b, c) in visible and (a, c) not in visible:
            return False
    for reader, call in enumerate(order):
        for read in reads_of(case, call):
            latest = [
                order[w].left[read.key]
                for w in range(reader)
                if (w, reader) in visible and read.key in order[w].left
            ]
            fits = latest[-1] == read.value if latest else read.value in case.initial
            if not fits:
                return False
    return True


# The guarantees of Terry et al.


def keeps_guarantee(case: Case, guarantee: str) -> bool:
    """Whether versions of each key can be ordered as the guarantee demands."""
    return any(
        _can_be_ordered(case, sources, guarantee)
        for sources in sourcings(
            case, [c for c in case.calls if c.outcome != "fail"], fouls=True
        )
    )


def _can_be_ordered(case: Case, sources: dict[Read, Source], guarantee: str) -> bool:
    outer: dict[Call, list[tuple[Name, Source]]] = defaultdict(list)
    for read, source in sources.items():
        if not read.late:
            outer[read.call].append((read.key, source))
    happened = [c for c in case.calls if c.outcome != "fail"]
    demands: dict[Name, set[tuple[Any, Any]]] = defaultdict(set)

    def past(call: Call) -> list[Call]:
        return [c for c in happened if same_session(c, call)]

    def versions(calls: Sequence[Call], key: Name, *, by_reads: bool) -> Iterator[Any]:
        for c in calls:
            if by_reads:
                yield from (s for k, s in outer[c] if k == key and s != NOBODY)
            elif key in c.left:
                yield c

    by_reads = guarantee in {"monotonic-reads", "writes-follow-reads"}
    for call in happened:
        for at, (key, source) in enumerate(outer[call]):
            if guarantee in {"read-your-writes", "monotonic-reads"}:
                before = past(call)
            else:
                others = {
                    s
                    for _, s in outer[call][:at]
                    if isinstance(s, Call) and s is not call
                }
                before = [c for other in others for c in past(other)]
            if source != NOBODY:
                for low in versions(before, key, by_reads=by_reads):
                    demands[key].add((low, source))
        for key in call.left:
            if guarantee == "monotonic-writes":
                before = past(call)
            elif guarantee == "writes-follow-reads":
                before = [*past(call), call]
            else:
                continue
            for low in versions(before, key, by_reads=by_reads):
                demands[key].add((low, call))
    for pairs in demands.values():
        apart = {(a, b) for a, b in pairs if a is not b and a != b}
        if any(b == INITIAL for _, b in apart):
            return False
        pairs = {(a, b) for a, b in apart if a != INITIAL}
        if any((c, c) in _closure(happened, pairs) for c in happened):
            return False
    return True


# Adya's levels


@dataclass(frozen=True)
class Dependency:
    """An edge of Adya's graphs; events are places in a transaction."""

    source: Call
    target: Call
    kind: str
    key: Name
    leaves: int = -1
    arrives: int = -1


ADYA = (
    "cursor-stability",
    "monotonic-view",
    "monotonic-snapshot-read",
    "consistent-view",
    "repeatable-read",
    "update-serializable",
)


def satisfies_adya(case: Case, model: str) -> bool:
    """Whether some sources and version orders have none of the level's phenomena.

    Read committed is that of Biswas and Enea as well: reads don't go back.
    """
    return any(
        _some_commit_order(world, sources, "read-committed")
        and any(
            _is_free_of(model, world, list(_dependencies(dict(orders), sources)))
            for orders in itertools.product(
                *(
                    [(key, order) for order in itertools.permutations(writers)]
                    for key, writers in _writers(world).items()
                )
            )
        )
        for world in case.worlds()
        for sources in sourcings(case, world, fouls=False)
    )


def _writers(world: Sequence[Call]) -> dict[Name, list[Call]]:
    writers: dict[Name, list[Call]] = defaultdict(list)
    for call in world:
        for key in call.left:
            writers[key].append(call)
    return writers


def _dependencies(
    orders: dict[Name, Sequence[Call]], sources: dict[Read, Source]
) -> Iterator[Dependency]:
    for key, order in orders.items():
        for a, b in itertools.pairwise(order):
            place = max(i for i, s in enumerate(b.steps) if s[:2] == ("w", key))
            yield Dependency(a, b, "ww", key, arrives=place)
    for read, source in sources.items():
        order = orders.get(read.key, ())
        if source == NOBODY:
            continue
        at = order.index(source) if isinstance(source, Call) else -1
        if isinstance(source, Call):
            yield Dependency(source, read.call, "wr", read.key, arrives=read.place)
        if at + 1 < len(order) and order[at + 1] is not read.call:
            yield Dependency(
                read.call, order[at + 1], "rw", read.key, leaves=read.place
            )


def _is_free_of(model: str, world: Sequence[Call], edges: Sequence[Dependency]) -> bool:
    plain = [e for e in edges if e.kind != "rw"]
    singles = [e for e in edges if e.kind == "rw"]
    if any(_reaches(e.target, e.source, plain) for e in plain):
        return False
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
                _returns_by(e, (), edges, dict.fromkeys(world, ())) for e in singles
            )
        case "monotonic-snapshot-read":
            return any(
                not any(_returns_by(e, order, edges, snapshots) for e in singles)
                for order in itertools.permutations(world)
                for snapshots in [_earliest_snapshots(order, edges)]
            )
        case "consistent-view":
            return not any(_reaches(e.target, e.source, plain) for e in singles)
        case "repeatable-read":
            return not any(_reaches(e.target, e.source, edges) for e in singles)
        case "update-serializable":
            if any(_reaches(e.target, e.source, plain) for e in singles):
                return False
            updates = {c for c in world if c.left}
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


def _reaches(start: Call, goal: Call, edges: Sequence[Dependency]) -> bool:
    reached = {start}
    while more := {e.target for e in edges if e.source in reached} - reached:
        reached |= more
    return goal in reached


def _earliest_snapshots(
    order: Sequence[Call], edges: Sequence[Dependency]
) -> dict[Call, Sequence[int]]:
    """Transaction -> how many had committed when each of its events took place."""
    snapshots: dict[Call, Sequence[int]] = {}
    for call in order:
        now, mine = 0, []
        for place in range(len(call.steps)):
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
    single: Dependency,
    order: Sequence[Call],
    edges: Sequence[Dependency],
    snapshots: Mapping[Call, Sequence[int]],
) -> bool:
    """Whether a rw edge closes a cycle in the unfolded graph of its source."""
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


# All of them


def satisfies(case: Case, model: str) -> bool:
    """Whether a history satisfies a model, by the definition of the model."""
    orders = {"strong-session": same_session, "strict": real_time, "strong": real_time}
    if model in AXIOMS and model not in {"read-atomic", "causal"}:
        return has_abstract_execution(case, AXIOMS[model])
    if model in ADYA:
        return satisfies_adya(case, model)
    if model.endswith(("serializable", "snapshot-isolation")):
        before = next(
            (order for word, order in orders.items() if model.startswith(word)),
            no_order,
        )
        check = is_serializable if "serializable" in model else is_snapshot_isolated
        return check(case, before)
    if model == "PRAM":
        return all(
            keeps_guarantee(case, g)
            for g in ("read-your-writes", "monotonic-reads", "monotonic-writes")
        )
    if model == "read-uncommitted":
        return reads_no_garbage(case)
    if model in {"read-committed", "read-atomic", "causal"}:
        return satisfies_axiom(case, model)
    return keeps_guarantee(case, model)


MODELS = (
    "read-uncommitted",
    "read-committed",
    "read-atomic",
    "causal",
    "prefix",
    "parallel-snapshot-isolation",
    "snapshot-isolation",
    "strong-session-snapshot-isolation",
    "strong-snapshot-isolation",
    "serializable",
    "strong-session-serializable",
    "strict-serializable",
    "read-your-writes",
    "monotonic-reads",
    "monotonic-writes",
    "writes-follow-reads",
    *ADYA,
)
"""Models that `satisfies` knows, those left out that are several together."""
