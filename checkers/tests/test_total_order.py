"""Primary-order broadcast: by definition, a small correct service, planted breaches."""

from __future__ import annotations

import random
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from checkers.tests.histories import FEWER, MANY
from checkers.tests.test_promises_definitions import OUTCOMES, Asked, told
from checkers.total_order import PLUGIN, build
from harness import registry
from harness.errors import UsageError
from harness.history import History, HistoryError, Op
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NODES = ("n1", "n2", "n3")

Message = list[Any]


def check(ops: Sequence[Op]) -> CheckResult:
    for i, op in enumerate(ops):
        op.index = i
    return build({}).check(History(ops), Limits())


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


def call(process: int, node: str, f: str, value: Any, result: Any) -> list[Op]:
    return [
        Op(-1, 0, process, "invoke", f, value, node=node),
        Op(-1, 0, process, "ok", f, result, node=node),
    ]


def delivered(node: str, messages: Sequence[Message]) -> list[Op]:
    return call(int(node[1:]) + 100, node, "delivered", None, list(messages))


def observed(node: str, kind: str, **fields: Any) -> Op:
    return Op(-1, 0, node, "info", kind, fields, node=node)


def deliveries(node: str, messages: Sequence[Message]) -> list[Op]:
    return [
        observed(node, "delivered", epoch=e, counter=c, message=m)
        for e, c, m in messages
    ]


# Against the definitions


def breaks_total_order(p: Sequence[int], q: Sequence[int]) -> bool:
    """Some a before b at p, and q delivers b without having delivered a."""
    return any(
        b in q and (a not in q or q.index(a) > q.index(b))
        for a, b in combinations(p, 2)
    )


def breaks_agreement(p: Sequence[int], q: Sequence[int]) -> bool:
    """Some a that only p delivers, and some b that only q does."""
    return bool(set(p) - set(q)) and bool(set(q) - set(p))


sequences = st.lists(
    st.permutations(range(4)).flatmap(
        lambda p: st.integers(0, 4).map(lambda n: list(p)[:n])
    ),
    min_size=2,
    max_size=3,
)


@MANY
@given(sequences)
@example([[0, 1, 2], [0, 2]])
@example([[0, 1], [0, 2]])
def test_positions_decide_total_order_and_agreement_as_defined(
    of: list[list[int]],
) -> None:
    ops: list[Op] = []
    for node, messages in zip(NODES, of, strict=False):
        # One place for all: zxids must not give the order away.
        ops += delivered(node, [[None, None, m] for m in messages])
    found = names(check(ops))
    pairs = list(permutations(of, 2))
    total_order = any(breaks_total_order(p, q) for p, q in pairs)
    agreement = any(breaks_agreement(p, q) for p, q in pairs)
    assert bool(found) == (total_order or agreement)
    if "order-disagreement" in found:
        assert total_order
    if "agreement-broken" in found:
        assert agreement


@MANY
@given(sequences)
def test_neighbours_decide_it_for_observed_runs(of: list[list[int]]) -> None:
    """Every run is known from its first item on: another comes before all."""
    ops: list[Op] = []
    for node, messages in zip(NODES, of, strict=False):
        whole: list[Message] = [[None, None, m] for m in ("first", *messages)]
        ops += deliveries(node, whole)
    pairs = list(permutations(of, 2))
    broken = any(breaks_total_order(*pq) or breaks_agreement(*pq) for pq in pairs)
    assert bool(names(check(ops))) == broken


MESSAGES = st.sampled_from("abc")
NODE = st.sampled_from(NODES)
ITEMS = st.tuples(st.integers(1, 2), st.integers(1, 3), MESSAGES).map(list)
BROADCASTS = st.builds(
    lambda node, message, outcome: Asked(node, "broadcast", message, outcome, message),
    NODE, MESSAGES, OUTCOMES,
)  # fmt: skip
PAGES = st.builds(
    lambda node, start, items, more: Asked(
        node, "delivered", None, "ok", {"from": start, "messages": items, "more": more}
    ),
    NODE, st.integers(0, 1), st.lists(ITEMS, max_size=3), st.booleans(),
) | st.integers(0, 3).flatmap(
    # What everybody delivers who is right.
    lambda n: st.builds(
        lambda node: Asked(
            node, "delivered", None, "ok",
            {"from": 0, "messages": [[1, 1, "a"], [1, 2, "b"], [2, 1, "c"]][:n],
             "more": False},
        ),
        NODE,
    )
)  # fmt: skip


def pages_of(judged: History) -> list[tuple[int, int, str | None, dict[str, Any]]]:
    """(invocation, completion, node, page) of all reads, in the order of answers."""
    return [
        (judged.completion[done.index], done.index, done.node, done.value)
        for done in judged
        if (done.f, done.type) == ("delivered", "ok")
    ]


def client_breaches(judged: History) -> set[str]:
    """Zab's properties over the sequences that clients read, item by item."""
    out: set[str] = set()
    seen = [
        (node, page["from"] + i, tuple(item), at)
        for _, at, node, page in pages_of(judged)
        for i, item in enumerate(page["messages"])
    ]
    for (n, p, x, _), (m, q, y, _) in combinations(seen, 2):
        if (n, p) == (m, q) and x != y:
            out.add("delivery-changed")
    last = {(node, place): item for node, place, item, _ in seen}
    sent = {
        op.value: (op.index, "info" if done is None else done.type, done)
        for op, done in judged.calls()
        if op.f == "broadcast"
    }
    for (n, p), (m, q) in permutations(last, 2):
        x, y = last[n, p], last[m, q]
        if n == m and p < q:
            if x[:2] >= y[:2]:
                out.add("primary-order")
            if x[2] == y[2]:
                out.add("duplicate-delivery")
            if x[2] in sent and y[2] in sent:
                _, how, done = sent[y[2]]
                if how == "ok" and done and done.index < sent[x[2]][0]:
                    out.add("broadcast-order")
        if n != m and p == q and x != y:
            out.add("disagreement")
    for (n, p, item, at), message in [(s, s[2][2]) for s in seen] if sent else []:
        if last[n, p] != item:
            continue
        if message not in sent:
            out.add("message-never-broadcast")
        elif sent[message][1] == "fail":
            out.add("failed-message-delivered")
        elif sent[message][0] > at:
            out.add("delivered-before-broadcast")
    kept = whole(judged)
    for message, (_, how, _) in sent.items():
        if how == "ok" and kept and not any(message in mine for mine in kept):
            out.add("lost-message")
    return out


def whole(judged: History) -> list[set[str]]:
    """The messages of each node whose whole sequence was read after all broadcasts."""
    end = max((op.index for op in judged if op.f == "broadcast"), default=-1)
    late = [(node, page) for at, _, node, page in pages_of(judged) if at > end]
    found = []
    for node in NODES:
        mine = [page for n, page in late if n == node]
        lengths = [p["from"] + len(p["messages"]) for p in mine if not p["more"]]
        items = {
            p["from"] + i: item[2] for p in mine for i, item in enumerate(p["messages"])
        }
        if lengths and set(range(max(lengths))) <= set(items):
            found.append({items[i] for i in range(max(lengths))})
    return found


def each_is_sent_once(judged: History) -> bool:
    sent = [op.value for op, _ in judged.calls() if op.f == "broadcast"]
    return len(sent) == len(set(sent))


SAME_RULE = {
    "local-primary-order": "primary-order",
    "global-primary-order": "primary-order",
    "order-disagreement": "disagreement",
    "agreement-broken": "disagreement",
}


@MANY
@given(told(BROADCASTS | PAGES, st.nothing()).filter(each_is_sent_once))
def test_what_clients_read_is_judged_item_by_item(judged: History) -> None:
    expected = client_breaches(judged)
    result = check(judged.ops)
    found = {SAME_RULE.get(name, name) for name in names(result)}
    assert found <= expected
    assert bool(found) == bool(expected)
    if "delivery-changed" not in found:  # else what was there before is forgotten
        assert found == expected
    acknowledged = any(op.f == "broadcast" and op.type == "ok" for op in judged)
    read = any(page["messages"] for *_, page in pages_of(judged))
    sure = read and (not acknowledged or whole(judged))
    verdict = Verdict.VALID if sure else Verdict.UNKNOWN
    assert result.verdict is (Verdict.INVALID if expected else verdict)


# A correct service


class Service:
    """Primaries broadcast in turn, and nodes deliver prefixes of one sequence."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clients: list[Op] = []
        self.nodes: dict[str, list[Op]] = {node: [] for node in NODES}
        self.sequence: list[Message] = []
        self.reached = dict.fromkeys(NODES, 0)
        self.sent = 0
        for epoch in range(1, self.random.randint(2, 4)):
            self.reign(epoch, self.random.choice(NODES))
        for node in NODES:
            self.deliver(node, len(self.sequence))
            self.read_whole(node)

    def reign(self, epoch: int, primary: str) -> None:
        self.deliver(primary, len(self.sequence))
        last = self.sequence[-1][:2] if self.sequence else [0, 0]
        fields = {"term": epoch, "last_zxid": last}
        self.nodes[primary].append(observed(primary, "became_leader", **fields))
        for counter in range(1, self.random.randint(2, 6)):
            self.broadcast([epoch, counter])
            node = self.random.choice(NODES)
            self.deliver(node, self.random.randint(0, len(self.sequence)))
            if self.random.random() < 0.3:
                self.read_page(self.random.choice(NODES))
            if self.random.random() < 0.2:
                self.restart(self.random.choice(NODES))

    def broadcast(self, zxid: list[int]) -> None:
        """It may fail for sure, and then nobody ever sees it."""
        self.sent += 1
        node, chance = self.random.choice(NODES), self.random.random()
        invoked, ok = call(self.sent, node, "broadcast", self.sent, self.sent)
        self.clients.append(invoked)
        if chance < 0.1:
            ok.type = "fail"
        else:
            self.sequence.append([*zxid, self.sent])
        if chance > 0.3:
            self.deliver(node, len(self.sequence))
        elif ok.type != "fail":
            ok.type = "info"
        self.clients.append(ok)

    def deliver(self, node: str, end: int) -> None:
        fresh = self.sequence[self.reached[node] : end]
        self.nodes[node] += deliveries(node, fresh)
        self.reached[node] = max(self.reached[node], end)

    def restart(self, node: str) -> None:
        """A node delivers again from somewhere on."""
        self.nodes[node].append(observed(node, "restarted"))
        start = self.random.randint(0, self.reached[node])
        self.nodes[node] += deliveries(node, self.sequence[start : self.reached[node]])

    def read_page(self, node: str) -> None:
        start = self.random.randint(0, self.reached[node])
        end = min(start + 3, self.reached[node])
        page = {"from": start, "messages": self.sequence[start:end], "more": True}
        self.clients += call(900, node, "delivered", [start, 3], page)

    def read_whole(self, node: str) -> None:
        middle = self.random.randint(0, len(self.sequence))
        parts = ((0, self.sequence[:middle]), (middle, self.sequence[middle:]))
        for start, part in parts:
            page = {"from": start, "messages": list(part), "more": start < middle}
            self.clients += call(901, node, "delivered", [start, 99], page)
        if middle == 0:
            self.clients[-3].value["more"] = True

    def ops(self) -> list[Op]:
        return [*self.clients, *(op for ops in self.nodes.values() for op in ops)]

    def pages(self, node: str) -> list[Op]:
        """The node's whole sequence at the end, in two pages."""
        ops = [op for op in self.clients if op.process == 901 and op.node == node]
        return [op for op in ops if op.type == "ok"]


@FEWER
@given(st.integers(0, 2**32))
def test_a_correct_service_keeps_every_promise(seed: int) -> None:
    service = Service(seed)
    for ops in (service.ops(), service.clients):
        result = check(ops)
        expected = Verdict.VALID if service.sequence else Verdict.UNKNOWN
        assert result.verdict is expected, (seed, result)


def tamper(
    service: Service, change: Callable[[list[Message]], None], node: str = "n3"
) -> None:
    """Change a node's sequence at the end, as told in one page."""
    first, second = service.pages(node)
    messages = [list(m) for m in service.sequence]
    change(messages)
    first.value.update(messages=messages, more=False)
    second.value.update(messages=[], more=True)


def swap(service: Service) -> set[str]:
    def change(messages: list[Message]) -> None:
        messages[-2:] = messages[:-3:-1]

    tamper(service, change)
    same_epoch = service.sequence[-1][0] == service.sequence[-2][0]
    broken = "local" if same_epoch else "global"
    return {"order-disagreement", f"{broken}-primary-order"}


def skip(service: Service) -> set[str]:
    def change(messages: list[Message]) -> None:
        del messages[0]

    tamper(service, change)
    return {"order-disagreement"}


def diverge(service: Service) -> set[str]:
    def change(messages: list[Message]) -> None:
        messages[-1][2] = 999_999

    tamper(service, change)
    return {"agreement-broken", "message-never-broadcast"}


def repeat(service: Service) -> set[str]:
    def change(messages: list[Message]) -> None:
        messages.append([99, 1, messages[0][2]])

    tamper(service, change)
    return {"duplicate-delivery"}


def lose(service: Service) -> set[str]:
    """The last message is acknowledged, and then gone everywhere."""

    def change(messages: list[Message]) -> None:
        messages.pop()

    for node in NODES:
        tamper(service, change, node)
    for op in service.clients:
        if op.f == "broadcast" and op.value == service.sequence[-1][2]:
            op.type = "ok" if op.type == "info" else op.type
    return {"lost-message"}


def deliver_failed(service: Service) -> set[str]:
    done = [op for op in service.clients if op.f == "broadcast" and op.type != "invoke"]
    delivered = {m[2] for m in service.sequence}
    next(op for op in done if op.value in delivered).type = "fail"
    return {"failed-message-delivered"}


def deliver_early(service: Service) -> set[str]:
    last = service.sequence[-1]
    page = {"from": len(service.sequence) - 1, "messages": [last], "more": True}
    service.clients[:0] = call(902, "n1", "delivered", [0, 1], page)
    return {"delivered-before-broadcast"}


def rewrite(service: Service) -> set[str]:
    page = {"from": 0, "messages": [[0, 1, 999_999]], "more": True}
    service.clients += call(902, "n1", "delivered", [0, 1], page)
    return {"delivery-changed"}


def disobey_time(service: Service) -> set[str]:
    """Everybody delivers a later broadcast first, by zxids that fit."""
    a, b = service.sequence[-2], service.sequence[-1]
    for op in service.clients:
        if op.f == "broadcast" and op.value == a[2] and op.type == "info":
            op.type = "ok"
    a[2], b[2] = b[2], a[2]
    return {"broadcast-order"}


def observe_gap(service: Service) -> set[str]:
    del service.nodes["n1"][:]
    service.nodes["n1"] += deliveries("n1", service.sequence[:1] + service.sequence[2:])
    service.nodes["n2"] += [observed("n2", "restarted")]
    service.nodes["n2"] += deliveries("n2", service.sequence)
    return {"order-disagreement"} if len(service.sequence) > 2 else set()


def begin_without(service: Service) -> set[str]:
    """A primary begins without the last message of the epoch before."""
    epoch = service.sequence[-1][0]
    zxid = [epoch, service.sequence[-1][1] - 1]
    primary = observed("n9", "became_leader", term=epoch + 1, last_zxid=zxid)
    service.nodes["n1"] += [primary, observed("n1", "restarted")]
    service.nodes["n1"] += deliveries("n1", [[epoch + 1, 1, "next"]])
    return {"primary-integrity"}


def lead_twice(service: Service) -> set[str]:
    leader = next(
        op for ops in service.nodes.values() for op in ops if "term" in op.value
    )
    service.nodes["n1"].append(observed("n9", "became_leader", **leader.value))
    return {"two-primaries"}


def forget_epoch(service: Service) -> set[str]:
    service.nodes["n1"] += [
        observed("n1", "new_epoch", epoch=3, leader="n2"),
        observed("n1", "restarted"),
        observed("n1", "recovered", accepted_epoch=2),
    ]
    return {"epoch-went-back"}


@pytest.mark.parametrize(
    "plant",
    [
        swap,
        skip,
        diverge,
        repeat,
        lose,
        deliver_failed,
        deliver_early,
        rewrite,
        disobey_time,
        observe_gap,
        begin_without,
        lead_twice,
        forget_epoch,
    ],
)
@FEWER
@given(seed=st.integers(0, 2**32))
def test_a_planted_violation_is_named(
    plant: Callable[[Service], set[str]], seed: int
) -> None:
    service = Service(seed)
    assume(len(service.sequence) > 1)
    expected = plant(service)
    result = check(service.ops())
    assert expected <= names(result), (seed, result)
    for anomaly in result.anomalies:
        assert anomaly.explanation.endswith(".")
        assert anomaly.ops


# Told as sentences


def reign(
    *acked: str, promised: Sequence[str] = ("n2",), zxid: Sequence[int] = (1, 5)
) -> list[Op]:
    """n1 begins epoch 3, and leads it; n2 had promised."""
    had = {"current_epoch": 1, "last_zxid": [1, 5]}
    return [
        observed("n3", "recovered", accepted_epoch=0),
        observed("n2", "new_epoch", epoch=3, leader="n1", **had),
        observed(
            "n1",
            "synchronizing",
            term=3,
            promised=list(promised),
            current_epoch=1,
            last_zxid=list(zxid),
        ),
        observed(
            "n1", "became_leader", term=3, last_zxid=list(zxid), acked=list(acked)
        ),
        *deliveries("n1", [[1, 5, "a"]]),
    ]


def test_a_primary_needs_a_quorum_to_begin_and_to_broadcast() -> None:
    assert names(check(reign("n2"))) == set()
    assert names(check(reign())) == {"no-quorum"}
    assert names(check(reign("n2", promised=()))) == {"no-quorum"}
    (anomaly,) = check(reign()).anomalies
    assert anomaly.explanation == (
        "n1 broadcast in epoch 3 with the consent of n1 alone, and a quorum of the 3 "
        "nodes is 2; the others may know nothing of its history."
    )


def test_an_epoch_begins_with_the_most_recent_history_of_its_quorum() -> None:
    assert names(check(reign("n2", zxid=[1, 6]))) == set()
    assert "older-history" in names(check(reign("n2", zxid=[1, 4])))
    # One that isn't of the quorum may be ahead: what it has more was never committed.
    late = reign("n3", promised=["n3"], zxid=[1, 4])
    assert "older-history" not in names(check(late))


def test_a_disagreement_names_the_first_place_where_sequences_part() -> None:
    ops = [
        *delivered("n1", [[1, 1, "a"], [1, 2, "b"], [1, 3, "c"]]),
        *delivered("n2", [[1, 1, "a"], [1, 3, "c"]]),
    ]
    (anomaly,) = check(ops).anomalies
    assert anomaly.explanation == (
        "Total order is broken: item 1 is 'b' (1, 2) at n1, but 'c' (1, 3) at n2."
    )
    assert anomaly.ops == (1, 3)


def test_a_lost_message_names_who_acknowledged_it() -> None:
    ops = [*call(1, "n2", "broadcast", "a", "a"), *delivered("n1", [])]
    (anomaly,) = check(ops).anomalies
    assert anomaly.name == "lost-message"
    assert anomaly.explanation == (
        "'a' is lost: n2 acknowledged its broadcast, but it is in none of the whole "
        "sequences that n1 had at the end."
    )


def test_being_behind_is_no_loss() -> None:
    ops = [
        *call(1, "n2", "broadcast", "a", "a"),
        *delivered("n1", []),
        *delivered("n2", [[1, 1, "a"]]),
    ]
    result = check(ops)
    assert result.verdict is Verdict.VALID
    assert result.stats["behind_at_end"] == {"n1": 1}


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (3, "delivered of 3, which is no page of messages"),
        ({"from": "0", "messages": []}, "which is no page of messages"),
        ([[1, 1, "a"]], "its items are not like those before"),
        ([["1", 1, "a"], [1, 2, "b"]], "its items are not like those before"),
        ([7], "delivered gave 7, a number, but what went in was a text"),
    ],
)
def test_what_is_no_page_of_messages_is_refused(page: Any, complaint: str) -> None:
    ops = [
        *call(1, "n1", "broadcast", "a", "a"),
        *call(101, "n1", "delivered", None, ["a"]),
        *call(2, "n2", "delivered", None, page),
    ]
    with pytest.raises(HistoryError, match=f"op 5: .*{complaint}"):
        check(ops)


def test_without_sequences_nothing_is_judged() -> None:
    sent = call(1, "n1", "broadcast", "a", "a")
    early = [*delivered("n1", [[1, 1, "a"]])]
    for ops, reason in (
        ([], "nothing to judge"),
        (sent, "nothing to judge"),
        (delivered("n1", []), "nothing to judge"),
        ([sent[0], *early, sent[1]], "nobody knows whether"),
    ):
        result = check(ops)
        assert result.verdict is Verdict.UNKNOWN
        assert reason in result.reason


def test_the_registry_finds_it_and_it_has_no_options() -> None:
    assert registry.find("checker", "total-order") is PLUGIN
    with pytest.raises(UsageError, match="no option"):
        build({"nodes": "5"})


def test_one_node_that_delivers_too_early_is_enough() -> None:
    """Whichever node's sequence is looked at first."""
    early = [[1, 1, "x"], [1, 2, "a"]]
    ops = [
        *call(1, "n1", "broadcast", "x", "x"),
        *delivered("n1", early[:1]),
        *delivered("n2", early),
        *call(2, "n1", "broadcast", "a", "a"),
        *delivered("n1", early),
    ]
    assert names(check(ops)) == {"delivered-before-broadcast"}
