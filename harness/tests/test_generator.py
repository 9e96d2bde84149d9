"""Generators, each combinator in sentences and, where it has one, by its law.

They are played by the interpreter's core with simulated clients, so times are exact.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.history import History, Op
from harness.run.interpreter import Core
from harness.workload import generator as gen
from harness.workload.generator import (
    Context,
    Flow,
    Generator,
    GeneratorError,
    Invocation,
    Seeds,
    Step,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

MS = 1_000_000
S = 1_000 * MS

READ = Invocation("read")
WRITE = Invocation("write", 1)
CAS = Invocation("cas", [1, 2])


class Play:
    """What a generator makes of simulated clients."""

    def __init__(
        self,
        like: gen.GeneratorLike,
        *,
        threads: int = 3,
        latency: Callable[[Op], int] = lambda _: 1 * MS,
        answer: Callable[[Op], Op] = lambda op: op.ok(op.value),
        nemesis: bool = False,
        seed: int = 1,
        until_ns: int = 3_600 * S,
    ) -> None:
        self.ops: list[Op] = []
        self.messages: list[tuple[int, str]] = []
        self.core = Core(
            gen.as_generator(like),
            concurrency=threads,
            nodes=["n1", "n2"],
            seed=seed,
            has_nemesis=nemesis,
            record=self._record,
        )
        self.now_ns = 0
        self._latency = latency
        self._answer = answer
        self._run(until_ns)

    def _record(self, op: Op) -> Op:
        op.index = len(self.ops)
        self.ops.append(op)
        return op

    def _run(self, until_ns: int) -> None:
        under_way: list[tuple[int, int, gen.Thread, Op]] = []
        while True:
            decision = self.core.poll(self.now_ns)
            self.messages += [(self.now_ns, text) for text in decision.messages]
            for thread, op in decision.start:
                end_ns = self.now_ns + self._latency(op)
                heapq.heappush(under_way, (end_ns, op.index, thread, op))
            times = [under_way[0][0]] if under_way else []
            if decision.wake_ns is not None:
                times.append(decision.wake_ns)
            if decision.finished or min(times) > until_ns:
                return
            self.now_ns = min(times)
            while under_way and under_way[0][0] <= self.now_ns:
                _, _, thread, op = heapq.heappop(under_way)
                is_client = isinstance(thread, int)
                done = self._answer(op) if is_client else op.info()
                self.core.complete(self.now_ns, thread, done)

    @property
    def invoked(self) -> list[Op]:
        """Client invocations, in order."""
        return [op for op in self.ops if op.type == "invoke"]

    @property
    def fs(self) -> str:
        """The f of each invocation."""
        return " ".join(op.f for op in self.invoked)

    @property
    def times_ms(self) -> list[float]:
        """When each operation was invoked."""
        return [op.time / MS for op in self.invoked]

    def threads_of(self, f: str) -> set[int]:
        """The threads that did `f`."""
        count = self.core.board.concurrency
        return {int(op.process) % count for op in self.invoked if op.f == f}


def draw_write(rng: random.Random) -> Invocation:
    return Invocation("write", rng.randrange(1000))


def drawn(play: Play) -> list[tuple[str, Any, Any]]:
    return [(op.f, op.value, op.key) for op in play.invoked]


# ---- Sources -------------------------------------------------------------------------


def test_an_invocation_is_done_once() -> None:
    assert Play(READ).fs == "read"


def test_an_iterable_is_gone_through_in_order() -> None:
    assert Play([READ, [WRITE, CAS], READ], threads=1).fs == "read write cas read"


def test_an_endless_iterable_is_taken_lazily() -> None:
    counting = (Invocation("write", n) for n in itertools.count())
    assert [op.value for op in Play(gen.limit(4, counting)).invoked] == [0, 1, 2, 3]


def test_a_function_is_called_once_for_each_operation_taken() -> None:
    calls = itertools.count()

    def count(_: random.Random) -> Invocation:
        return Invocation("write", next(calls))

    # Slow clients and a pace: it is asked far more often than it is taken.
    paced = gen.limit(50, gen.stagger(0.001, gen.from_function(count)))
    play = Play(paced, latency=lambda _: 7 * MS)
    assert [op.value for op in play.invoked] == list(range(50))


def test_a_function_that_returns_none_has_ended() -> None:
    left: list[Any] = [[WRITE, WRITE], READ]

    def draw(_: random.Random) -> Any:
        return left.pop() if left else None

    play = Play(draw, threads=1)
    assert play.fs == "read write write"


def test_then_does_not_wait_but_keeps_order() -> None:
    play = Play(gen.then(WRITE, READ), threads=2, latency=lambda _: 5 * MS)
    assert play.fs == "write read"
    assert play.times_ms == [0, 0]


def test_repeat_begins_again_and_draws_anew() -> None:
    play = Play(gen.repeat(gen.limit(2, draw_write), times=3), threads=1)
    assert len(play.invoked) == 6
    assert len({op.value for op in play.invoked}) > 2


def test_a_generator_can_be_used_twice_in_one_tree() -> None:
    twice = gen.limit(2, gen.repeat(READ))
    assert Play(gen.phases(twice, twice), threads=1).fs == "read read read read"


def test_an_iterator_cannot_be_started_twice() -> None:
    used_up = gen.from_iterable(iter([READ]))
    with pytest.raises(GeneratorError, match="used up"):
        Play([used_up, used_up])


def test_sleep_waits_and_log_speaks_when_their_turn_comes() -> None:
    play = Play([READ, gen.sleep(0.5), gen.log("now"), WRITE], threads=1)
    assert play.messages == [(501 * MS, "now")]
    assert play.times_ms == [0, 501]


def test_an_operation_for_a_thread_waits_for_that_thread() -> None:
    second = Invocation("write", thread=1)
    play = Play([second, second], threads=3, latency=lambda _: 4 * MS)
    assert [op.process for op in play.invoked] == [1, 1]
    assert play.times_ms == [0, 4]


def test_an_operation_for_a_time_waits_for_that_time() -> None:
    play = Play([Invocation("write", time_ns=30 * MS), READ])
    assert play.times_ms == [30, 30]


@pytest.mark.parametrize("like", ["read", 7, None, {"f": "read"}])
def test_what_is_no_generator_is_refused(like: Any) -> None:
    with pytest.raises(GeneratorError, match="is no generator"):
        gen.as_generator(like)


def test_generators_without_operations_in_an_endless_row_are_refused() -> None:
    with pytest.raises(GeneratorError, match="do nothing"):
        Play(gen.repeat(gen.limit(0, READ)))


def test_a_generator_reads_as_it_was_written() -> None:
    tree = gen.time_limit(5, gen.mix(READ, gen.limit(2, draw_write), weights=[1, 3]))
    assert repr(tree) == "time_limit(5, mix(once(read), limit(2, draw_write), [1, 3]))"


# ---- Cutting and joining -------------------------------------------------------------


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 5))
def test_limit_gives_as_many_as_there_are_and_never_more(
    count: int, there: int, threads: int
) -> None:
    limited = gen.limit(count, gen.repeat(READ, times=there))
    assert len(Play(limited, threads=threads).invoked) == min(count, there)


def test_limit_does_not_count_messages() -> None:
    assert Play(gen.limit(1, [gen.log("x"), READ, READ])).fs == "read"


@given(st.lists(st.integers(0, 8), max_size=4), st.integers(1, 4), st.randoms())
def test_phases_never_overlap(
    sizes: list[int], threads: int, rng: random.Random
) -> None:
    phases = [
        gen.limit(size, gen.repeat(Invocation("write", i)))
        for i, size in enumerate(sizes)
    ]
    play = Play(
        gen.phases(*phases),
        threads=threads,
        latency=lambda _: rng.randrange(1, 20) * MS,
    )
    open_ops: Counter[int] = Counter()
    for op in play.ops:
        open_ops[op.value] += 1 if op.type == "invoke" else -1
        assert set(+open_ops) <= {op.value}
    assert Counter(op.value for op in play.invoked) == +Counter(dict(enumerate(sizes)))


def test_phases_wait_for_the_nemesis_too() -> None:
    strike = gen.beside(READ, Invocation("cut"))
    play = Play(
        gen.phases(strike, gen.clients(WRITE)),
        nemesis=True,
        latency=lambda op: 50 * MS if op.f == "cut" else MS,
    )
    assert play.times_ms == [0, 50]


def test_until_ok_goes_on_until_one_of_its_own_is_ok() -> None:
    outcomes = iter(["fail", "info", "ok"])

    def answer(op: Op) -> Op:
        return op.ok() if op.f == "write" else op.complete(next(outcomes))  # type: ignore[arg-type] # only completion types

    until = gen.until_ok(gen.repeat(READ))
    writes = gen.repeat(WRITE, times=20)
    play = Play(gen.reserve([(1, until)], writes), threads=2, answer=answer)
    assert Counter(play.fs.split()) == {"read": 3, "write": 20}


def test_until_ok_does_not_take_another_operations_success_for_its_own() -> None:
    # The filter throws away a read that was never dispatched; the write that thread 0
    # does instead says nothing about reads.
    reads = gen.until_ok([READ, CAS])
    no_reads = gen.filter_ops(lambda op: op.f != "read", reads)
    play = Play([WRITE, no_reads], threads=1, answer=lambda op: op.ok())
    assert play.fs == "write cas"


def test_f_map_renames_and_map_ops_rewrites() -> None:
    renamed = gen.f_map({"read": "get"}, [READ, WRITE])
    keyed = gen.map_ops(
        lambda op: Invocation(op.f, op.value, "k", op.thread, op.time_ns), renamed
    )
    play = Play(keyed, threads=1)
    assert drawn(play) == [("get", None, "k"), ("write", 1, "k")]


@given(st.integers(0, 20), st.integers(1, 4))
def test_filter_keeps_what_is_wanted_in_order(count: int, threads: int) -> None:
    numbers = [Invocation("write", n) for n in range(count)]
    even = gen.filter_ops(lambda op: op.value % 2 == 0, numbers)
    assert [op.value for op in Play(even, threads=threads).invoked] == list(
        range(0, count, 2)
    )


def test_a_filter_that_wants_nothing_is_refused() -> None:
    with pytest.raises(GeneratorError, match="filtered out"):
        Play(gen.filter_ops(lambda _: False, gen.repeat(READ)))


# ---- Time ----------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 4))
def test_nothing_starts_after_the_time_limit(
    limit_ms: int, latency_ms: int, threads: int
) -> None:
    play = Play(
        gen.time_limit(limit_ms / 1000, gen.repeat(READ)),
        threads=threads,
        latency=lambda _: latency_ms * MS,
    )
    assert len(play.invoked) == threads * -(-limit_ms // latency_ms)
    assert max(play.times_ms) < limit_ms


def test_a_time_limit_cuts_what_was_planned_for_later_and_then_ends() -> None:
    late = Invocation("write", time_ns=2 * S)
    play = Play(gen.phases(gen.time_limit(1, late), READ))
    assert play.fs == "read"
    assert play.times_ms == [1000]


def test_a_time_limit_still_takes_what_an_event_makes_possible() -> None:
    # The soonest offer lies beyond the limit while the other branch waits for the first
    # write; judging by that offer alone would end everything at once.
    late = Invocation("write", time_ns=9 * S)
    waiting = [WRITE, gen.synchronize(READ)]
    play = Play(gen.time_limit(1, gen.any_of(late, waiting)), threads=2)
    assert play.fs == "write read"


def test_a_time_limit_counts_from_its_turn() -> None:
    play = Play([gen.sleep(5), gen.time_limit(0.01, gen.repeat(READ))], threads=1)
    assert play.times_ms == [5000.0 + n for n in range(10)]


@given(st.integers(0, 2**32), st.integers(1, 8))
@settings(max_examples=settings().max_examples // 5)
def test_stagger_keeps_its_mean_pace(seed: int, threads: int) -> None:
    play = Play(
        gen.time_limit(100, gen.stagger(0.05, gen.repeat(READ))),
        threads=threads,
        latency=lambda _: 5 * MS,
        seed=seed,
    )
    # 2,000 gaps, uniform up to 0.1 s: the standard deviation of their count is 26.
    assert abs(len(play.invoked) - 2000) < 180, f"seed {seed}"
    gaps = [b - a for a, b in itertools.pairwise(play.times_ms)]
    assert max(gaps) <= 105
    assert min(gaps) < 10


def test_rate_is_stagger_by_frequency() -> None:
    play = Play(gen.time_limit(10, gen.rate(100, gen.repeat(READ))), threads=5)
    assert abs(len(play.invoked) - 1000) < 130


def test_a_pace_makes_up_for_small_lateness() -> None:
    # One client that takes 1.5 gaps now and then, and is otherwise quick.
    slow = itertools.cycle([3 * MS, 0, 0, 0])
    play = Play(
        gen.time_limit(1, gen.delay(0.002, gen.repeat(READ))),
        threads=1,
        latency=lambda _: next(slow) + 1000,
    )
    assert len(play.invoked) == pytest.approx(500, abs=2)


def test_a_consumer_that_was_slow_gets_no_burst_afterwards() -> None:
    play = Play(
        gen.time_limit(20, gen.stagger(0.001, gen.repeat(READ))),
        threads=1,
        latency=lambda op: 10 * S if op.index == 0 else 1000,
    )
    # Ten seconds at 1,000 a second were missed; ten milliseconds are made up for.
    in_next_second = [t for t in play.times_ms if 10_000 <= t < 11_000]
    assert 900 < len(in_next_second) < 1100
    at_once = [t for t in play.times_ms if 10_000 <= t < 10_001]
    assert len(at_once) <= 40


def test_delay_is_exact() -> None:
    play = Play(gen.limit(4, gen.delay(0.25, gen.repeat(READ))), threads=2)
    assert play.times_ms == [0, 250, 500, 750]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_what_is_no_length_of_time_is_refused(seconds: float) -> None:
    with pytest.raises(GeneratorError, match="no length of time"):
        gen.time_limit(seconds, READ)


@pytest.mark.parametrize("per_second", [0, -1, float("nan"), float("inf")])
def test_what_is_no_rate_is_refused(per_second: float) -> None:
    with pytest.raises(GeneratorError, match="no rate"):
        gen.rate(per_second, READ)


# ---- Several at once -----------------------------------------------------------------


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(0, 2**32),
)
@settings(max_examples=settings().max_examples // 4)
def test_mix_keeps_its_proportions_however_slow_some_operations_are(
    weights: list[int], threads: int, seed: int
) -> None:
    branches = [gen.repeat(Invocation("write", i)) for i in range(len(weights))]
    play = Play(
        gen.limit(2000, gen.mix(*branches, weights=weights)),
        threads=threads,
        latency=lambda op: (1 + 40 * op.value) * MS,
        seed=seed,
    )
    shares = Counter(op.value for op in play.invoked)
    for i, weight in enumerate(weights):
        # Five standard deviations of a binomial count.
        expected = weight / sum(weights)
        spread = 5 * (2000 * expected * (1 - expected)) ** 0.5
        assert abs(shares[i] - 2000 * expected) <= spread, f"seed {seed}"


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 8), st.randoms())
@settings(max_examples=settings().max_examples // 4)
def test_what_is_drawn_depends_on_the_seed_and_not_on_timing(
    seed: int, few: int, many: int, rng: random.Random
) -> None:
    reads = gen.stagger(0.003, gen.repeat(READ))
    tree = gen.limit(100, gen.mix(draw_write, reads, [CAS] * 5, weights=[3, 2, 1]))
    one = Play(tree, threads=few, seed=seed)
    other = Play(
        tree, threads=many, seed=seed, latency=lambda _: rng.randrange(1, 30) * MS
    )
    assert drawn(one) == drawn(other)


def test_different_seeds_draw_differently() -> None:
    tree = gen.limit(20, draw_write)
    assert drawn(Play(tree, seed=1)) != drawn(Play(tree, seed=2))


def test_mix_goes_on_without_branches_that_are_done() -> None:
    play = Play(gen.mix([READ], gen.repeat(WRITE, times=30)))
    assert Counter(play.fs.split()) == {"read": 1, "write": 30}


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, float("nan")]])
def test_a_mix_with_senseless_weights_is_refused(weights: list[float]) -> None:
    with pytest.raises(GeneratorError, match="positive weight"):
        gen.mix(READ, WRITE, weights=weights)


def test_any_of_takes_the_soonest() -> None:
    late = [Invocation("late", time_ns=t * MS) for t in (20, 40)]
    early = [Invocation("early", time_ns=t * MS) for t in (10, 30)]
    assert Play(gen.any_of(late, early)).fs == "early late early late"


def test_any_of_is_fair_among_equally_soon_ones() -> None:
    both = gen.any_of(gen.repeat(READ), gen.repeat(WRITE), gen.repeat(CAS))
    counts = Counter(Play(gen.limit(3000, both)).fs.split())
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_each_thread_goes_through_it_for_itself() -> None:
    play = Play(gen.each_thread([WRITE, READ]), threads=4)
    assert Counter((op.process, op.f) for op in play.invoked) == {
        (t, f): 1 for t in range(4) for f in ("write", "read")
    }


def test_each_thread_draws_for_itself() -> None:
    play = Play(gen.each_thread(gen.limit(5, draw_write)), threads=2)
    by_thread = [[op.value for op in play.invoked if op.process == t] for t in (0, 1)]
    assert by_thread[0] != by_thread[1]


def test_reserve_keeps_threads_for_generators() -> None:
    play = Play(
        gen.limit(
            200,
            gen.reserve(
                [(2, gen.repeat(WRITE)), (1, gen.repeat(CAS))], gen.repeat(READ)
            ),
        ),
        threads=5,
    )
    assert play.threads_of("write") == {0, 1}
    assert play.threads_of("cas") == {2}
    assert play.threads_of("read") == {3, 4}


def test_reserve_under_a_pace_shares_by_threads() -> None:
    reserved = gen.reserve([(1, gen.repeat(WRITE))], gen.repeat(READ))
    play = Play(gen.limit(1000, gen.delay(0.01, reserved)), threads=4)
    assert abs(Counter(play.fs.split())["write"] - 250) < 70


def test_reserve_without_enough_threads_is_refused() -> None:
    with pytest.raises(GeneratorError, match="keeps 9 threads, but there are 2"):
        Play(gen.reserve([(9, READ)], WRITE), threads=2)


def test_clients_and_nemesis_keep_to_their_threads() -> None:
    cuts = gen.limit(3, gen.delay(0.1, gen.repeat(Invocation("cut"))))
    reads = gen.limit(20, gen.delay(0.02, gen.repeat(READ)))
    play = Play(gen.beside(reads, cuts), nemesis=True)
    nemesis_ops = [op for op in play.ops if op.process == "nemesis"]
    assert [op.f for op in nemesis_ops] == ["cut"] * 6
    assert {op.type for op in nemesis_ops} == {"info"}
    assert [op.time // MS for op in nemesis_ops[::2]] == [0, 100, 200]
    assert play.fs == " ".join(["read"] * 20)


def test_the_nemesis_sleeps_after_its_operation_and_not_during_it() -> None:
    cycle = [Invocation("cut"), gen.sleep(1), Invocation("heal")]
    play = Play(gen.nemesis(cycle), nemesis=True, latency=lambda _: 500 * MS)
    assert [op.time // MS for op in play.ops] == [0, 500, 1500, 2000]


def test_a_slow_nemesis_does_not_hold_up_clients() -> None:
    play = Play(
        gen.beside(gen.limit(10, gen.repeat(READ)), Invocation("cut")),
        nemesis=True,
        threads=1,
        latency=lambda op: 10 * S if op.f == "cut" else MS,
    )
    assert play.times_ms == list(range(10))


def test_nemesis_operations_without_a_nemesis_are_refused() -> None:
    with pytest.raises(GeneratorError, match="no such thread"):
        Play(gen.nemesis(READ), nemesis=False)


def test_an_operation_for_a_thread_out_of_reach_is_refused() -> None:
    with pytest.raises(GeneratorError, match="for thread 7"):
        Play(gen.clients(Invocation("read", thread=7)), threads=2)


# ---- Keys ----------------------------------------------------------------------------


@given(
    st.integers(1, 4), st.integers(1, 9), st.integers(0, 8), st.integers(1, 6),
    st.randoms(),
)  # fmt: skip
def test_concurrent_keys_give_every_key_to_one_group_and_so_many_operations(
    per_key: int, threads: int, keys: int, ops: int, rng: random.Random
) -> None:
    play = Play(
        gen.concurrent_keys(per_key, range(keys), lambda _: draw_write, ops),
        threads=threads,
        latency=lambda _: rng.randrange(1, 9) * MS,
    )
    assert Counter(op.key for op in play.invoked) == dict.fromkeys(range(keys), ops)
    widest = -(-threads // max(1, threads // per_key))
    by_thread: dict[int, list[int]] = {}
    for op in play.invoked:
        by_thread.setdefault(int(op.process), []).append(op.key)
    for key in range(keys):
        members = [t for t, seen in by_thread.items() if key in seen]
        assert max(members) - min(members) < widest
    for seen in by_thread.values():
        assert seen == sorted(seen), "a thread came back to a key that it had left"


def test_what_is_drawn_for_a_key_does_not_depend_on_the_group() -> None:
    def of_key(threads: int) -> dict[int, list[Any]]:
        tree = gen.concurrent_keys(2, range(6), lambda _: gen.limit(5, draw_write))
        values: dict[int, list[Any]] = {}
        for op in Play(tree, threads=threads).invoked:
            values.setdefault(op.key, []).append(op.value)
        return values

    assert of_key(2) == of_key(4) == of_key(6)


def test_sequential_keys_come_one_after_another() -> None:
    play = Play(gen.sequential_keys("ab", lambda _: [WRITE, READ]), threads=3)
    assert [op.key for op in play.invoked] == ["a", "a", "b", "b"]


def test_endless_keys_end_with_the_time_limit() -> None:
    endless = gen.concurrent_keys(2, itertools.count(), lambda _: gen.repeat(READ), 10)
    play = Play(gen.time_limit(0.1, endless), threads=4)
    assert len(play.invoked) == 400
    assert {op.key for op in play.invoked} == set(range(40))


# ---- All together --------------------------------------------------------------------

LEAVES = st.sampled_from(
    [READ, [WRITE, READ], gen.limit(5, draw_write), gen.sleep(0.02), gen.log("x")]
)


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        some,
        some.map(lambda likes: gen.mix(*likes)),
        some.map(lambda likes: gen.any_of(*likes)),
        some.map(lambda likes: gen.phases(*likes)),
        inner.map(gen.each_thread),
        inner.map(gen.until_ok),
        inner.map(lambda like: gen.limit(7, gen.repeat([READ, like]))),
        inner.map(lambda like: gen.time_limit(0.05, like)),
        inner.map(lambda like: gen.stagger(0.004, like)),
        st.tuples(inner, inner).map(lambda two: gen.reserve([(1, two[0])], two[1])),
        st.tuples(inner, inner).map(lambda two: gen.beside(*two)),
        inner.map(lambda like: gen.concurrent_keys(2, "ab", lambda _: like)),
    )


@given(
    st.recursive(LEAVES, combined, max_leaves=6),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
    st.integers(0, 1000),
)
@settings(deadline=None)
def test_any_tree_makes_a_well_formed_history_or_says_why_not(
    like: Any, threads: int, rng: random.Random, seed: int
) -> None:
    kinds = ["ok", "ok", "fail", "info"]
    refusal = ""
    try:
        play = Play(
            like,
            threads=threads,
            nemesis=True,
            latency=lambda _: rng.randrange(1, 12) * MS,
            answer=lambda op: op.complete(rng.choice(kinds)),  # type: ignore[arg-type] # only completion types
            seed=seed,
        )
    except GeneratorError as refused:
        refusal = str(refused)
    if refusal:  # as for beside(...) inside nemesis(...)
        assert "no such thread" in refusal
        return
    history = History(play.ops)
    assert all(done is not None for _, done in history.calls())
    for process in {op.process for op in play.invoked}:
        mine = [op for op in play.ops if op.process == process]
        assert {op.node for op in mine} == {["n1", "n2"][int(process) % threads % 2]}
        assert all(op.type != "info" for op in mine[:-1])


def test_the_example_of_the_module_does_what_it_says() -> None:
    def write(rng: random.Random) -> Invocation:
        return Invocation("write", rng.randrange(5))

    nemesis = [
        gen.sleep(5), Invocation("start"), gen.sleep(5), Invocation("stop")
    ]  # fmt: skip
    play = Play(
        gen.phases(
            gen.time_limit(
                60,
                gen.beside(
                    gen.rate(100, gen.mix(write, gen.repeat(READ))), gen.repeat(nemesis)
                ),
            ),
            gen.nemesis(Invocation("stop")),
            gen.clients(gen.each_thread(gen.until_ok(gen.repeat(READ)))),
        ),
        nemesis=True,
        threads=5,
        latency=lambda op: 100 * MS if op.f == "start" else 2 * MS,
    )
    strikes = [op for op in play.ops if op.process == "nemesis"][::2]
    assert [op.f for op in strikes] == ["start", "stop"] * 5 + ["start", "stop"]
    assert len(play.invoked) == pytest.approx(6000, rel=0.05)
    final = [op for op in play.invoked if op.time >= 60 * S]
    assert Counter(op.process for op in final) == dict.fromkeys(range(5), 1)


def test_asking_twice_changes_nothing() -> None:
    tree = gen.mix(draw_write, gen.stagger(0.001, gen.repeat(READ)), [CAS, WRITE])

    class Asking(Flow):
        """Asks the flow inside many times before it answers."""

        def __init__(self, inner: Flow, times: int) -> None:
            self.inner = inner
            self.times = times

        def next(self, ctx: Context) -> Step:
            for _ in range(self.times):
                self.inner.next(ctx)
            return self.inner.next(ctx)

        def take(self, offer: gen.Offer) -> None:
            self.inner.take(offer)

    def asked(times: int) -> list[tuple[str, Any, Any]]:
        def start(seeds: Seeds) -> Flow:
            return Asking(tree.start(seeds), times)

        return drawn(Play(gen.limit(200, Generator("asking", start))))

    assert asked(0) == asked(1) == asked(5)


def test_waiting_for_what_can_never_happen_is_refused() -> None:
    class Waiting(Flow):
        def next(self, ctx: Context) -> Step:
            return gen.PENDING

        def take(self, offer: gen.Offer) -> None:
            raise AssertionError

    with pytest.raises(HarnessError, match="every thread is idle"):
        Play(Generator("waiting", lambda _: Waiting()))


def test_every_free_thread_is_as_likely_as_the_others() -> None:
    # Turns would tie every second operation to every second node.
    play = Play(gen.limit(4000, gen.delay(0.01, gen.repeat(READ))), threads=4)
    counts = Counter(op.process for op in play.invoked)
    assert all(abs(counts[t] - 1000) < 150 for t in range(4))
