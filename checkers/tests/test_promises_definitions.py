"""The promises of protocols, by their definitions: whatever nodes and clients may say.

Histories are random claims of a few nodes about one or two objects, mostly broken. Each
definition looks at all pairs of claims, where the checkers go through them once.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import event, given
from hypothesis import strategies as st

from checkers.tests.counting_histories import check, names
from checkers.tests.histories import MANY
from harness.history import History, Op
from harness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = st.sampled_from(["n1", "n2", "n3"])

Claim = tuple[str, str, Any]
"""What a node observes of itself: node, kind, fields."""


class Asked(NamedTuple):
    """A client's call at a node: what was asked, how it ended, and what it got."""

    node: str
    f: str
    value: Any
    outcome: str
    got: Any
    key: Any = None


OUTCOMES = st.sampled_from(["ok", "ok", "ok", "fail", "info", "never"])


@st.composite
def told(
    draw: st.DrawFn, asked: st.SearchStrategy[Asked], claims: st.SearchStrategy[Claim]
) -> History:
    """Calls that overlap at will, and what nodes observe meanwhile."""
    ops: list[Op] = []
    running: list[tuple[int, Asked]] = []
    steps = draw(st.lists(asked | claims, max_size=10))
    for process, step in enumerate(steps):
        i = len(ops)
        if isinstance(step, Asked):
            op = Op(i, i, process, "invoke", step.f, step.value, step.key)
            running.append((process, step))
        else:
            node, kind, fields = step
            op = Op(i, i, node, "info", kind, fields)
        op.node = step[0]
        ops.append(op)
        ends: bool = draw(st.booleans())
        while running and ends:
            finish(ops, *running.pop(draw(st.integers(0, len(running) - 1))))
            ends = draw(st.booleans())
    while running:
        finish(ops, *running.pop())
    return History(ops)


def finish(ops: list[Op], process: int, call: Asked) -> None:
    if call.outcome == "never":
        return
    kind: Any = call.outcome
    value = call.got if kind == "ok" else call.value
    i = len(ops)
    ops.append(Op(i, i, process, kind, call.f, value, call.key, node=call.node))


def answered(judged: History, f: str) -> list[tuple[Op, Op]]:
    """(invocation, completion) of the calls that returned ok."""
    return [
        (op, done)
        for op, done in judged.calls()
        if op.f == f and done is not None and done.type == "ok"
    ]


def outcome(done: Op | None) -> str:
    return "info" if done is None else done.type


def observed(judged: History, *kinds: str) -> list[Op]:
    return [op for op in judged if not op.is_client and op.f in kinds]


# One leader

STATUSES = st.builds(
    Asked,
    NODES,
    st.just("status"),
    st.none(),
    OUTCOMES,
    st.fixed_dictionaries(
        {"role": st.sampled_from(["leader", "leader", "follower"]),
         "term": st.integers(1, 4)}
    ),
    st.none(),
)  # fmt: skip


@MANY
@given(told(STATUSES, st.nothing()), st.sampled_from(["", "1", "2"]))
def test_no_two_nodes_lead_in_one_term(judged: History, most: str) -> None:
    leads = {
        (done.value["term"], done.node)
        for _, done in answered(judged, "status")
        if done.value["role"] == "leader"
    }
    terms = {term for term, _ in leads}
    expected = {"two-leaders"} if len(leads) > len(terms) else set()
    if most and len(terms) > int(most):
        expected.add("unstable-leadership")
    result = check("one_leader", judged, terms_max=most)
    assert names(result) == expected
    verdict = Verdict.VALID if leads else Verdict.UNKNOWN
    assert result.verdict is (Verdict.INVALID if expected else verdict)


# Atomic commit

STANDINGS = st.sampled_from(["commit", "commit", "abort", "prepared", "undecided"])
TRANSACTIONS = st.sampled_from(["t1", "t2"])
VOTES = st.sampled_from(["yes", "yes", "yes", "no"])


def some_of(values: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(TRANSACTIONS, values, max_size=2)


ACCOUNTS = st.builds(
    Asked,
    NODES,
    st.just("decisions"),
    st.none(),
    OUTCOMES,
    st.fixed_dictionaries(
        {"decisions": some_of(STANDINGS), "votes": some_of(VOTES),
         "coordinated": some_of(STANDINGS)}
    ),
    st.none(),
)  # fmt: skip
CLIENTS = st.builds(
    lambda node, name, outcome: Asked(node, "txn", {"id": name}, outcome, {"id": name}),
    NODES,
    TRANSACTIONS,
    OUTCOMES,
)
LISTS = st.lists(TRANSACTIONS, max_size=2, unique=True)
OWN_EVENTS = (
    st.tuples(
        NODES,
        st.just("voted"),
        st.fixed_dictionaries({"id": TRANSACTIONS, "vote": VOTES}),
    )
    | st.tuples(
        NODES,
        st.just("decided"),
        st.fixed_dictionaries(
            {"id": TRANSACTIONS, "decision": st.sampled_from(["commit", "abort"]),
             "role": st.sampled_from(["participant", "coordinator"])}
        ),
    )
    | st.tuples(
        NODES,
        st.sampled_from(["precommitted", "precommitted", "in_doubt", "resolved"]),
        st.fixed_dictionaries({"id": TRANSACTIONS}),
    )
    | st.tuples(
        NODES,
        st.just("recovered"),
        st.fixed_dictionaries(
            {"undecided": LISTS, "pre_committed": LISTS, "turned_back": LISTS}
        ),
    )
)  # fmt: skip


class Said(NamedTuple):
    """An actor, in a role, said how a transaction stands with him."""

    actor: tuple[str | None, str]
    name: str
    word: str
    asked: int
    at: int


def standings(judged: History) -> Iterator[Said]:
    """All that was said of how transactions stand, in order."""
    for op in judged:
        begun = judged.completion[op.index]
        if op.is_client and op.f == "decisions" and op.type == "ok":
            for role in ("decisions", "coordinated"):
                for name, word in op.value[role].items():
                    yield Said((op.node, role), name, word, begun, op.index)
        elif op.f == "decided":
            as_coordinator = op.value["role"] == "coordinator"
            role = "coordinated" if as_coordinator else "decisions"
            word = op.value["decision"]
            yield Said((op.node, role), op.value["id"], word, op.index, op.index)


def ballots(judged: History) -> set[tuple[str, str | None, str]]:
    """(transaction, node, vote)."""
    of_accounts = {
        (name, done.node, vote)
        for _, done in answered(judged, "decisions")
        for name, vote in done.value["votes"].items()
    }
    of_events = {
        (op.value["id"], op.node, op.value["vote"]) for op in observed(judged, "voted")
    }
    return of_accounts | of_events


def broken_promises(judged: History, *, healed: bool, no_failures: bool) -> set[str]:
    """AC1 to AC5, and that nobody forgets that it is over the barrier."""
    said, votes = list(standings(judged)), ballots(judged)
    over = ("commit", "abort")
    out: set[str] = set()
    for name in ("t1", "t2"):
        clients = {
            {"ok": "commit", "fail": "abort"}[done.type]
            for op, done in judged.calls()
            if op.f == "txn" and op.value["id"] == name
            and done is not None and done.type != "info"
        }  # fmt: skip
        words = {s.word for s in said if s.name == name and s.word in over}
        if len(words) == 2:
            out.add("split-decision")
        elif words and clients - words:
            out.add("client-misled")
        cast = {vote for n, _, vote in votes if n == name}
        if "commit" in words | clients:
            if "no" in cast:
                out.add("commit-despite-no")
            elif any(
                account["decisions"].get(name) == "commit"
                and account["votes"]
                and name not in {*account["votes"], *account["coordinated"]}
                and not any((n, node) == (name, done.node) for n, node, _ in votes)
                for _, done in answered(judged, "decisions")
                for account in [done.value]
            ):
                out.add("commit-without-vote")
        if no_failures and cast == {"yes"} and "abort" in words | clients:
            out.add("needless-abort")
    for first, later in itertools.combinations(said, 2):
        if (first.actor, first.name) != (later.actor, later.name):
            continue
        if first.word in over and later.word != first.word:
            if later.word in over:
                out.add("decision-reversed")
            elif later.asked > first.at:
                out.add("decision-forgotten")
    end = max((op.index for op in judged if op.f == "txn"), default=-1)
    last = {
        (s.actor, s.name): s.word
        for s in said
        if s.asked > end and judged[s.at].is_client
    }
    if healed and any(word not in over for word in last.values()):
        out.add("blocked-after-heal")
    for crossed in observed(judged, "precommitted"):
        for back in observed(judged, "recovered"):
            known = back.value["pre_committed"] + back.value["turned_back"]
            if (
                (back.node == crossed.node and back.index > crossed.index)
                and crossed.value["id"] in back.value["undecided"]
                and crossed.value["id"] not in known
            ):
                out.add("forgot-precommit")
    return out


def one_txn_each(judged: History) -> bool:
    """Whether no transaction was begun twice: ids are unique."""
    begun = [op.value["id"] for op, _ in judged.calls() if op.f == "txn"]
    return len(begun) == len(set(begun))


@MANY
@given(
    told(CLIENTS | ACCOUNTS, OWN_EVENTS).filter(one_txn_each),
    st.booleans(),
    st.booleans(),
)
def test_atomic_commit_is_judged_by_all_pairs_of_statements(
    judged: History, healed: bool, no_failures: bool
) -> None:
    expected = broken_promises(judged, healed=healed, no_failures=no_failures)
    result = check(
        "atomic_commit",
        judged,
        final="healed" if healed else "unhealed",
        failures="none" if no_failures else "possible",
    )
    found = names(result)
    event(f"{len(expected)} rules broken")
    changed_mind = {"decision-reversed", "decision-forgotten"}
    assert found - changed_mind == expected - changed_mind
    # The first change of an actor's mind is told, of several.
    assert found & changed_mind <= expected
    assert bool(found & changed_mind) == bool(expected & changed_mind)
    end = max((op.index for op in judged if op.f == "txn"), default=-1)
    spoken_to = {op.node for op in judged if op.is_client}
    heard = {d.node for o, d in answered(judged, "decisions") if o.index > end}
    decided = any(s.word in {"commit", "abort"} for s in standings(judged))
    sure = decided and (not healed or spoken_to <= heard)
    verdict = Verdict.VALID if sure else Verdict.UNKNOWN
    assert result.verdict is (Verdict.INVALID if expected else verdict)


# Consensus

KEYS = st.sampled_from(["a", "b"])
VALUES = st.sampled_from("vw")
BALLOTS = st.integers(1, 3)
PROPOSERS = st.builds(
    lambda node, value, outcome, got, key: Asked(
        node, "propose", value, outcome, got, key
    ),
    NODES, VALUES, OUTCOMES, VALUES, KEYS,
) | st.builds(
    lambda node, outcome, got, key: Asked(node, "learn", None, outcome, got, key),
    NODES, OUTCOMES, VALUES | st.none(), KEYS,
)  # fmt: skip
PROTOCOL = (
    st.tuples(
        NODES,
        st.just("promised"),
        st.fixed_dictionaries(
            {"ballot": BALLOTS},
            optional={"key": KEYS, "accepted": st.none() | st.tuples(BALLOTS, VALUES)},
        ),
    )
    | st.tuples(
        NODES,
        st.sampled_from(["accepted", "accepted", "learned", "chosen"]),
        st.fixed_dictionaries({"key": KEYS, "ballot": BALLOTS, "value": VALUES}),
    )
    | st.tuples(
        NODES,
        st.just("learned"),
        st.fixed_dictionaries({"key": KEYS, "value": VALUES}),
    )
    | st.tuples(
        NODES,
        st.just("recovered"),
        st.fixed_dictionaries({"ballot": BALLOTS}, optional={"key": KEYS}),
    )
)


class Learned(NamedTuple):
    """A node has it that a value was chosen; `ballot` is at which, if it says so."""

    node: str | None
    value: str
    ballot: int | None
    at: int
    told: bool


def learnings(judged: History, key: str) -> list[Learned]:
    by_clients = [
        Learned(op.node, op.value, None, op.index, told=True)
        for op in judged
        if op.is_client and op.type == "ok" and op.key == key and op.value is not None
    ]
    return by_clients + [
        Learned(op.node, v["value"], v.get("ballot"), op.index, told=False)
        for op in observed(judged, "learned", "chosen")
        for v in [op.value]
        if v["key"] == key
    ]


def invalid(judged: History, key: str, learned: Learned) -> str | None:
    """Why nobody can have learned that, as to who proposed it when."""
    proposals = [
        (op.index, outcome(done))
        for op, done in judged.calls()
        if (op.f, op.key, op.value) == ("propose", key, learned.value)
    ]
    begun = [how for at, how in proposals if at < learned.at or not learned.told]
    if any(how != "fail" for how in begun):
        return None
    if begun:
        return "failed-proposal-chosen"
    return "learned-before-proposed" if proposals else "value-never-proposed"


def breaches(judged: History) -> set[str]:
    """Agreement, integrity, validity; learned implies chosen; P1a, 1(b) and P2c."""
    out: set[str] = set()
    acceptances = observed(judged, "accepted")
    acceptors = {op.node for op in observed(judged, "promised", "accepted")}
    proposed = any(op.f == "propose" for op in judged)
    for key in ("a", "b"):
        learned = learnings(judged, key)
        for x, y in itertools.combinations(learned, 2):
            if x.value != y.value:
                out.add("disagreement")
                out |= {"changed-its-mind"} if x.node == y.node else set()
        for x in learned:
            if proposed and (why := invalid(judged, key, x)):
                out.add(why)
            majorities = [
                ballot
                for ballot in (1, 2, 3)
                if 2 * len({
                    op.node for op in acceptances
                    if op.value == {"key": key, "ballot": ballot, "value": x.value}
                }) > len(acceptors)
            ]  # fmt: skip
            at = {x.ballot} if x.ballot is not None else {1, 2, 3}
            if acceptances and not at & set(majorities):
                out.add("learned-not-chosen")
    for a, b in itertools.combinations(acceptances, 2):
        same = [a.value[of] == b.value[of] for of in ("key", "ballot", "value")]
        if same == [True, True, False]:
            out.add("ballot-of-two-values")
    bound = observed(judged, "promised", "accepted", "recovered")
    for a, b in itertools.combinations(bound, 2):
        keys = {b.value.get("key"), None}
        same_acceptor = a.node == b.node and a.value.get("key") in keys
        if same_acceptor and b.value["ballot"] < a.value["ballot"]:
            out.add("broken-promise")
    for a, b in itertools.product(acceptances, observed(judged, "promised")):
        of = (a.node, a.value["key"]) == (b.node, b.value.get("key"))
        if of and a.index < b.index and "accepted" in b.value:
            says = b.value["accepted"]
            if says is None or says[0] < a.value["ballot"]:
                out.add("forgot-accepted")
    return out


@MANY
@given(told(PROPOSERS, PROTOCOL))
def test_consensus_is_judged_by_all_pairs_of_claims(judged: History) -> None:
    expected = breaches(judged)
    result = check("consensus", judged)
    event(f"{len(expected)} rules broken")
    assert names(result) == expected
    learned = any(learnings(judged, key) for key in ("a", "b"))
    verdict = Verdict.VALID if learned else Verdict.UNKNOWN
    assert result.verdict is (Verdict.INVALID if expected else verdict)
