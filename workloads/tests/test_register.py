"""The register workload: its operations, how answers are read, and its verdicts."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import NodeReply, UsageError
from harness.history import History, Op
from harness.run.interpreter import interpret
from harness.verdict import Limits, Verdict
from harness.workload import generator as gen
from harness.worlds.places import Endpoint, NodePlace
from workloads.objects import OPS_FACTOR
from workloads.register import Register, RegisterCodec


class Store:
    """A register service that is linearizable, as it carries out each call at once.

    It forgets to answer every `lose_every`-th write.
    """

    def __init__(self, lose_every: int = 0) -> None:
        self.values: dict[Any, Any] = {}
        self.writes = 0
        self.lose_every = lose_every

    async def open(self, place: NodePlace) -> None:
        pass

    async def invoke(self, op: Op) -> Op:
        await asyncio.sleep(0)
        if op.f == "read":
            return op.ok(self.values.get(op.key))
        if op.f == "write":
            self.values[op.key] = op.value
            self.writes += 1
            if self.lose_every and self.writes % self.lose_every == 0:
                raise NodeReply(definite=False, text="lost")
            return op.ok(op.value)
        before, after = op.value
        if self.values.get(op.key) != before:
            raise NodeReply(definite=True, text="mismatch", code=22)
        self.values[op.key] = after
        return op.ok(op.value)

    async def close(self) -> None:
        pass


def play(
    count: int,
    *,
    seed: int = 0,
    threads: int = 4,
    lose_every: int = 0,
    **options: str,
) -> History:
    """A history of `count` operations on a store that keeps its promise."""
    workload, store = Register(options), Store(lose_every)
    ops: list[Op] = []

    def record(op: Op) -> Op:
        op.index = len(ops)
        ops.append(op)
        return op

    nowhere = Path("nowhere")
    here = Endpoint("localhost", 1)
    places = [NodePlace(n, here, {}, nowhere, nowhere, {}) for n in ("n1", "n2")]
    asyncio.run(
        interpret(
            gen.phases(
                gen.limit(count, workload.generator(threads)),
                workload.final_generator(threads),
            ),
            concurrency=threads,
            nodes=places,
            open_client=lambda: store,
            nemesis=None,
            record=record,
            op_timeout_s=5,
            idempotent=workload.idempotent,
            seed=seed,
            crash=lambda *_: None,
        )
    )
    return History(ops)


@settings(max_examples=settings().max_examples // 4, deadline=None)
@given(seed=st.integers(), threads=st.integers(1, 7))
def test_every_value_written_is_new_to_the_whole_run(seed: int, threads: int) -> None:
    history = play(200, seed=seed, threads=threads)
    written = [
        op.value if op.f == "write" else op.value[1]
        for op in history
        if op.type == "invoke" and op.f != "read"
    ]
    assert len(written) == len(set(written))


def test_a_correct_store_is_found_valid() -> None:
    history = play(2000)
    [checker] = Register({}).checkers().values()
    assert checker.check(history, Limits()).verdict is Verdict.VALID


def test_a_stale_read_is_found() -> None:
    history = play(2000)
    reads = [o for o in history if (o.type, o.f) == ("ok", "read") and o.value]
    reads[-1].value = next(o.value for o in reads if o.key == reads[-1].key)
    [checker] = Register({}).checkers().values()
    judged = checker.check(History(history.ops), Limits())
    assert judged.verdict is Verdict.INVALID


def stale_but_sequential() -> History:
    """A history with a reader that lags behind for a while, but never goes back."""
    store: list[Any] = [None]
    ops: list[Op] = []

    def call(process: int, f: str, value: Any) -> None:
        for kind, shown in (("invoke", None if f == "read" else value), ("ok", value)):
            at = len(ops)
            ops.append(
                Op(at, at, process, kind, f, shown, 0, node=f"n{process + 1}")  # type: ignore[arg-type]  # the kinds are ours
            )

    for value in range(1, 9):
        call(0, "write", value)
        store.append(value)
        call(1, "read", store[max(0, len(store) - 3)])
    return History(ops)


@pytest.mark.parametrize("consistency", ["sequential", "session"])
def test_stale_reads_break_only_what_was_promised(consistency: str) -> None:
    checkers = Register({"consistency": consistency}).checkers()
    results = {
        name: checker.check(stale_but_sequential(), Limits())
        for name, checker in checkers.items()
    }
    assert results["sequential"].verdict is Verdict.VALID
    assert results["sequential"].promised
    assert results["sequential"].stats["guarantee"] == consistency
    assert results["linearizable"].verdict is Verdict.INVALID
    assert not results["linearizable"].promised
    [judge] = Register({}).checkers().values()
    assert judge.check(stale_but_sequential(), Limits()).promised


@pytest.mark.parametrize("consistency", ["sequential", "session"])
def test_a_client_that_goes_back_in_time_breaks_even_the_least(
    consistency: str,
) -> None:
    history = stale_but_sequential()
    reads = [o for o in history if (o.type, o.f) == ("ok", "read")]
    reads[-1].value, reads[-2].value = reads[-2].value, reads[-1].value
    judge = Register({"consistency": consistency}).checkers()["sequential"]
    assert judge.check(History(history.ops), Limits()).verdict is Verdict.INVALID


def test_nothing_read_is_nothing_known() -> None:
    [checker] = Register({}).checkers().values()
    assert checker.check(History([]), Limits()).verdict is Verdict.UNKNOWN


def test_a_client_keeps_to_one_node_through_all_its_crashes() -> None:
    """ZooKeeper's sessions do, and their guarantees depend on it."""
    history = play(600, threads=5, lose_every=7)
    nodes: dict[int, set[str | None]] = {}
    for op in history:
        assert isinstance(op.process, int)
        nodes.setdefault(op.process, set()).add(op.node)
    assert len(nodes) > 5, "clients crashed, and others took their place"
    assert all(len(seen) == 1 for seen in nodes.values())
    assert {*nodes[0], *nodes[1]} == {"n1", "n2"}


def test_half_of_the_threads_only_read() -> None:
    history = play(400, threads=6)
    doing: dict[int, set[str]] = {}
    final = len(history) - 2 * 6 * 5
    for op in list(history)[:final]:
        if op.type == "invoke":
            assert isinstance(op.process, int)
            doing.setdefault(op.process, set()).add(op.f)
    assert [doing[p] == {"read"} for p in range(6)] == [True] * 3 + [False] * 3


def test_registers_are_given_up_after_so_many_operations_whatever_goes_on() -> None:
    history = play(500, threads=4, keys="2", ops_per_key="5", cas="false")
    changes = Counter(o.key for o in history if o.type == "invoke" and o.f == "write")
    assert max(changes) >= 5
    # Operations that were drawn before the register was given up come on top.
    assert all(changes[key] <= 5 * OPS_FACTOR + 2 for key in changes)


def test_a_good_part_of_the_compare_and_sets_succeeds() -> None:
    outcomes = Counter(
        op.type for op in play(2000) if op.f == "cas" and op.type != "invoke"
    )
    assert outcomes["ok"] > outcomes.total() / 4
    assert not any(op.f == "cas" for op in play(300, cas="false"))


def test_at_the_end_every_thread_reads_every_register_in_use() -> None:
    history = play(100, threads=3, keys="2")
    tail = [op for op in history if op.type == "invoke"][-6:]
    assert Counter((op.process, op.key) for op in tail) == Counter(
        (process, key) for process in range(3) for key in range(2)
    )


def op(f: str, value: Any = None) -> Op:
    return Op(0, 0, 1, "invoke", f, value, key=5)


def test_requests_are_those_of_maelstroms_lin_kv() -> None:
    codec = RegisterCodec()
    assert codec.request(op("read")) == {"type": "read", "key": 5}
    assert codec.request(op("write", 3)) == {"type": "write", "key": 5, "value": 3}
    assert codec.request(op("cas", [1, 2])) == {
        "type": "cas",
        "key": 5,
        "from": 1,
        "to": 2,
    }


def test_a_missing_key_reads_as_null() -> None:
    missing = NodeReply(definite=True, text="no such key", code=20)
    read = RegisterCodec().on_error(op("read"), missing)
    assert read is not None
    assert (read.type, read.value) == ("ok", None)
    assert RegisterCodec().on_error(op("cas", [1, 2]), missing) is None


@pytest.mark.parametrize(
    "body", [{}, {"type": "write_ok"}, {"type": "read_ok"}, {"type": 3}]
)
def test_an_answer_that_makes_no_sense_leaves_the_operation_unknown(
    body: dict[str, Any],
) -> None:
    with pytest.raises(NodeReply) as answer:
        RegisterCodec().completion(op("read"), body)
    assert not answer.value.definite


@pytest.mark.parametrize(
    "options",
    [{"keys": "0"}, {"keys": "x"}, {"ops_per_key": "-1"}, {"cas": "maybe"},
     {"read_share": "2"}, {"read_share": "half"}, {"kyes": "3"},
     {"consistency": "eventual"}],
)  # fmt: skip
def test_senseless_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"register"):
        Register(options)


def test_the_same_seed_draws_the_same_operations() -> None:
    def invocations(seed: int) -> list[tuple[str, Any, Any]]:
        history = play(300, seed=seed, threads=1, cas="false")
        return [(o.f, o.key, o.value) for o in history if o.type == "invoke"]

    seed = Random(4).randrange(10**6)
    assert invocations(seed) == invocations(seed)
    assert invocations(seed) != invocations(seed + 1)
