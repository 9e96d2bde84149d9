"""Whatever convicts a prefix convicts the whole: what checkers say is final, is.

A run is judged while it lasts, by prefixes of its history (`harness.run.monitor`). So
every checker that says which of its anomalies are final is given histories, right and
wrong, one event longer each time. Once it convicts, it has to go on doing so.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from checkers.linearizability.calls import partition
from checkers.linearizability.models import MODELS
from checkers.linearizability.oracle import linearizable
from checkers.tests import isolation_histories
from checkers.tests import test_kafka as kafka
from checkers.tests import test_orders_of_reads as orders
from checkers.tests import test_promises_definitions as promises
from checkers.tests import test_raft_definitions as raft
from checkers.tests import test_sequential as sequential
from checkers.tests import test_tallies_definitions as tallies
from checkers.tests import test_total_order as total_order
from checkers.tests.histories import EXAMPLES, FEWER, MANY, histories
from checkers.tests.test_isolation_definitions import oracle
from harness import registry
from harness.history import History, Op
from harness.verdict import (
    Incremental,
    Limits,
    Verdict,
    convicting,
    final_on_prefix,
    judge,
    presumed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness.verdict import Checker

    Answers = Callable[[History, Op], Iterable[Any]]

NO_LIMITS = Limits()
"""A machine that is busy must not end a search: the verdict would be unknown."""


def checker_of(name: str, options: dict[str, str]) -> Checker:
    checker: Checker = registry.find("checker", name).factory(options)
    return checker


def prefixes(whole: History) -> Iterator[History]:
    """The history up to each completion, and all of it."""
    for length in range(1, len(whole)):
        if whole[length - 1].type != "invoke":
            yield History(whole.ops[:length])
    yield whole


def first_conviction(checker: Checker, growing: Iterable[History]) -> str:
    """The anomaly that convicts the first of these; "" if none is convicted.

    Each is a prefix of the next, so all that follow have to be invalid.
    """
    convicted, by = "", ""
    for history in growing:
        result = judge(checker, history, NO_LIMITS)
        if convicted:
            told = (
                f"{by}, in the end {result.verdict} ({result.reason})\n{show(history)}"
            )
            assert result.verdict is Verdict.INVALID, told
        elif convicted := next(convicting(checker, result), ""):
            by = f"{convicted} in the first {len(history)} events"
    return convicted


def show(history: History) -> str:
    return "\n".join(
        f"{op.index} {op.process} {op.type} {op.f} {op.value!r} {op.key!r}"
        for op in history
    )


def each_key_is_written_once(history: History) -> bool:
    writes = [op.value[0][1] for op, _ in history.calls() if op.value[0][0] == "w"]
    return len(writes) == len(set(writes))


def tokens_are_told_first(history: History) -> bool:
    """Whether no token is used before somebody was told that it was granted.

    The model of locks leaves open acquires out, as nobody knows their tokens.
    """
    told: set[Any] = set()
    for op in history:
        if op.f == "acquire" and op.type == "ok":
            told.add((op.key, op.value))
        elif op.type == "invoke" and op.f != "acquire":
            told_first = (op.key, op.value) in told
            if not told_first:
                return False
    return True


LISTS = isolation_histories.histories(lists=True, transactions=7)
REGISTERS = isolation_histories.histories(lists=False, transactions=7)
SHUFFLED = isolation_histories.shuffled(transactions=7)

ISOLATED = (
    "strict-serializable",
    "strong-session-serializable",
    "serializable",
    "snapshot-isolation",
    "parallel-snapshot-isolation",
    "repeatable-read",
    "causal",
    "read-atomic",
    "read-committed",
    "read-uncommitted",
)

Case = tuple[str, dict[str, str], st.SearchStrategy[History]]

CASES: dict[str, Case] = {
    **{
        f"linearizable {kind}": ("linearizable", {"model": model}, histories(kind))
        for kind, model in {
            "register": "register",
            "unique": "register",
            "cas-register": "cas-register",
            "unique-cas": "cas-register",
            "kv": "kv",
            "mutex": "mutex",
            "multi-register": "multi-register",
            "fifo-queue": "fifo-queue",
            "unordered-queue": "unordered-queue",
            "priority-queue": "priority-queue",
            "stack": "stack",
            "set": "set",
            "gset": "gset",
            "counter": "counter",
        }.items()
    },
    "linearizable fenced-lock": (
        "linearizable",
        {"model": "fenced-lock"},
        histories("fenced-lock").filter(tokens_are_told_first),
    ),
    **{
        f"list-append {model}": ("list-append", {"consistency": model}, LISTS)
        for model in ISOLATED
    },
    **{
        f"rw-register {model}": ("rw-register", {"consistency": model}, strategy)
        for model, strategy in zip(ISOLATED, [REGISTERS, SHUFFLED] * 5, strict=True)
    },
    "sequential": (
        "sequential",
        {},
        sequential.small_sessions().map(sequential.as_history),
    ),
    "session guarantees": (
        "sequential",
        {"guarantee": "session"},
        histories("unique", keys=2),
    ),
    "fencing": ("fencing", {}, histories("fenced-lock", keys=2, steps=44)),
    "leases": (
        "fencing",
        {"leases": "true"},
        histories("fenced-lock", keys=2, steps=44),
    ),
    "queue": ("queue", {}, tallies.QUEUES),
    "counter": ("counter", {}, tallies.COUNTERS),
    "unique-ids": ("unique-ids", {}, tallies.IDS),
    "echo": ("echo", {}, tallies.ECHOES),
    "bank": ("bank", {"total-amount": "2"}, tallies.BANKS),
    "set-full": ("set-full", {}, tallies.FULL_SETS),
    "set-full linearizable": (
        "set-full",
        {"linearizable": "true"},
        tallies.FULL_SETS,
    ),
    "long-fork": (
        "long-fork",
        {"group-size": "3"},
        orders.FORKS.filter(each_key_is_written_once),
    ),
    "adya-g2": ("adya-g2", {}, orders.INSERTS),
    "causal": ("causal", {}, orders.causal_steps().map(orders.causal_history)),
    **{
        f"monotonic {order}": ("monotonic", {"order": order}, orders.GROWING)
        for order in orders.ORDERS
    },
    "kafka": ("kafka", {}, kafka.any_log()),
    "one_leader": (
        "one_leader",
        {"terms-max": "2"},
        promises.told(promises.STATUSES, st.nothing()),
    ),
    "atomic_commit of clients": (
        "atomic_commit",
        {},
        promises.told(promises.CLIENTS | promises.ACCOUNTS, st.nothing()).filter(
            promises.one_txn_each
        ),
    ),
    "consensus of clients": (
        "consensus",
        {},
        promises.told(promises.PROPOSERS, st.nothing()),
    ),
    "total_order of clients": (
        "total_order",
        {},
        promises.told(total_order.BROADCASTS | total_order.PAGES, st.nothing()).filter(
            total_order.each_is_sent_once
        ),
    ),
}
"""Name -> a checker, its options, and histories for it, of clients alone."""


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=max(12, EXAMPLES // 10))
@given(data=st.data())
def test_once_convicted_a_history_stays_so(name: str, data: st.DataObject) -> None:
    plugin, options, strategy = CASES[name]
    checker = checker_of(plugin, options)
    whole = data.draw(strategy)
    convicted = first_conviction(checker, prefixes(whole))
    event(convicted or "not convicted")


# Every way in which a prefix may go on, by brute force.


def endings(prefix: History, answers: Answers) -> Iterator[History]:
    """The prefix, with each open call ended in every way, or never."""
    open_calls = [op for op, done in prefix.calls() if done is None]
    ways = [
        [None, ("fail", op.value), *(("ok", value) for value in answers(prefix, op))]
        for op in open_calls
    ]
    for chosen in itertools.product(*ways):
        ops = list(prefix.ops)
        for op, end in zip(open_calls, chosen, strict=True):
            if end is not None:
                kind, value = end
                i = len(ops)
                one = Op(i, i, op.process, kind, op.f, value, op.key)  # type: ignore[arg-type]  # ours
                ops.append(one)
        yield History(ops)


def longer(history: History, f: str, asked: Any, answers: Answers) -> Iterator[History]:
    """The history, and the history with one more call, answered in every way."""
    yield history
    i = len(history)
    call = Op(i, i, 900, "invoke", f, asked)
    for value in answers(history, call):
        yield History([*history.ops, call, Op(i + 1, i + 1, 900, "ok", f, value)])


def of_register(history: History, op: Op) -> list[Any]:
    """Whatever a register may answer: all values, and nil, to a read."""
    if op.f != "read":
        return [op.value]
    return [None, *sorted({o.value for o in history if o.f == "write"})]


def of_transaction(history: History, op: Op) -> Iterator[Any]:
    """Whatever lists may be read: those that others read, whole or without their end,
    and then what the transaction itself has appended.
    """
    known = [
        (key, list(value or ())[:end])
        for done in history
        if done.type == "ok"
        for f, key, value in done.value
        if f == "r"
        for end in range(len(value or ()) + 1)
    ]
    choices: list[list[Any]] = []
    for f, key, _ in op.value:
        lists = [value for k, value in known if k == key] or [[]]
        choices.append(lists if f == "r" else [None])
    for chosen in itertools.product(*choices):
        mine: dict[Any, list[Any]] = {}
        done = []
        for (f, key, element), value in zip(op.value, chosen, strict=True):
            if f == "append":
                mine.setdefault(key, []).append(element)
                done.append([f, key, element])
            else:
                done.append(["r", key, [*value, *mine.get(key, ())]])
        yield done


OPEN_MAX = 3
"""Open calls of a prefix; with more there are too many ways to go on."""


LEFT_OUT = st.integers(0, 6)


def cut(whole: History, left_out: int) -> History:
    """A prefix with few open calls."""
    prefix = History(whole.ops[: max(0, len(whole) - left_out)])
    assume(sum(done is None for _, done in prefix.calls()) <= OPEN_MAX)
    return prefix


@FEWER  # each is compared with all of its continuations
@given(histories("unique", steps=24), LEFT_OUT)
def test_a_register_is_convicted_just_when_no_continuation_is_right(
    whole: History, left_out: int
) -> None:
    prefix = cut(whole, left_out)
    checker = checker_of("linearizable", {"model": "register"})
    convicted = any(convicting(checker, judge(checker, prefix, NO_LIMITS)))
    register = MODELS["register"].build("")
    acquitted = any(
        linearizable(list(calls), register)
        for ending in endings(prefix, of_register)
        for more in longer(ending, "read", None, of_register)
        for calls in [partition(more, register).get(None, ())]
    )
    event(f"convicted: {convicted}")
    assert convicted is not acquitted, show(prefix)


@MANY
@given(
    isolation_histories.histories(lists=True, transactions=5),
    LEFT_OUT,
    st.sampled_from(["serializable", "strict-serializable", "snapshot-isolation"]),
)
def test_lists_are_convicted_only_where_no_continuation_is_right(
    whole: History, left_out: int, model: str
) -> None:
    prefix = cut(whole, left_out)
    checker = checker_of("list-append", {"consistency": model})
    convicted = any(convicting(checker, judge(checker, prefix, NO_LIMITS)))
    event(f"convicted: {convicted}")
    if convicted:
        is_right = oracle(model)
        look = [["r", key, None] for key in (0, 1)]
        for ending in endings(prefix, of_transaction):
            for more in longer(ending, "txn", look, of_transaction):
                assert not is_right(more), show(more)


# What nodes observed: each node's own is cut off somewhere.


def by_node(ops: Iterable[Op]) -> History:
    """Events of nodes as `harness.history.observations` has them."""
    ordered = sorted(ops, key=lambda op: str(op.node))
    return History(
        [
            Op(i, op.time, op.process, op.type, op.f, op.value, op.key, node=op.node)
            for i, op in enumerate(ordered)
        ]
    )


def growing(whole: History, cuts: list[int]) -> Iterator[History]:
    """Histories in which one node after the other, as `cuts` say, knows one event more.

    The last is the whole history.
    """
    of_node: dict[str, list[Op]] = {}
    for op in whole:
        of_node.setdefault(str(op.node), []).append(op)
    known: Counter[str] = Counter()
    nodes = sorted(of_node)
    for cut in cuts:
        if nodes:
            known[nodes[cut % len(nodes)]] += 1
            yield by_node(op for n in nodes for op in of_node[n][: known[n]])
    yield by_node(whole)


NAMES = st.sampled_from(["n1", "n2", "n3"])
EPOCHS = st.integers(1, 3)
ZXIDS = st.tuples(EPOCHS, st.integers(0, 2)).map(list)
NAMED = st.lists(NAMES, max_size=3, unique=True)


def zab(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(NAMES, st.just(kind), st.fixed_dictionaries(fields))


BROADCASTING = st.one_of(
    *[zab("delivered", epoch=EPOCHS, counter=st.integers(0, 2), message=st.integers())]
    * 3,
    zab("became_leader", term=EPOCHS, last_zxid=ZXIDS, acked=NAMED),
    zab("new_epoch", epoch=EPOCHS, leader=NAMES, last_zxid=ZXIDS, current_epoch=EPOCHS),
    zab(
        "synchronizing",
        term=EPOCHS,
        promised=NAMED,
        last_zxid=ZXIDS,
        current_epoch=EPOCHS,
    ),
    zab("recovered", accepted_epoch=EPOCHS),
    zab("restarted"),
)

OBSERVED: dict[str, Case] = {
    "raft_invariants": ("raft_invariants", {}, raft.observations()),
    "atomic_commit": (
        "atomic_commit",
        {},
        promises.told(st.nothing(), promises.OWN_EVENTS),
    ),
    "consensus": ("consensus", {}, promises.told(st.nothing(), promises.PROTOCOL)),
    "total_order": ("total_order", {}, promises.told(st.nothing(), BROADCASTING)),
}


@pytest.mark.parametrize("name", OBSERVED)
@settings(max_examples=EXAMPLES)
@given(data=st.data(), cuts=st.lists(st.integers(0, 5), max_size=20))
def test_once_convicted_by_what_nodes_observed_they_stay_so(
    name: str, data: st.DataObject, cuts: list[int]
) -> None:
    plugin, options, strategy = OBSERVED[name]
    checker = checker_of(plugin, options)
    convicted = first_conviction(checker, growing(data.draw(strategy), cuts))
    event(convicted or "not convicted")


LOOK_AT_ALL = {"leader-lacks-committed"}
"""What is left to the end, as it rests on all leaders and commits."""


@settings(max_examples=EXAMPLES)
@given(raft.observations(), st.lists(st.integers(0, 5), max_size=20))
def test_raft_is_judged_event_by_event_as_at_the_end(
    whole: History, cuts: list[int]
) -> None:
    checker = checker_of("raft_invariants", {})
    assert isinstance(checker, Incremental)
    following = checker.follow("")
    found: set[str] = set()
    known: Counter[str] = Counter()
    for history in growing(whole, cuts):
        fresh = []
        for node, mine in itertools.groupby(history, key=lambda op: str(op.node)):
            ops = list(mine)
            fresh += ops[known[node] :]
            known[node] = len(ops)
        found |= set(following.feed(fresh))
    due = {
        anomaly.name for anomaly in checker.check(by_node(whole), NO_LIMITS).anomalies
    }
    assert bool(found) == bool(due - LOOK_AT_ALL)
    if len(due - LOOK_AT_ALL) == 1:
        assert found == due - LOOK_AT_ALL


CONCLUSIVE = {
    name: checker
    for name, plugin in registry.plugins("checker").items()
    if name != "log-file-pattern"  # it needs a pattern
    for checker in [plugin.factory({})]
    if final_on_prefix(checker)
}


def test_what_is_final_presumes_no_end() -> None:
    """An anomaly that rests on what never came is healed when it comes."""
    for name, checker in CONCLUSIVE.items():
        assert not any(a in final_on_prefix(checker) for a in presumed(checker)), name


def test_every_checker_that_convicts_early_is_tried_here() -> None:
    tried = {plugin for plugin, _, _ in [*CASES.values(), *OBSERVED.values()]}
    assert {name.replace("_", "-") for name in CONCLUSIVE} == {
        *(name.replace("_", "-") for name in tried),
        "crashes",  # what has crashed, has crashed
    }
