"""The kafka checker: Jepsen's own examples, a correct log, and the definitions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.logs.lag import figures, find_lags
from checkers.logs.steps import FUNCTIONS, read_steps
from checkers.tests.counting_histories import (
    Call,
    check,
    elsewhere,
    names,
)
from checkers.tests.histories import FEWER, MANY
from harness.errors import UsageError
from harness.history import History, HistoryError, Op
from harness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.history import OpType


def history(*events: tuple[int, OpType, str, Any]) -> History:
    """(process, type, f, value) events."""
    return History([Op(i, i, *event) for i, event in enumerate(events)])


def call(
    process: int, f: str, asked: Any, got: Any = None, kind: OpType = "ok"
) -> list[tuple[int, OpType, str, Any]]:
    return [(process, "invoke", f, asked), (process, kind, f, got or asked)]


def send(process: int, *records: tuple[str, Any, Any], kind: OpType = "ok") -> Any:
    """A send of (key, offset, message) records."""
    asked = [["send", key, message] for key, _, message in records]
    got = [["send", key, [offset, message]] for key, offset, message in records]
    return call(process, "send", asked, got, kind)


def poll(process: int, *polls: dict[str, list[list[Any]]], kind: OpType = "ok") -> Any:
    """A transaction of polls."""
    return call(
        process, "poll", [["poll"]] * len(polls), [["poll", x] for x in polls], kind
    )


def found(*parts: Any, **options: str) -> set[str]:
    """The breaches in a history of these calls, whether allowed or not."""
    judged = history(*itertools.chain(*parts))
    result = check("kafka", judged, **options)
    assert result.verdict is not Verdict.UNKNOWN
    return {*result.stats["breaches"], *result.stats["also"]}


# Jepsen's examples (jepsen.tests.kafka-test)


def test_info_sends_conflict_only_when_they_must_have_happened() -> None:
    doubtful = send(0, ("x", 0, 1), ("y", None, 1), kind="info")
    sure = send(1, ("x", 0, 2))
    assert "inconsistent-offsets" not in found(doubtful, sure, poll(2, {}))
    seen = poll(2, {"y": [[5, 1]]})
    assert "inconsistent-offsets" in found(doubtful, sure, seen)


def test_a_failed_send_that_is_polled_is_an_aborted_read() -> None:
    failed = send(0, ("x", None, 2), ("y", None, 3), kind="fail")
    assert "G1a" in found(failed, poll(1, {"x": [[0, 2]]}))


def test_what_is_below_something_polled_must_be_polled() -> None:
    a, bd = send(0, ("x", 0, "a")), send(0, ("x", 1, "b"), ("x", 3, "d"))
    c = send(1, ("x", None, "c"), kind="info")
    result = check("kafka", history(*a, *bd, *c, *poll(0, {"x": [[2, "c"]]})))
    lost = [one for one in result.anomalies if one.name == "lost-write"]
    assert [one.ops for one in lost] == [(1, 7), (3, 7)]
    assert lost[0].explanation == (
        "Process 0 (op 1) sent 'a' to key x, offset 0, and nobody polled it, though "
        "process 0 (op 7) polled 'c' at offset 2."
    )


def test_a_write_that_lost_its_offset_to_another_is_lost() -> None:
    a = send(0, ("x", 0, "a"))
    bc = send(0, ("x", 0, "b"), ("x", 2, "c"))
    seen = poll(0, {"x": [[0, "b"], [2, "c"]]})
    assert {"lost-write", "inconsistent-offsets"} <= found(a, bc, seen)


def test_a_crashed_transaction_of_which_something_was_polled_must_be_polled() -> None:
    ab = send(0, ("x", None, "a"), ("y", 0, "b"), kind="info")
    c = send(1, ("y", None, "c"), kind="info")
    seen_c = poll(3, {"y": [[1, "c"]]})
    assert "lost-write" not in found(ab, c, seen_c)
    assert "lost-write" in found(ab, c, poll(2, {"x": [[0, "a"]]}), seen_c)


SIX = send(9, *[("x", i, i) for i in range(6)])


@pytest.mark.parametrize(
    ("assigned", "kept"), [(None, True), (["x", "y"], True), (["y"], False)]
)
@pytest.mark.parametrize("f", ["assign", "subscribe"])
def test_a_client_goes_on_where_it_stopped_unless_its_keys_changed(
    f: str, assigned: list[str] | None, *, kept: bool
) -> None:
    change = call(0, f, assigned) if assigned else []
    polls = [
        poll(1, {"x": [[i, i] for i in range(6)]}),
        poll(0, {"x": [[1, 1], [2, 2]]}),
        change,
        poll(0, {"x": [[4, 4]]}),
        change,
        poll(0, {"x": [[3, 3]]}),
    ]
    wrong = {"poll-skip", "nonmonotonic-poll"} if kept else set()
    assert found(SIX, *polls, sub_via="assign") == wrong
    judged = history(*itertools.chain(SIX, *polls))
    verdict = check("kafka", judged).verdict
    # With subscribe, keys may go and come back between two polls.
    may = not kept or (f == "subscribe" and assigned is not None)
    assert verdict is (Verdict.VALID if may else Verdict.INVALID)


def test_an_assignment_that_seeks_to_the_beginning_may_go_back() -> None:
    back = [*poll(0, {"x": [[0, 0], [1, 1]]}), *call(0, "assign", ["x"])]
    again = poll(0, {"x": [[i, i] for i in range(6)]})
    judged = history(*SIX, *back, *again)
    assert names(check("kafka", judged)) == {"nonmonotonic-poll"}
    judged.ops[4].extra = {"seek-to-beginning?": True}
    assert check("kafka", judged).verdict is Verdict.VALID


@pytest.mark.parametrize("kind", ["fail", "info"])
def test_a_transaction_that_did_not_commit_leaves_a_client_where_it_was(
    kind: OpType,
) -> None:
    first = poll(0, {"x": [[0, 0]]})
    lost = poll(0, {"x": [[1, 1], [2, 2]]}, kind="fail")
    everything = poll(1, {"x": [[i, i] for i in range(6)]})
    again = poll(0, {"x": [[1, 1], [2, 2]]}, kind=kind)
    assert found(SIX, everything, first, lost, again) == set()
    ahead = poll(0, {"x": [[3, 3], [4, 4]]}, kind=kind)
    assert found(SIX, everything, first, lost, ahead) == {"poll-skip"}


def test_sends_of_one_client_are_in_its_order() -> None:
    late, early = send(0, ("x", 3, "c")), send(0, ("x", 1, "a"))
    assert "nonmonotonic-send" in found(late, early)
    elsewhere = call(0, "assign", ["y"])
    assert "nonmonotonic-send" not in found(late, elsewhere, early, poll(1, {}))


def test_polls_of_one_transaction_are_contiguous() -> None:
    seen = poll(1, {"x": [[1, 1], [3, 3]]})
    assert "int-poll-skip" in found(SIX, seen)
    assert "int-poll-skip" in found(SIX, poll(1, {"x": [[1, 1]]}, {"x": [[3, 3]]}))
    back = poll(1, {"x": [[3, 3], [1, 1]]})
    assert "int-nonmonotonic-poll" in found(SIX, back)
    twice = poll(1, {"x": [[2, 2], [3, 3]]}, {"x": [[3, 3]]})
    assert "int-nonmonotonic-poll" in found(SIX, twice)


def test_a_rebalance_excuses_what_polls_of_its_keys_skip() -> None:
    judged = history(*SIX, *poll(1, {"x": [[1, 1], [3, 3]]}))
    judged.ops[3].extra = {"rebalance-log": [{"keys": ["x"]}]}
    assert "int-poll-skip" not in names(check("kafka", judged))


def test_sends_of_one_transaction_may_be_apart_but_not_in_another_order() -> None:
    apart = [send(0, ("x", 1, "a"), ("x", 3, "c")), send(1, ("x", 2, "b"))]
    seen = poll(2, {"x": [[1, "a"], [2, "b"], [3, "c"]]})
    assert found(*apart, seen) == {"int-send-skip"}
    assert check("kafka", history(*itertools.chain(*apart, seen))).verdict is (
        Verdict.VALID
    )
    back = send(0, ("x", 3, "c"), ("x", 1, "a"))
    assert "int-nonmonotonic-send" in found(back)


def test_a_message_is_at_one_offset() -> None:
    sent = [send(0, ("x", 1, "a")), send(1, ("x", None, "b"), kind="info")]
    assert "duplicate" in found(*sent, poll(2, {"x": [[2, "b"], [3, "a"]]}))
    aborted = send(0, ("x", 2, "c"), kind="fail")
    seen = poll(2, {"x": [[3, "c"], [4, "a"]]}, kind="fail")
    result = check("kafka", history(*itertools.chain(*sent, aborted, seen)))
    duplicates = [a for a in result.anomalies if a.name == "duplicate"]
    assert len(duplicates) == 1
    assert duplicates[0].explanation == (
        "'a' was sent to key x once and is at offsets 1, 4."
    )


def test_what_is_told_does_not_depend_on_the_order_of_a_set() -> None:
    assert list({8, 1}) == [8, 1]  # as texts are in some processes
    sends = (send(0, ("x", 0, 5)), send(0, ("x", 1, 8)), send(1, ("x", 1, 1)))
    judged = history(
        *itertools.chain(
            *sends,
            call(2, "assign", [1.0, 8.0]),
            poll(2, {"x": [[1, 8], [1, 1]]}),
        )
    )
    result = check("kafka", judged)
    (lost,) = (one for one in result.anomalies if one.name == "lost-write")
    assert "process 2 (op 9) polled 1 at offset 1" in lost.explanation
    assert [*result.stats["realtime_lag"]["by_key"]] == ["1.0", "8.0", "x"]


def test_transactions_that_saw_each_other_are_a_cycle() -> None:
    judged = history(
        (0, "invoke", "txn", [["send", "x", "a"], ["poll"]]),
        (1, "invoke", "txn", [["send", "y", "b"], ["poll"]]),
        (0, "ok", "txn", [["send", "x", [0, "a"]], ["poll", {"y": [[0, "b"]]}]]),
        (1, "ok", "txn", [["send", "y", [0, "b"]], ["poll", {"x": [[0, "a"]]}]]),
    )
    result = check("kafka", judged)
    assert names(result) == {"G1c"}
    assert set(result.anomalies[0].ops) == {2, 3}
    # With the order of writes there are such cycles in a correct Kafka.
    assert check("kafka", judged, ww_deps="true").verdict is Verdict.VALID


def test_logs_with_opposite_orders_of_writers_are_g0_which_is_allowed() -> None:
    judged = history(
        (0, "invoke", "send", [["send", "x", "a"], ["send", "y", "a"]]),
        (1, "invoke", "send", [["send", "x", "b"], ["send", "y", "b"]]),
        (0, "ok", "send", [["send", "x", [0, "a"]], ["send", "y", [1, "a"]]]),
        (1, "ok", "send", [["send", "x", [1, "b"]], ["send", "y", [0, "b"]]]),
        *poll(2, {"x": [[0, "a"], [1, "b"]], "y": [[0, "b"], [1, "a"]]}),
    )
    result = check("kafka", judged, ww_deps="true")
    assert result.verdict is Verdict.VALID
    assert result.stats["also"]["G0"] == 1


def test_nobody_polls_what_it_sends_itself() -> None:
    own = [["send", "x", [0, "a"]], ["poll", {"x": [[0, "a"]]}]]
    asked = [["send", "x", "a"], ["poll"]]
    assert found(call(0, "txn", asked, own)) == {"precommitted-read"}


def test_what_is_never_polled_is_unseen() -> None:
    parts = [send(0, ("x", 0, "a"), ("x", 1, "b")), poll(0, {"x": [[0, "a"]]})]
    assert found(*parts) == {"unseen"}
    judged = history(*itertools.chain(*parts))
    assert check("kafka", judged, unseen="unknown").verdict is Verdict.UNKNOWN


def test_nobody_misses_what_nobody_looked_for_afterwards() -> None:
    early = poll(0, {"x": [[0, "a"]]})
    of_others = [*call(1, "assign", ["y"]), *poll(1, {})]
    parts = [send(0, ("x", 0, "a")), early, send(0, ("x", 1, "b"))]
    judged = history(*itertools.chain(*parts, of_others))
    result = check("kafka", judged)
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason is not None
    assert "no client ended with a poll of their keys" in result.reason
    seen_last = [call(1, "assign", ["x"]), poll(1, {})]
    assert found(*parts, *seen_last) == {"unseen"}
    down = call(1, "poll", [["poll"]], kind="fail")
    assert check(
        "kafka", history(*itertools.chain(*parts, *seen_last, down))
    ).verdict is (Verdict.UNKNOWN)


def test_a_future_message_is_a_cycle_through_real_time() -> None:
    judged = history(*poll(0, {"x": [[0, "a"]]}), *send(1, ("x", 0, "a")))
    assert names(check("kafka", judged)) == {"G1c-realtime"}


def test_keys_are_the_same_as_numbers_and_as_texts() -> None:
    sent = call(0, "send", [["send", 11, 5]], [["send", 11, [0, 5]]])
    judged = history(*sent, *poll(1, {"11": [[0, 5]]}))
    assert check("kafka", judged).verdict is Verdict.VALID


def test_a_message_that_nobody_sent_is_told() -> None:
    assert found(poll(1, {"x": [[0, 5]]})) == {"garbage-read"}


@pytest.mark.parametrize(
    ("events", "missing"),
    [
        ([], "no poll succeeded"),
        (call(0, "assign", ["x"]), "no poll succeeded"),
        (send(0, ("x", 0, "a")), "no poll succeeded"),
        (poll(0, {}), "no message was ever polled"),
    ],
)
def test_nothing_polled_is_unknown(events: list[Any], missing: str) -> None:
    result = check("kafka", history(*events))
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason == f"nothing to judge: {missing}"


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        (call(0, "send", 5), "op 1: send of 5, no list"),
        (call(0, "txn", [["w", "x", 1]]), "is neither"),
        (call(0, "assign", "x"), "no list of keys"),
        (call(0, "poll", [["poll"]], [["poll", [1]]]), "no map of keys"),
        (call(0, "poll", [["poll"]], [["poll", {"x": [1]}]]), r"is no \[offset"),
        (poll(0, {"x": [[-1, 1]]}), "-1 is no offset of key 'x'"),
        (call(0, "send", [["send", "x", [1, 2]]])[:1], "so it is no message"),
        ([*send(0, ("x", 0, 1)), *send(1, ("x", 1, 1))], "op 3: sends 1 to key x, as"),
    ],
)
def test_what_is_no_kafka_workload_is_refused(events: Any, problem: str) -> None:
    with pytest.raises(HistoryError, match=problem):
        check("kafka", history(*events))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="sub-via"):
        check("kafka", History([]), sub_via="magic")


# A correct log


@dataclass
class Broker:
    """Logs in one place; transactions take effect at one instant."""

    random: Random
    logs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    message: int = 0

    def append(self, key: str, message: int) -> int:
        """The offset; now and then one is left out, as markers of commits are."""
        log = self.logs.setdefault(key, [])
        after = log[-1][0] + 1 if log else 0
        offset = after + self.random.choice([0, 0, 0, 1])
        log.append((offset, message))
        return offset

    def read(self, places: dict[str, int]) -> dict[str, list[list[int]]]:
        """Some messages of each key from the places on, which are moved."""
        polled = {}
        for key, place in list(places.items()):
            batch = self.logs.get(key, [])[place:][: self.random.randint(0, 3)]
            if batch:
                places[key] = place + len(batch)
                polled[key] = [list(pair) for pair in batch]
        return polled


def correct_log(seed: int, calls_max: int = 25) -> History:
    """What clients of a correct broker record: transactions, aborts and crashes."""
    random = Random(seed)
    broker = Broker(random)
    drawn: list[Call] = []
    tokens: list[int] = []
    places: dict[int, dict[str, int]] = {}
    thread_of: dict[int, int] = {}
    # Calls of one client are made one after the other; they overlap with others'.
    open_calls: dict[int, int] = {}
    for _ in range(random.randint(1, calls_max)):
        thread = random.randrange(3)
        if thread in open_calls:
            tokens.append(open_calls.pop(thread))
        mine = places.setdefault(thread, {})
        outcome = random.choice(["ok", "ok", "ok", "ok", "fail", "info"])
        if not mine or random.random() < 0.1:
            keys = random.sample("xyz", random.randint(1, 3))
            for key in keys:
                mine.setdefault(key, random.randint(0, len(broker.logs.get(key, ()))))
            for key in set(mine) - set(keys):
                del mine[key]
            made = Call("assign", keys, "ok", keys)
        else:
            made = _transaction(random, broker, mine, outcome)
        thread_of[len(drawn)] = thread
        open_calls[thread] = len(drawn)
        tokens.append(len(drawn))
        drawn.append(made)
        if made.outcome == "info":
            places[thread] = {}
    tokens += open_calls.values()
    final = [Call("assign", ["x", "y", "z"], "ok", ["x", "y", "z"])]
    whole = {key: [list(pair) for pair in log] for key, log in broker.logs.items()}
    final.append(Call("poll", [["poll"]], "ok", [["poll", whole]]))
    for made in final:
        thread_of[len(drawn)] = 99
        tokens += [len(drawn)] * 2
        drawn.append(made)
    return recorded(drawn, tokens, thread_of)


def _transaction(
    random: Random, broker: Broker, mine: dict[str, int], outcome: str
) -> Call:
    """One that happened, failed, or about which the client learned nothing."""
    happens = outcome == "ok" or (outcome == "info" and random.random() < 0.5)
    places = dict(mine)
    asked: list[Any] = []
    got: list[Any] = []
    # Polls see what is committed, so they come before the sends of the transaction.
    polled = [["poll", broker.read(places)] for _ in range(random.randint(0, 2))]
    sent = []
    for _ in range(random.randint(not polled, 2)):
        broker.message += 1
        key, message = random.choice("xyz"), broker.message
        offset = broker.append(key, message) if happens else None
        knows = outcome == "ok" or random.random() < 0.3
        sent.append((["send", key, message], ["send", key, [offset, message]], knows))
    asked = [["poll"]] * len(polled) + [mop for mop, _, _ in sent]
    got = polled + [done if knows else mop for mop, done, knows in sent]
    if outcome == "ok":
        mine |= places
    f = "txn" if polled and sent else "poll" if polled else "send"
    return Call(f, asked, outcome, got)


def recorded(
    drawn: list[Call], tokens: list[int], thread_of: dict[int, int]
) -> History:
    """Like `interleave`, for calls of threads, with results of those that failed."""
    ops: list[Op] = []
    processes: dict[int, int] = {}
    running: dict[int, int] = {}
    fresh = itertools.count()
    for token in tokens:
        made, i = drawn[token], len(ops)
        thread = thread_of[token]
        if token not in running:
            if thread not in processes:
                processes[thread] = next(fresh)
            running[token] = processes[thread]
            ops.append(Op(i, i, running[token], "invoke", made.f, made.asked))
        elif made.outcome != "never":
            kind: Any = made.outcome
            ops.append(Op(i, i, running[token], kind, made.f, made.got))
            if kind == "info":
                del processes[thread]
    return History(ops)


@MANY
@given(st.integers(0, 10**9), st.booleans())
def test_no_false_alarm_on_a_correct_log(seed: int, ww_deps: bool) -> None:
    judged = correct_log(seed)
    result = check("kafka", judged, ww_deps=str(ww_deps).lower())
    assert result.verdict is not Verdict.INVALID, (seed, result.anomalies)


# A log as Kafka keeps it


@dataclass
class Open:
    """A transaction under way, and what has become of it."""

    plan: list[Any]
    places: dict[str, int]
    state: str = "open"
    done: list[Any] = field(default_factory=list)

    @property
    def f(self) -> str:
        kinds = {micro_op[0] for micro_op in self.plan}
        return "txn" if len(kinds) == 2 else str(self.plan[0][0])


@dataclass
class Kafka:
    """Transactions interleave: sends take offsets at once, and are seen when committed.

    A poll ends before the first message of a transaction that is still open.
    """

    random: Random
    ops: list[Op] = field(default_factory=list)
    logs: dict[str, list[tuple[int, int, Open]]] = field(
        default_factory=lambda: {"x": [], "y": []}
    )
    message: int = 0

    def record(self, process: int, kind: OpType, f: str, value: Any) -> None:
        i = len(self.ops)
        self.ops.append(Op(i, i, process, kind, f, value))

    def plan(self) -> list[Any]:
        plan: list[Any] = []
        for _ in range(self.random.randint(1, 4)):
            self.message += 1
            to_send = ["send", self.random.choice("xy"), self.message]
            plan.append(self.random.choice([to_send, ["poll"]]))
        return plan

    def step(self, transaction: Open) -> None:
        """Do the next micro-operation."""
        f, *rest = transaction.plan[len(transaction.done)]
        if f == "send":
            key, message = rest
            log = self.logs[key]
            offset = (log[-1][0] + 1 if log else 0) + self.random.choice([0, 0, 1])
            log.append((offset, message, transaction))
            transaction.done.append(["send", key, [offset, message]])
            return
        polled = {}
        for key, place in transaction.places.items():
            batch = self.visible(key, place)[: self.random.randint(0, 4)]
            if batch:
                polled[key] = batch
                transaction.places[key] = batch[-1][0] + 1
        transaction.done.append(["poll", polled])

    def visible(self, key: str, place: int) -> list[list[int]]:
        found = []
        for offset, message, writer in self.logs[key]:
            if writer.state == "open":
                break
            if offset >= place and writer.state == "ok":
                found.append([offset, message])
        return found


def interleaving_log(seed: int) -> History:
    random = Random(seed)
    kafka = Kafka(random)
    fresh = itertools.count()
    processes: dict[int, int] = {}
    places: dict[int, dict[str, int]] = {}
    running: dict[int, Open] = {}
    for _ in range(random.randint(5, 60)):
        thread = random.randrange(4)
        process = processes.setdefault(thread, -1)
        if process < 0:
            process = processes[thread] = next(fresh)
            places[process] = {"x": 0, "y": 0}
        if thread not in running:
            made = running[thread] = Open(kafka.plan(), dict(places[process]))
            kafka.record(process, "invoke", made.f, made.plan)
            continue
        made = running[thread]
        is_done = len(made.done) == len(made.plan)
        if not is_done and random.random() < 0.93:
            kafka.step(made)
            continue
        end: OpType = random.choice(
            ["ok", "ok", "ok", "ok", "fail", "info", "info"]
            if is_done
            else ["fail", "info"]
        )
        happened = end == "ok" or (end == "info" and is_done and random.random() < 0.5)
        made.state = "ok" if happened else "fail"
        if end == "ok":
            places[process] = made.places
        rest = made.plan[len(made.done) :]
        kafka.record(process, end, made.f, made.done + rest)
        del running[thread]
        if end == "info":
            del processes[thread]
    for made in running.values():
        made.state = "fail"
    last = next(fresh)
    whole = {key: kafka.visible(key, 0) for key in kafka.logs}
    kafka.record(last, "invoke", "poll", [["poll"]])
    kafka.record(last, "ok", "poll", [["poll", whole]])
    return History(kafka.ops)


@MANY
@given(st.integers(0, 10**9), st.booleans())
def test_no_false_alarm_on_interleaving_transactions(seed: int, ww_deps: bool) -> None:
    judged = interleaving_log(seed)
    result = check("kafka", judged, ww_deps=str(ww_deps).lower())
    assert result.verdict is not Verdict.INVALID, (seed, result.anomalies)


def test_what_is_allowed_does_happen_in_a_correct_log() -> None:
    also: set[str] = set()
    for seed in range(300):
        also |= {*check("kafka", interleaving_log(seed), ww_deps="true").stats["also"]}
    assert also >= {"int-send-skip", "G0", "G1c"}


# The definitions


@st.composite
def any_log(draw: st.DrawFn) -> History:
    """Whatever clients could say, right or wrong; messages are sent once."""
    fresh = itertools.count()
    offsets = st.sampled_from([None, 0, 1, 2, 3])
    keys = st.sampled_from("xy")
    pairs = st.tuples(offsets, st.integers(0, 5)).map(list)
    polls = st.dictionaries(keys, st.lists(pairs, max_size=3), max_size=2)
    drawn: list[Call] = []
    thread_of: dict[int, int] = {}
    for _ in range(draw(st.integers(0, 6))):
        thread_of[len(drawn)] = draw(st.integers(0, 2))
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "fail", "info"]))
        if draw(st.integers(0, 5)) == 0:
            value = draw(st.lists(keys, unique=True))
            drawn.append(Call("assign", value, outcome, value))
            continue
        asked: list[Any] = []
        got: list[Any] = []
        for _ in range(draw(st.integers(1, 3))):
            if draw(st.booleans()):
                key, message = draw(keys), next(fresh)
                asked.append(["send", key, message])
                got.append(["send", key, [draw(offsets), message]])
            else:
                asked.append(["poll"])
                got.append(["poll", draw(polls)])
        drawn.append(Call("txn", asked, outcome, got))
    tokens: list[int] = []
    open_calls: dict[int, int] = {}
    for i in range(len(drawn)):
        thread = thread_of[i]
        if thread in open_calls:
            tokens.append(open_calls.pop(thread))
        tokens.append(i)
        open_calls[thread] = i
        if draw(st.booleans()):
            tokens.append(open_calls.pop(thread))
    return recorded(drawn, tokens, thread_of)


def nearly_correct_log(seed: int) -> History:
    """A short correct log in which up to two records are not what they were."""
    random = Random(seed)
    judged = correct_log(seed, calls_max=8)
    for _ in range(random.choice([0, 1, 1, 2])):
        records = [
            (pairs, i)
            for op in judged
            if op.type != "invoke"
            for f, *rest in op.value
            if f == "poll" and rest
            for pairs in rest[0].values()
            for i in range(len(pairs))
        ]
        if not records:
            break
        pairs, i = random.choice(records)
        match random.randrange(4):
            case 0:
                del pairs[i]
            case 1:
                pairs[i] = [max(0, pairs[i][0] + random.choice([-1, 1])), pairs[i][1]]
            case 2:
                pairs[i] = [pairs[i][0], random.randint(1, 6)]
            case _:
                pairs.insert(random.randint(0, len(pairs)), list(pairs[i]))
    return judged


@dataclass
class Told:
    """One transaction, taken apart anew: (key, offset, message) records."""

    begun: int
    ended: int
    process: int | str
    outcome: str
    sent: list[tuple[str, Any, int]]
    polled: list[tuple[str, Any, int]]
    assigned: list[str] | None
    asks: bool = False

    def messages(self, records: list[tuple[str, Any, int]], key: str) -> list[int]:
        return [message for at, _, message in records if at == key]


def told(judged: History) -> Iterator[Told]:
    for begin, end in judged.calls():
        outcome = "info" if end is None else end.type
        value = begin.value if end is None else end.value
        ended = begin.index if end is None else end.index
        step = Told(begin.index, ended, begin.process, outcome, [], [], None)
        if begin.f == "assign":
            step.assigned = value
        else:
            for f, *rest in value:
                step.asks |= f == "poll"
                if f == "poll" and rest:
                    step.polled += [
                        (key, *pair) for key, pairs in rest[0].items() for pair in pairs
                    ]
                elif f == "send":
                    key, message = rest
                    pair = message if isinstance(message, list) else (None, message)
                    step.sent.append((key, *pair))
        yield step


def defined(judged: History) -> set[str]:
    """The names of all breaches but cycles, by their definitions."""
    steps = list(told(judged))
    out: set[str] = set()
    ok_reads = {(k, m) for s in steps if s.outcome == "ok" for k, _, m in s.polled}
    sure = [
        s
        for s in steps
        if s.outcome == "ok"
        or (s.outcome == "info" and any((k, m) in ok_reads for k, _, m in s.sent))
    ]
    places = {
        record for s in steps for record in s.polled + s.sent * (s in sure)
        if record[1] is not None
    }  # fmt: skip
    for a, b in itertools.combinations(places, 2):
        if a[0] == b[0] and a[1] == b[1]:
            out.add("inconsistent-offsets")
        if a[0] == b[0] and a[2] == b[2]:
            out.add("duplicate")

    def index(key: str, message: int, which: Callable[..., int] = min) -> int | None:
        at = [o for k, o, m in places if (k, m) == (key, message)]
        return rank(key, which(at)) if at else None

    def rank(key: str, offset: int) -> int:
        return len({o for k, o, _ in places if k == key and o < offset})

    def stride(key: str, a: int, b: int) -> int:
        low, high = index(key, a), index(key, b)
        return 1 if low is None or high is None else high - low

    for s in steps:
        for kind, records in (("poll", s.polled), ("send", s.sent)):
            for key in "xyz":
                for low, high in itertools.pairwise(s.messages(records, key)):
                    if stride(key, low, high) > 1:
                        out.add(f"int-{kind}-skip")
                    if stride(key, low, high) < 1:
                        out.add(f"int-nonmonotonic-{kind}")
        if {(k, m) for k, _, m in s.polled} & {(k, m) for k, _, m in s.sent}:
            out.add("precommitted-read")
    for i, s in enumerate(steps):
        for key in "xyz":
            mine = [one for one in steps[:i] if one.process == s.process]
            kept = 0  # since when the key has been assigned without a break
            for n, one in enumerate(mine):
                if one.assigned is not None and one.outcome != "fail":
                    kept = kept if key in one.assigned else n
            if s.assigned is not None:
                continue
            polled = [
                m for one in mine[kept:] if one.outcome == "ok"
                for m in one.messages(one.polled, key)
            ]  # fmt: skip
            now = s.messages(s.polled, key)
            if polled and now:
                if stride(key, polled[-1], now[0]) > 1:
                    out.add("poll-skip")
                if stride(key, polled[-1], now[0]) < 1:
                    out.add("nonmonotonic-poll")
            sent = [
                m for one in mine[kept:] if one.outcome != "fail"
                for m in one.messages(one.sent, key)
            ]  # fmt: skip
            now = s.messages(s.sent, key)
            backward = sent and now and stride(key, sent[-1], now[0]) < 1
            if backward and s.outcome != "fail":
                out.add("nonmonotonic-send")
    for key, message in ok_reads:
        writers = [s for s in steps if message in s.messages(s.sent, key)]
        if not writers:
            out.add("garbage-read")
        elif writers[0].outcome == "fail":
            out.add("G1a")
    for s in steps:
        for key, _, message in s.sent:
            if (key, message) in ok_reads:
                continue
            if s.outcome == "ok" and has_looked_for(key, s, steps):
                out.add("unseen")
            last = index(key, message, max)
            reached = [index(k, m) for k, m in ok_reads if k == key]
            if (
                s in sure
                and last is not None
                and any(at is not None and at >= last for at in reached)
            ):
                out.add("lost-write")
    return out


def has_cycle(judged: History) -> bool:
    """Whether polls, sessions and real time contradict each other."""
    steps = [s for s in told(judged) if s.outcome != "fail"]

    def comes_before(a: Told, b: Told) -> bool:
        is_over = a.outcome == "ok" and a.ended < b.begun
        saw = {(k, m) for k, _, m in a.sent} & {(k, m) for k, _, m in b.polled}
        return a is not b and (is_over or bool(saw))

    reached = {
        (i, j)
        for i, a in enumerate(steps)
        for j, b in enumerate(steps)
        if comes_before(a, b)
    }
    for k, i, j in itertools.product(range(len(steps)), repeat=3):
        if (i, k) in reached and (k, j) in reached:
            reached.add((i, j))
    return any((i, i) in reached for i in range(len(steps)))


def has_looked_for(key: str, sent: Told, steps: list[Told]) -> bool:
    """Whether a client's last act was a poll that was to bring what was sent before."""
    for process in {s.process for s in steps}:
        mine = [s for s in steps if s.process == process]
        assigned = [
            s.assigned for s in mine if s.assigned is not None and s.outcome != "fail"
        ]
        if (
            mine[-1].asks
            and mine[-1].outcome == "ok"
            and mine[-1].begun > sent.ended
            and (not assigned or key in assigned[-1])
        ):
            return True
    return False


@MANY
@given(any_log() | st.integers(0, 10**9).map(nearly_correct_log))
def test_every_breach_is_found_and_no_other(judged: History) -> None:
    result = check("kafka", judged)
    names_found = {*result.stats["breaches"], *result.stats["also"]}
    cycles = {name for name in names_found if name.startswith(("G0", "G1c"))}
    assert names_found - cycles == defined(judged)
    assert bool(cycles) == has_cycle(judged)
    bad = names_found - {"int-send-skip"}
    assert names(result) == bad
    steps = list(told(judged))
    read = {(k, m) for s in steps if s.outcome == "ok" for k, _, m in s.polled}
    polled = bool(read)
    missed = any(
        s.outcome == "ok" and not has_looked_for(key, s, steps)
        for s in steps
        for key, _, message in s.sent
        if (key, message) not in read
    )
    verdict = Verdict.VALID if polled and not missed else Verdict.UNKNOWN
    assert result.verdict is (Verdict.INVALID if bad else verdict)


@FEWER
@given(judged=any_log())
def test_neither_clocks_nor_names_nor_bystanders_matter(
    judged: History,
) -> None:
    before, after = check("kafka", judged), check("kafka", elsewhere(judged))
    assert after.verdict is before.verdict
    assert after.stats["breaches"] == before.stats["breaches"]


@MANY
@given(st.integers(0, 10**9), st.data())
def test_a_record_that_polls_leave_out_of_a_correct_log_is_missed(
    seed: int, data: st.DataObject
) -> None:
    judged = correct_log(seed)
    whole = judged.ops[-1].value[0][1]
    sure = [
        (record[1], record[2][1])
        for op in judged
        if op.type == "ok" and op.f in {"send", "txn"}
        for record in op.value
        if record[0] == "send"
    ]
    if not sure:
        return
    key, message = data.draw(st.sampled_from(sure))
    for op in judged:
        for micro_op in op.value or ():
            if micro_op[0] == "poll" and len(micro_op) == 2 and key in micro_op[1]:
                pairs = micro_op[1][key]
                micro_op[1][key] = [pair for pair in pairs if pair[1] != message]
    result = check("kafka", judged)
    assert "unseen" in names(result)
    if whole[key] and whole[key][-1][1] > message:
        assert "lost-write" in names(result)


# Witnesses


@MANY
@given(any_log())
def test_whatever_several_operations_show_has_a_witness(judged: History) -> None:
    for anomaly in check("kafka", judged).anomalies:
        if len(anomaly.ops) < 2:
            continue
        assert anomaly.witness is not None, anomaly
        assert set(anomaly.ops) <= set(anomaly.witness)
        assert anomaly.witness.edges
        for *ends, data in anomaly.witness.edges(data=True):
            assert all(0 <= end < len(judged) for end in ends)
            assert data["kind"]
            assert data["reason"]
        connected = nx.node_connected_component(
            anomaly.witness.to_undirected(), anomaly.ops[0]
        )
        assert set(anomaly.ops) <= connected


def reasons(name: str, *parts: Any) -> list[tuple[int, int, str, str]]:
    """The edges of the witness of the only breach of that name."""
    result = check("kafka", history(*itertools.chain(*parts)))
    (graph,) = [one.witness for one in result.anomalies if one.name == name]
    assert graph is not None
    return [(a, b, *data.values()) for a, b, data in graph.edges(data=True)]


def test_the_witness_of_a_skip_shows_who_sent_what_was_skipped() -> None:
    sent = [send(5, ("x", i, i)) for i in range(3)]
    again = [poll(0, {"x": [[0, 0]]}), poll(0, {"x": [[2, 2]]})]
    assert reasons("poll-skip", *sent, *again) == [
        (7, 9, "process", "process 0 ran op 7 first"),
        (3, 9, "skipped", "it sent 1, which the other passed over"),
    ]


def test_the_witness_of_a_poll_that_goes_back_is_a_circle() -> None:
    back = [poll(0, {"x": [[1, 1]]}), poll(0, {"x": [[0, 0]]})]
    sent = send(5, ("x", 0, 0), ("x", 1, 1))
    assert reasons("nonmonotonic-poll", sent, *back) == [
        (3, 5, "process", "process 0 ran op 3 first"),
        (5, 3, "log-order", "0 is at offset 0 of key x, and 1 at 1"),
    ]


def test_the_witness_of_a_lost_write_shows_that_it_was_passed_by() -> None:
    lost, seen = send(5, ("x", 0, "a")), send(6, ("x", 1, "b"))
    assert reasons("lost-write", lost, seen, poll(0, {"x": [[1, "b"]]})) == [
        (1, 3, "log-order", "'a' is at offset 0 of key x, and 'b' at 1"),
        (3, 5, "wr", "it sent 'b', which the other polled"),
    ]


def test_the_witness_of_two_messages_at_one_offset_shows_who_says_what() -> None:
    assert reasons(
        "inconsistent-offsets", send(5, ("x", 0, "a")), send(6, ("x", 0, "b"))
    ) == [
        (
            *(1, 3, "contradicts"),
            "here 'a' is at offset 0 of key x, and there 'b' is at offset 0",
        )
    ]


# Lag


def timed(*events: tuple[int, int, OpType, str, Any]) -> History:
    """(seconds, process, type, f, value) events."""
    return History(
        [Op(i, int(s * 1e9), *event) for i, (s, *event) in enumerate(events)]
    )


def test_a_poll_lags_from_when_more_was_there_than_it_saw() -> None:
    """Jepsen's example: offset 1 was there by 3, and a poll from 4 on misses it."""
    judged = timed(
        (0, 0, "invoke", "send", [["send", "x", "a"]]),
        (1, 0, "ok", "send", [["send", "x", [0, "a"]]]),
        (1, 1, "invoke", "poll", [["poll"]]),
        (2, 1, "ok", "poll", [["poll", {"x": [[0, "a"]]}]]),
        (2, 0, "invoke", "send", [["send", "x", "b"]]),
        (3, 0, "ok", "send", [["send", "x", [1, "b"]]]),
        (4, 1, "invoke", "poll", [["poll"]]),
        (5, 1, "ok", "poll", [["poll", {"x": []}]]),
        (6, 1, "invoke", "poll", [["poll"]]),
        (7, 1, "ok", "poll", [["poll", {"x": [[1, "b"]]}]]),
    )
    lag = check("kafka", judged).stats["realtime_lag"]
    worst = {"lag_s": 1.0, "op": 7, "process": 1, "key": "x", "time_s": 4.0}
    assert lag["worst"] == worst
    assert (lag["by_key"], lag["by_process"]) == ({"x": 1.0}, {"1": 1.0})
    assert lag["at_last_poll"]["lag_s"] == 0.0
    cut = check("kafka", History(judged.ops[:-2])).stats["realtime_lag"]
    assert cut["at_last_poll"] == worst


def test_nobody_lags_in_a_history_without_times() -> None:
    judged = history(*send(0, ("x", 0, 1)), *poll(1, {"x": [[0, 1]]}))
    for op in judged:
        op.time = -1
    assert check("kafka", judged).stats["realtime_lag"] == {}


def lags_by_definition(judged: History) -> dict[tuple[int, str], int]:
    """(poll, key) -> how long by its begin the log had been longer than it saw."""
    out = {}
    by_end = sorted(told(judged), key=lambda step: step.ended)
    for n, step in enumerate(by_end):
        if step.assigned is not None or step.outcome != "ok":
            continue
        for key in "xy":
            place: int | None = None
            for one in by_end[: n + 1]:
                if one.process != step.process:
                    continue
                if one.assigned is not None:
                    if one.outcome != "fail" and key not in one.assigned:
                        place = None
                    elif one.outcome == "ok":
                        place = -1 if place is None else place
                    elif one.outcome == "info":
                        place = None
                elif one.outcome == "ok":
                    seen = [(o, m) for k, o, m in one.polled if k == key]
                    if seen:
                        place = -1 if place is None else place
                        place = max(place, *(-1 if o is None else o for o, _ in seen))
            if place is None:
                continue
            longer = [
                judged[one.ended].time
                for one in by_end
                for k, o, _ in one.polled + one.sent * (one.outcome == "ok")
                if k == key and o is not None and o > place
            ]
            begun = judged[step.begun].time
            out[step.ended, key] = max(0, begun - min(longer, default=begun))
    return out


@MANY
@given(any_log())
def test_lags_are_those_of_the_definition(judged: History) -> None:
    lags = find_lags(judged, read_steps(judged, FUNCTIONS.of(judged)))
    assert {(lag.op, lag.key): lag.lag_ns for lag in lags} == lags_by_definition(judged)
    assert not lags or figures(lags)["worst"]["lag_s"] == pytest.approx(
        max(lag.lag_ns for lag in lags) / 1e9, abs=1e-6
    )


@FEWER
@given(st.integers(0, 10**9))
def test_who_polls_whole_logs_at_the_end_lags_by_nothing(seed: int) -> None:
    judged = correct_log(seed)
    lags = find_lags(judged, read_steps(judged, FUNCTIONS.of(judged)))
    last = [lag for lag in lags if lag.op == judged.ops[-1].index]
    assert all(lag.lag_ns == 0 for lag in last)
