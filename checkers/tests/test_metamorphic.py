"""What must change no verdict: other times and names, bystanders, objects beside.

Counting checkers, orders of reads, figures of a run, logs, isolation and models of
`linearizable` have such tests next to their definitions. Here are those of all other
checkers, and the changes that those lack; that none is forgotten is a test, too.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from checkers.tests import histories as objects
from checkers.tests import (
    test_kafka,
    test_orders_of_reads,
    test_promises_definitions,
    test_raft_definitions,
    test_run_figures,
    test_sequential,
    test_tallies_definitions,
    test_total_order,
)
from checkers.tests.counting_histories import calls, check, histories, names
from checkers.tests.histories import FEWER
from harness import registry
from harness.history import History, HistoryError, Op
from harness.verdict import Verdict, where_vacuous

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.verdict import CheckResult

promises = test_promises_definitions
tallies = test_tallies_definitions.ANY
reads = test_orders_of_reads.ANY


def services() -> st.SearchStrategy[History]:
    """Zab's broadcasts, right ones and such as somebody tampered with."""

    def history(seed: int, plant: Any) -> History:
        service = test_total_order.Service(seed)
        if plant is not None and len(service.sequence) > 4:
            plant(service)
        return numbered(service.ops())

    plants = (None, test_total_order.repeat, test_total_order.lead_twice)
    return st.builds(history, st.integers(0, 2**32), st.sampled_from(plants))


def numbered(ops: list[Op]) -> History:
    """The ops in this order."""
    copies = [
        Op(i, op.time, op.process, op.type, op.f, op.value, op.key, op.error, op.node)
        for i, op in enumerate(ops)
    ]
    for copy, op in zip(copies, ops, strict=True):
        copy.extra = op.extra
    return History(copies)


HISTORIES: Mapping[str, st.SearchStrategy[History]] = {
    "sequential": test_sequential.small_sessions().map(test_sequential.as_history),
    "fencing": objects.histories("fenced-lock", keys=2, steps=44),
    "one_leader": promises.told(promises.STATUSES, st.nothing()),
    "atomic_commit": promises.told(
        promises.CLIENTS | promises.ACCOUNTS, promises.OWN_EVENTS
    ).filter(promises.one_txn_each),
    "consensus": promises.told(promises.PROPOSERS, promises.PROTOCOL),
    "raft_invariants": test_raft_definitions.observations(),
    "total_order": services(),
    "kafka": test_kafka.any_log(),
    **tallies,
    **reads,
}

MOVED = {
    *("sequential", "fencing", "one_leader", "atomic_commit", "consensus"),
    *("raft_invariants", "total_order"),
}
"""Checkers moved in time and place here; the others are by `elsewhere`."""

OTHERS = {
    *(*tallies, *reads, "kafka", "stats", "availability", "unhandled-exceptions"),
    *("linearizable", "list-append", "rw-register"),
}

READS_NO_HISTORY = {"crashes", "log-file-pattern", "messages"}
OPTIONS: Mapping[str, dict[str, str]] = {"long-fork": {"group_size": "3"}}


def judged(name: str, history: History, **options: str) -> CheckResult:
    """What the checker of that name says."""
    return check(name, history, **{**OPTIONS.get(name, {}), **options})


def test_no_checker_is_forgotten() -> None:
    installed = set(registry.plugins("checker"))
    assert installed == MOVED | OTHERS | READS_NO_HISTORY
    assert test_run_figures.test_neither_clocks_nor_names_nor_bystanders_matter
    assert installed - RENAMED.keys() == NAMELESS
    assert installed - FITTING.keys() == READ_NOTHING


def deep(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with all that is no list or map in it changed; keys of maps stay."""
    if isinstance(value, dict):
        return {key: deep(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [deep(part, change) for part in value]
    return change(value)


def changed(history: History, change: Callable[[Op], dict[str, Any]]) -> History:
    """A copy with some fields of each op replaced."""
    ops = numbered(list(history)).ops
    for op in ops:
        for name, value in change(op).items():
            setattr(op, name, value)
    return History(ops)


# Other times, processes and nodes, and a nemesis at work


def place(name: Any) -> Any:
    """Another name of a node, in the same order among such names."""
    is_node = isinstance(name, str) and name[:1] == "n" and name[1:].isdigit()
    return f"node-{name[1:]}" if is_node else name


def moved(history: History) -> History:
    """The same an hour later, by other processes at other nodes, with bystanders."""

    def move(op: Op) -> dict[str, Any]:
        whose = op.process
        return {
            "time": op.time + 3600 * 10**9,
            "process": 1000 - whose if isinstance(whose, int) else place(whose),
            "node": place(op.node),
            "value": deep(op.value, place),
        }

    bystander = Op(0, 0, "nemesis", "info", "kill", ["someone"])
    ops = changed(history, move).ops
    return numbered([each for op in ops for each in (bystander, op)])


@pytest.mark.parametrize("name", sorted(MOVED))
@FEWER
@given(data=st.data())
def test_neither_clocks_nor_names_nor_bystanders_matter(
    name: str, data: st.DataObject
) -> None:
    history = data.draw(HISTORIES[name])
    before, after = judged(name, history), judged(name, moved(history))
    assert after.verdict is before.verdict
    assert names(after) == names(before)


# Other values


def times_three(value: Any) -> Any:
    return 3 * value if type(value) is int else value


def as_text(value: Any) -> Any:
    return f"v{value}" if type(value) is int else value


def spelled(value: Any) -> Any:
    """Another name for what has one of a single letter."""
    return f"the {value}" if isinstance(value, str) and len(value) == 1 else value


def whole(change: Callable[[Any], Any]) -> Callable[[Op], dict[str, Any]]:
    """Change all values alike, and keys where they are such values, too."""
    return lambda op: {"value": deep(op.value, change)}


def of_kafka(op: Op) -> dict[str, Any]:
    """Other messages; offsets are what they are."""
    if op.f != "txn":
        return {}
    out: list[Any] = []
    for f, *rest in op.value:
        if f == "send":
            key, sent = rest
            pair = isinstance(sent, list)
            out.append([f, key, [sent[0], f"m{sent[1]}"] if pair else f"m{sent}"])
        else:
            out.append([f, *({k: _pairs(v) for k, v in m.items()} for m in rest)])
    return {"value": out}


def _pairs(pairs: list[Any]) -> list[Any]:
    return [[offset, f"m{message}"] for offset, message in pairs]


def of_zab(op: Op) -> dict[str, Any]:
    """Other messages; places are what they are."""
    value = op.value
    if op.f == "broadcast":
        return {"value": f"m{value}"}
    if isinstance(value, dict) and "messages" in value:
        items = [[e, c, f"m{m}"] for e, c, m in value["messages"]]
        return {"value": {**value, "messages": items}}
    if isinstance(value, dict) and "message" in value:
        return {"value": {**value, "message": f"m{value['message']}"}}
    return {}


def of_raft(op: Op) -> dict[str, Any]:
    """Terms twice as high, other commands."""
    told = {k: 2 * v if k.endswith("term") else v for k, v in op.value.items()}
    if "entries" in told:
        told["entries"] = [[2 * t, deep(c, spelled)] for t, c in told["entries"]]
    return {"value": told}


def of_causal(op: Op) -> dict[str, Any]:
    """Other positions: texts."""
    extra = {k: v if v == "init" else f"p{v}" for k, v in (op.extra or {}).items()}
    return {"extra": extra}


def wrapped(op: Op) -> dict[str, Any]:
    """Each value in a map of its own."""
    return {"value": {"was": [op.value]}}


def ids(op: Op) -> dict[str, Any]:
    return {"value": [op.value, "id"] if op.type == "ok" else None}


def with_key(op: Op) -> dict[str, Any]:
    return {"value": deep(op.value, spelled), "key": spelled(op.key)}


RENAMED: Mapping[str, Callable[[Op], dict[str, Any]]] = {
    "counter": whole(times_three),
    "pn-counter": whole(lambda value: value if value is None else -value),
    "bank": whole(times_three),
    "monotonic": whole(times_three),
    "unique-ids": ids,
    "echo": wrapped,
    "set": whole(as_text),
    "set-full": whole(as_text),
    "queue": whole(as_text),
    "total-queue": whole(as_text),
    "long-fork": whole(as_text),
    "adya-g2": whole(as_text),
    "causal-reverse": whole(as_text),
    "causal": of_causal,
    "sequential": whole(as_text),
    "fencing": whole(times_three),
    "one_leader": whole(times_three),
    "atomic_commit": with_key,
    "consensus": with_key,
    "raft_invariants": of_raft,
    "total_order": of_zab,
    "kafka": of_kafka,
}
NAMELESS = {
    *("stats", "availability", "unhandled-exceptions", *READS_NO_HISTORY),
    *("linearizable", "list-append", "rw-register"),
}
"""They look at no values, or it is tested elsewhere."""


@pytest.mark.parametrize("name", sorted(RENAMED))
@FEWER
@given(data=st.data())
def test_other_values_in_the_same_places_change_no_verdict(
    name: str, data: st.DataObject
) -> None:
    history = data.draw(HISTORIES[name])
    if name == "atomic_commit":
        history = changed(history, lambda op: {"value": _ids_spelled(op.value)})
    other = {"bank": {"total_amount": "6"}}.get(name, {})
    own = {"bank": {"total_amount": "2"}}.get(name, {})
    before = judged(name, history, **own)
    after = judged(name, changed(history, RENAMED[name]), **other)
    assert after.verdict is before.verdict
    assert names(after) == names(before)


def _ids_spelled(value: Any) -> Any:
    """Accounts name transactions by keys of maps, which `deep` leaves alone."""
    parts = ("decisions", "votes", "coordinated")
    if not isinstance(value, dict) or not any(part in value for part in parts):
        return value
    return {
        part: {spelled(name): word for name, word in words.items()}
        for part, words in value.items()
    }


# One more call, last, that fits and changes nothing

Fit = tuple[str, Any, Any]
"""Function, argument and result."""


def ok_values(history: History, f: str) -> list[Any]:
    """What ok calls of `f` gave."""
    return [op.value for op in history if op.type == "ok" and op.f == f]


def whole_set(history: History) -> Fit:
    """A read of all that was read last, and of all that was added for sure.

    What an earlier read found and the last did not, since they overlapped, is there.
    """
    reads = ok_values(history, "read")
    tried = {op.value for op in history if op.f == "add"}
    found = {element for read in reads for element in read if element in tried}
    last = reads[-1] if reads else []
    return "read", None, sorted({*last, *found, *ok_values(history, "add")})


def read_again(history: History) -> Fit | None:
    """What some read gave, once more."""
    seen = ok_values(history, "read")
    return ("read", None, seen[-1]) if seen else None


def sum_of(f: str) -> Callable[[History], Fit]:
    return lambda history: (f, None, sum(ok_values(history, "add")))


def largest_group(history: History) -> Fit | None:
    """What the read gave that saw most of its group."""
    groups = [v for v in ok_values(history, "txn") if len(v) == 3]
    if not groups:
        return None
    most = max(groups, key=lambda group: sum(v is not None for _, _, v in group))
    return "txn", [["r", key, None] for _, key, _ in most], most


def same_account(history: History) -> Fit | None:
    seen = ok_values(history, "decisions")
    return ("decisions", None, seen[-1]) if seen else None


FITTING: Mapping[str, Callable[[History], Fit | None]] = {
    "counter": sum_of("read"),
    "pn-counter": sum_of("final-read"),
    "bank": read_again,
    "monotonic": read_again,
    "echo": lambda _: ("echo", [1], [1]),
    "set": whole_set,
    "set-full": whole_set,
    "queue": lambda _: ("dequeue", None, None),
    "total-queue": lambda _: ("dequeue", None, None),
    "long-fork": largest_group,
    "causal-reverse": lambda _: ("read", None, []),
    "sequential": lambda _: ("read", None, None),
    "one_leader": lambda _: ("status", None, {"role": "follower", "term": 9}),
    "atomic_commit": same_account,
    "consensus": lambda _: ("learn", None, None),
    "total_order": lambda _: ("delivered", [0, 0], {"messages": [], "more": True}),
    "kafka": lambda _: ("poll", [["poll"]], [["poll", {}]]),
}
MOSTLY_VALID = {
    "bank": histories(
        calls("read", st.none(), st.integers(0, 2).map(lambda a: {"a": a, "b": 2 - a}))
    ),
}
READ_NOTHING = {
    *("adya-g2", "unique-ids", "causal", "fencing", "raft_invariants"),
    *("stats", "availability", "unhandled-exceptions", *READS_NO_HISTORY),
    *("linearizable", "list-append", "rw-register"),
}
"""They have no calls that only read, judge no answers, or it is tested elsewhere."""


@pytest.mark.parametrize("name", sorted(FITTING))
@FEWER
@given(data=st.data())
def test_a_call_that_fits_and_changes_nothing_keeps_a_history_valid(
    name: str, data: st.DataObject
) -> None:
    history = data.draw(MOSTLY_VALID.get(name, HISTORIES[name]))
    options = {"bank": {"total_amount": "2"}}.get(name, {})
    more = FITTING[name](history)
    before = judged(name, history, **options)
    if more is None or before.verdict is Verdict.INVALID:
        return
    if name in {"atomic_commit", "kafka"} and before.verdict is Verdict.UNKNOWN:
        return  # who speaks, or looks, for the first time may tell of anything
    event(str(before.verdict))
    f, asked, got = more
    by = [op for op in history if op.f == f and op.type == "ok"]
    node = by[-1].node if by else None
    key = "x" if name == "sequential" else None
    ends = [
        Op(0, 10**9, 999, "invoke", f, asked, key, node=node),
        Op(0, 10**9, 999, "ok", f, got, key, node=node),
    ]
    after = judged(name, numbered([*history, *ends]), **options)
    assert after.verdict <= before.verdict


# Objects beside one another


def apart(name: str, history: History, key: Any) -> History:
    """The history on keys and by processes of its own."""
    if name == "kafka":

        def other(op: Op) -> dict[str, Any]:
            return {"value": deep_keys(op.value, str(key))}

        return changed(history, other)
    return changed(
        history, lambda op: {"key": key if op.key is None else f"{key} {op.key}"}
    )


def deep_keys(value: Any, key: str) -> Any:
    """Kafka's keys, in assignments, sends and polls, with a name before them."""
    if isinstance(value, dict):
        return {f"{key} {name}": pairs for name, pairs in value.items()}
    if isinstance(value, list):
        return [deep_keys(part, key) for part in value]
    return f"{key} {value}" if value in ("x", "y") else value


def writes_once(history: History) -> History:
    """The same, with a first write of key 0, and without a second one of any.

    An excerpt without a write, and keys written twice, prove less.
    """
    first = [["w", 0, 1]]
    kept = [Op(0, 0, 900, "invoke", "txn", first), Op(0, 0, 900, "ok", "txn", first)]
    written = {0}
    dropped = set()
    for op, done in history.calls():
        f, key, _ = op.value[0]
        if f == "w" and key in written:
            dropped |= {op.index, -1 if done is None else done.index}
        elif f == "w":
            written.add(key)
    return numbered([*kept, *(op for op in history if op.index not in dropped)])


APART = ["causal", "causal-reverse", "consensus", "fencing", "kafka", "long-fork",
         "monotonic"]  # fmt: skip


@pytest.mark.parametrize("name", APART)
@FEWER
@given(data=st.data())
def test_objects_are_as_right_together_as_each_by_itself(
    name: str, data: st.DataObject
) -> None:
    strategy = HISTORIES[name]
    if name == "consensus":  # acceptors are counted together
        strategy = promises.told(promises.PROPOSERS, st.nothing())
    if name == "long-fork":
        strategy = strategy.map(writes_once)
    one, other = data.draw(strategy), data.draw(strategy)
    if name == "consensus":  # where nobody proposes on record, anything may be
        assume(all("propose" in {op.f for op in each} for each in (one, other)))
    results = [judged(name, each) for each in (one, other)]
    if name == "kafka":  # where nobody looks, nothing is missed
        assume(not any("unseen" in result.stats["also"] for result in results))
        assume(not any(result.stats["not_looked_for"] for result in results))
    found = Counter(a.name for result in results for a in result.anomalies)
    assume(all(number < 8 for number in found.values()))
    ops = list(apart(name, one, "A"))
    for op in apart(name, other, "B"):
        assert isinstance(op.process, int)
        op.process += 500
        ops.append(op)
    together = judged(name, numbered(ops))
    assert Counter(a.name for a in together.anomalies) == found
    event(str(together.verdict))


# Locks with fencing tokens, as objects with a model


@FEWER
@given(
    HISTORIES["fencing"],
    st.sampled_from([moved, lambda h: changed(h, RENAMED["fencing"])]),
)
def test_other_tokens_times_and_clients_change_no_verdict_on_a_fenced_lock(
    history: History, change: Callable[[History], History]
) -> None:
    before = check("linearizable", history, model="fenced-lock")
    after = check("linearizable", change(history), model="fenced-lock")
    assert after.verdict is before.verdict


@FEWER
@given(HISTORIES["fencing"])
def test_a_fenced_lock_is_as_right_with_others_as_by_itself(history: History) -> None:
    parts = [
        numbered([op for op in history if op.key == key])
        for key in {op.key for op in history}
    ]

    def judged_alone(some: History) -> Verdict:
        result = check("linearizable", some, model="fenced-lock")
        return where_vacuous(result, Verdict.VALID).verdict

    verdicts = [judged_alone(part) for part in parts]
    whole = judged_alone(history)
    assert whole is max(verdicts, default=Verdict.VALID)
    event(str(whole))


def test_a_change_that_matters_is_noticed() -> None:
    """That the comparisons above can fail: kinds of values are no names."""
    history = test_sequential.sessions("wx1", "rx1")
    assert judged("sequential", history).verdict is Verdict.VALID
    lone = changed(history, lambda op: {"value": "1" if op.f == "read" else op.value})
    with pytest.raises(HistoryError):
        judged("sequential", lone)
