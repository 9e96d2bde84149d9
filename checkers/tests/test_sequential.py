"""Sequential consistency: by definition, of a lagging but correct store, and broken."""

from __future__ import annotations

import itertools
import random
from functools import cache
from typing import TYPE_CHECKING, Any

import networkx as nx
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from checkers.linearizability.budget import Budget
from checkers.sequence.calls import FUNCTIONS, gather
from checkers.sequence.order import Repair, Search, explains
from checkers.sequence.saturation import Saturation
from checkers.sequence.versions import writers_before
from checkers.sequential import PLUGIN, build
from checkers.tests.histories import FEWER, MANY
from harness import registry
from harness.errors import UsageError
from harness.history import History, Op
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkers.sequence.calls import Calls

NO_LIMITS = Limits()

Plain = tuple[str, str, Any]
"""What one call does: r, w or c (cas), key, and value."""


def check(history: History, **options: str) -> CheckResult:
    return build(options).check(history, NO_LIMITS)


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


def sessions(*of: str) -> History:
    """Sessions one after the other, each from words such as `wx1 ry2 cx1-3 rx.`.

    A letter for what it does, one for the key, and the value; "." is null.
    """
    ops: list[Op] = []
    for process, text in enumerate(of):
        for word in text.split():
            ops += call(process, word)
    return numbered(ops)


def gathered(history: History) -> Calls:
    return gather(history, FUNCTIONS.of(history))


def call(process: int, word: str, outcome: Any = "ok") -> list[Op]:
    f = {"r": "read", "w": "write", "c": "cas"}[word[0]]
    values = [None if v == "." else int(v) for v in word[2:].split("-")]
    value: Any = values if f == "cas" else values[0]
    argument = None if f == "read" else value
    key = word[1]
    return [
        Op(-1, 0, process, "invoke", f, argument, key, node=f"n{process}"),
        Op(-1, 0, process, outcome, f, value, key, node=f"n{process}"),
    ]


def numbered(ops: list[Op]) -> History:
    for i, op in enumerate(ops):
        op.index = i
    return History(ops)


# By definition


def by_definition(of: list[list[Plain]]) -> bool:
    """Whether some interleaving of the sessions explains all reads: tries them all."""

    @cache
    def possible(heads: tuple[int, ...], state: tuple[tuple[str, Any], ...]) -> bool:
        if all(head == len(s) for head, s in zip(heads, of, strict=True)):
            return True
        now = dict(state)
        for i, head in enumerate(heads):
            if head == len(of[i]):
                continue
            f, key, value = of[i][head]
            expected = value[0] if f == "c" else value
            if f != "w" and now.get(key) != expected:
                continue
            after = now if f == "r" else {**now, key: value[1] if f == "c" else value}
            rest = (*heads[:i], head + 1, *heads[i + 1 :])
            if possible(rest, tuple(sorted(after.items()))):
                return True
        return False

    return possible(tuple(0 for _ in of), ())


@st.composite
def small_sessions(draw: st.DrawFn) -> list[list[Plain]]:
    """Two to four sessions, up to nine calls; reads see anything that is written."""
    shape = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    kinds = [
        [
            (draw(st.sampled_from("rrwwc")), draw(st.sampled_from("xy")))
            for _ in range(n)
        ]
        for n in shape
    ]
    written: dict[str, list[int]] = {"x": [], "y": []}
    for session in kinds:
        for f, key in session:
            if f != "r":
                written[key].append(sum(map(len, written.values())) + 1)
    fresh = {key: list(values) for key, values in written.items()}
    out: list[list[Plain]] = []
    for session in kinds:
        out.append([])
        for f, key in session:
            seen = draw(st.sampled_from([None, *written[key]]))
            made = fresh[key].pop(0) if f != "r" else None
            out[-1].append((f, key, {"r": seen, "w": made, "c": (seen, made)}[f]))
    return out


def as_history(of: list[list[Plain]]) -> History:
    words: list[list[str]] = []
    for session in of:
        words.append([])
        for f, key, value in session:
            values = value if f == "c" else (value,)
            text = "-".join("." if v is None else str(v) for v in values)
            words[-1].append(f"{f}{key}{text}")
    return sessions(*(" ".join(w) for w in words))


@MANY
@given(small_sessions())
@example([[("w", "x", 1), ("r", "y", None)], [("w", "y", 2), ("r", "x", None)]])
def test_the_verdict_is_that_of_the_definition(of: list[list[Plain]]) -> None:
    history = as_history(of)
    result = check(history)
    if any(f != "w" for session in of for f, _, _ in session):
        expected = Verdict.VALID if by_definition(of) else Verdict.INVALID
        event(f"{expected}, by {result.stats.get('decided_by', 'sessions')}")
        assert result.verdict is expected, result
    session = check(history, guarantee="session").verdict
    assert session is not Verdict.INVALID or result.verdict is Verdict.INVALID


def keeps_sessions(of: list[list[Plain]]) -> bool:
    """Whether each key's versions have an order in which no session ever goes back."""
    return all(
        any(
            all(
                order.index(a) <= order.index(b)
                for session in of
                for a, b in itertools.combinations(versions_seen(session, key), 2)
            )
            for order in itertools.permutations(versions)
            if order[0] is None
        )
        for key in "xy"
        for versions in [{None, *(v for s in of for v in versions_seen(s, key))}]
    )


def versions_seen(session: list[Plain], key: str) -> list[Any]:
    """The versions that a session reads and writes, in order; a cas does both."""
    return [
        version
        for f, k, value in session
        if k == key
        for version in (value if f == "c" else (value,))
    ]


@MANY
@given(small_sessions())
def test_sessions_may_rely_on_an_order_of_the_versions_of_each_key(
    of: list[list[Plain]],
) -> None:
    result = check(as_history(of), guarantee="session")
    expected = Verdict.VALID if keeps_sessions(of) else Verdict.INVALID
    if all(f == "w" for session in of for f, _, _ in session):
        expected = Verdict.UNKNOWN
    event(f"{expected}")
    assert result.verdict is expected, result


@MANY
@given(small_sessions())
def test_a_forced_circle_never_lies(of: list[list[Plain]]) -> None:
    calls = gathered(as_history(of))
    circle = Saturation(calls, Budget(NO_LIMITS)).circle()
    outcome = Search(calls, Budget(NO_LIMITS)).run()
    assert (outcome.order is None) == outcome.exhausted == (not by_definition(of))
    if circle:
        assert outcome.exhausted
        assert [b for _, b, _ in circle] == [a for a, _, _ in circle[1:] + circle[:1]]
    if outcome.order is not None:
        assert explains(calls, outcome.order)


# A store whose replicas lag behind


class Lagging:
    """Writes in one order; each session reads from a replica that may be behind.

    A session's replica has its own writes, and never goes back: what ZooKeeper gives.
    With `overlapping`, a write may take effect long before its client hears of it.
    """

    def __init__(
        self, seed: int, steps: int, processes: int = 6, *, overlapping: bool = False
    ) -> None:
        self.overlapping = overlapping
        self.outcomes: dict[int, Op] = {}
        self.random = random.Random(seed)
        self.ops: list[Op] = []
        self.log: list[tuple[str, int]] = []
        self.names = list(range(processes))
        self.applied = [0] * processes
        self.open: dict[int, tuple[Op, str]] = {}
        self.written = 0
        for _ in range(steps):
            self.step(self.random.randrange(processes))
        for i in list(self.open):
            self.finish(i)

    def step(self, i: int) -> None:
        if i in self.open:
            if self.overlapping and i not in self.outcomes:
                self.outcomes[i] = self.outcome(i)
            else:
                self.finish(i)
            return
        key = self.random.choice("xyz")
        f = self.random.choices(("read", "write", "cas"), (6, 3, 1))[0]
        value: Any = None
        if f != "read":
            self.written += 1
            seen = self.state(len(self.log)).get(key)
            value = self.written if f == "write" else [seen, self.written]
        op = Op(-1, 0, self.names[i], "invoke", f, value, key)
        self.ops.append(op)
        self.open[i] = (op, key)

    def state(self, length: int) -> dict[str, int]:
        return dict(self.log[:length])

    def outcome(self, i: int) -> Op:
        """What becomes of the open operation, which happens now or never."""
        op, key = self.open[i]
        if op.f == "read":
            self.catch_up(i, self.random.randint(self.applied[i], len(self.log)))
            return op.ok(self.state(self.applied[i]).get(key))
        outcome = self.random.random()
        refused = op.f == "cas" and self.state(len(self.log)).get(key) != op.value[0]
        if outcome < 0.1 or refused:
            return op.fail()
        new = op.value if op.f == "write" else op.value[1]
        if outcome > 0.2:
            self.log.append((key, new))
        self.catch_up(i, len(self.log))
        return op.info() if outcome < 0.3 else op.ok(op.value)

    def finish(self, i: int) -> None:
        done = self.outcomes.pop(i, None) or self.outcome(i)
        del self.open[i]
        self.ops.append(done)
        if done.type == "info":
            self.names[i] += len(self.names)

    def catch_up(self, i: int, length: int) -> None:
        self.applied[i] = max(self.applied[i], length)

    def history(self) -> History:
        return numbered(self.ops)


@FEWER
@given(st.integers(0, 2**32))
def test_a_store_with_lagging_replicas_is_sequential(seed: int) -> None:
    result = check(Lagging(seed, 120).history())
    assert result.verdict is not Verdict.INVALID, (seed, result)
    assert result.verdict is Verdict.VALID or "nothing to judge" in result.reason


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_long_history_of_a_lagging_store_is_proved_sequential_in_no_time(
    *, overlapping: bool
) -> None:
    store = Lagging(5, 6000, processes=12, overlapping=overlapping)
    result = check(store.history())
    assert result.verdict is Verdict.VALID
    assert result.stats["seconds"] < 20


@FEWER
@given(st.integers(0, 2**32))
def test_wrong_guesses_are_found_and_mended(seed: int) -> None:
    calls = gathered(Lagging(seed, 500, processes=9, overlapping=True).history())
    repair = Repair(calls, Budget(NO_LIMITS), writers_before(calls))
    outcome = repair.run()
    event(f"repairs: {min(repair.repairs, 5)}, order found: {bool(outcome.order)}")
    assert not outcome.exhausted, "it tries too little to know"
    if outcome.order is not None:
        assert explains(calls, outcome.order), seed


def test_nearly_all_wrong_guesses_of_long_histories_are_mended() -> None:
    found = repairs = 0
    for seed in range(20):
        calls = gathered(Lagging(seed, 1500, processes=9, overlapping=True).history())
        repair = Repair(calls, Budget(NO_LIMITS), writers_before(calls))
        found += repair.run().order is not None
        repairs += repair.repairs
    assert repairs > 20, "guesses were wrong"
    assert found >= 19


@MANY
@given(small_sessions())
def test_a_mended_order_explains_the_history_and_is_found_for_good_ones_only(
    of: list[list[Plain]],
) -> None:
    calls = gathered(as_history(of))
    outcome = Repair(calls, Budget(NO_LIMITS), writers_before(calls)).run()
    if outcome.order is not None:
        assert explains(calls, outcome.order)
        assert by_definition(of)


# Planted


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("monotonic-reads", ("wx1 wx2", "rx2 rx1")),
        ("monotonic-reads", ("wx1", "rx1 rx.")),
        ("monotonic-reads", ("wx1", "wx2", "rx1 rx2", "rx2 rx1")),
        ("read-your-writes", ("wx1 wx2 rx1",)),
        ("read-your-writes", ("wx1 rx.",)),
        ("read-your-writes", ("wx1 rx2", "wx2 rx1")),
        ("writes-follow-reads", ("rx2 wx1", "rx1 wx2")),
        ("monotonic-reads", ("cx.-1 cx1-2", "rx2 rx1")),
    ],
)
def test_a_broken_session_guarantee_is_named(name: str, of: tuple[str, ...]) -> None:
    for guarantee in ("session", "sequential"):
        result = check(sessions(*of), guarantee=guarantee)
        assert names(result) == {name}
        (anomaly,) = result.anomalies
        assert anomaly.witness is not None
        assert set(anomaly.ops) == set(anomaly.witness.nodes)


def test_reading_ones_own_write_before_it_is_not_sequential() -> None:
    assert names(check(sessions("rx1 wx1"))) == {"not-sequential"}


def test_a_broken_guarantee_is_told_by_what_sessions_did() -> None:
    (anomaly,) = check(sessions("wx1 wx2", "rx2 rx1")).anomalies
    assert anomaly.explanation == (
        "No order of the versions of key 'x' fits what sessions saw (monotonic reads): "
        "process 0 wrote 1 and then wrote 2; process 1 read 2 and then read 1."
    )
    assert anomaly.witness is not None
    assert nx.find_cycle(anomaly.witness)


@pytest.mark.parametrize(
    "of",
    [
        ("wx1 ry.", "wy2 rx."),  # store buffering (Dekker)
        ("wx1", "wy2", "rx1 ry.", "ry2 rx."),  # independent reads of independent writes
        ("wx1 wy2", "ry2 rx."),  # message passing: causality across keys
        ("wx1", "rx1 wy2", "ry2 rx."),  # write to read causality
        ("cx.-1", "cx.-2"),  # both replace the same version
    ],
)
def test_what_no_order_explains_is_a_circle_across_keys(of: tuple[str, ...]) -> None:
    history = sessions(*of)
    calls = gathered(history)
    assert Saturation(calls, Budget(NO_LIMITS)).circle()
    result = check(history)
    assert names(result) == {"not-sequential"}
    assert result.not_models == ("sequential",)
    assert check(history, guarantee="session").verdict is Verdict.VALID


def test_a_stale_read_is_sequential_though_not_linearizable() -> None:
    assert check(sessions("wx1", "wx2", "rx1 rx1 rx2")).verdict is Verdict.VALID


def test_a_circle_is_told_step_by_step() -> None:
    (anomaly,) = check(sessions("wx1 wy2", "ry2 rx.")).anomalies
    assert anomaly.explanation == (
        "No order of all calls explains what was read, as it would have to go in a "
        "circle: (1) process 0 wrote 1 of key 'x' before process 0 wrote 2 of key 'y'; "
        "(2) process 1 read 2 of key 'y', which process 0 wrote; (3) process 1 read 2 "
        "of key 'y' before process 1 read nothing of key 'x'; (4) process 1 read "
        "nothing of key 'x', so before process 0 wrote 1 of key 'x'."
    )
    assert anomaly.witness is not None
    assert nx.find_cycle(anomaly.witness)


def rewind(history: History, rng: random.Random) -> set[str]:
    """A session reads again what it had read before another version."""
    ops = list(history.ops)
    for op in ops:
        if op.f == "read" and op.type == "ok" and op.value is not None:
            later = [
                o
                for o in ops[op.index + 1 :]
                if (o.f, o.type, o.process, o.key) == ("read", "ok", op.process, op.key)
            ]
            if len(later) > 1 and later[0].value != op.value:
                later[1].value = op.value
                return {"monotonic-reads", "read-your-writes", "writes-follow-reads"}
    return set()


def read_unwritten(history: History, rng: random.Random) -> set[str]:
    reads = [o for o in history if o.f == "read" and o.type == "ok"]
    rng.choice(reads).value = 10**9
    return {"read-of-unwritten-value"}


def read_failed(history: History, rng: random.Random) -> set[str]:
    failed = [o for o in history if o.f == "write" and o.type == "fail"]
    reads = [o for o in history if o.f == "read" and o.type == "ok"]
    for write in failed:
        for read in reads:
            if read.key == write.key:
                read.value = write.value
                return {"read-of-failed-write"}
    return set()


@pytest.mark.parametrize("plant", [rewind, read_unwritten, read_failed])
@FEWER
@given(seed=st.integers(0, 2**32))
def test_a_planted_violation_is_named(
    plant: Callable[[History, random.Random], set[str]], seed: int
) -> None:
    history = Lagging(seed, 120).history()
    expected = plant(history, random.Random(seed))
    result = check(History(history.ops))
    if expected:
        assert expected & names(result), (seed, result)
        assert result.verdict is Verdict.INVALID


# What isn't claimed


def test_writes_of_unknown_outcome_count_only_if_somebody_saw_them() -> None:
    unseen = numbered([*call(0, "wx1", "info"), *call(1, "rx.")])
    assert check(unseen).verdict is Verdict.VALID
    seen = numbered([*call(0, "wx1", "info"), *call(1, "rx1"), *call(1, "rx.")])
    assert names(check(seen)) == {"monotonic-reads"}
    chain = [*call(0, "wx1", "info"), *call(2, "cx1-2", "info"), *call(1, "rx2")]
    assert check(numbered(chain)).stats["calls"] == 3


def test_values_that_repeat_leave_their_key_undecided() -> None:
    result = check(sessions("wx1 wx1 wy2", "ry2"))
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason == "values were written twice, or null was, to key 'x'"
    assert names(check(sessions("wx1 wx1 wy2", "ry2 ry."))) == {"monotonic-reads"}


def test_a_history_without_reads_is_not_judged() -> None:
    for history in (History([]), sessions("wx1 wy2")):
        result = check(history)
        assert result.verdict is Verdict.UNKNOWN
        assert "nothing to judge" in result.reason


def test_a_limit_leaves_it_undecided_and_says_what_is_sure() -> None:
    history = Lagging(5, 6000, processes=12).history()
    result = build({}).check(history, Limits(time_s=0.0))
    assert result.verdict is Verdict.UNKNOWN
    assert "the session guarantees hold" in result.reason


def test_the_registry_finds_it_and_refuses_unknown_options() -> None:
    assert registry.find("checker", "sequential") is PLUGIN
    with pytest.raises(UsageError, match="it takes one of sequential"):
        build({"guarantee": "causal"})
