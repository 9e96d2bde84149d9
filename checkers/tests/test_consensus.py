"""Agreement, validity, integrity: a small correct Paxos passes, lies are named."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.consensus import PLUGIN, build
from checkers.tests.histories import FEWER
from harness import registry
from harness.errors import UsageError
from harness.history import History, Op
from harness.history.observations import event
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

NODES = ("n1", "n2", "n3", "n4", "n5")
MAJORITY = 3

Ballot = list[Any]


class Synod:
    """Single-decree Paxos, ballot by ballot, with lost messages; told as a history.

    A ballot reaches any acceptors in each phase. Learners hear of what is chosen.
    """

    def __init__(self, seed: int, keys: int = 2, ballots: int = 6) -> None:
        self.random = random.Random(seed)
        self.ops: list[Op] = []
        self.promised: dict[tuple[str, int], Ballot] = {}
        self.accepted: dict[tuple[str, int], tuple[Ballot, str]] = {}
        self.chosen: dict[int, str] = {}
        self.process = 0
        for i in range(ballots):
            for key in range(keys):
                self.ballot(key, [i // 2, self.random.choice(NODES)], f"v{key}.{i}")
                self.learn(key)
        for node in NODES:
            for key in range(keys):
                self.learn(key, node)

    def client(self, node: str, kind: Any, f: str, key: int, value: Any) -> None:
        i = len(self.ops)
        op = Op(i, i * 1_000_000, self.process, kind, f, value, key, node=node)
        self.ops.append(op)

    def observe(self, node: str, f: str, **fields: Any) -> None:
        i = len(self.ops)
        self.ops.append(event(i, i * 1_000_000, node, f, fields))

    def some_nodes(self) -> list[str]:
        return self.random.sample(NODES, self.random.randint(1, 5))

    def ballot(self, key: int, ballot: Ballot, own: str) -> None:
        """One round: prepare, then accept if a majority promised."""
        self.process += 1
        proposer = ballot[1]
        self.client(proposer, "invoke", "propose", key, own)
        value = self.prepare(key, ballot, own)
        done = value is not None and self.accept(key, ballot, value)
        if not done:
            self.client(proposer, "info", "propose", key, own)
            return
        assert value is not None
        self.chosen[key] = value
        self.observe(proposer, "chosen", key=key, value=value, ballot=ballot)
        self.client(proposer, "ok", "propose", key, value)

    def prepare(self, key: int, ballot: Ballot, own: str) -> str | None:
        promises = []
        for node in self.some_nodes():
            if ballot > self.promised.get((node, key), [-1, ""]):
                self.promised[node, key] = ballot
                told = self.accepted.get((node, key))
                fields = {"key": key, "ballot": ballot, "accepted": told}
                self.observe(node, "promised", **fields)
                promises.append(told or ([-1, ""], own))
        return max(promises)[1] if len(promises) >= MAJORITY else None

    def accept(self, key: int, ballot: Ballot, value: str) -> bool:
        count = 0
        for node in self.some_nodes():
            if ballot >= self.promised.get((node, key), [-1, ""]):
                self.promised[node, key] = ballot
                self.accepted[node, key] = (ballot, value)
                self.observe(node, "accepted", key=key, ballot=ballot, value=value)
                count += 1
        return count >= MAJORITY

    def learn(self, key: int, node: str | None = None) -> None:
        node = node or self.random.choice(NODES)
        self.process += 1
        value = self.chosen.get(key) if self.random.random() < 0.7 else None
        if value is not None:
            self.observe(node, "learned", key=key, value=value)
        self.client(node, "invoke", "learn", key, None)
        self.client(node, "ok", "learn", key, value)


def check(ops: list[Op], **options: str) -> CheckResult:
    for i, op in enumerate(ops):
        op.index = i
    return build(options).check(History(ops), Limits())


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


def views(ops: list[Op]) -> dict[str, list[Op]]:
    """The whole history, what clients saw of it, and what nodes did."""
    return {
        "all": ops,
        "clients": [op for op in ops if op.is_client],
        "nodes": [op for op in ops if not op.is_client],
    }


@pytest.mark.parametrize("view", ["all", "clients", "nodes"])
@FEWER
@given(seed=st.integers(0, 2**32))
def test_paxos_keeps_its_promises(view: str, seed: int) -> None:
    synod = Synod(seed)
    result = check(views(synod.ops)[view])
    expected = Verdict.VALID if synod.chosen else Verdict.UNKNOWN
    if view == "clients" and not result.stats["learned"]:
        expected = Verdict.UNKNOWN
    assert result.verdict is expected, (seed, result)


def learned_ops(synod: Synod, kind: str = "ok") -> list[Op]:
    return [
        op
        for op in synod.ops
        if op.f == "learn" and op.type == kind and op.value is not None
    ]


def disagree(synod: Synod) -> set[str]:
    """Another node answers with the value of another proposal."""
    other = synod.random.choice(
        [o for o in synod.ops if o.f == "propose" and o.type == "invoke"]
    )
    synod.process += 1
    taken = synod.chosen.get(other.key)
    synod.client("n9", "invoke", "learn", other.key, None)
    synod.client("n9", "ok", "learn", other.key, other.value)
    if taken in {None, other.value}:
        return set()
    return {"disagreement", "learned-not-chosen"}


def change_mind(synod: Synod) -> set[str]:
    """A node that answered v answers w."""
    for op in learned_ops(synod):
        synod.process += 1
        synod.client(op.node or "", "invoke", "learn", op.key, None)
        synod.client(op.node or "", "ok", "learn", op.key, f"v{op.key}.0!")
        return {"changed-its-mind", "disagreement", "value-never-proposed"}
    return set()


def fail_proposal(synod: Synod) -> set[str]:
    """The client whose value is learned was told that it never was proposed."""
    for learned in learned_ops(synod):
        for op in synod.ops:
            if op.f == "propose" and op.type == "invoke" and op.value == learned.value:
                end = next(o for o in synod.ops[op.index + 1 :] if o.f == "propose")
                end.type, end.value = "fail", op.value
                return {"failed-proposal-chosen"}
    return set()


def foresee(synod: Synod) -> set[str]:
    """A value is learned before anybody proposes it."""
    for learned in learned_ops(synod):
        synod.ops[:0] = call(0, "learn", learned.key, None, learned.value)
        return {"learned-before-proposed"}
    return set()


def accept_below_promise(synod: Synod) -> set[str]:
    """An acceptor accepts below its promise."""
    node, key = synod.random.choice(sorted(synod.promised))
    synod.observe(node, "accepted", key=key, ballot=[-1, "n1"], value="v0.0")
    return {"broken-promise"}


def forget_accepted(synod: Synod) -> set[str]:
    """An acceptor promises a high ballot as if it had accepted nothing, or less."""
    if not synod.accepted:
        return set()
    node, key = synod.random.choice(sorted(synod.accepted))
    less = synod.random.choice([None, [[-1, "n1"], "v0.0"]])
    synod.observe(node, "promised", key=key, ballot=[99, "n1"], accepted=less)
    return {"forgot-accepted"}


def promise_backwards(synod: Synod) -> set[str]:
    """An acceptor promises less than before, as if it had forgotten."""
    node, key = synod.random.choice(sorted(synod.promised))
    synod.observe(node, "promised", key=key, ballot=[-1, "n1"])
    return {"broken-promise"}


def reuse_ballot(synod: Synod) -> set[str]:
    """Two values are accepted at one ballot."""
    for op in reversed(synod.ops):
        if op.f == "accepted":
            fields = {**op.value, "value": "another"}
            synod.observe("n9", "accepted", **fields)
            return {"ballot-of-two-values"}
    return set()


@pytest.mark.parametrize(
    "plant",
    [
        disagree,
        change_mind,
        fail_proposal,
        foresee,
        accept_below_promise,
        forget_accepted,
        promise_backwards,
        reuse_ballot,
    ],
)
@FEWER
@given(seed=st.integers(0, 2**32))
def test_a_planted_violation_is_named(
    plant: Callable[[Synod], set[str]], seed: int
) -> None:
    synod = Synod(seed)
    expected = plant(synod)
    result = check(synod.ops)
    assert expected <= names(result), (seed, result)
    for anomaly in result.anomalies:
        assert anomaly.witness is not None
        assert anomaly.explanation.endswith(".")
        assert set(anomaly.witness.nodes) == set(anomaly.ops)


# Told as sentences


def call(process: int, f: str, key: int, value: Any, result: Any) -> list[Op]:
    node = f"n{process}"
    return [
        Op(-1, 0, process, "invoke", f, value, key, node=node),
        Op(-1, 0, process, "ok", f, result, key, node=node),
    ]


def accepted(node: str, ballot: int, value: str) -> Op:
    fields = {"key": 1, "ballot": ballot, "value": value}
    return Op(-1, 0, node, "info", "accepted", fields, node=node)


def test_disagreement_is_told_by_value_and_node() -> None:
    (anomaly,) = check(
        [
            *call(1, "propose", 1, "x", "x"),
            *call(2, "propose", 1, "y", "y"),
            *call(3, "learn", 1, None, "x"),
        ]
    ).anomalies
    assert anomaly.explanation == (
        "Agreement is broken for key 1: 'x' was learned by n1 and n3, but 'y' was "
        "learned by n2."
    )
    assert anomaly.ops == (1, 3)


def test_a_value_learned_from_a_minority_was_not_chosen() -> None:
    acceptors = [accepted("n1", 2, "x"), accepted("n2", 3, "x"), accepted("n3", 1, "y")]
    (anomaly,) = check([*acceptors, *call(1, "propose", 1, "x", "x")]).anomalies
    assert anomaly.name == "learned-not-chosen"
    assert "at no ballot did more than n1 accept it" in anomaly.explanation
    assert "a majority of the 3 acceptors is 2" in anomaly.explanation


def test_a_value_must_be_chosen_at_the_ballot_that_the_learner_tells() -> None:
    acceptors = [accepted(node, 2, "x") for node in ("n1", "n2", "n3")]
    fields = {"key": 1, "value": "x", "ballot": 2}
    chosen = Op(-1, 0, "n1", "info", "chosen", fields, node="n1")
    early = accepted("n1", 1, "x")
    assert check([early, *acceptors, chosen]).verdict is Verdict.VALID
    chosen.value["ballot"] = 1
    (anomaly,) = check([early, *acceptors, chosen]).anomalies
    assert anomaly.explanation == (
        "n1 learned 'x' for key 1, which was never chosen: at ballot 1 only n1 "
        "accepted it, and a majority of the 3 acceptors is 2."
    )


def test_the_same_ballot_number_of_another_instance_is_another_ballot() -> None:
    other = accepted("n2", 2, "y")
    other.value["key"] = 2
    ops = [accepted("n1", 2, "x"), other, *call(1, "propose", 1, "x", "x")]
    assert names(check(ops)) == {"learned-not-chosen"}


def test_a_promise_without_a_key_binds_all_instances() -> None:
    promise = Op(-1, 0, "n1", "info", "promised", {"ballot": 5}, node="n1")
    ops = [promise, accepted("n1", 4, "x"), *call(1, "propose", 1, "x", "x")]
    assert "broken-promise" in names(check(ops))
    promise.value["ballot"] = 4
    assert check(ops).verdict is Verdict.VALID


def test_acceptors_of_a_whole_log_keep_their_promises_and_agree_on_entries() -> None:
    """Multi-Paxos: a promise holds for all slots, and entries are told by hash."""

    def event(node: str, kind: str, **fields: Any) -> Op:
        return Op(-1, 0, node, "info", kind, fields, node=node)

    def run(second: Ballot, entry: int) -> set[str]:
        ops = [
            event("n1", "promised", ballot=[1, "n1"]),
            event("n1", "accepted", ballot=[1, "n1"], slots=[1]),
            event("n1", "promised", ballot=[2, "n2"]),
            event("n1", "accepted", ballot=second, slots=[2]),
            event("n1", "applied", index=1, term=[1, "n1"], hash=5),
            event("n2", "applied", index=1, term=[1, "n1"], hash=entry),
        ]
        return names(check(ops))

    assert run([2, "n2"], 5) == set()
    assert run([1, "n1"], 5) == {"broken-promise"}
    assert run([2, "n2"], 6) == {"disagreement"}
    back = event("n1", "recovered", ballot=[1, "n1"])
    promised = event("n1", "promised", ballot=[2, "n2"])
    assert names(check([promised, back])) == {"broken-promise"}
    back.value["ballot"] = [2, "n2"]
    assert names(check([promised, back])) == set()


def test_null_is_not_learned_yet_even_after_a_value() -> None:
    ops = [*call(1, "propose", 1, "x", "x"), *call(1, "learn", 1, None, None)]
    assert check(ops).verdict is Verdict.VALID


def test_a_client_is_told_too_early_even_where_a_node_had_learned_it_before() -> None:
    """An observation has no place among other clients' calls; an answer has."""
    fields = {"key": 1, "value": "x"}
    early = Op(-1, 0, "n1", "info", "learned", fields, node="n1")
    ops = [early, *call(1, "learn", 1, None, "x"), *call(1, "propose", 1, "x", "x")]
    assert names(check(ops)) == {"learned-before-proposed"}
    assert names(check([early, *ops[3:], *ops[1:3]])) == set()


def test_keys_are_independent_and_stalemates_are_counted() -> None:
    stuck = call(3, "propose", 3, "z", "z")
    stuck[1].type = "info"
    ops = [*call(1, "propose", 1, "x", "x"), *call(2, "propose", 2, "y", "y"), *stuck]
    result = check(ops)
    assert result.verdict is Verdict.VALID
    assert result.stats["stalemates"] == 1


def test_a_history_in_which_nobody_learned_is_not_judged() -> None:
    for ops in ([], call(1, "learn", 1, None, None)):
        result = check(ops)
        assert result.verdict is Verdict.UNKNOWN
        assert "nothing to judge" in result.reason


def test_ballots_that_cant_be_compared_are_no_crash() -> None:
    ops = [accepted("n1", 2, "x"), *call(1, "propose", 1, "x", "x")]
    strange = accepted("n1", 2, "x")
    strange.value["ballot"] = "2"
    assert check([*ops, strange]).verdict is Verdict.VALID


def test_the_registry_finds_it_and_it_has_no_options() -> None:
    assert registry.find("checker", "consensus") is PLUGIN
    with pytest.raises(UsageError, match="no option"):
        build({"nodes": "5"})
