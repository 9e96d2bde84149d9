"""AC1 to AC5: correct histories pass, and a planted violation of each is named."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from checkers.atomic_commit import PLUGIN, build
from checkers.tests.histories import FEWER
from harness import registry
from harness.errors import UsageError
from harness.history import History, HistoryError, Op
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

NODES = ("n1", "n2", "n3", "n4")
UNDECIDED = ("prepared", "precommit", "uncertain")


class Commits:
    """A correct commit service, told as a history.

    Every transaction has participants that vote, a coordinator that decides by the
    votes, and a client that is told so or doesn't know.
    """

    def __init__(self, seed: int, transactions: int = 8) -> None:
        self.random = random.Random(seed)
        self.ops: list[Op] = []
        self.decisions: dict[str, dict[str, str]] = {n: {} for n in NODES}
        self.votes: dict[str, dict[str, str]] = {n: {} for n in NODES}
        self.coordinated: dict[str, dict[str, str]] = {n: {} for n in NODES}
        for i in range(transactions):
            self.transaction(f"t{i}")
            if self.random.random() < 0.4:
                self.account(self.random.choice(NODES))
        self.settle()
        for node in NODES:
            self.account(node)

    def record(self, process: int, node: str, kind: Any, f: str, value: Any) -> None:
        i = len(self.ops)
        self.ops.append(Op(i, i * 1_000_000, process, kind, f, value, node=node))

    def account(self, node: str) -> None:
        told = {
            "decisions": dict(self.decisions[node]),
            "votes": dict(self.votes[node]),
            "coordinated": dict(self.coordinated[node]),
        }
        self.record(9, node, "invoke", "decisions", None)
        self.record(9, node, "ok", "decisions", told)

    def transaction(self, name: str) -> None:
        coordinator, *_ = members = self.random.sample(NODES, self.random.randint(1, 4))
        process = int(name[1:]) + 10
        value = {"id": name, "txn": [["w", "k", name]]}
        self.record(process, coordinator, "invoke", "txn", value)
        for node in members:
            self.votes[node][name] = self.random.choice(("yes", "yes", "yes", "no"))
        yes = all(self.votes[node][name] == "yes" for node in members)
        decision = "commit" if yes else "abort"
        known = self.random.random() < 0.8
        self.coordinated[coordinator][name] = decision if known else "undecided"
        for node in members:
            doubts = self.votes[node][name] == "yes" and self.random.random() < 0.5
            if doubts or not known:
                self.decisions[node][name] = self.random.choice(UNDECIDED)
            else:
                self.decisions[node][name] = decision
        if known:
            answer = self.random.choice(("info", "ok" if yes else "fail"))
            self.record(process, coordinator, answer, "txn", value)

    def settle(self) -> None:
        """Everybody learns the decision, which the votes determine."""
        names = {name for of in self.votes.values() for name in of}
        for name in names:
            votes = {of[name] for of in self.votes.values() if name in of}
            decision = "commit" if votes == {"yes"} else "abort"
            for of in (*self.decisions.values(), *self.coordinated.values()):
                if name in of:
                    of[name] = decision


def check(history: History, **options: str) -> CheckResult:
    return build(options).check(history, Limits())


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


def finals(commits: Commits) -> dict[str, dict[str, dict[str, str]]]:
    """The last account of each node, to be tampered with."""
    return {op.node or "": op.value for op in commits.ops[-2 * len(NODES) + 1 :: 2]}


@FEWER
@given(st.integers(0, 2**32))
def test_a_correct_service_keeps_every_promise(seed: int) -> None:
    result = check(History(Commits(seed).ops))
    assert result.verdict is Verdict.VALID, (seed, result.anomalies)


def committed(commits: Commits) -> str | None:
    """A transaction that at least two nodes committed."""
    for name in sorted({n for of in commits.votes.values() for n in of}):
        deciders = [of[name] for of in commits.decisions.values() if name in of]
        if len(deciders) > 1 and set(deciders) == {"commit"}:
            return name
    return None


def split(commits: Commits, name: str, last: dict[str, Any]) -> set[str]:
    """One participant aborts in the end what the others committed."""
    node = next(n for n in NODES if name in commits.decisions[n])
    last[node]["decisions"][name] = "abort"
    # It may have said commit before, and then it has reversed its decision, too.
    return {"split-decision"}


def mislead(commits: Commits, name: str, last: dict[str, Any]) -> set[str]:
    """The client is told that it failed for sure."""
    process = int(name[1:]) + 10
    value = {"id": name, "txn": []}
    done = [op for op in commits.ops if op.process == process and op.type != "invoke"]
    for op in done:
        op.type = "fail"
    if not done:
        at = next(op.index for op in commits.ops if op.process == process) + 1
        commits.ops.insert(at, Op(at, at, process, "fail", "txn", value, node="n1"))
        for i, op in enumerate(commits.ops):
            op.index = i
    return {"client-misled"}


def vote_no(commits: Commits, name: str, last: dict[str, Any]) -> set[str]:
    """A participant of what was committed had voted no."""
    node = next(n for n in NODES if name in commits.votes[n])
    last[node]["votes"][name] = "no"
    return {"commit-despite-no"}


def not_vote(commits: Commits, name: str, last: dict[str, Any]) -> set[str]:
    """A participant of what was committed never voted."""
    node = next(
        n
        for n in NODES
        if name in commits.votes[n] and name not in commits.coordinated[n]
    )
    for op in commits.ops:
        if op.f == "decisions" and op.type == "ok" and op.node == node:
            op.value["votes"].pop(name, None)
    last[node]["votes"]["another"] = "yes"
    return {"commit-without-vote"}


def block(commits: Commits, name: str, last: dict[str, Any]) -> set[str]:
    """A participant is in doubt after all was repaired."""
    node = next(n for n in NODES if name in commits.decisions[n])
    for op in commits.ops:
        if op.f == "decisions" and op.type == "ok" and op.node == node:
            op.value["decisions"].pop(name, None)
    last[node]["decisions"][name] = commits.random.choice(UNDECIDED)
    return {"blocked-after-heal"}


def reverse(commits: Commits, name: str, last: dict[str, Any]) -> set[str]:
    """All reverse a decision that one had told of."""
    node = next(n for n in NODES if name in commits.decisions[n])
    commits.account(node)
    told = commits.ops[-1].value
    told["decisions"][name] = "abort"
    return {"split-decision", "decision-reversed"}


@pytest.mark.parametrize("plant", [split, mislead, vote_no, not_vote, block, reverse])
@FEWER
@given(seed=st.integers(0, 2**32))
def test_a_planted_violation_is_named(
    plant: Callable[[Commits, str, dict[str, Any]], set[str]], seed: int
) -> None:
    commits = Commits(seed)
    name = committed(commits)
    assume(name is not None)
    assert name is not None
    expected = plant(commits, name, finals(commits))
    result = check(History(commits.ops))
    assert expected <= names(result), (seed, result)
    for anomaly in result.anomalies:
        assert anomaly.witness is not None
        assert set(anomaly.ops) == set(anomaly.witness.nodes)
        assert anomaly.explanation.endswith(".")


# Told as sentences


def account(process: int, node: str, **told: dict[str, str]) -> list[Op]:
    whole: dict[str, dict[str, str]] = {
        "decisions": {},
        "votes": {},
        "coordinated": {},
    } | told
    return [
        Op(-1, 0, process, "invoke", "decisions", node=node),
        Op(-1, 0, process, "ok", "decisions", whole, node=node),
    ]


def observed(node: str, f: str, ms: int = 0, **fields: Any) -> list[Op]:
    return [Op(-1, ms * 1_000_000, node, "info", f, fields, node=node)]


def numbered(*parts: list[Op]) -> History:
    ops = [op for part in parts for op in part]
    for i, op in enumerate(ops):
        op.index = i
    return History(ops)


def test_a_split_is_told_with_both_sides_and_what_the_client_heard() -> None:
    value = {"id": "t1", "txn": []}
    client = [
        Op(-1, 0, 1, "invoke", "txn", value, node="n1"),
        Op(-1, 0, 1, "ok", "txn", value, node="n1"),
    ]
    history = numbered(
        client,
        account(2, "n1", decisions={"t1": "abort"}),
        account(3, "n2", decisions={"t1": "commit"}),
        account(4, "n3", decisions={"t1": "commit"}),
    )
    (anomaly,) = check(history).anomalies
    assert anomaly.explanation == (
        "AC1 (agreement) is broken: transaction t1 was committed by n2 and n3 but "
        "aborted by n1; its client was told that it committed."
    )
    assert anomaly.ops == (0, 3, 5)
    assert anomaly.witness is not None
    assert anomaly.witness.edges[5, 3]["kind"] == "contradicts"


def test_forgetting_a_decision_breaks_its_finality() -> None:
    history = numbered(
        account(1, "n1", decisions={"t1": "commit"}, coordinated={"t1": "commit"}),
        account(1, "n1", decisions={"t1": "prepared"}, coordinated={"t1": "commit"}),
    )
    assert names(check(history, final="unhealed")) == {"decision-forgotten"}


def test_two_accounts_asked_for_at_once_may_come_in_any_order() -> None:
    early, late = (
        account(1, "n1", decisions={"t1": "prepared"}),
        account(2, "n1", decisions={"t1": "commit"}),
    )
    history = numbered(early[:1], late, early[1:])
    assert check(history, final="unhealed").verdict is Verdict.VALID


def test_being_in_doubt_is_no_anomaly_before_the_end() -> None:
    value = {"id": "t1", "txn": []}
    history = numbered(
        [Op(-1, 0, 1, "invoke", "txn", value, node="n1")],
        account(2, "n1", decisions={"t1": "prepared"}),
        [Op(-1, 0, 1, "ok", "txn", value, node="n1")],
        account(2, "n1", decisions={"t1": "commit"}),
    )
    assert check(history).verdict is Verdict.VALID


def test_a_coordinator_that_never_decides_blocks_as_well() -> None:
    history = numbered(account(1, "n1", coordinated={"t1": "undecided", "t2": "abort"}))
    (anomaly,) = check(history).anomalies
    assert anomaly.name == "blocked-after-heal"
    assert "n1 as coordinator is still 'undecided' on transaction t1" in (
        anomaly.explanation
    )
    assert check(history, final="unhealed").verdict is Verdict.VALID


def test_an_abort_that_all_voted_for_counts_only_when_nothing_failed() -> None:
    history = numbered(account(1, "n1", decisions={"t": "abort"}, votes={"t": "yes"}))
    result = check(history)
    assert result.verdict is Verdict.VALID
    assert result.stats["aborted_despite_all_yes"] == 1
    assert names(check(history, failures="none")) == {"needless-abort"}


def test_observations_alone_are_judged_and_doubts_are_measured() -> None:
    history = numbered(
        observed("n1", "voted", id="t1", vote="yes"),
        observed("n1", "in_doubt", 10, id="t1"),
        observed("n1", "decided", 260, id="t1", decision="commit", by="coordinator"),
        observed("n2", "voted", id="t1", vote="yes"),
        observed("n2", "in_doubt", 10, id="t1"),
        observed("n2", "resolved", 20, id="t1", waited_ms=900),
        observed("n3", "in_doubt", 10, id="t2"),
    )
    result = check(history)
    assert result.verdict is Verdict.VALID
    assert result.stats["in_doubt"] == 3
    assert result.stats["in_doubt_at_end"] == 1
    assert result.stats["longest_in_doubt_ms"] == 900


def test_observed_decisions_that_differ_are_a_split() -> None:
    history = numbered(
        observed("n1", "decided", id="t1", decision="commit"),
        observed("n2", "decided", id="t1", decision="abort"),
    )
    assert names(check(history)) == {"split-decision"}


def test_a_participant_that_forgot_that_it_was_over_the_barrier_is_told() -> None:
    def back(*, over: list[str], turned: list[str], open_: list[str]) -> set[str]:
        history = numbered(
            observed("n1", "precommitted", id="t1"),
            observed("n1", "restarted"),
            observed(
                "n1",
                "recovered",
                undecided=open_,
                pre_committed=over,
                turned_back=turned,
            ),
            observed("n1", "decided", id="t1", decision="commit"),
        )
        return names(check(history))

    assert back(over=[], turned=[], open_=["t1"]) == {"forgot-precommit"}
    assert back(over=["t1"], turned=[], open_=["t1"]) == set()
    # Brought back, or decided, in its last instant: nobody saw it.
    assert back(over=[], turned=["t1"], open_=["t1"]) == set()
    assert back(over=[], turned=[], open_=["t2"]) == set()


def test_a_history_without_decisions_is_not_judged() -> None:
    value = {"id": "t1", "txn": []}
    begun = [Op(-1, 0, 1, "invoke", "txn", value, node="n1")]
    for history in (History([]), numbered(begun), numbered(account(1, "n1"))):
        result = check(history)
        assert result.verdict is Verdict.UNKNOWN
        assert "nothing to judge" in result.reason


def test_a_node_that_never_gave_its_last_account_leaves_ac5_open() -> None:
    history = numbered(
        account(1, "n1", decisions={"t1": "commit"}),
        [
            Op(-1, 0, 2, "invoke", "decisions", node="n2"),
            Op(-1, 0, 2, "fail", "decisions", node="n2"),
        ],
    )
    result = check(history)
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason.startswith("n2 never told")
    assert check(history, final="unhealed").verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"decisions": 3, "votes": None}, "decisions of 3, which are no map"),
        ({"votes": {"t1": 1}}, "votes of {'t1': 1}, which are no map"),
        (["t1"], "decisions of ['t1'], which are no map"),
    ],
)
def test_nonsense_in_an_account_is_refused(value: Any, complaint: str) -> None:
    history = numbered(
        [
            Op(-1, 0, 1, "invoke", "decisions", node="n1"),
            Op(-1, 0, 1, "ok", "decisions", value, node="n1"),
        ],
    )
    with pytest.raises(HistoryError, match=re.escape(f"op 1: {complaint}")):
        check(history)


def test_a_transaction_without_an_id_is_refused() -> None:
    history = numbered([Op(-1, 0, 1, "invoke", "txn", "what", node="n1")])
    with pytest.raises(HistoryError, match="op 0: txn of 'what', which is no map"):
        check(history)


def test_the_registry_finds_it_and_refuses_unknown_options() -> None:
    assert registry.find("checker", "atomic-commit") is PLUGIN
    with pytest.raises(UsageError, match="no option 'grace'"):
        build({"grace": "1"})
