"""Fencing of locks, against its definition pair by pair and against linearizability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from checkers.fencing import PLUGIN
from checkers.findings import PROMISES_EXAMPLES_MAX
from checkers.linearizability.models import FencedLock
from checkers.linearizable import LinearizableChecker
from checkers.tests.histories import FEWER, MANY, forgetting, histories, history
from harness.errors import UsageError
from harness.history import NO_COMPLETION, History, HistoryError, Op
from harness.verdict import Limits, Verdict

if TYPE_CHECKING:
    from harness.verdict import CheckResult

NO_LIMITS = Limits()
NEVER = 1 << 40


def check(judged: History | str, **options: str) -> CheckResult:
    given_history = history(judged) if isinstance(judged, str) else judged
    return PLUGIN.factory(options).check(given_history, NO_LIMITS)


def only_anomaly(result: CheckResult) -> tuple[str, str, tuple[int, ...]]:
    assert result.verdict is Verdict.INVALID
    (anomaly,) = result.anomalies
    return anomaly.name, anomaly.explanation, anomaly.ops


# --- what is found ------------------------------------------------------------------


def test_two_holders_at_once_are_named_with_their_tokens() -> None:
    name, why, ops = only_anomaly(
        check(
            """
            0 invoke acquire @1
            0 ok acquire 4 @1
            1 invoke acquire @1
            1 ok acquire 5 @1
            0 invoke release 4 @1
            """
        )
    )
    assert name == "two-holders"
    assert ops == (1, 3)
    assert why == (
        "Of lock 1, process 0 (at n1) had not begun to release it (token 4) when "
        "process 1 (at n2) got it too (token 5)."
    )


def test_with_leases_a_second_holder_is_no_fault() -> None:
    text = """
        0 invoke acquire
        0 ok acquire 4
        1 invoke acquire
        1 ok acquire 5
    """
    assert check(text, leases="true").verdict is Verdict.VALID
    assert check(text).verdict is Verdict.INVALID


@pytest.mark.parametrize("f", ["use", "release"])
def test_a_token_is_stale_once_a_greater_one_was_granted(f: str) -> None:
    name, why, ops = only_anomaly(
        check(
            f"""
            0 invoke acquire
            0 ok acquire 4
            1 invoke acquire
            1 ok acquire 5
            0 invoke {f} 4
            0 ok {f} 4
            """,
            leases="true",
        )
    )
    assert name == "stale-token-accepted"
    assert ops == (3, 5)
    assert why == (
        f"Of the lock, {f} by token 4 was accepted after token 5 had been granted."
    )


def test_a_token_is_stale_once_it_was_released() -> None:
    name, why, ops = only_anomaly(
        check(
            """
            0 invoke acquire
            0 ok acquire 4
            0 invoke release 4
            0 ok release 4
            1 invoke use 4
            1 ok use 4
            """
        )
    )
    assert name == "stale-token-accepted"
    assert ops == (3, 5)
    assert why.endswith("after token 4 had been released.")


@pytest.mark.parametrize(
    ("token", "name"), [(4, "token-granted-twice"), (3, "token-not-greater")]
)
def test_tokens_must_grow(token: int, name: str) -> None:
    result = check(
        f"""
        0 invoke acquire
        0 ok acquire 4
        0 invoke release 4
        0 ok release 4
        1 invoke acquire
        1 ok acquire {token}
        """
    )
    assert only_anomaly(result)[0] == name


def test_a_refused_release_leaves_the_lock_with_its_holder() -> None:
    name, _, _ = only_anomaly(
        check(
            """
            0 invoke acquire
            0 ok acquire 4
            0 invoke release 4
            0 fail release 4
            1 invoke acquire
            1 ok acquire 5
            """
        )
    )
    assert name == "two-holders"


def test_a_release_of_unknown_outcome_may_have_freed_the_lock() -> None:
    result = check(
        """
        0 invoke acquire
        0 ok acquire 4
        0 invoke release 4
        0 info release 4
        1 invoke acquire
        1 ok acquire 5
        """
    )
    assert result.verdict is Verdict.VALID


def test_locks_are_judged_one_by_one() -> None:
    result = check(
        """
        0 invoke acquire @1
        0 ok acquire 4 @1
        1 invoke acquire @2
        1 ok acquire 4 @2
        0 invoke release 4 @1
        0 ok release 4 @1
        0 invoke acquire @1
        0 ok acquire 5 @1
        """
    )
    assert result.verdict is Verdict.VALID
    assert result.stats["locks"] == 2
    assert result.stats["grants"] == 3


def test_refused_tokens_are_counted_and_are_something_to_judge() -> None:
    result = check(
        """
        0 invoke acquire
        0 ok acquire 4
        0 invoke release 4
        0 ok release 4
        1 invoke use 4
        1 fail use 4
        """
    )
    assert result.verdict is Verdict.VALID
    assert result.stats["stale_refused"] == 1


def test_a_lock_that_was_granted_once_shows_nothing() -> None:
    result = check("0 invoke acquire\n0 ok acquire 4\n0 invoke use 4\n0 ok use 4")
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason.startswith("nothing to judge")
    assert check("").verdict is Verdict.UNKNOWN


def test_a_token_that_is_no_number_is_refused() -> None:
    with pytest.raises(HistoryError, match=r"op 1: acquire of 'four'"):
        check("0 invoke acquire\n0 ok acquire 'four'")
    with pytest.raises(UsageError):
        PLUGIN.factory({"leases": "perhaps"})


# --- against the definitions --------------------------------------------------------


def by_definition(judged: History, *, leases: bool) -> set[tuple[str, int, int]]:
    """Every pair of ops that breaks a rule, by looking at all of them."""
    found = set()
    completion = judged.completion
    begun = {j: i for i, j in enumerate(completion) if j > i}
    done = [op for op in judged if op.type == "ok"]
    grants = [op for op in done if op.f == "acquire"]
    releases = [op for op in judged if op.type == "invoke" and op.f == "release"]

    def given_back(grant_index: int) -> int:
        """When a release by that grant's token was begun first, if not in vain."""
        grant = judged[grant_index]
        return min(
            (
                r.index
                for r in releases
                if (r.key, r.value) == (grant.key, grant.value)
                and not (
                    completion[r.index] >= 0
                    and judged[completion[r.index]].type == "fail"
                )
                and r.index > grant_index
            ),
            default=NEVER,
        )

    def may_precede_its_end(grant: Op) -> bool:
        """Whether somebody may have given it back before its client heard of it."""
        return any(
            (r.key, r.value) == (grant.key, grant.value)
            and r.index < grant.index
            and (end == NO_COMPLETION or judged[end].type != "fail")
            and not (begun[grant.index] > end > 0 and judged[end].type == "ok")
            for r in releases
            for end in [completion[r.index]]
        )

    for a in grants:
        for b in grants:
            if a.key != b.key or a.index >= b.index:
                continue
            if a.value == b.value:
                found.add(("token-granted-twice", a.index, b.index))
            elif b.value < a.value and a.index < begun[b.index]:
                found.add(("token-not-greater", a.index, b.index))
            if leases or may_precede_its_end(a) or may_precede_its_end(b):
                continue
            if b.index < given_back(a.index):
                found.add(("two-holders", a.index, b.index))
    for op in done:
        if op.f == "acquire":
            continue
        for before in done:
            late = before.key == op.key and before.index < begun[op.index]
            newer = before.f == "acquire" and before.value > op.value
            over = before.f == "release" and before.value == op.value
            if late and (newer or over):
                found.add(("stale-token-accepted", before.index, op.index))
    return found


@MANY
@given(histories("fenced-lock", keys=2, steps=44), st.booleans())
def test_the_sweep_convicts_exactly_what_the_definition_does(
    judged: History, leases: bool
) -> None:
    expected = by_definition(judged, leases=leases)
    result = check(judged, leases=str(leases).lower())
    event(f"broken: {bool(expected)}")
    assert (result.verdict is Verdict.INVALID) is bool(expected)
    found = {(a.name, *a.ops) for a in result.anomalies}
    assert found <= expected, "what is told is what happened"
    assert {name for name, *_ in found} <= {name for name, *_ in expected}
    if any(
        n > PROMISES_EXAMPLES_MAX for n in result.stats.get("anomalies", {}).values()
    ):
        return
    # The second op of every broken pair is accused of something.
    assert {b for _, _, b in expected} == {b for _, _, b in found}


@MANY
@given(histories("fenced-lock", keys=2, steps=44), st.sets(st.integers(0, 43)))
def test_what_fencing_convicts_no_order_of_operations_explains(
    whole: History, forgotten: set[int]
) -> None:
    for judged in (whole, forgetting(whole, forgotten)):
        if check(judged).verdict is Verdict.INVALID:
            result = LinearizableChecker(FencedLock()).check(judged, NO_LIMITS)
            assert result.verdict is Verdict.INVALID


def test_a_token_that_was_guessed_may_be_given_back_before_it_is_known() -> None:
    guessed = """
        0 invoke release 0
        1 invoke acquire
        3 invoke acquire
        0 ok release 0
        1 ok acquire 1
        3 ok acquire 0
        """
    assert check(guessed).verdict is Verdict.VALID
    over = """
        1 invoke acquire
        1 ok acquire 1
        0 invoke release 1
        3 invoke acquire
        3 ok acquire 2
        """
    assert check(over).verdict is Verdict.VALID


def test_a_release_of_which_only_the_end_is_known_may_have_begun_long_before() -> None:
    ends = [("acquire", 1), ("acquire", 2), ("release", 1)]
    ops = [Op(i, i, i, "ok", f, token) for i, (f, token) in enumerate(ends)]
    assert check(History(ops, strict=False)).verdict is Verdict.VALID
    assert check(History(ops[:2], strict=False)).verdict is Verdict.INVALID


@FEWER
@given(histories("fenced-lock", keys=2, steps=44, lies=False))
def test_a_correct_lock_is_never_convicted(judged: History) -> None:
    assert check(judged).verdict is not Verdict.INVALID
    assert check(judged, leases="true").verdict is not Verdict.INVALID
