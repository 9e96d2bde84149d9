"""Shards: owners, strict two-phase locking, wait-die, undo."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls.shards import (
    DIES,
    HELD,
    WAITS,
    Shard,
    claim_for,
    merge,
    owner,
    split,
)
from reference_impls.transactions import AbortError

SERVERS = ("n1", "n2", "n3")

micro_ops = st.one_of(
    st.tuples(st.just("r"), st.integers(0, 5), st.none()),
    st.tuples(st.sampled_from(("w", "add")), st.integers(0, 5), st.integers(-3, 9)),
).map(list)
txns = st.lists(micro_ops, min_size=1, max_size=6)


def test_the_owner_of_a_key_is_the_checksum_of_its_json_modulo_the_servers() -> None:
    """This is documented, so that others can compute it, and must never change."""
    owners = [owner(key, SERVERS) for key in ("fig", "plum", "melon", 7, "7", -1)]
    assert owners == ["n1", "n2", "n3", "n1", "n3", "n1"]
    assert owner("anything", ["n1"]) == "n1"


@given(txns)
def test_the_parts_of_a_transaction_make_the_whole_again(txn: list[Any]) -> None:
    parts = split(txn, SERVERS)
    assert merge(txn, parts, SERVERS) == txn
    for participant, part in parts.items():
        assert {owner(key, SERVERS) for _, key, _ in part} == {participant}


def test_readers_share_and_writers_exclude() -> None:
    shard = Shard("wait_die")
    assert shard.lock("a", 3, [["r", 1, None]]) == HELD
    assert shard.lock("b", 2, [["r", 1, None]]) == HELD
    assert shard.lock("c", 1, [["w", 1, 0]]) == WAITS
    assert shard.lock("d", 4, [["w", 2, 0]]) == HELD


def test_a_transaction_that_reads_and_writes_a_key_needs_it_for_itself() -> None:
    claim = claim_for("a", 1, [["r", 1, None], ["w", 1, 0], ["r", 2, None]])
    assert claim.exclusive == {1}
    assert claim.shared == {2}


def test_the_younger_one_dies_and_the_older_one_waits() -> None:
    shard = Shard("wait_die")
    assert shard.lock("second", 2, [["w", 1, 0]]) == HELD
    assert shard.lock("third", 3, [["w", 1, 0]]) == DIES
    assert shard.lock("first", 1, [["w", 1, 0]]) == WAITS
    assert shard.release("second") == ["first"]
    assert shard.release("first") == []
    assert not shard.locks.queues


def test_equal_ages_are_told_apart_by_the_transactions_names() -> None:
    shard = Shard("wait_die")
    assert shard.lock("b", 1, [["w", 1, 0]]) == HELD
    assert shard.lock("c", 1, [["w", 1, 0]]) == DIES
    assert shard.lock("a", 1, [["w", 1, 0]]) == WAITS


def test_with_timeouts_everybody_waits() -> None:
    shard = Shard("timeout")
    assert shard.lock("old", 1, [["w", 1, 0]]) == HELD
    assert shard.lock("young", 2, [["w", 1, 0]]) == WAITS


def test_a_reader_doesn_t_overtake_a_writer_that_waits() -> None:
    shard = Shard("timeout")
    shard.lock("reader", 1, [["r", 1, None]])
    shard.lock("writer", 2, [["w", 1, 0]])
    assert shard.lock("late", 3, [["r", 1, None]]) == WAITS
    assert shard.release("reader") == ["writer"]
    assert shard.release("writer") == ["late"]


def test_whoever_gives_up_waiting_makes_room() -> None:
    shard = Shard("timeout")
    shard.lock("a", 1, [["r", 1, None]])
    shard.lock("b", 2, [["w", 1, 0]])
    shard.lock("c", 3, [["r", 1, None]])
    assert shard.release("b") == ["c"]


def test_an_aborted_transaction_leaves_no_trace() -> None:
    shard = Shard("wait_die")
    shard.prepare("a", [["w", 1, 10], ["append", 2, "x"]])
    shard.commit("a")
    shard.prepare("b", [["w", 1, 11], ["append", 2, "y"], ["w", 3, 0], ["w", 1, 12]])
    assert shard.data == {1: 12, 2: ["x", "y"], 3: 0}
    shard.abort("b")
    shard.abort("b")
    assert shard.data == {1: 10, 2: ["x"]}


def test_what_can_t_be_done_changes_nothing() -> None:
    shard = Shard("wait_die")
    with pytest.raises(AbortError, match="fall to -1"):
        shard.prepare("a", [["w", 1, 10], ["add", 2, -1]])
    assert shard.data == {}
    assert shard.undo == {}


steps = st.lists(
    st.tuples(st.integers(0, 9), txns, st.integers(1, 9), st.booleans()), max_size=40
)


@given(steps, st.sampled_from(("wait_die", "timeout")))
def test_no_two_claims_in_conflict_are_ever_held(
    plan: list[tuple[int, list[Any], int, bool]], deadlock: str
) -> None:
    """Also, a waiting claim has a rival, and under wait-die only younger rivals."""
    shard = Shard(deadlock)
    for number, txn, stamp, asks in plan:
        name = f"t{number}"
        if asks and name not in shard.locks.claims:
            shard.lock(name, stamp, txn)
        else:
            shard.release(name)
        claims = list(shard.locks.claims.values())
        for claim in claims:
            rivals = list(shard.locks.rivals(claim))
            assert claim.held == (not rivals)
            if deadlock == "wait_die":
                assert all(claim.age <= rival.age for rival in rivals)
    for name in list(shard.locks.claims):
        shard.release(name)
    assert not shard.locks.queues


@given(st.lists(st.tuples(txns, st.booleans()), max_size=12))
def test_redo_from_the_log_gives_the_same_data(
    history: list[tuple[list[Any], bool]],
) -> None:
    live, again = Shard("wait_die"), Shard("wait_die")
    log = []
    for number, (txn, commits) in enumerate(history):
        name = f"t{number}"
        try:
            live.prepare(name, txn)
        except AbortError:
            continue
        log.append((name, txn, commits))
        (live.commit if commits else live.abort)(name)
    for number, (name, txn, commits) in enumerate(log):
        again.prepare_again(name, number, txn)
        (again.commit if commits else again.abort)(name)
        again.release(name)
    assert again.data == live.data
