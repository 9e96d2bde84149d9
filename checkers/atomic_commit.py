"""Atomic commit: do all decide alike, for good, and for a reason?

The promises AC1 to AC5 of Bernstein, Hadzilacos and Goodman (1987, chapter 7.2):

- AC1  All that reach a decision reach the same one. Clients count: a transaction that
       was answered ok has been committed, one that failed for sure was aborted.
- AC2  Nobody reverses a decision. Nor does anybody forget one that it has told.
- AC3  Commit only if all participants voted yes.
- AC4  If all voted yes and nothing failed, commit. A history doesn't show what failed,
       so this is judged only when told that nothing did (`failures=none`); otherwise
       transactions that all voted for and that still aborted are counted.
- AC5  Once failures are repaired for long enough, all decide. Judged on the last
       `decisions` of each node after the last transaction, unless `final=unhealed`.

Two kinds of history are understood, also mixed: the operations of the `commit` workload
(`txn`, and `decisions` answered with a node's own account) and what nodes observed of
themselves (`voted`, `decided`, `in_doubt`, `resolved`; of 3PC, `precommitted` and
`recovered`). Nothing is assumed about the order of different nodes' events. They also
show a rule of 3PC at work, whose breach goes before a split: a participant that is over
the barrier is so in all its lives, until it decides or is brought back (7.5).

A statement that a decision exists is evidence for ever, so a split is found even when
one side is later "repaired". What is undecided at some moment is no anomaly before the
last reading: blocking is 2PC's nature. How many were in doubt and for how long is
counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.findings import enumerate_names, name_of, shown
from checkers.functions import Functions
from checkers.promises.findings import Findings
from checkers.tallies import bad_op
from harness.history import NO_COMPLETION
from harness.options import OneOf
from harness.registry import Option, Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import CheckResult, Limits

FUNCTIONS = Functions(
    "the atomic_commit checker",
    {"txn": ("txn",), "decisions": ("decisions",)},
    observed="what participants observe",
)

COMMIT = "commit"
ABORT = "abort"
DECISIONS = {COMMIT, ABORT}
PAST = {COMMIT: "committed", ABORT: "aborted"}
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
        decisions: Who committed or aborted it, by their own account.
        votes: What participants voted.
        told: What its client was told: "commit", "abort", or nothing for sure.
        invoked: The operation that began it, if a client did.
        states: Of each actor, its statements in the order of the history.
        unvoted: Participants that account for it without a vote of theirs.
    """

    decisions: list[Statement] = field(default_factory=list)
    votes: list[Statement] = field(default_factory=list)
    told: Statement | None = None
    invoked: int | None = None
    states: dict[str, list[Statement]] = field(
        default_factory=lambda: defaultdict(list)
    )
    unvoted: list[Statement] = field(default_factory=list)

    def state(self, actor: str, word: str, op: int) -> None:
        """Somebody tells how the transaction stands with him."""
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


@dataclass
class Evidence:
    """A history, read once.

    Attributes:
        transactions: By id, in order of appearance.
        final: How each actor last stood with each transaction, after the last one.
        heard: Nodes that gave an account after the last transaction.
        nodes: Nodes that clients spoke to.
        last_txn: Position of the last event of a transaction.
        accounts: How many `decisions` were answered.
        doubts: Per (node, id), when it fell into doubt, in nanoseconds of that node.
        waits_ms: How long doubts lasted that ended.
        doubts_seen: How many times some node was in doubt.
        crossed: Per (node, id), the event by which the node went over the barrier.
        forgotten: Of these, what a node had forgotten when it came back, and where.
    """

    transactions: dict[str, Transaction] = field(
        default_factory=lambda: defaultdict(Transaction)
    )
    final: dict[tuple[str, str], Statement] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    last_txn: int = -1
    accounts: int = 0
    doubts: dict[tuple[str, str], int] = field(default_factory=dict)
    waits_ms: list[float] = field(default_factory=list)
    doubts_seen: int = 0
    crossed: dict[tuple[str, str], int] = field(default_factory=dict)
    forgotten: list[tuple[str, str, int, int]] = field(default_factory=list)


def is_observation(op: Op) -> bool:
    """Whether a node says something of its own part in a transaction."""
    tells = isinstance(op.value, dict) and not op.is_client
    return tells and (op.f in OBSERVED or op.f == RECOVERED)


def gather(history: History, known: Known) -> Evidence:
    """Read the history. Cost: linear in what it says.

    Raises:
        HistoryError: A transaction without an id, or an account that is none.
    """
    evidence = Evidence()
    for op in history:
        if known.role(op) == "txn":
            evidence.last_txn = op.index
    for op in history:
        if is_observation(op):
            if op.f == RECOVERED:
                remember_barrier(evidence, op)
            else:
                observe(evidence, op)
        role = known.role(op)
        if role and op.node is not None:
            evidence.nodes.add(op.node)
        if role == "txn":
            tell_client(evidence, history, op)
        elif role == "decisions" and op.type == "ok":
            account(evidence, history, op)
    return evidence


def tell_client(evidence: Evidence, history: History, op: Op) -> None:
    """A client begins a transaction, or learns what became of it."""
    if not isinstance(op.value, dict) or "id" not in op.value:
        raise bad_op(
            history, op, f"txn of {op.value!r:.60}, which is no map with an id"
        )
    transaction = evidence.transactions[str(op.value["id"])]
    if op.type == "invoke":
        transaction.invoked = op.index
    elif op.type != "info":
        decision = COMMIT if op.type == "ok" else ABORT
        transaction.told = Statement(f"process {op.process}", decision, op.index)


def account(evidence: Evidence, history: History, op: Op) -> None:
    """A node tells of all transactions that it knows, or of a page of them."""
    if not isinstance(op.value, dict):
        raise bad_op(history, op, f"decisions of {op.value!r:.60}, which are no map")
    invoked = history.completion[op.index]
    node = name_of(op)
    evidence.accounts += 1
    is_final = invoked == NO_COMPLETION or invoked > evidence.last_txn
    if is_final:
        evidence.heard.add(node)
    decisions = words(history, op, "decisions")
    coordinated = words(history, op, "coordinated")
    votes = words(history, op, "votes")
    roles = ((node, decisions), (f"{node} as coordinator", coordinated))
    for actor, states in roles:
        for name, word in states.items():
            evidence.transactions[name].state(actor, word, op.index)
            if is_final:
                evidence.final[actor, name] = Statement(actor, word, op.index)
    for name, vote in votes.items():
        evidence.transactions[name].votes.append(Statement(node, vote, op.index))
    for name, word in decisions.items() if votes else ():
        if word == COMMIT and name not in votes and name not in coordinated:
            silent = Statement(node, word, op.index)
            evidence.transactions[name].unvoted.append(silent)


def words(history: History, op: Op, part: str) -> Mapping[str, str]:
    """A part of an account: a word for each transaction.

    Raises:
        HistoryError: It is something else.
    """
    told = op.value.get(part)
    if told is None:
        return {}
    if not isinstance(told, dict) or not all(isinstance(w, str) for w in told.values()):
        problem = f"{part} of {told!r:.60}, which are no map of transactions to words"
        raise bad_op(history, op, problem)
    return {str(name): word for name, word in told.items()}


def observe(evidence: Evidence, op: Op) -> None:
    """A node observed something of itself; what makes no sense is passed over."""
    node, name = name_of(op), str(op.value.get("id"))
    if op.f in TELLS and not isinstance(op.value.get(TELLS[op.f]), str):
        return
    transaction = evidence.transactions[name]
    if op.f == "voted":
        vote = str(op.value.get("vote"))
        transaction.votes.append(Statement(node, vote, op.index))
    elif op.f == "decided":
        as_coordinator = op.value.get("role") == "coordinator"
        actor = f"{node} as coordinator" if as_coordinator else node
        transaction.state(actor, str(op.value.get("decision")), op.index)
        end_doubt(evidence, (node, name), op)
    elif op.f == "in_doubt":
        evidence.doubts_seen += (node, name) not in evidence.doubts
        evidence.doubts.setdefault((node, name), op.time)
    elif op.f == "precommitted":
        evidence.crossed[node, name] = op.index
    else:
        end_doubt(evidence, (node, name), op)


def remember_barrier(evidence: Evidence, op: Op) -> None:
    """What a participant comes back with, against what it had told.

    Its last events may be missing, of a decision or of its way back; so only what it
    says is undecided counts, and not what it says it was brought back with.
    """
    node = name_of(op)
    told = {f: op.value.get(f) for f in ("undecided", "pre_committed", "turned_back")}
    if not all(isinstance(names, list) for names in told.values()):
        return
    for name in told["undecided"] or ():
        at = evidence.crossed.get((node, str(name)))
        known = [*(told["pre_committed"] or ()), *(told["turned_back"] or ())]
        if at is not None and name not in known:
            evidence.forgotten.append((node, str(name), at, op.index))


def end_doubt(evidence: Evidence, who: tuple[str, str], op: Op) -> None:
    """The doubt is over; the node's own figure counts, if it gives one."""
    began_ns = evidence.doubts.pop(who, None)
    waited_ms = op.value.get("waited_ms")
    if isinstance(waited_ms, int | float) and 0 <= waited_ms < WAIT_MS_MAX:
        evidence.waits_ms.append(float(waited_ms))
    elif began_ns is not None:
        evidence.waits_ms.append((op.time - began_ns) / 1e6)


class AtomicCommitChecker:
    """Judges AC1 to AC5.

    Args:
        healed: The last accounts were taken after all was repaired for long enough.
        no_failures: Nothing failed while the history was made.
    """

    observes = True

    def __init__(self, *, healed: bool = True, no_failures: bool = False) -> None:
        self.healed = healed
        self.no_failures = no_failures

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Linear, so `limits` is not needed.

        Raises:
            HistoryError: See `gather`, and `Functions.of`.
        """
        has_observed = any(is_observation(op) for op in history)
        known = FUNCTIONS.of(history, has_observed=has_observed)
        evidence = gather(history, known)
        findings = Findings(history)
        needless: list[str] = []
        for name, transaction in evidence.transactions.items():
            agreement(findings, name, transaction)
            no_reversal(findings, name, transaction)
            only_if_all_voted_yes(findings, name, transaction)
            if needlessly_aborted(transaction):
                needless.append(name)
        for node, name, at, back in evidence.forgotten:
            findings.add(
                "forgot-precommit",
                f"The barrier of 3PC is broken: {node} had acknowledged preCommit of "
                f"{name}, and came back uncertain of it; others may commit on the "
                "strength of that acknowledgement, while it helps to abort.",
                [(at, back, "contradicts", "it was over the barrier")],
            )
        if self.no_failures:
            for name in needless:
                commit_if_all_yes(findings, name, evidence.transactions[name])
        if self.healed:
            all_decide(findings, evidence)
        return known.weighed(
            findings.result(
                statistics(evidence) | {"aborted_despite_all_yes": len(needless)},
                unknown=self.unjudged(evidence),
            )
        )

    def unjudged(self, evidence: Evidence) -> str:
        """Why the history is not enough for a verdict; empty when it is."""
        if not any(t.decisions for t in evidence.transactions.values()):
            return (
                "nothing to judge: no node told of a decision on any of "
                f"{len(evidence.transactions)} transactions"
            )
        silent = sorted(evidence.nodes - evidence.heard)
        if self.healed and silent:
            return (
                f"{enumerate_names(silent)} never told after the last transaction what "
                "was decided, so nobody knows whether all decided (AC5)"
            )
        return ""


def statistics(evidence: Evidence) -> dict[str, Any]:
    """Figures for the report."""
    outcomes: Counter[str] = Counter()
    for transaction in evidence.transactions.values():
        words = {s.word for s in transaction.decisions}
        outcomes["split" if len(words) > 1 else words.pop() if words else "open"] += 1
    stats: dict[str, Any] = {
        "transactions": len(evidence.transactions),
        "outcomes": dict(outcomes),
        "accounts": evidence.accounts,
    }
    if evidence.doubts_seen or evidence.waits_ms:
        stats["in_doubt"] = evidence.doubts_seen
        stats["in_doubt_at_end"] = len(evidence.doubts)
        stats["longest_in_doubt_ms"] = round(max(evidence.waits_ms, default=0.0), 1)
    return stats


def agreement(findings: Findings, name: str, transaction: Transaction) -> None:
    """AC1: all that decide decide alike, and as the client was told."""
    committed, aborted = transaction.by(COMMIT), transaction.by(ABORT)
    told = transaction.told
    if committed and aborted:
        client = ""
        if told is not None:
            client = f"; its client was told that it {PAST[told.word]}"
        findings.add(
            "split-decision",
            f"AC1 (agreement) is broken: transaction {name} was committed by "
            f"{actors(committed)} but aborted by {actors(aborted)}{client}.",
            [
                *decided(transaction, [committed[0], aborted[0]]),
                (
                    committed[0].op,
                    aborted[0].op,
                    "contradicts",
                    f"{committed[0].actor} committed, {aborted[0].actor} aborted",
                ),
            ],
            details={"transaction": name, "rule": "AC1"},
        )
        return
    against = aborted if told and told.word == COMMIT else committed
    if told is None or not against:
        return
    findings.add(
        "client-misled",
        f"AC1 (agreement) is broken: the client of transaction {name} was told that it "
        f"{PAST[told.word]}, but {actors(against)} {PAST[against[0].word]} it.",
        [
            *decided(transaction, against[:1]),
            (
                told.op,
                against[0].op,
                "contradicts",
                f"the client was told {told.word}, {against[0].actor} says "
                f"{against[0].word}",
            ),
        ],
        details={"transaction": name, "rule": "AC1"},
    )


def decided(
    transaction: Transaction, statements: Iterable[Statement]
) -> list[tuple[int, int, str, str]]:
    """Arrows from the transaction to what was decided of it."""
    if transaction.invoked is None:
        return []
    return [
        (transaction.invoked, s.op, "decided", f"{s.actor} says {s.word}")
        for s in statements
        if s.op != transaction.invoked
    ]


def actors(statements: Iterable[Statement]) -> str:
    """Who made the statements."""
    return enumerate_names(statement.actor for statement in statements)


def no_reversal(findings: Findings, name: str, transaction: Transaction) -> None:
    """AC2: whoever has decided stays with it."""
    for actor, statements in transaction.states.items():
        pair = reversal(findings.history, statements)
        if pair is None:
            continue
        first, later = pair
        again = later.word in DECISIONS
        findings.add(
            "decision-reversed" if again else "decision-forgotten",
            f"AC2 is broken: {actor} said {first.word} of transaction {name} and "
            f"{'also' if again else 'later'} {later.word}; a decision is final.",
            [(first.op, later.op, "contradicts", f"{first.word}, then {later.word}")],
            details={"transaction": name, "rule": "AC2"},
        )


def reversal(
    history: History, statements: list[Statement]
) -> tuple[Statement, Statement] | None:
    """Two statements of one actor: a decision, and then another or none after all."""
    first: Statement | None = None
    for later in statements:
        if first is None:
            first = later if later.word in DECISIONS else None
        elif later.word == first.word:
            continue
        elif later.word in DECISIONS or follows(history, later, first):
            return first, later
    return None


def follows(history: History, later: Statement, first: Statement) -> bool:
    """Whether `later` was certainly said after `first` had been.

    An account that was asked for before `first` was answered may be the older one. A
    node's own observations are in their true order.
    """
    asked = history.completion[later.op]
    return (later.op if asked == NO_COMPLETION else asked) > first.op


def only_if_all_voted_yes(
    findings: Findings, name: str, transaction: Transaction
) -> None:
    """AC3: commit only if all participants voted yes."""
    committed = transaction.by(COMMIT)
    if not committed and transaction.told and transaction.told.word == COMMIT:
        committed = [transaction.told]
    if not committed:
        return
    against = next((s for s in transaction.votes if s.word != "yes"), None)
    if against is not None:
        findings.add(
            "commit-despite-no",
            f"AC3 is broken: transaction {name} was committed, says "
            f"{actors(committed)}, although {against.actor} voted {against.word}.",
            [(against.op, committed[0].op, "contradicts", f"a vote {against.word}")],
            details={"transaction": name, "rule": "AC3"},
        )
        return
    voters = {s.actor for s in transaction.votes}
    silent = next((s for s in transaction.unvoted if s.actor not in voters), None)
    if silent is not None:
        findings.add(
            "commit-without-vote",
            f"AC3 is broken: {silent.actor} took part in transaction {name}, which was "
            "committed, but it never voted.",
            decided(transaction, [silent]),
            ops=[silent.op],
            details={"transaction": name, "rule": "AC3"},
        )


def needlessly_aborted(transaction: Transaction) -> bool:
    """Whether it was aborted although all that voted said yes."""
    aborted = transaction.by(ABORT) or (
        transaction.told is not None and transaction.told.word == ABORT
    )
    votes = {s.word for s in transaction.votes}
    return bool(aborted) and votes == {"yes"}


def commit_if_all_yes(findings: Findings, name: str, transaction: Transaction) -> None:
    """AC4, where nothing failed."""
    aborted = transaction.by(ABORT) or [transaction.told or transaction.votes[0]]
    findings.add(
        "needless-abort",
        f"AC4 is broken: nothing failed, and {actors(transaction.votes)} voted yes on "
        f"transaction {name}, but it was aborted, says {actors(aborted)}.",
        decided(transaction, aborted[:1]),
        ops=[aborted[0].op],
        details={"transaction": name, "rule": "AC4"},
    )


def all_decide(findings: Findings, evidence: Evidence) -> None:
    """AC5: by the last accounts, everybody that took part has decided."""
    for (_, name), statement in evidence.final.items():
        if statement.word not in DECISIONS:
            blocked(findings, name, evidence.transactions[name], statement)


def blocked(
    findings: Findings, name: str, transaction: Transaction, statement: Statement
) -> None:
    """Somebody is undecided though nothing has kept him from deciding for long."""
    actor, word, op = statement
    others = [s for s in transaction.decisions if s.op != op][:1]
    decision = f", which {actors(others)} {PAST[others[0].word]}" if others else ""
    findings.add(
        "blocked-after-heal",
        f"AC5 is broken: {actor} is still {shown(word)} on transaction {name}"
        f"{decision}, long after all failures were repaired.",
        [(s.op, op, "undecided", "decided there, undecided here") for s in others],
        ops=[op] + ([] if transaction.invoked is None else [transaction.invoked]),
        details={"transaction": name, "rule": "AC5"},
    )


OPTIONS = (
    Option(
        "final",
        "healed",
        "whether the last decisions were read after all failures were repaired for "
        "long enough, so that whoever is undecided then is blocked",
        OneOf("healed", "unhealed"),
    ),
    Option(
        "failures",
        "possible",
        "whether anything failed; if nothing did, a transaction that all voted for "
        "must have been committed",
        OneOf("possible", "none"),
    ),
)


def build(options: Mapping[str, str]) -> AtomicCommitChecker:
    """The checker from its options. Raises UsageError for what it doesn't know."""
    given = settings("the atomic_commit checker", OPTIONS, options)
    return AtomicCommitChecker(
        healed=given["final"] == "healed", no_failures=given["failures"] == "none"
    )


PLUGIN = Plugin(
    "atomic_commit",
    "all decide alike, for good, only on unanimous votes, and in the end (AC1 to AC5)",
    build,
    OPTIONS,
    aliases=("atomic-commit",),
)
