"""The lock workload: its operations, its liveness, and whole runs in both worlds."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness.campaign.carrying import discard
from harness.campaign.experiment import Experiment
from harness.errors import NodeReply, UsageError
from harness.history import Op
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec
from harness.workload.generator import Context, Event, Invocation, Seeds
from harness.workload.generator.flow import Board
from workloads.lock import Lock, LockCodec

SELFISH = Path(__file__).with_name("selfish_locks.py")

THREADS = 4


def run(results: Path, *arguments: str) -> tuple[int, Any, str]:
    """The exit status of `run --json`, what it printed, and its complaint."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "run", *arguments),
            *("--workload", "lock", "--results", str(results), "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    outcome = json.loads(done.stdout) if done.stdout else None
    return done.returncode, outcome, done.stderr


def anomalies(outcome: Any, checker: str) -> set[str]:
    return {a["name"] for a in outcome["checkers"][checker]["anomalies"]}


# --- operations ---------------------------------------------------------------------


def drive(answer: Any, count: int, seed: str = "0") -> list[Op]:
    """`count` operations, one at a time, each completed as `answer(op)` says."""
    workload = Lock({"locks": "2", "ops_per_lock": "30"})
    flow = workload.generator(THREADS).start(Seeds(seed))
    board = Board(THREADS, seed)
    everyone = (1 << THREADS) - 1
    ops = []
    for index in range(count):
        ctx = Context(index, everyone, everyone, board)
        offer = flow.next(ctx)
        assert isinstance(offer, Invocation)
        flow.take(offer)
        assert isinstance(offer.thread, int)
        op = Op(index, index, offer.thread, "invoke", offer.f, offer.value, offer.key)
        done = answer(op)
        flow.update(ctx, Event(offer.thread, done))
        ops.append(done)
    return ops


class Granting:
    """A lock service that never refuses, and answers as `kinds` says."""

    def __init__(self, seed: int, **kinds: str) -> None:
        self.tokens = 0
        self.random = Random(seed)
        self.kinds = kinds

    def __call__(self, op: Op) -> Op:
        if self.random.random() < 0.3 and op.f in self.kinds:
            return op.fail() if self.kinds[op.f] == "fail" else op.info()
        self.tokens += op.f == "acquire"
        return op.ok(self.tokens if op.f == "acquire" else op.value)


def test_a_client_uses_what_it_acquired_and_then_releases_it() -> None:
    held: dict[int, tuple[Any, Any]] = {}
    stale = 0
    for op in drive(Granting(1), 400):
        assert isinstance(op.process, int)
        if op.f == "acquire":
            assert op.process not in held
            held[op.process] = (op.key, op.value)
        elif op.process in held:
            assert held[op.process] == (op.key, op.value)
            if op.f == "release":
                del held[op.process]
        else:
            assert op.f == "use", "only uses are tried with old tokens"
            stale += 1
    assert stale > 10


@pytest.mark.parametrize(
    "lost", [{"acquire": "info"}, {"release": "info"}, {"release": "fail"}]
)
@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_lost_there_are_locks_to_be_had(
    lost: dict[str, str], seed: int
) -> None:
    ops = drive(Granting(seed, **lost), 400, str(seed))
    stuck = {op.key for op in ops if op.type == "info"}
    tried_last = {op.key for op in ops[-60:] if op.f == "acquire"}
    assert tried_last - stuck, f"seed {seed}: nothing but stuck locks was tried"
    for index, op in enumerate(ops):
        if op.type == "info" and index < 200:
            later = [o.key for o in ops[index + THREADS :] if o.f == "acquire"]
            asked = later.count(op.key)
            assert asked < len(later) / 3, f"seed {seed}: stuck on {op}"
    again = [o for o in ops[200:] if o.f == "acquire" and o.key in stuck]
    assert again or not stuck, f"seed {seed}: no stuck lock was asked for again"


def test_a_client_draws_the_same_operations_however_fast_the_others_are() -> None:
    def of_thread_0(count: int, board_seed: str) -> list[tuple[str, Any]]:
        workload = Lock({})
        flow = workload.generator(THREADS).start(Seeds("9"))
        board = Board(THREADS, board_seed)
        seen = []
        for index in range(count):
            ctx = Context(index, (1 << THREADS) - 1, (1 << THREADS) - 1, board)
            offer = flow.next(ctx)
            assert isinstance(offer, Invocation)
            flow.take(offer)
            if offer.thread == 0:
                seen.append((offer.f, offer.key))
        return seen

    one, other = of_thread_0(200, "a"), of_thread_0(200, "b")
    both = min(len(one), len(other))
    assert both > 20
    assert one[:both] == other[:both]


@pytest.mark.parametrize(
    "body",
    [
        {"type": "use_ok"},
        {"type": "acquire_ok"},
        {"type": "acquire_ok", "token": "1"},
        {"type": "acquire_ok", "token": True},
        {"type": "acquire_ok", "token": None},
    ],
)
def test_an_answer_without_a_token_leaves_the_acquire_open(
    body: dict[str, Any],
) -> None:
    with pytest.raises(NodeReply) as doubt:
        LockCodec().completion(Op(0, 0, 1, "invoke", "acquire", None, 1), body)
    assert not doubt.value.definite


@pytest.mark.parametrize(
    "options", [{"locks": "0"}, {"ops_per_lock": "x"}, {"leases": "1"}, {"lock": "1"}]
)
def test_impossible_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Lock(options)


# --- whole runs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "protocol",
    [
        "raft",
        pytest.param("multi_paxos", marks=pytest.mark.nightly),
        pytest.param("zab", marks=pytest.mark.nightly),
    ],
)
def test_a_lock_service_is_valid_under_faults_in_the_simulator(
    protocol: str, tmp_path: Path
) -> None:
    status, outcome, err = run(
        tmp_path,
        *(protocol, "--world", "sim", "--nemesis", "partition,kill,pause"),
        *("--seed", "3", "--time-limit", "12"),
    )
    assert status == 0, (outcome, err)
    stats = outcome["checkers"]["fencing"]["stats"]
    assert stats["grants"] > stats["locks"] > 5, "stuck locks were replaced"
    assert stats["stale_refused"] > 10


def test_a_raft_that_elects_two_leaders_has_two_holders(tmp_path: Path) -> None:
    """Two seeds of three must show it, so that no one drawn plan decides the test."""
    spec = TestSpec(
        system="raft",
        workload="lock",
        mutant="majority-off-by-one",
        nemesis=["partition", "kill"],
        world="sim",
        **DEFAULTS["sim"],
    )
    complete(spec)
    wanted = {"two-holders", "stale-token-accepted", "double-acquire"}
    found: set[str] = set()
    for seed in range(1, 15):
        found |= set(discard(tmp_path, Experiment(spec).with_seed(seed)).anomalies)
        if wanted <= found:
            return
    raise AssertionError(f"14 seeds showed only {sorted(found)}")


def test_nodes_that_grant_by_themselves_are_convicted_as_processes(
    tmp_path: Path,
) -> None:
    status, outcome, err = run(
        tmp_path,
        f"launch:{shlex.quote(sys.executable)} {shlex.quote(str(SELFISH))}",
        *("--nodes", "3", "--ops", "400", "--seed", "1"),
    )
    assert status == 1, (outcome, err)
    assert "two-holders" in anomalies(outcome, "fencing")
    assert outcome["checkers"]["linearizable"]["verdict"] == "invalid"


@pytest.mark.nightly
def test_raft_s_locks_hold_as_processes(tmp_path: Path) -> None:
    status, outcome, err = run(
        tmp_path,
        *("raft", "--nemesis", "partition,kill", "--time-limit", "4", "--rate", "100"),
        *("--seed", "1"),
    )
    assert status == 0, (outcome, err)
    assert outcome["checkers"]["fencing"]["stats"]["grants"] > 20
