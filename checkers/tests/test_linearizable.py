"""The checker as `splitbrain check` and the workloads use it."""

from __future__ import annotations

import csv
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from checkers.linearizability.attempts import Attempts
from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import NEVER, partition
from checkers.linearizability.models import KV, MODELS, CasRegister, Register
from checkers.linearizability.oracle import is_linearization
from checkers.linearizability.prefix import in_order, proved
from checkers.linearizability.search import is_legal_by_return, search
from checkers.linearizability.shrink import shrink
from checkers.linearizability.transitions import Transitions
from checkers.linearizability.windows import clip, possible_starts, since, weaken
from checkers.linearizable import PLUGIN, LinearizableChecker, build
from checkers.tests.histories import FEWER, MANY, histories, history
from harness import registry
from harness.bench.histories import Shape, generate
from harness.errors import UsageError
from harness.history import History, HistoryError, Op, formats
from harness.verdict import CheckResult, Limits, Verdict, of_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus" / "dev"
NO_LIMITS = Limits()


def check(text: str, model: str = "cas-register", **options: str) -> CheckResult:
    return build({"model": model, **options}).check(history(text), NO_LIMITS)


def only_anomaly(result: CheckResult) -> tuple[str, str, tuple[int, ...]]:
    assert result.verdict is Verdict.INVALID
    (anomaly,) = result.anomalies
    return anomaly.name, anomaly.explanation, anomaly.ops


STALE_READ = """
    0 invoke write 3
    0 ok write 3
    1 invoke write 5
    1 ok write 5
    2 invoke read
    2 ok read 3
"""

# Explanations


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_a_stale_read_is_told_with_values_processes_and_times(algorithm: str) -> None:
    result = check(STALE_READ, algorithm=algorithm)
    name, explanation, ops = only_anomaly(result)
    assert name == "stale-read"
    assert ops == (0, 2, 4)
    assert explanation == (
        "process 2 read 3 from n3 although process 1's write of 5 had returned "
        "1.0 ms before that read began, and 3 had been replaced by then: process 0's "
        "write of 3 had returned 1.0 ms before process 1's write of 5 began."
    )


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_the_witness_of_a_stale_read_is_a_cycle(algorithm: str) -> None:
    (anomaly,) = check(STALE_READ, algorithm=algorithm).anomalies
    assert anomaly.witness is not None
    cycle = nx.find_cycle(anomaly.witness)
    assert {edge[:2] for edge in cycle} == {(2, 4), (4, 2)}
    kinds = nx.get_edge_attributes(anomaly.witness, "kind")
    assert kinds == {
        (0, 2): "realtime",
        (2, 4): "realtime",
        (0, 4): "reads-from",
        (4, 2): "must-precede",
    }
    assert all(data["reason"] for _, _, data in anomaly.witness.edges(data=True))


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_reading_the_initial_value_after_a_write_is_stale(algorithm: str) -> None:
    name, explanation, _ = only_anomaly(
        check(
            """
            0 invoke write 1
            0 ok write 1
            1 invoke read
            1 ok read nil
            """,
            algorithm=algorithm,
        )
    )
    assert name == "stale-read"
    assert "nil is only the initial value" in explanation


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_reads_that_go_back_in_time_are_stale_even_under_an_open_write(
    algorithm: str,
) -> None:
    name, explanation, ops = only_anomaly(
        check(
            """
            0 invoke write 1
            0 ok write 1
            1 invoke write 2
            2 invoke read
            2 ok read 2
            3 invoke read
            3 ok read 1
            """,
            algorithm=algorithm,
        )
    )
    assert name == "stale-read"
    assert "although process 2's read of 2 had returned" in explanation
    assert set(ops) >= {0, 3, 5}


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_a_value_that_nobody_wrote_is_named(algorithm: str) -> None:
    text = """
        0 invoke write 1
        0 ok write 1
        1 invoke read
        1 ok read 9
    """
    name, explanation, ops = only_anomaly(check(text, algorithm=algorithm))
    assert name == "read-of-unwritten-value"
    assert explanation == "process 1 read 9 from n2, but nobody ever wrote 9."
    assert ops == (2,)


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_a_value_that_only_a_failed_write_wrote_is_named(algorithm: str) -> None:
    text = """
        0 invoke write 9
        0 fail write 9
        1 invoke read
        1 ok read 9
    """
    name, explanation, ops = only_anomaly(check(text, algorithm=algorithm))
    assert name == "read-of-failed-write"
    assert "by process 0, failed" in explanation
    assert ops == (0, 2)


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_a_value_read_before_anyone_began_to_write_it_comes_from_the_future(
    algorithm: str,
) -> None:
    text = """
        1 invoke read
        1 ok read 9
        0 invoke write 9
        0 ok write 9
    """
    name, _, ops = only_anomaly(check(text, algorithm=algorithm))
    assert name == "read-from-future"
    assert ops == (0, 2)


def test_two_cas_from_one_value_are_a_lost_update() -> None:
    name, explanation, ops = only_anomaly(
        check(
            """
            0 invoke write 1
            0 ok write 1
            1 invoke cas [1, 2]
            1 ok cas [1, 2]
            2 invoke cas [1, 3]
            2 ok cas [1, 3]
            """
        )
    )
    assert name == "lost-update"
    assert ops == (0, 2, 4)
    assert "process 1's cas from 1 to 2 had returned" in explanation


def test_concurrent_cas_from_one_value_are_a_lost_update_too() -> None:
    name, _, ops = only_anomaly(
        check(
            """
            0 invoke write 1
            0 ok write 1
            1 invoke cas [1, 2]
            2 invoke cas [1, 3]
            1 ok cas [1, 2]
            2 ok cas [1, 3]
            """
        )
    )
    assert name == "lost-update"
    assert set(ops) >= {2, 3}


def test_a_lock_held_twice_is_named() -> None:
    name, _, ops = only_anomaly(
        check(
            """
            0 invoke acquire
            0 ok acquire
            1 invoke acquire
            1 ok acquire
            """,
            model="mutex",
        )
    )
    assert name == "double-acquire"
    assert ops == (0, 2)


@pytest.mark.parametrize(
    ("after", "name"),
    [
        ("acquire 2", "double-acquire"),
        ("use 6", "use-without-lock"),
        ("release 6", "release-of-free-lock"),
    ],
)
def test_what_only_the_holder_of_a_lock_may_do_is_named(after: str, name: str) -> None:
    f, token = after.split()
    text = f"""
        0 invoke acquire
        0 ok acquire 7
        1 invoke {f} {"nil" if f == "acquire" else token}
        1 ok {f} {token}
    """
    assert only_anomaly(check(text, model="fenced-lock"))[0] == name


def test_a_lock_that_is_released_late_is_free_for_a_greater_token() -> None:
    text = """
        0 invoke acquire
        0 ok acquire 7
        0 invoke release 7
        0 info release 7
        1 invoke acquire
        1 info acquire
        2 invoke acquire
        2 ok acquire {}
    """
    greater, equal = (check(text.format(n), model="fenced-lock") for n in (9, 7))
    assert greater.verdict is Verdict.VALID
    assert equal.verdict is Verdict.INVALID


def test_a_read_that_lacks_a_finished_append_is_stale() -> None:
    name, explanation, ops = only_anomaly(
        check(
            """
            0 invoke append 'a' @1
            0 ok append 'a' @1
            1 invoke append 'b' @1
            1 ok append 'b' @1
            2 invoke get @1
            2 ok get 'a' @1
            """,
            model="kv",
        )
    )
    assert name == "stale-read"
    assert "nothing replaced the value in between" in explanation
    assert ops == (2, 4)


def test_each_broken_key_gets_its_anomaly() -> None:
    def on_key(key: int, offset: int) -> list[Op]:
        return [
            Op(i + offset, i, op.process, op.type, op.f, op.value, key)
            for i, op in enumerate(history(STALE_READ))
        ]

    good = [
        Op(12, 0, 0, "invoke", "write", 1, 3),
        Op(13, 0, 0, "ok", "write", 1, 3),
        Op(14, 0, 0, "invoke", "cas", [1, 2], 3),
        Op(15, 0, 0, "ok", "cas", [1, 2], 3),
    ]
    both = History([*on_key(1, 0), *on_key(2, 6), *good])
    result = LinearizableChecker(CasRegister()).check(both, NO_LIMITS)
    assert {anomaly.key for anomaly in result.anomalies} == {1, 2}
    assert result.not_models == ("linearizable",)
    assert result.stats["keys"] == 3
    assert result.stats["keys_broken"] == 2
    assert result.stats["algorithms"] == {"zones": 2, "chains": 1}


@FEWER
@given(histories("cas-register", steps=60))
def test_what_is_left_after_shrinking_is_impossible_by_itself(
    random_history: History,
) -> None:
    model = CasRegister()
    calls: Sequence[Call] = partition(random_history, model).get(None, [])
    outcome = search(calls, model, Budget(NO_LIMITS))
    if outcome.linearizable:
        return
    assert outcome.stuck is not None
    core = shrink(calls, model, calls[outcome.stuck], Budget(NO_LIMITS))
    assert not possible(core.calls, core.starts)
    assert len(core.strong) <= len(calls)
    assert calls[outcome.stuck].position in {call.position for call in core.strong}


@FEWER
@given(histories("cas-register", steps=40))
def test_weakening_never_makes_a_linearizable_history_impossible(
    random_history: History,
) -> None:
    model = CasRegister()
    calls: Sequence[Call] = partition(random_history, model).get(None, [])
    if not possible(calls, [model]):
        return
    # By search, which agrees with the definition: that is slow on so many open calls.
    for cut in range(len(random_history) + 1):
        assert possible(clip(calls, model, cut), [model])
        rest = since(calls, model, cut)
        assert possible(rest, possible_starts(rest, model))
    for spared in calls:
        rest = [w for c in calls if (w := c if c is spared else weaken(c, model))]
        assert possible(rest, [model])


@pytest.mark.parametrize("kind", ["unique", "cas-register"])
def test_the_operations_named_are_in_conflict_whatever_the_others_did(
    kind: str,
) -> None:
    @MANY
    @given(histories(kind, steps=50))
    def weaken_the_others(random_history: History) -> None:
        model = CasRegister()
        result = LinearizableChecker(model).check(random_history, NO_LIMITS)
        for anomaly in result.anomalies:
            if not anomaly.details.get("from_the_start", True):
                continue  # its operations conflict in a window, from every state
            event(anomaly.name)
            named = set(anomaly.ops)
            calls = partition(random_history, model)[None]
            rest = [
                w
                for c in calls
                if (w := c if c.position in named else weaken(c, model))
            ]
            assert not possible(rest, [model]), anomaly.explanation

    weaken_the_others()


def possible(calls: Sequence[Call], starts: Sequence[Model]) -> bool:
    budget = Budget(NO_LIMITS)
    return any(search(calls, start, budget).linearizable for start in starts)


@pytest.mark.parametrize(
    "kind", ["unique", "cas-register", "kv", "mutex", "fenced-lock"]
)
def test_every_violation_can_be_told_and_drawn(kind: str) -> None:
    @FEWER
    @given(histories(kind, keys=2, steps=50))
    def tell(random_history: History) -> None:
        model = MODELS["register" if kind == "unique" else kind].build("")
        result = LinearizableChecker(model).check(random_history, NO_LIMITS)
        for anomaly in result.anomalies:
            assert anomaly.ops
            assert anomaly.witness is not None
            assert set(anomaly.witness.nodes) == set(anomaly.ops)
            assert all(random_history[i].key == anomaly.key for i in anomaly.ops)
            assert anomaly.explanation.endswith(".")
            assert anomaly.as_json()["witness"]["nodes"]
            if anomaly.name == "stale-read" and kind == "unique":
                assert nx.find_cycle(anomaly.witness)

    tell()


@pytest.mark.parametrize("kind", ["cas-register", "kv", "mutex"])
def test_the_order_of_returns_is_taken_where_it_is_legal(kind: str) -> None:
    @FEWER
    @given(histories(kind, keys=3, steps=30))
    def check_all(random_history: History) -> None:
        model = MODELS[kind].build("")
        for calls in partition(random_history, model).values():
            table = Transitions(model, calls.table.operations, merge=True)
            is_legal = is_legal_by_return(calls, table)
            event(f"legal: {is_legal}")
            whole = search(calls, model, Budget(NO_LIMITS))
            found = search(calls, model, Budget(NO_LIMITS), shared=table)
            assert found.linearizable is whole.linearizable
            assert (found.reached, found.events) == (whole.reached, whole.events)
            if is_legal:
                assert found.configurations == 0
                assert is_linearization(found.order, calls, model)

    check_all()


# Verdicts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 invoke read\n0 fail read",
        "0 invoke write 1\n0 ok write 1",
        "nemesis info kill",
    ],
)
def test_a_history_that_shows_nothing_is_unknown(text: str) -> None:
    result = check(text)
    assert result.verdict is Verdict.UNKNOWN
    assert result.vacuous
    assert "nothing to judge" in result.reason


@pytest.mark.parametrize(
    ("text", "model", "count"),
    [
        ("0 invoke read\n0 info read", "register", 1),
        ("0 invoke write 1\n0 ok write 1\n1 invoke read", "cas-register", 1),
        ("0 invoke write 1\n0 info write 1\n1 invoke cas [1, 2]", "cas-register", 1),
        ("0 invoke get @1\n0 info get @1\n1 invoke get @2\n1 fail get @2", "kv", 1),
        ("0 invoke acquire\n0 info acquire\n1 invoke release", "mutex", 2),
        ("0 invoke enqueue 1\n0 ok enqueue 1\n1 invoke dequeue", "fifo-queue", 1),
    ],
)
def test_pending_operations_alone_are_judged_and_a_remark_says_so(
    text: str, model: str, count: int
) -> None:
    result = check(text, model)
    assert result.verdict is Verdict.VALID
    assert result.remarks == (
        "no read or other operation that depends on the state is known to have "
        f"succeeded ({count} ended in info, or never): nothing could have "
        "contradicted the others",
    )
    in_a_run = of_run(result)
    assert in_a_run.verdict is Verdict.UNKNOWN
    assert in_a_run.reason == f"nothing to judge: {result.untried}"
    assert not in_a_run.remarks


def test_a_run_is_judged_as_a_history_once_something_succeeded() -> None:
    result = check("0 invoke read\n0 info read\n1 invoke read\n1 ok read")
    assert result.verdict is Verdict.VALID
    assert not result.remarks
    assert of_run(result) == result
    assert of_run(check(STALE_READ)).verdict is Verdict.INVALID


def test_an_open_write_may_take_effect_at_any_time_or_never() -> None:
    start = "0 invoke write 1\n0 info write 1\n"
    never = "1 invoke read\n1 ok read nil\n"
    late = "2 invoke read\n2 ok read 1\n"
    gone = "3 invoke read\n3 ok read nil\n"
    for algorithm in ("auto", "search"):
        assert check(start + never, algorithm=algorithm).verdict is Verdict.VALID
        assert check(start + never + late, algorithm=algorithm).verdict is Verdict.VALID
        back = check(start + never + late + gone, algorithm=algorithm)
        assert back.verdict is Verdict.INVALID


def test_a_refused_cas_is_an_answer_only_where_the_format_says_so() -> None:
    ops = list(
        history(
            """
            0 invoke write 1
            0 ok write 1
            1 invoke cas [1, 2]
            1 fail cas [1, 2]
            2 invoke read
            2 ok read 1
            """
        )
    )
    checker = LinearizableChecker(CasRegister())
    assert checker.check(History(ops), NO_LIMITS).verdict is Verdict.VALID
    ops[3].extra = {"cas_fail_is_mismatch": True}
    assert checker.check(History(ops), NO_LIMITS).verdict is Verdict.INVALID


def test_completions_without_invocations_keep_the_order_of_their_process() -> None:
    def completions(*reads: int) -> History:
        ops = [Op(0, 0, 0, "ok", "write", 1), Op(1, 0, 0, "ok", "write", 2)]
        ops += [Op(i, 0, 0, "ok", "read", r) for i, r in enumerate(reads, start=2)]
        return History(ops, strict=False)

    for algorithm in ("auto", "search"):
        checker = LinearizableChecker(CasRegister(), algorithm=algorithm)
        assert checker.check(completions(2, 2), NO_LIMITS).verdict is Verdict.VALID
        assert checker.check(completions(2, 1), NO_LIMITS).verdict is Verdict.INVALID


def test_true_and_one_are_different_values() -> None:
    text = "0 invoke write 1\n0 ok write 1\n0 invoke read\n0 ok read {}\n"
    for algorithm in ("auto", "search"):
        same = check(text.format("1"), algorithm=algorithm)
        assert same.verdict is Verdict.VALID
        other = check(text.format("True"), algorithm=algorithm)
        assert other.verdict is Verdict.INVALID


def test_values_may_be_lists_and_maps() -> None:
    text = """
        0 invoke write [1, {'a': None}]
        0 ok write [1, {'a': None}]
        0 invoke read
        0 ok read [1, {'a': None}]
    """
    assert check(text).verdict is Verdict.VALID


# Limits


def hard_history(calls: int = 16, rounds: int = 40) -> History:
    """Rounds of concurrent cas that depend on one another, and a value nobody wrote."""
    ops: list[Op] = []

    def add(process: int, kind: str, f: str, value: object) -> None:
        ops.append(Op(len(ops), len(ops), process, kind, f, value))  # type: ignore[arg-type]

    for number in range(rounds):
        for p in range(calls):
            add(p, "invoke", "write", (p + number) % (calls // 2))
        add(99, "invoke", "read", None)
        for p in range(calls):
            add(p, "ok", "write", (p + number) % (calls // 2))
        add(99, "ok", "read", "impossible" if number == rounds - 1 else number % 8)
        add(99, "invoke", "cas", ["never", "impossible"])
        add(99, "info", "cas", ["never", "impossible"])
        for op in ops[-2:]:
            op.process = 100 + number
    return History(ops, strict=False)


def test_past_the_time_limit_the_answer_is_unknown_with_what_was_proved() -> None:
    started_s = time.monotonic()
    result = LinearizableChecker(CasRegister(), algorithm="search").check(
        hard_history(), Limits(time_s=0.0)
    )
    assert result.verdict is Verdict.UNKNOWN
    assert "time limit of 0 s" in result.reason
    assert time.monotonic() - started_s < 30


def test_a_limit_in_one_key_does_not_hide_what_is_known_of_the_others() -> None:
    broken = [
        Op(i, i, op.process, op.type, op.f, op.value, "broken")
        for i, op in enumerate(history(STALE_READ))
    ]
    repeated = [
        Op(6 + i, i, 7, kind, f, 1, "repeats")  # type: ignore[arg-type]
        for i, (kind, f) in enumerate(
            [("invoke", "write"), ("ok", "write")] * 2
            + [("invoke", "read"), ("ok", "read")]
        )
    ]
    result = LinearizableChecker(Register()).check(
        History([*broken, *repeated]), Limits(time_s=0.0)
    )
    assert result.verdict is Verdict.INVALID
    assert [anomaly.key for anomaly in result.anomalies] == ["broken"]
    assert "time limit" in result.reason


def test_the_search_reports_how_far_it_came() -> None:
    class Impatient:
        def exceeded(self) -> str:
            return "patience ran out"

    calls = partition(hard_history(), CasRegister())[None]
    outcome = search(calls, CasRegister(), Impatient())
    assert outcome.linearizable is None
    assert outcome.limit == "patience ran out"
    assert 0 < outcome.reached < outcome.events
    shown = proved(calls, CasRegister(), outcome)
    assert shown is not None
    assert (shown.events, shown.of) == (outcome.reached, outcome.events)
    assert shown.calls > 0
    ends = sorted(call.returned for call in calls)
    prefix = clip(calls, CasRegister(), ends[shown.calls - 1])
    place = {call.position: i for i, call in enumerate(prefix)}
    order = [place[position] for position in shown.order]
    assert is_linearization(order, prefix, CasRegister())


@FEWER
@given(histories("cas-register", steps=60), st.integers(0, 30))
def test_an_order_of_a_prefix_proves_it(judged: History, count: int) -> None:
    model = CasRegister()
    calls: Sequence[Call] = partition(judged, model).get(None, [])
    ends = sorted(c.returned for c in calls if c.returned != NEVER)[:count]
    order, returns = in_order(calls, model, ends)
    event(f"of {len(ends)} returns {returns} in order")
    prefix = clip(calls, model, ends[returns - 1]) if returns else []
    place = {call.position: i for i, call in enumerate(prefix)}
    assert is_linearization([place[position] for position in order], prefix, model)


def test_where_a_limit_is_met_the_reason_says_what_to_try() -> None:
    checker = LinearizableChecker(CasRegister(), algorithm="search", compiled="never")
    hard = History(generate(Shape("cas-register", 10_000, 100)))
    result = checker.check(hard, Limits(time_s=0.2))
    assert result.verdict is Verdict.UNKNOWN
    (shown,) = result.stats["proved"]
    assert f"its first {shown['events']} of {shown['of']} events" in result.reason
    assert f"op {shown['not_placed']} could not be placed in time" in result.reason
    assert "to decide it, try a longer --time-limit" in result.reason
    assert "--memory-limit" not in result.reason


# Bad input


@pytest.mark.parametrize(
    ("model", "line", "complaint"),
    [
        ("register", "0 invoke cas [1, 2]", "the register model has no such operation"),
        ("cas-register", "0 invoke enqueue 1", "it has read, write, cas"),
        ("cas-register", "0 invoke cas 1", "wants a value [from, to], got 1"),
        ("mutex", "0 invoke read", "it has acquire, release"),
        ("fenced-lock", "0 invoke read", "it has acquire, use, release"),
        ("fenced-lock", "0 invoke use", "wants a token, a whole number"),
        ("kv", "0 invoke append 1", "wants a string, got 1"),
        ("multi-register", "0 invoke txn 7", "wants a list of micro-operations"),
        ("multi-register", "0 invoke txn [['x', 1, 2]]", "wants [read k v]"),
        ("multi-register", "0 invoke txn [7]", "wants [read k v]"),
    ],
)
def test_an_operation_the_model_does_not_know_is_refused_and_named(
    model: str, line: str, complaint: str
) -> None:
    with pytest.raises(HistoryError) as refused:
        check(line, model=model)
    assert str(refused.value).startswith("history: op 0: ")
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "registre"},
        {"modle": "register"},
        {"algorithm": "magic"},
        {"model": "mutex", "initial": "3"},
        {"model": "fenced-lock", "initial": "true"},
        {"model": "multi-register", "initial": "[1]"},
        {"initial": "{:x"},
    ],
)
def test_wrong_options_are_the_users_error(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        build(options)


def test_zones_alone_say_what_they_cannot_decide() -> None:
    text = """
        0 invoke write 1
        0 ok write 1
        0 invoke cas [1, 2]
        0 ok cas [1, 2]
    """
    result = check(text, algorithm="zones")
    assert result.verdict is Verdict.UNKNOWN
    assert "zones can't decide it" in result.reason


@pytest.mark.parametrize(
    ("model", "initial", "state"),
    [
        ("register", "", None),
        ("register", "0", 0),
        ("cas-register", "nil", None),
        ("cas-register", ":a", "a"),
        ("kv", "", ""),
        ("kv", '"x"', "x"),
        ("mutex", "true", True),
        ("fenced-lock", "", (None, False)),
        ("fenced-lock", "7", (7, False)),
        ("multi-register", "{:x 0, :y nil}", frozenset({("x", 0)})),
        ("multi-register", '{"x": 0}', frozenset({("x", 0)})),
    ],
)
def test_initial_states_are_json_or_edn(
    model: str, initial: str, state: object
) -> None:
    assert MODELS[model].build(initial).initial == state


def test_the_plugin_is_found_by_name() -> None:
    assert registry.find("checker", "linearizable") is PLUGIN
    assert registry.find("checker", "linearizability") is PLUGIN


def test_nil_in_a_kv_store_means_that_nothing_is_there() -> None:
    text = "0 invoke get\n0 ok get nil\n0 invoke get\n0 ok get ''\n"
    for algorithm in ("auto", "search"):
        assert check(text, model="kv", algorithm=algorithm).verdict is Verdict.VALID
    assert KV(initial="x").value(None) == "x"


def test_a_crash_of_the_explainer_would_show() -> None:
    """The explainer is pure: the same anomaly every time."""
    first = check(STALE_READ).anomalies[0].as_json()
    assert check(STALE_READ).anomalies[0].as_json() == first
    assert Attempts(history(STALE_READ), Register()).failed_writes == {}


# What is reported first

FIRST_STALE = """
    0 invoke write 1
    0 ok write 1
    1 invoke write 2
    1 ok write 2
    2 invoke read
    2 ok read 1
    3 invoke read
    3 ok read 3
    4 invoke read
    4 ok read 1
"""


@pytest.mark.parametrize("algorithm", ["auto", "zones", "search"])
def test_the_conflict_with_the_shortest_prefix_is_reported(algorithm: str) -> None:
    (anomaly,) = check(FIRST_STALE, "register", algorithm=algorithm).anomalies
    assert (anomaly.name, anomaly.ops) == ("stale-read", (0, 2, 4))
    assert anomaly.details["first_impossible_op"] == 4
    assert anomaly.details["linearizable_prefix_calls"] == 2


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_of_many_broken_keys_those_that_broke_first_are_explained(
    algorithm: str,
) -> None:
    lines = []
    for key in reversed(range(30)):  # the last key breaks first
        lines += [f"{key} invoke read nil @{key}", f"{key} ok read {key} @{key}"]
        # A shorter history is looked at earlier.
        lines += [f"{key} invoke read nil @{key}", f"{key} ok read nil @{key}"] * key
    result = check("\n".join(lines), "register", algorithm=algorithm)
    assert [anomaly.key for anomaly in result.anomalies] == [*range(29, 9, -1)]
    assert result.stats["keys_broken"] == 30


READ_AT_FIRST = """
    0 invoke read
    0 ok read 0
    1 invoke write 5
    1 ok write 5
    2 invoke write 0
    2 fail write 0
"""


def test_a_failed_write_is_named_if_only_an_open_cas_expected_its_value() -> None:
    text = """
        0 invoke cas [4, 5]
        0 info cas [4, 5]
        1 invoke write 4
        1 fail write 4
        2 invoke read
        2 ok read 5
        3 invoke write 4
        3 fail write 4
    """
    (anomaly,) = check(text).anomalies
    assert (anomaly.name, anomaly.ops) == ("read-of-failed-write", (0, 2, 4))
    assert "the only attempt to write 4 by then, by process 1, failed" in (
        anomaly.explanation
    )


@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_a_failed_write_is_not_blamed_for_a_read_that_it_began_after(
    algorithm: str,
) -> None:
    name, explanation, ops = only_anomaly(
        check(READ_AT_FIRST, "register", algorithm=algorithm)
    )
    assert (name, ops) == ("read-of-unwritten-value", (0,))
    assert explanation.endswith(
        "If 0 was there from the start, check with --option initial=0."
    )
    told = check(READ_AT_FIRST, "register", algorithm=algorithm, initial="0")
    assert told.verdict is Verdict.VALID


@pytest.mark.parametrize("algorithm", ["auto", "search"])
@pytest.mark.parametrize(
    "text",
    [
        "0 invoke write 1 @1\n0 ok write 1 @1\n1 invoke read @1\n1 ok read 0 @1",
        "0 invoke read @1\n0 ok read 0 @1\n1 invoke read @2\n1 ok read 7 @2",
    ],
    ids=["after another value", "two different values"],
)
def test_no_initial_value_is_suggested_that_would_not_explain_what_was_read(
    text: str, algorithm: str
) -> None:
    result = check(text, "register", algorithm=algorithm)
    assert result.verdict is Verdict.INVALID
    for anomaly in result.anomalies:
        assert anomaly.name == "read-of-unwritten-value"
        assert "--option" not in anomaly.explanation


# Corpus


def corpus_rows() -> Iterator[tuple[str, str, str]]:
    """(file, arguments, expected verdict) of the labelled histories, if present."""
    if not (CORPUS / "manifest.tsv").is_file():
        return
    with (CORPUS / "manifest.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["checker"] == "linearizable":
                yield row["file"], row["args"], row["expected"]


def given_option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


@pytest.mark.skipif(
    not (CORPUS / "manifest.tsv").is_file(),
    reason="no ../shared/corpus beside this checkout",
)
@pytest.mark.nightly
def test_recorded_histories_get_the_verdicts_their_authors_gave() -> None:
    wrong = []
    rows = list(corpus_rows())
    assert rows
    for file, arguments, expected in rows:
        words = shlex.split(arguments)
        initial = given_option(words, "--option").removeprefix("initial=")
        checker = build({"model": given_option(words, "--model"), "initial": initial})
        recorded = formats.load(CORPUS / file, given_option(words, "--format"))
        result = checker.check(recorded, Limits(time_s=20))
        if str(result.verdict) not in expected.split("|"):
            wrong.append(f"{file}: {result.verdict}, not {expected}: {result.reason}")
    assert not wrong, "\n".join(wrong)
