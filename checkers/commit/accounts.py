"""What clients were told, nodes account for, and participants observed of themselves.

A statement that a decision exists is evidence for ever, whatever is said later. Nothing
is assumed about the order of different nodes' events.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from checkers.findings import name_of
from checkers.tallies import bad_op
from harness.history import NO_COMPLETION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.functions import Known
    from harness.history import History, Op

COMMIT = "commit"
ABORT = "abort"
DECISIONS = {COMMIT, ABORT}
OBSERVED = {"voted", "decided", "in_doubt", "resolved", "precommitted"}
TELLS = {"voted": "vote", "decided": "decision"}
WAIT_MS_MAX = 1e12
RECOVERED = "recovered"
"""A participant came back: its `undecided` transactions, and which of these are
`pre_committed`, or `turned_back`."""


class Statement(NamedTuple):
    """Somebody said something of a transaction.

    Attributes:
        actor: Who, for sentences: "n3", or "n3 as coordinator".
        word: A decision ("commit", "abort"), a state ("prepared") or a vote ("yes").
        op: The operation or event that says so.
    """

    actor: str
    word: str
    op: int


@dataclass
class Transaction:
    """All that is known of one transaction.

    Attributes:
        id: What it is called.
        decisions: Who committed or aborted it, by their own account.
        votes: What participants voted.
        told: What its client was told: "commit", "abort", or nothing for sure.
        invoked: The operation that began it, if a client did.
        states: Of each actor, its statements in the order of the history.
        unvoted: Participants that account for it without a vote of theirs.
    """

    id: str
    decisions: list[Statement] = field(default_factory=list)
    votes: list[Statement] = field(default_factory=list)
    told: Statement | None = None
    invoked: int | None = None
    states: dict[str, list[Statement]] = field(
        default_factory=lambda: defaultdict(list)
    )
    unvoted: list[Statement] = field(default_factory=list)

    def state(self, actor: str, word: str, op: int) -> None:
        """An actor tells how the transaction stands with it."""
        statement = Statement(actor, word, op)
        self.states[actor].append(statement)
        if word in DECISIONS:
            self.decisions.append(statement)

    def by(self, decision: str) -> list[Statement]:
        """Who decided that way, the first statement of each."""
        first: dict[str, Statement] = {}
        for statement in self.decisions:
            if statement.word == decision:
                first.setdefault(statement.actor, statement)
        return list(first.values())


class Forgotten(NamedTuple):
    """A node was over the barrier with event `at`, and came back uncertain (`back`)."""

    node: str
    transaction: str
    at: int
    back: int


@dataclass
class Accounts:
    """A history, read once.

    Attributes:
        transactions: By id, in order of appearance.
        final: How each actor last stood with each transaction, after the last one.
        heard: Nodes that gave an account after the last transaction.
        nodes: Nodes that clients spoke to.
        last_txn: Position of the last event of a transaction.
        answered: How many `decisions` were answered.
        doubts: Per (node, id), when it fell into doubt, in nanoseconds of that node.
        waits_ms: How long doubts lasted that ended.
        doubts_seen: How many times some node was in doubt.
        crossed: Per (node, id), the event by which the node went over the barrier.
        forgotten: Of these, what a node had forgotten when it came back.
    """

    transactions: dict[str, Transaction] = field(default_factory=dict)
    final: dict[tuple[str, str], Statement] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    last_txn: int = -1
    answered: int = 0
    doubts: dict[tuple[str, str], int] = field(default_factory=dict)
    waits_ms: list[float] = field(default_factory=list)
    doubts_seen: int = 0
    crossed: dict[tuple[str, str], int] = field(default_factory=dict)
    forgotten: list[Forgotten] = field(default_factory=list)

    def transaction(self, name: str) -> Transaction:
        """The transaction of that id."""
        if name not in self.transactions:
            self.transactions[name] = Transaction(name)
        return self.transactions[name]


def is_observation(op: Op) -> bool:
    """Whether a node says something of its own part in a transaction."""
    tells = isinstance(op.value, dict) and not op.is_client
    return tells and (op.f in OBSERVED or op.f == RECOVERED)


def gather(history: History, known: Known) -> Accounts:
    """Read the history. Cost: linear in what it says.

    Raises:
        HistoryError: A transaction without an id, or an account of another form.
    """
    accounts = Accounts()
    for op in history:
        if known.role(op) == "txn":
            accounts.last_txn = op.index
    for op in history:
        if is_observation(op):
            if op.f == RECOVERED:
                remember_barrier(accounts, op)
            else:
                observe(accounts, op)
        role = known.role(op)
        if role and op.node is not None:
            accounts.nodes.add(op.node)
        if role == "txn":
            tell_client(accounts, history, op)
        elif role == "decisions" and op.type == "ok":
            account(accounts, history, op)
    return accounts


def tell_client(accounts: Accounts, history: History, op: Op) -> None:
    """A client begins a transaction, or learns what became of it."""
    if not isinstance(op.value, dict) or "id" not in op.value:
        raise bad_op(
            history, op, f"txn of {op.value!r:.60}, which is no map with an id"
        )
    transaction = accounts.transaction(str(op.value["id"]))
    if op.type == "invoke":
        transaction.invoked = op.index
    elif op.type != "info":
        decision = COMMIT if op.type == "ok" else ABORT
        transaction.told = Statement(f"process {op.process}", decision, op.index)


def account(accounts: Accounts, history: History, op: Op) -> None:
    """A node tells of all transactions that it knows, or of a page of them."""
    if not isinstance(op.value, dict):
        raise bad_op(history, op, f"decisions of {op.value!r:.60}, which are no map")
    invoked = history.completion[op.index]
    node = name_of(op)
    accounts.answered += 1
    is_final = invoked == NO_COMPLETION or invoked > accounts.last_txn
    if is_final:
        accounts.heard.add(node)
    decisions = words(history, op, "decisions")
    coordinated = words(history, op, "coordinated")
    votes = words(history, op, "votes")
    roles = ((node, decisions), (f"{node} as coordinator", coordinated))
    for actor, states in roles:
        for name, word in states.items():
            accounts.transaction(name).state(actor, word, op.index)
            if is_final:
                accounts.final[actor, name] = Statement(actor, word, op.index)
    for name, vote in votes.items():
        accounts.transaction(name).votes.append(Statement(node, vote, op.index))
    for name, word in decisions.items() if votes else ():
        if word == COMMIT and name not in votes and name not in coordinated:
            silent = Statement(node, word, op.index)
            accounts.transaction(name).unvoted.append(silent)


def words(history: History, op: Op, part: str) -> Mapping[str, str]:
    """A part of an account: a word for each transaction.

    Raises:
        HistoryError: The part has another form.
    """
    told = op.value.get(part)
    if told is None:
        return {}
    if not isinstance(told, dict) or not all(isinstance(w, str) for w in told.values()):
        problem = f"{part} of {told!r:.60}, which are no map of transactions to words"
        raise bad_op(history, op, problem)
    return {str(name): word for name, word in told.items()}


def observe(accounts: Accounts, op: Op) -> None:
    """A node observed something of itself; what makes no sense is passed over."""
    node, name = name_of(op), str(op.value.get("id"))
    if op.f in TELLS and not isinstance(op.value.get(TELLS[op.f]), str):
        return
    transaction = accounts.transaction(name)
    if op.f == "voted":
        vote = str(op.value.get("vote"))
        transaction.votes.append(Statement(node, vote, op.index))
    elif op.f == "decided":
        as_coordinator = op.value.get("role") == "coordinator"
        actor = f"{node} as coordinator" if as_coordinator else node
        transaction.state(actor, str(op.value.get("decision")), op.index)
        end_doubt(accounts, (node, name), op)
    elif op.f == "in_doubt":
        accounts.doubts_seen += (node, name) not in accounts.doubts
        accounts.doubts.setdefault((node, name), op.time)
    elif op.f == "precommitted":
        accounts.crossed[node, name] = op.index
    else:
        end_doubt(accounts, (node, name), op)


def remember_barrier(accounts: Accounts, op: Op) -> None:
    """Compare what a participant comes back with to what it had told.

    Its last events may be missing: a decision, or how it was brought back. So only
    transactions that it calls undecided are compared, and those that it says it turned
    back from are not.
    """
    node = name_of(op)
    told = {f: op.value.get(f) for f in ("undecided", "pre_committed", "turned_back")}
    if not all(isinstance(names, list) for names in told.values()):
        return
    for name in told["undecided"] or ():
        at = accounts.crossed.get((node, str(name)))
        known = [*(told["pre_committed"] or ()), *(told["turned_back"] or ())]
        if at is not None and name not in known:
            forgotten = Forgotten(node, str(name), at, op.index)
            accounts.forgotten.append(forgotten)


def end_doubt(accounts: Accounts, who: tuple[str, str], op: Op) -> None:
    """The doubt is over; the node's own figure counts, if it gives one."""
    began_ns = accounts.doubts.pop(who, None)
    waited_ms = op.value.get("waited_ms")
    if isinstance(waited_ms, int | float) and 0 <= waited_ms < WAIT_MS_MAX:
        accounts.waits_ms.append(float(waited_ms))
    elif began_ns is not None:
        accounts.waits_ms.append((op.time - began_ns) / 1e6)
