"""Bounded exhaustive exploration: against brute force, and on every protocol."""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign.exhaustive import search
from harness.campaign.exhaustive.exploring import Asked, explore, prepare
from harness.campaign.exhaustive.freezing import freeze
from harness.campaign.exhaustive.judging import Judge
from harness.campaign.exhaustive.search import Search
from harness.campaign.exhaustive.space import (
    CALLS,
    COPIES,
    CRASHES,
    MESSAGES,
    Bounds,
    Space,
)
from harness.cli.group import run_command
from harness.override import override
from harness.tests.naive_cluster import NaiveCluster, every_way, order_of_calls
from harness.verdict import Verdict

if TYPE_CHECKING:
    from harness.campaign.exhaustive.space import Move, State

Signature = tuple[str, Counter[tuple[str, str, str]]]


# --- states, as anybody can see them -------------------------------------------------


def signature(space: Space, state: State) -> Signature:
    """A state in the form of `NaiveCluster.signature`."""
    size, lives, bounds = len(space.nodes), space.lives, space.bounds
    servers = {}
    for node, number in enumerate(state[:size]):
        life = lives.lives[number]
        seen = [lives.observations[each] for each in life.observed]
        servers[space.nodes[node]] = [
            [[kind, json.loads(fields)] for kind, fields in seen],
            [json.loads(record) for record in life.durable],
            {t.name: (t.earliest_ns, t.latest_ns) for t in life.timers},
            life.clock_ns,
        ]
    rest = state[size:]
    events = [
        (
            call.kind,
            call.op,
            space.nodes[call.what]
            if call.kind == "asked"
            else json.dumps(json.loads(lives.answers[call.what])),
        )
        for call in space.calls[rest[CALLS]]
    ]
    left = [bounds.crashes - rest[CRASHES], bounds.copies - rest[COPIES]]
    flying = Counter(
        (space.nodes[m.src], space.nodes[m.dest], json.dumps(json.loads(m.body)))
        for m in map(lives.messages.__getitem__, rest[MESSAGES:])
    )
    return json.dumps([servers, order_of_calls(events), left]), flying


def choice_of(space: Space, move: Move) -> tuple[Any, ...]:
    """A move as a choice of `NaiveCluster`."""
    kind, what = move.event
    lost = None if move.outcome.torn < 0 else move.outcome.torn
    node = space.nodes[move.node]
    if kind == "deliver":
        message = space.lives.messages[int(what)]
        src, text = space.nodes[message.src], json.dumps(json.loads(message.body))
        return kind, (src, node, text), move.copied, lost
    if kind == "fire":
        return kind, node, what, lost
    return kind, node, lost


def naive(space: Space) -> NaiveCluster:
    """The same cluster for the oracle."""
    return NaiveCluster(
        space.lives._system,
        space.nodes,
        space.script.requests,
        crashes=space.bounds.crashes,
        copies=space.bounds.copies,
    )


def plain(space: Space) -> Space:
    """The same space, whose nodes are not merged."""
    return Space(
        space.lives._system,
        space.nodes,
        space.script,
        space.bounds,
        interchangeable=False,
    )


def reached(space: Space, depth: int) -> set[State]:
    """All states up to a depth, whatever they break."""
    search = Search(space, NoJudge(space, ()), depth)
    search.run()
    return search.states


class NoJudge(Judge):
    """Finds nothing wrong."""

    @override
    def breach(self, state: State) -> None:
        return None


SYSTEMS = (
    "paxos",
    "two_phase_commit",
    "three_phase_commit",
    "raft",
    "multi_paxos",
    "zab",
)


@pytest.mark.parametrize("system", SYSTEMS)
def test_brute_force_reaches_the_same_states(system: str) -> None:
    """What it reaches beyond is a state of ours after the loss of some messages."""
    asked = Asked(system, nodes=2, ops=1, bounds=Bounds(crashes=1, copies=1))
    compare_with_brute_force(asked, depth=2)


@pytest.mark.nightly
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("nodes", [2, 3])
def test_brute_force_reaches_the_same_states_further_on(
    system: str, nodes: int
) -> None:
    asked = Asked(system, nodes=nodes, ops=2, bounds=Bounds(crashes=1, copies=1))
    compare_with_brute_force(asked, depth=3)


def compare_with_brute_force(asked: Asked, depth: int) -> None:
    space = plain(prepare(asked)[0])
    ours: dict[str, list[Counter[tuple[str, str, str]]]] = {}
    for state in reached(space, depth):
        rest, flying = signature(space, state)
        ours.setdefault(rest, []).append(flying)
    theirs = {}
    for cluster in every_way(naive(space), depth):
        rest, flying = cluster.signature()
        theirs[rest, tuple(sorted(flying.items()))] = (rest, flying)
    assert len(theirs) > 10
    for rest, flying in theirs.values():
        assert any(flying <= more for more in ours.get(rest, ())), (
            f"missed: {rest} {flying}"
        )
    for rest, several in ours.items():
        for flying in several:
            assert (rest, tuple(sorted(flying.items()))) in theirs, f"made up: {rest}"


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("seed", range(2))
def test_a_long_way_leads_the_oracle_to_the_same_state(system: str, seed: int) -> None:
    chance = random.Random(f"{system} {seed}")
    nodes = chance.choice([2, 3])
    asked = Asked(system, nodes=nodes, ops=2, bounds=Bounds(crashes=2, copies=2))
    space = plain(prepare(asked)[0])
    state, cluster = space.first(), naive(space)
    assert signature(space, state) == cluster.signature()
    for _ in range(40):
        moves = list(space.moves(state))
        if not moves:  # nothing is on its way, and no timer runs
            break
        move, state = chance.choice(moves)
        choice = choice_of(space, move)
        assert choice in list(cluster.choices()), f"seed {seed}"
        cluster.take(choice)
        assert signature(space, state) == cluster.signature(), f"seed {seed}: {choice}"


# --- interchangeable nodes ------------------------------------------------------------


def renamed(seen: Signature, names: dict[str, str]) -> str:
    """A signature under other names, in a form that the order of nodes doesn't show."""
    rest, flying = seen

    def swap(text: str) -> str:
        return re.sub(r"\bn[0-9]\b", lambda found: names[found[0]], text)

    servers, calls, left = json.loads(swap(rest))
    messages = sorted(
        (swap(src), swap(dest), json.dumps(json.loads(swap(text)), sort_keys=True), n)
        for (src, dest, text), n in flying.items()
    )
    return json.dumps([servers, calls, left, messages], sort_keys=True)


def canonical(seen: Signature, nodes: tuple[str, ...]) -> str:
    """The least of all renamings."""
    return min(
        renamed(seen, dict(zip(nodes, order, strict=True)))
        for order in itertools.permutations(nodes)
    )


def compare_merged_with_unmerged(asked: Asked, depth: int) -> None:
    merged = prepare(asked)[0]
    whole = plain(merged)
    few, many = reached(merged, depth), reached(whole, depth)
    nodes = merged.nodes
    ours = {canonical(signature(merged, state), nodes) for state in few}
    theirs = {canonical(signature(whole, state), nodes) for state in many}
    assert ours == theirs
    assert len(few) < 0.6 * len(many)


def test_each_state_of_raft_is_reached_under_some_names() -> None:
    compare_merged_with_unmerged(Asked("raft", ops=1), depth=4)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "mutant", ["", "two-votes", "no-up-to-date-check", "ack-before-fsync"]
)
def test_each_state_of_raft_is_reached_under_some_names_further_on(mutant: str) -> None:
    asked = Asked("raft", mutant=mutant, ops=2, bounds=Bounds(crashes=1, copies=1))
    compare_merged_with_unmerged(asked, depth=5)


# --- the canonical form of cores ------------------------------------------------------


@dataclass
class Thing:
    """Some object."""

    held: object
    also: object = None


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.sets(st.text())
        | st.builds(deque, st.lists(inner))
        | st.builds(Thing, inner, inner)
    ),
    max_leaves=20,
)


@given(values)
def test_a_copy_freezes_to_the_same(value: object) -> None:
    frozen = freeze(value)
    assert freeze(copy.deepcopy(value)) == frozen
    hash(frozen)


@given(values, values)
def test_what_differs_freezes_to_something_else(one: object, other: object) -> None:
    if one != other:
        assert freeze(one) != freeze(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        ((1, 2), [1, 2]),
        ([1, 2], deque([1, 2])),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Thing([], []), Thing(*[[]] * 2)),
        ([], {}),
        (set(), frozenset()),
    ],
)
def test_what_a_core_could_tell_apart_freezes_differently(
    one: object, other: object
) -> None:
    assert freeze(one) != freeze(other)


def test_an_object_that_refers_to_itself_freezes() -> None:
    one, other = Thing(None), Thing(None)
    one.held, other.held = one, other
    assert freeze(one) == freeze(other)


# --- the protocols --------------------------------------------------------------------


def test_three_phase_commit_splits_on_timeouts_alone() -> None:
    """Nothing crashes: one side takes the other for dead, as messages are late."""
    asked = Asked("3pc", nodes=2, ops=1, bounds=Bounds(crashes=0))
    explored = explore(asked)
    assert explored.verdict is Verdict.INVALID
    assert explored.found.breach is not None
    assert explored.found.breach.anomaly == "split-decision"
    assert "committed by n2 but aborted by n1" in explored.text
    assert explored.found.depth == len(explored.way) == 8
    assert [step.node for step in explored.way][-2:] == ["n2", "n2"]


def test_the_way_that_is_told_leads_the_oracle_to_the_breach() -> None:
    space, judge = prepare(Asked("3pc", nodes=2, ops=1, bounds=Bounds(crashes=0)))
    found = Search(space, judge, 10).run()
    cluster = naive(space)
    for move in found.way:
        cluster.take(choice_of(space, move))
    decided = {
        fields["decision"]
        for server in cluster.servers.values()
        for kind, fields in server.seen
        if kind == "decided"
    }
    assert decided == {"commit", "abort"}


FOUND_SOON = [
    # protocol, mutant, nodes, operations, moves, and what is found
    ("2pc", "decide-before-log", 2, 2, 3, "split-decision"),
    ("2pc", "decide-before-fsync", 2, 2, 3, "split-decision"),
    ("2pc", "prepared-timeout-aborts", 3, 2, 5, "split-decision"),
    ("2pc", "commit-on-majority", 3, 2, 4, "split-decision"),
    ("3pc", "skip-barrier", 2, 2, 5, "split-decision"),
    ("3pc", "precommit-not-durable", 2, 2, 4, "forgot-precommit"),
    ("3pc", "precommit-before-fsync", 2, 2, 3, "forgot-precommit"),
    ("multi_paxos", "promise-before-fsync", 3, 2, 2, "broken-promise"),
    ("paxos", "promise-not-durable", 3, 2, 4, "broken-promise"),
    ("paxos", "accepted-not-durable", 3, 2, 5, "forgot-accepted"),
    ("paxos", "promise-before-fsync", 3, 2, 3, "broken-promise"),
    ("paxos", "accepted-before-fsync", 3, 2, 4, "forgot-accepted"),
    ("paxos", "accept-ignores-promise", 3, 2, 5, "broken-promise"),
    ("raft", "vote-not-durable", 3, 2, 2, "forgot-vote"),
    ("raft", "term-not-durable", 3, 2, 2, "term-went-back"),
    ("raft", "vote-before-fsync", 3, 2, 2, "forgot-vote"),
    ("raft", "two-votes", 3, 2, 4, "double-vote"),
    ("raft", "ack-before-fsync", 3, 2, 5, "forgot-log"),
]
FOUND_LATER = [
    ("multi_paxos", "read-without-quorum", 2, 2, 7, "stale-read"),
    ("zab", "epoch-before-fsync", 3, 2, 5, "epoch-went-back"),
    ("2pc", "vote-before-log", 3, 2, 8, "split-decision"),
    ("2pc", "vote-before-fsync", 3, 2, 7, "split-decision"),
    ("multi_paxos", "skips-gap", 3, 2, 8, "state-machines-differ"),
    ("raft", "no-up-to-date-check", 3, 2, 8, "vote-for-older-log"),
    ("zab", "epoch-not-durable", 3, 2, 6, "epoch-went-back"),
    ("zab", "serves-before-sync", 3, 2, 7, "no-quorum"),
]


@pytest.mark.parametrize(
    ("system", "mutant", "nodes", "ops", "depth", "anomaly"),
    [
        *FOUND_SOON,
        *(pytest.param(*each, marks=pytest.mark.nightly) for each in FOUND_LATER),
    ],
)
def test_a_mutant_is_found_after_so_many_moves(
    system: str, mutant: str, nodes: int, ops: int, depth: int, anomaly: str
) -> None:
    explored = explore(Asked(system, mutant=mutant, nodes=nodes, ops=ops, depth=depth))
    assert explored.found.breach is not None, explored.text
    assert (explored.found.breach.anomaly, explored.found.depth) == (anomaly, depth)


UNBROKEN = [
    # protocol, nodes, operations, crashes, depth, states at least
    ("raft", 3, 2, 0, 7, 10_000),
    pytest.param("2pc", 3, 1, 1, 9, 150_000, marks=pytest.mark.nightly),
    pytest.param("paxos", 3, 2, 0, 7, 20_000, marks=pytest.mark.nightly),
    pytest.param("multi_paxos", 3, 2, 0, 7, 50_000, marks=pytest.mark.nightly),
    pytest.param("raft", 3, 2, 0, 9, 150_000, marks=pytest.mark.nightly),
]


@pytest.mark.parametrize(
    ("system", "nodes", "ops", "crashes", "depth", "states"), UNBROKEN
)
def test_an_unbroken_protocol_keeps_its_promises_up_to_a_depth(
    system: str, nodes: int, ops: int, crashes: int, depth: int, states: int
) -> None:
    asked = Asked(system, nodes=nodes, ops=ops, bounds=Bounds(crashes), depth=depth)
    explored = explore(asked)
    assert explored.verdict is Verdict.VALID, explored.text
    assert explored.found.depth == depth
    assert explored.found.states >= states
    assert f"no violation up to depth {depth}: " in explored.text


WHOLE = [
    # protocol, nodes, operations, crashes, timeouts, states at least
    ("2pc", 3, 1, 1, 0, 3_000),
    ("3pc", 3, 1, 0, 0, 50),
    ("paxos", 2, 2, 1, 0, 3_000),
    ("multi_paxos", 3, 1, 1, 1, 15_000),
    ("zab", 2, 1, 1, 0, 5_000),
    pytest.param("2pc", 2, 2, 1, 0, 20_000, marks=pytest.mark.nightly),
    pytest.param("3pc", 3, 1, 1, 0, 50_000, marks=pytest.mark.nightly),
    pytest.param("paxos", 2, 2, 0, 1, 20_000, marks=pytest.mark.nightly),
    pytest.param("multi_paxos", 3, 2, 0, 1, 200_000, marks=pytest.mark.nightly),
    pytest.param("raft", 3, 1, 1, 1, 100_000, marks=pytest.mark.nightly),
    pytest.param("zab", 2, 1, 1, 1, 150_000, marks=pytest.mark.nightly),
]


@pytest.mark.parametrize(
    ("system", "nodes", "ops", "crashes", "timeouts", "states"), WHOLE
)
def test_an_unbroken_protocol_keeps_its_promises_in_all_that_may_happen(
    system: str, nodes: int, ops: int, crashes: int, timeouts: int, states: int
) -> None:
    """With few timeouts nothing is left to happen some time; 3PC splits by them."""
    bounds = Bounds(crashes, timeouts=timeouts)
    explored = explore(Asked(system, nodes=nodes, ops=ops, bounds=bounds))
    assert explored.verdict is Verdict.VALID, explored.text
    assert explored.found.complete
    assert explored.found.states >= states
    assert "no more within these bounds, whatever the depth" in explored.text


def test_a_mutant_of_zab_delivers_out_of_order_without_any_fault() -> None:
    bounds = Bounds(crashes=0, timeouts=0)
    asked = Asked("zab", mutant="out-of-order-commit", nodes=2, ops=2, bounds=bounds)
    explored = explore(asked)
    assert explored.found.breach is not None
    assert explored.found.breach.anomaly == "local-primary-order"
    assert explored.found.depth == 14


@pytest.mark.nightly
def test_local_reads_of_raft_are_stale_after_two_timeouts() -> None:
    bounds = Bounds(crashes=0, timeouts=2)
    explored = explore(Asked("raft", {"reads": "local"}, bounds=bounds))
    assert explored.found.breach is not None
    assert explored.found.breach.anomaly == "stale-read"
    assert explored.found.depth == 11


def test_the_same_is_found_in_any_process() -> None:
    """Texts hash differently in each; the figures are the same in all."""
    code = (
        "from harness.campaign.exhaustive.exploring import Asked, explore\n"
        "found = explore(Asked('2pc', nodes=2, depth=4)).found\n"
        "print(found.states, found.transitions, found.steps, found.judged)"
    )
    command = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    found = explore(Asked("2pc", nodes=2, depth=4)).found
    figures = [found.states, found.transitions, found.steps, found.judged]
    assert done.stdout.split() == list(map(str, figures))


# --- the command ----------------------------------------------------------------------


def test_the_command_tells_the_way_and_exits_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["explore", "3pc", "--exhaustive", "--nodes", "2", "--ops", "1"]
    assert run_command([*command, "--crashes", "0"]) == 1
    out = capsys.readouterr().out
    assert "  1. client c0 asks n1 to txn" in out
    assert "  8. n2's timer runs out, 'states t1'" in out
    assert "decided id=t1 decision=commit by=n2" in out
    assert "split-decision (atomic_commit)" in out
    assert "a promise is broken after 8 moves, and no fewer" in out
    assert run_command([*command, "--crashes", "0", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["depth"], len(told["way"])) == ("invalid", 8, 8)
    assert told["breach"]["anomaly"] == "split-decision"
    assert told["states"] > 500


def test_nothing_to_judge_is_not_valid(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explore", "raft", "--exhaustive", "--depth", "2"]
    assert run_command(command) == 2
    assert "nothing happened that a checker could judge" in capsys.readouterr().out
    assert run_command([*command, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "unknown"


def test_a_depth_that_the_budget_does_not_reach_is_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["explore", "paxos", "--exhaustive", "--depth", "500", "--budget", "0.2"]
    assert run_command(command) == 2
    assert "and depth 500 was asked for" in capsys.readouterr().out


def test_an_interrupted_search_tells_how_far_it_came(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = Judge.breach

    def interrupt(judge: Judge, state: State) -> object:
        if judge.judged > 150:
            raise KeyboardInterrupt
        return judged(judge, state)

    monkeypatch.setattr(Judge, "breach", interrupt)
    assert run_command(["explore", "2pc", "--exhaustive"]) == 2
    assert "interrupted, with no violation up to depth" in capsys.readouterr().out


def test_states_are_bounded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "STATES_MAX", 50)
    assert run_command(["explore", "2pc", "--exhaustive", "--depth", "20"]) == 2
    assert "beyond depth 2, up to which" in capsys.readouterr().out


def test_a_space_without_further_states_is_said_to_be_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["explore", "2pc", "--exhaustive", "--nodes", "2", "--ops", "1"]
    assert run_command([*command, "--crashes", "0", "--timeouts", "0"]) == 0
    assert "no more within these bounds, whatever the depth" in capsys.readouterr().out


REFUSED = [
    ("raft", "--set", "reads=lease", "clocks that run at nearly the same rate"),
    ("raft", "--mutant", "fsync-omitted", "the log on disk"),
    ("raft", "--mutant", "nope", "has no mutant 'nope'"),
    ("raft", "--nodes", "9", "from 2 to 5"),
    ("raft", "--workload", "bank", "no script for workload"),
    ("raft", "--workload", "commit", "can't serve workload 'commit'"),
    ("raft", "--ops", "50", "has 6 operations"),
    ("raft", "--set", "initial_members=n7", "no 'n7'"),
    ("raft", "--set", "bank.accounts=3", "takes no part"),
    ("sqlite", "--ops", "1", "sans-IO cores"),
    ("nobody", "--ops", "1", "no system called 'nobody'"),
]


@pytest.mark.parametrize(("system", "flag", "value", "reason"), REFUSED)
def test_what_cannot_be_explored_is_refused_with_the_reason(
    system: str,
    flag: str,
    value: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["explore", system, "--exhaustive", flag, value]) == 254
    assert reason in capsys.readouterr().err
