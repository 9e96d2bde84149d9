"""Every workload on a service that keeps its promise, and on ones that do not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.errors import NodeReply, UsageError
from harness.history import History, Op
from harness.run.interpreter import interpret
from harness.verdict import Limits, Verdict, combine
from harness.workload import Settling
from harness.workload import generator as gen
from harness.worlds.places import Endpoint, NodePlace
from reference_impls import transactions
from reference_impls.locks import Lock, Locks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.workload import Workload

NODES = ("n1", "n2", "n3")


class Service:
    """One process that plays three nodes, and is correct as it is only one."""

    keeps_aborted = False

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}
        self.chosen: dict[Any, Any] = {}
        self.sequence: list[list[Any]] = []
        self.decided: dict[str, str] = {}
        self.locks = Locks()
        self.ids = 0
        self.logs: dict[str, list[Any]] = {}
        self.committed: dict[str, int] = {}
        self.elements: list[Any] = []
        self.total = 0

    def answer(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return getattr(self, "on_" + body["type"])(node, body)  # type: ignore[no-any-return]  # handlers give bodies

    def on_txn(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        assert transactions.malformed(body["txn"]) == ""
        name = body.get("id")
        try:
            done = transactions.apply(self.state, body["txn"])
        except transactions.AbortError as why:
            if name is not None:
                self.decided[name] = "abort"
            raise NodeReply(definite=True, text=str(why), code=14) from why
        if name is not None:
            self.decided[name] = "commit"
        return {"type": "txn_ok", "txn": done}

    def on_read(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        if body["key"] not in self.state:
            raise NodeReply(definite=True, text="no such key", code=20)
        return {"type": "read_ok", "value": self.state[body["key"]]}

    def on_write(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        self.state[body["key"]] = body["value"]
        return {"type": "write_ok"}

    def on_cas(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.state.get(body["key"]) != body["from"]:
            raise NodeReply(definite=True, text="mismatch", code=22)
        self.state[body["key"]] = body["to"]
        return {"type": "cas_ok"}

    def on_propose(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        value = self.chosen.setdefault(body["key"], body["value"])
        return {"type": "propose_ok", "value": value}

    def on_learn(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "learn_ok", "value": self.chosen.get(body["key"])}

    def on_broadcast(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        self.sequence.append([1, len(self.sequence) + 1, body["message"]])
        return {"type": "broadcast_ok"}

    def on_delivered(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        end = body["from"] + body["count"]
        page = self.sequence[body["from"] : end]
        more = end < len(self.sequence)
        return {"type": "delivered_ok", "messages": page, "more": more}

    def on_decisions(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        voted = {"commit": "yes", "abort": "no"}
        return {
            "type": "decisions_ok",
            "decisions": dict(self.decided),
            "votes": {name: voted[how] for name, how in self.decided.items()},
            "coordinated": dict(self.decided),
        }

    def on_acquire(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.locks.apply(body)
        if answer["type"] == "error":
            raise NodeReply(definite=True, text=answer["text"], code=answer["code"])
        return answer

    on_use = on_release = on_acquire

    def on_status(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        role = "leader" if node == "n1" else "follower"
        return {"type": "status_ok", "role": role, "term": 3, "leader": "n1"}

    def on_echo(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "echo_ok", "echo": body["echo"]}

    def on_generate(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        self.ids += 1
        return {"type": "generate_ok", "id": f"{node}-{self.ids}"}

    def on_send(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        log = self.logs.setdefault(body["key"], [])
        log.append(body["msg"])
        return {"type": "send_ok", "offset": len(log) - 1}

    def on_poll(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        polled = {}
        for key, offset in body["offsets"].items():
            batch = self.logs.get(key, [])[offset : offset + 5]
            if batch:
                polled[key] = [[offset + i, msg] for i, msg in enumerate(batch)]
        return {"type": "poll_ok", "msgs": polled}

    def on_log_txn(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        done: list[list[Any]] = []
        for part in body["txn"]:
            match part:
                case ["send", key, message]:
                    log = self.logs.setdefault(key, [])
                    done.append(["send", key, [len(log), message]])
                    if ["abort"] not in body["txn"] or self.keeps_aborted:
                        log.append(message)
                case ["poll"]:
                    done.append(["poll", {}])
                case _:
                    done.append(part)
        return {"type": "log_txn_ok", "txn": done}

    def on_commit_offsets(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        self.committed.update(body["offsets"])
        return {"type": "commit_offsets_ok"}

    def on_list_committed_offsets(
        self, node: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        known = {key: o for key, o in self.committed.items() if key in body["keys"]}
        return {"type": "list_committed_offsets_ok", "offsets": known}

    def on_add(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        if "element" in body:
            self.elements.append(body["element"])
        else:
            self.total += body["delta"]
        return {"type": "add_ok"}


class Counts(Service):
    def on_read(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "read_ok", "value": self.total}


class Gathers(Service):
    def on_read(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "read_ok", "value": list(self.elements)}


class Spreads(Service):
    """Messages in no order, as `gossip` wants them."""

    def on_broadcast(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        self.elements.append(body["message"])
        return {"type": "broadcast_ok"}

    def on_read(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "read_ok", "messages": list(self.elements)}


class Client:
    def __init__(self, service: Service, workload: Workload) -> None:
        self.service, self.codec = service, workload.codec
        self.node = ""

    async def open(self, place: NodePlace) -> None:
        self.node = place.name

    async def invoke(self, op: Op) -> Op:
        await asyncio.sleep(0)
        try:
            body = self.service.answer(self.node, self.codec.request(op))
        except NodeReply as error:
            answer = self.codec.on_error(op, error)
            if answer is None:
                raise
            return answer
        finally:
            await asyncio.sleep(0)
        return self.codec.completion(op, body)

    async def close(self) -> None:
        pass


def play(
    name: str,
    service: Service,
    *,
    seed: int = 3,
    count: int = 600,
    options: Mapping[str, str] | None = None,
) -> Verdict:
    workload: Workload = registry.find("workload", name).factory(options or {})
    ops: list[Op] = []

    def record(op: Op) -> Op:
        op.index = len(ops)
        ops.append(op)
        return op

    nowhere, here = Path("nowhere"), Endpoint("localhost", 1)
    places = [NodePlace(n, here, {}, nowhere, nowhere, {}) for n in NODES]
    final = workload.final_generator(6)
    phases = [gen.limit(count, workload.generator(6))]
    asyncio.run(
        interpret(
            gen.phases(*phases, *([final] if final is not None else [])),
            concurrency=6,
            nodes=places,
            open_client=lambda: Client(service, workload),
            nemesis=None,
            record=record,
            op_timeout_s=5,
            idempotent=workload.idempotent,
            seed=seed,
            crash=lambda *told: pytest.fail(f"a client crashed: {told}"),
        )
    )
    history = History(ops)
    results = [
        checker.check(history, Limits()) for checker in workload.checkers().values()
    ]
    left_out = [remark for one in results for remark in one.remarks]
    assert not any("left out" in remark for remark in left_out), left_out
    return combine(result.verdict for result in results)


class LosesAppends(Service):
    def on_txn(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_txn(node, body)
        for key, value in self.state.items():
            if isinstance(value, list) and len(value) == 9:
                self.state[key] = value[:-1]
        return answer


class ForgetsWrites(Service):
    def on_txn(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_txn(node, body)
        self.state = {k: 8 if v == 9 else v for k, v in self.state.items()}
        return answer


class PrintsMoney(Service):
    def on_txn(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_txn(node, body)
        if self.state.get("account-3") == 2:
            self.state["account-3"] = 3
        return answer


class CountsTwice(Service):
    def on_txn(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        if body["txn"][0][0] == "add":
            super().on_txn(node, body)
        return super().on_txn(node, body)


class ForgetsKeys(Service):
    def on_write(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        if body["value"] == 2:
            return {"type": "write_ok"}
        return super().on_write(node, body)


class ChangesItsMind(Service):
    def on_propose(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        if body["value"] % 50 == 49:
            self.chosen.pop(body["key"], None)
        return super().on_propose(node, body)


class Reorders(Service):
    def on_delivered(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_delivered(node, body)
        if node == "n2":
            answer["messages"] = answer["messages"][::-1]
        return answer


class SplitsDecisions(Service):
    def on_decisions(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_decisions(node, body)
        if node == "n2":
            first = next(n for n, how in self.decided.items() if how == "commit")
            answer["decisions"][first] = "abort"
        return answer


class TwoLeaders(Service):
    def on_status(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "status_ok", "role": "leader", "term": 3, "leader": node}


class LocksOfItsOwn(Service):
    """Every node grants its own locks."""

    def on_acquire(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return super().on_acquire(node, {**body, "key": f"{node}/{body['key']}"})

    on_use = on_release = on_acquire


class ForgetsTokens(Service):
    """Tokens begin anew once a lock is free."""

    def on_release(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_release(node, body)
        self.locks.by_key[body["key"]] = Lock()
        return answer


class NeverAsksForTokens(Service):
    """One holder at a time, but a client that lost the lock may still use it."""

    def on_use(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "use_ok"}


class Mumbles(Service):
    def on_echo(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "echo_ok", "echo": body["echo"][:-1]}


class CountsPerNode(Service):
    """Each node counts its ids by itself, without its name in them."""

    def on_generate(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_generate(node, body)
        return {**answer, "id": self.ids // len(NODES)}


class ForgetsMessages(Service):
    def on_send(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_send(node, body)
        if body["msg"] % 40 == 0:
            self.logs[body["key"]].pop()
        return answer


class SkipsMessages(Service):
    def on_poll(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_poll(node, body)
        for pairs in answer["msgs"].values():
            if node == "n3" and len(pairs) > 3:
                del pairs[1]
        return answer


class CountsHalf(Counts):
    """Every node knows its own additions, and one never tells the others about them."""

    def on_add(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return super().on_add(node, body) if node != "n2" else {"type": "add_ok"}


class GathersHalf(Gathers):
    def on_add(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return super().on_add(node, body) if node != "n2" else {"type": "add_ok"}


class SpreadsHalf(Spreads):
    """Whoever asks one of the nodes does not see the newest messages."""

    def on_read(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_read(node, body)
        return {
            **answer,
            "messages": answer["messages"][: -5 if node == "n2" else None],
        }


class ForksLong(Service):
    """Two nodes are late, each with the writes that the other shows at once."""

    def on_txn(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().on_txn(node, body)
        newest = max(key for key in self.state if isinstance(key, int))
        late = NODES.index(node)
        for micro in answer["txn"]:
            if micro[0] == "r" and micro[1] % 2 == late and micro[1] > newest - 4:
                micro[2] = None
        return answer


BROKEN: dict[str, type[Service]] = {
    "bank": PrintsMoney,
    "broadcast": Reorders,
    "commit": SplitsDecisions,
    "consensus": ChangesItsMind,
    "counter": CountsTwice,
    "echo": Mumbles,
    "g_set": GathersHalf,
    "gossip": SpreadsHalf,
    "kafka": ForgetsMessages,
    "kv": ForgetsKeys,
    "leader": TwoLeaders,
    "list_append": LosesAppends,
    "lock": LocksOfItsOwn,
    "long_fork": ForksLong,
    "pn_counter": CountsHalf,
    "queue": LosesAppends,
    "rw_register": ForgetsWrites,
    "set": LosesAppends,
    "unique_ids": CountsPerNode,
}
CORRECT: dict[str, type[Service]] = {
    "g_set": Gathers,
    "gossip": Spreads,
    "pn_counter": Counts,
}
SETTLED: dict[str, dict[str, str]] = {
    "g_set": {"settle_s": "0"},
    "gossip": {"settle_s": "0"},
    "pn_counter": {"settle_s": "0"},
}
NEEDS = {
    "broadcast": "total_order",
    "commit": "atomic_commit",
    "consensus": "consensus",
    "list_append": "list-append",
    "long_fork": "long-fork",
    "pn_counter": "pn-counter",
    "rw_register": "rw-register",
    "unique_ids": "unique-ids",
}


def available(name: str) -> bool:
    try:
        registry.find("checker", NEEDS.get(name, "linearizable"))
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_service_that_keeps_its_promise_is_valid(name: str) -> None:
    if not available(name):
        pytest.skip(f"its checker {NEEDS[name]} is not there yet")
    options = SETTLED.get(name)
    service = CORRECT.get(name, Service)()
    assert play(name, service, options=options) is Verdict.VALID


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_service_that_breaks_its_promise_is_convicted(name: str) -> None:
    if not available(name):
        pytest.skip(f"its checker {NEEDS[name]} is not there yet")
    options = SETTLED.get(name)
    assert play(name, BROKEN[name](), options=options) is Verdict.INVALID


@pytest.mark.parametrize("broken", [LocksOfItsOwn, ForgetsTokens, NeverAsksForTokens])
@pytest.mark.parametrize("leases", ["false", "true"])
def test_a_broken_lock_service_is_convicted(broken: type[Service], leases: str) -> None:
    assert play("lock", Service(), options={"leases": leases}) is Verdict.VALID
    assert play("lock", broken(), options={"leases": leases}) is Verdict.INVALID


class NeverDelivers(Service):
    def on_poll(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": "poll_ok", "msgs": {key: [] for key in body["offsets"]}}


def test_a_log_that_never_delivers_does_not_keep_a_run_from_ending() -> None:
    assert play("kafka", NeverDelivers()) is Verdict.INVALID


class KeepsAborted(Service):
    keeps_aborted = True


def test_messages_of_aborted_transactions_must_not_be_polled() -> None:
    options = {"txn": "true"}
    assert play("kafka", Service(), options=options) is Verdict.VALID
    assert play("kafka", KeepsAborted(), options=options) is Verdict.INVALID


def test_messages_that_one_node_leaves_out_are_skipped() -> None:
    assert play("kafka", SkipsMessages()) is Verdict.INVALID


def test_nodes_have_as_long_to_settle_as_they_are_given() -> None:
    for name in ("g_set", "gossip", "pn_counter"):
        plugin = registry.find("workload", name)
        assert isinstance(plugin.factory({}), Settling)
        assert plugin.factory({"settle_s": "60"}).settle_s == 60
        with pytest.raises(UsageError, match="from 0 to 300"):
            plugin.factory({"settle_s": "301"})


class ForgetsHolders(Service):
    """A lease that runs out after 25 requests, whatever its holder does."""

    def on_acquire(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked % 25 == 0:
            for lock in self.locks.by_key.values():
                lock.held = False
        return super().on_acquire(node, body)


def test_locks_that_expire_are_judged_by_their_tokens_alone() -> None:
    assert play("lock", ForgetsHolders()) is Verdict.INVALID
    assert play("lock", ForgetsHolders(), options={"leases": "true"}) is Verdict.VALID


def test_every_workload_is_tried_here_or_has_tests_of_its_own() -> None:
    assert set(registry.plugins("workload")) == {*BROKEN, "register"}
