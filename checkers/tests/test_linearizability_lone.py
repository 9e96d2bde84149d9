"""A completion without its invocation was invoked nobody knows when.

Foreign histories hold them, and reading them as operations of a single instant would
convict the correct.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.tests.histories import FEWER, histories
from checkers.tests.test_linearizability_models import KINDS, model_of, verdict
from harness.history import History, Op
from harness.verdict import Verdict


@pytest.mark.parametrize("kind", KINDS)
def test_forgetting_invocations_never_convicts_a_correct_object(kind: str) -> None:
    @FEWER
    @given(histories(kind, lies=False), st.sets(st.integers(0, 30)))
    def forget(complete: History, forgotten: set[int]) -> None:
        answered = {
            i
            for i, j in enumerate(complete.completion)
            # "true" alone does not say which element it is about.
            if j > i and not isinstance(complete[j].value, bool)
        }
        kept = [op for op in complete if op.index not in forgotten & answered]
        ops = [
            Op(i, op.time, op.process, op.type, op.f, op.value, op.key)
            for i, op in enumerate(kept)
        ]
        judged = History(ops, strict=False)
        assert verdict(judged, model_of(kind)) is not Verdict.INVALID, ops

    forget()


def test_a_lone_write_may_have_begun_before_everything() -> None:
    """The write of 2 may have come before that of 1, which was answered first."""
    lone = [
        Op(0, 0, 0, "ok", "write", 1),
        Op(1, 1, 1, "ok", "write", 2),
        Op(2, 2, 2, "ok", "read", 1),
    ]
    history = History(lone, strict=False)
    for kind in ("register", "cas-register"):
        assert verdict(history, model_of(kind)) is Verdict.VALID
    lone[2].value = 3
    assert verdict(History(lone, strict=False), model_of("register")) is (
        Verdict.INVALID
    )
