"""What models and anomalies imply, and what a question to a checker means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers import list_append, rw_register
from checkers.isolation import models
from checkers.isolation.models import (
    ANOMALIES,
    MODELS,
    generalizations,
    model_called,
    proscribed,
    weaker_models,
    weakest_broken,
)
from checkers.isolation.question import OPTIONS, Question
from checkers.tests.histories import FEWER
from checkers.tests.isolation_histories import histories, judge
from harness.errors import UsageError
from harness.registry import settings
from harness.verdict import Verdict

if TYPE_CHECKING:
    from harness.history import History


def ask(**given_options: str) -> Question:
    return Question.parse(settings("a test", OPTIONS, given_options))


def test_every_name_in_the_tables_is_known() -> None:
    for implied in ANOMALIES.values():
        assert set(implied) <= set(ANOMALIES)
    for weaker, forbidden in MODELS.values():
        assert set(weaker) <= set(MODELS)
        assert set(forbidden) <= set(ANOMALIES)
    assert set(models.ALIASES.values()) <= set(MODELS)
    assert set(models.DEFINITIONS) | models.WITH_SESSIONS <= set(MODELS)


def test_no_model_implies_itself_by_way_of_another() -> None:
    for model in MODELS:
        for other in weaker_models(model) - {model}:
            assert model not in weaker_models(other)


def test_a_stronger_model_proscribes_whatever_a_weaker_one_does() -> None:
    for model in MODELS:
        for weaker in weaker_models(model):
            assert proscribed(weaker) <= proscribed(model)


@pytest.mark.parametrize(
    ("anomalies", "broken"),
    [
        (["G0"], ["read-uncommitted"]),
        (["G1a"], ["read-committed"]),
        (["G-single-item"], ["consistent-view", "repeatable-read"]),
        (["G-nonadjacent-item"], ["repeatable-read", "snapshot-isolation"]),
        (["G2-item"], ["repeatable-read"]),
        (["lost-update"], ["cursor-stability", "update-atomic"]),
        (["internal"], ["read-atomic"]),
        (["G-single-item-process"], ["strong-session-snapshot-isolation"]),
        (["G-single-item-realtime"], ["strong-snapshot-isolation"]),
        (["G2-item-realtime"], ["strict-serializable"]),
        (["G0-realtime"], ["strong-read-uncommitted"]),
        (["G0", "G2-item"], ["read-uncommitted"]),
        ([], []),
    ],
)
def test_the_weakest_models_that_anomalies_break(
    anomalies: list[str], broken: list[str]
) -> None:
    assert list(weakest_broken(anomalies)) == broken


def test_a_general_anomaly_is_implied_by_its_special_cases() -> None:
    assert "G2" in generalizations("lost-update")
    assert "G1-realtime" in generalizations("G0")
    assert "G2" not in generalizations("G1c")


def test_models_go_by_their_names_in_the_literature_too() -> None:
    assert model_called("PL-3") == "serializable"
    assert model_called("strong-serializable") == "strict-serializable"
    assert model_called(" Snapshot-Isolation ") == "snapshot-isolation"


def test_an_unknown_model_or_anomaly_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="snapshot-isolation"):
        ask(consistency="snapshot-isolaton")
    with pytest.raises(UsageError, match="G-single"):
        ask(anomalies="G-singel")


def test_the_question_is_strict_serializability_unless_something_is_asked() -> None:
    assert ask().asked == ("strict-serializable",)
    assert ask(anomalies="G1").asked == ()
    assert "G2-item" not in ask(anomalies="G1").anomalies
    both = ask(anomalies="lost-update", consistency="read-committed")
    assert {"lost-update", "G1c"} <= both.anomalies


def test_orders_of_sessions_and_real_time_count_only_where_a_model_has_them() -> None:
    levels = {
        "serializable": 0,
        "snapshot-isolation": 0,
        "strong-session-serializable": 1,
        "prefix": 1,
        "strong-read-committed": 2,
        "strict-serializable": 2,
    }
    for model, level in levels.items():
        assert ask(consistency=model).level == level, model


CHAINS = (
    ("read-uncommitted", "read-committed", "snapshot-isolation", "serializable"),
    ("read-committed", "repeatable-read", "serializable", "strict-serializable"),
    ("consistent-view", "snapshot-isolation", "strong-session-snapshot-isolation"),
    (
        "read-atomic",
        "causal",
        "parallel-snapshot-isolation",
        "strong-session-snapshot-isolation",
        "strict-serializable",
    ),
    ("causal", "prefix", "strong-session-snapshot-isolation"),
)


@FEWER
@given(st.data(), st.sampled_from(CHAINS), st.booleans())
def test_what_satisfies_a_model_satisfies_the_weaker_ones(
    data: st.DataObject, chain: tuple[str, ...], lists: bool
) -> None:
    history: History = data.draw(histories(lists=lists))
    build = list_append.build if lists else rw_register.build
    verdicts = [
        judge(build({"consistency": model}), history).verdict for model in chain
    ]
    lines = "\n".join(f"{op.process} {op.type} {op.value}" for op in history)
    assert verdicts == sorted(verdicts), f"{chain} {verdicts}\n{lines}"
    assert Verdict.UNKNOWN not in verdicts
