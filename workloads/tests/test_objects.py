"""Objects of a workload: how long they are in use, and which are looked at again."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history import Op, OpType
from harness.workload.generator import (
    DONE,
    PENDING,
    Board,
    Context,
    Event,
    Invocation,
    Seeds,
)
from workloads.objects import (
    LAST_LOOKS,
    OPS_FACTOR,
    STAY_NS,
    TRIES_MAX,
    Objects,
    last_looks,
)

THREADS = 4
ALL = (1 << THREADS) - 1


class World:
    """Objects, and a clock and a nemesis that move by hand."""

    def __init__(self, count: int = 3, ops_each: int = 10, seed: int = 0) -> None:
        self.board = Board(THREADS, seed)
        self.objects = Objects(count, ops_each)
        self.objects.begin(Seeds(str(seed)))
        self.random = Random(seed)
        self.now_ns = 0

    def wait(self, ns: int) -> None:
        self.now_ns += ns
        self.objects.watch(Context(self.now_ns, ALL, ALL, self.board))

    def nemesis(self, f: str, *, done: bool = True) -> None:
        self.board.nemesis_began(f)
        if done:
            self.board.nemesis_did(f)
        self.wait(0)

    def use(self, count: int) -> None:
        for _ in range(count):
            self.objects.used(self.objects.choose(self.random))

    def looks(self, count: int) -> Counter[int]:
        drawn = [self.objects.choose_to_look_at(self.random) for _ in range(count)]
        return Counter(key for key in drawn if key in self.objects.at_rest)


def did(f: str, key: int, kind: OpType) -> Op:
    return Op(0, 0, 0, kind, f, None, key)


def test_an_object_is_in_use_for_as_long_as_a_fault_lasts() -> None:
    world = World(ops_each=10)
    world.use(60)
    assert world.objects.at_rest == []
    world.wait(STAY_NS)
    world.use(60)
    assert len(world.objects.at_rest) >= 2


def test_no_object_is_given_up_while_a_fault_is_in_force() -> None:
    world = World(ops_each=10)
    world.nemesis("start-kill", done=False)
    world.wait(STAY_NS)
    world.use(60)
    assert world.objects.at_rest == []
    world.nemesis("stop-kill", done=False)
    world.use(60)
    assert world.objects.at_rest == [], "it has begun to end, no more"


def test_an_object_that_is_used_very_much_is_given_up_whatever_goes_on() -> None:
    world = World(count=1, ops_each=10)
    world.nemesis("start-kill", done=False)
    world.use(10 * OPS_FACTOR)
    assert world.objects.at_rest == [0]
    assert world.objects.in_use == [1]


@given(seed=st.integers(0, 10**6))
def test_a_fault_that_strikes_or_ends_lays_some_of_the_objects_to_rest(
    seed: int,
) -> None:
    world = World(count=20, seed=seed)
    world.use(200)
    world.nemesis("start-kill")
    struck = set(world.objects.at_rest)
    assert 0 < len(struck) < 16, f"seed {seed}: the four that are kept never rest"
    world.use(200)
    world.nemesis("stop-kill")
    assert struck < set(world.objects.at_rest), f"seed {seed}"
    assert len(world.objects.in_use) == 20
    assert {0, 1, 2, 3} <= set(world.objects.in_use)


def test_after_a_fault_every_object_at_rest_is_looked_at_first() -> None:
    world = World(count=20)
    world.use(200)
    world.nemesis("start-kill")
    at_rest = set(world.objects.at_rest)
    for f in ("stop-kill", "heal"):
        world.nemesis(f)
        at_rest |= set(world.objects.at_rest)
        # One look in ten is at an object at rest. None is looked at twice before all
        # others were looked at.
        looks = world.looks(10 * len(at_rest) + 300)
        assert set(looks) == at_rest


@pytest.mark.parametrize(
    ("f", "kind", "again"),
    [
        ("read", "ok", False),
        ("read", "fail", True),
        ("read", "info", True),
        ("write", "ok", True),
        ("write", "info", True),
        ("write", "fail", False),
    ],
)
def test_what_changed_or_was_not_seen_is_looked_at_next(
    f: str, kind: OpType, *, again: bool
) -> None:
    world = World(count=5)
    for key in (1, 2, 3):
        world.objects.give_up(key)
    world.looks(300)  # nothing is due any more
    firsts: Counter[int] = Counter()
    for _ in range(40):
        world.objects.heard(did(f, 2, kind))
        while (key := world.objects.choose_to_look_at(world.random)) not in (1, 2, 3):
            pass
        firsts[key] += 1
    assert (firsts[2] == 40) == again


@pytest.mark.parametrize("hours", [1, 100])
def test_a_kept_object_is_used_to_the_end_and_seldomer(hours: int) -> None:
    world = World(count=5, ops_each=100)
    uses: Counter[int] = Counter()
    for _ in range(2000):
        world.wait(hours * 3_600_000_000_000 // 2000)
        for _ in range(20):
            key = world.objects.choose(world.random)
            world.objects.used(key)
            uses[key] += 1
    assert 0 in world.objects.in_use
    assert 500 < uses[0] < 2500
    assert len(world.objects.at_rest) > 50


# --- last looks -----------------------------------------------------------------------


def play_last_looks(objects: Objects, answers: dict[int, list[OpType]]) -> Counter[int]:
    """Play last looks to their end.

    Args:
        objects: What is looked at.
        answers: Object -> how its looks end, in order; further looks end well.

    Returns:
        How often each object was looked at.
    """
    flow = last_looks(objects, lambda key: Invocation("read", key=key), THREADS).start(
        Seeds("0")
    )
    board = Board(THREADS, 0)
    ctx = Context(0, ALL, ALL, board)
    looks: Counter[int] = Counter()
    threads: dict[int, set[int]] = {}
    while (step := flow.next(ctx)) is not DONE:
        assert isinstance(step, Invocation)
        assert isinstance(step.thread, int)
        flow.take(step)
        looks[step.key] += 1
        threads.setdefault(step.key, set()).add(step.thread)
        kinds = answers.get(step.key, [])
        kind = kinds.pop(0) if kinds else "ok"
        flow.update(ctx, Event(step.thread, did("read", step.key, kind)))
    everywhere = {key for key, count in looks.items() if count == THREADS}
    assert all(len(threads[key]) == THREADS for key in everywhere)
    return looks


def test_at_the_end_every_thread_looks_at_every_object() -> None:
    objects = Objects(4, 10)
    for key in (1, 2, 5):
        objects.give_up(key)
    looks = play_last_looks(objects, {})
    assert looks == dict.fromkeys(range(7), THREADS)


def test_objects_beyond_the_last_looks_are_looked_at_until_they_answer() -> None:
    objects = Objects(2, 10)
    total = LAST_LOOKS // THREADS + 50
    for key in range(1, total - 1):
        objects.give_up(key)
    looks = play_last_looks(
        objects, {1: ["fail"], 2: ["fail"] * 99, total - 1: ["fail"] * 5}
    )
    assert set(looks) == set(range(total))
    assert (looks[0], looks[total - 1]) == (THREADS, THREADS + TRIES_MAX)
    assert (looks[1], looks[2], looks[3]) == (2, TRIES_MAX, 1)


def test_last_looks_wait_for_those_that_may_have_to_be_repeated() -> None:
    objects = Objects(1, 10)
    objects.give_up(0)
    flow = last_looks(objects, lambda key: Invocation("read", key=key), THREADS).start(
        Seeds("0")
    )
    board = Board(THREADS, 0)
    for thread in [*range(THREADS)] * 2:
        step = flow.next(Context(0, 1 << thread, ALL, board))
        assert isinstance(step, Invocation)
        flow.take(step)
    assert flow.next(Context(0, 0b011, ALL, board)) is PENDING
    assert flow.next(Context(0, ALL, ALL, board)) is DONE
