"""An acknowledged write that is never seen again is told from one that is seen late."""

from __future__ import annotations

import pytest

from checkers.linearizability.models import find_model
from checkers.linearizable import LinearizableChecker
from checkers.tests.histories import history
from checkers.tests.test_linearizability_models import sequential
from harness.verdict import Anomaly, Limits, Verdict

MODELS = ("register", "cas-register")


def broken(text: str, model: str, step_ms: int = 1) -> Anomaly:
    """The only anomaly; process p talks to node p + 1, events are `step_ms` apart."""
    judged = history(sequential(text))
    for op in judged:
        op.time *= step_ms
    result = LinearizableChecker(find_model(model)).check(judged, Limits())
    assert result.verdict is Verdict.INVALID
    (anomaly,) = result.anomalies
    return anomaly


@pytest.mark.parametrize("model", MODELS)
def test_a_write_that_no_node_shows_again_is_lost(model: str) -> None:
    lost = broken("0 write 1; 0 write 2; 1 read -> 1; 2 read -> 1", model)
    assert lost.name == "lost-write"
    assert lost.explanation.startswith(
        "process 0's write of 2 was acknowledged and never seen again: all 2 reads "
        "that began later found what was there before it, the last one "
    )
    assert 2 in lost.ops, "the lost write is one of those shown"


@pytest.mark.parametrize("model", MODELS)
def test_a_first_write_that_is_lost_leaves_the_initial_value(model: str) -> None:
    assert broken("0 write 1; 1 read -> nil; 2 read -> nil", model).name == "lost-write"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "text",
    [
        "0 write 1; 0 write 2; 1 read -> 1",
        "0 write 1; 0 write 2; 1 read -> 1; 1 read -> 1",
        "0 write 1; 0 write 2; 1 read -> 1; 2 read -> 1; 1 read -> 2",
        "0 write 1; 0 write 2; 1 read -> 1; 2 read -> 1; 0 write 3; 0 read -> 3",
        "0 write 1; 0 write 2; 1 read -> 1; 2 read -> 2",
    ],
)
def test_what_was_fresh_again_or_seen_by_one_node_was_only_stale(
    model: str, text: str
) -> None:
    assert broken(text, model).name == "stale-read"


@pytest.mark.parametrize(("step_ms", "name"), [(1, "stale-read"), (400, "lost-write")])
@pytest.mark.parametrize("model", MODELS)
def test_a_node_that_never_catches_up_has_lost_the_write(
    model: str, step_ms: int, name: str
) -> None:
    text = "0 write 1; 0 write 2; 2 read -> 2; 1 read -> 1; 2 read -> 2; 1 read -> 1"
    found = broken(text, model, step_ms)
    assert found.name == name
    if name == "lost-write":
        assert "never seen again on n2: all 2 reads" in found.explanation


@pytest.mark.parametrize("model", MODELS)
def test_a_node_that_catches_up_late_was_only_stale(model: str) -> None:
    text = "0 write 1; 0 write 2; 2 read -> 2; 1 read -> 1; 1 read -> 1; 1 read -> 2"
    assert broken(text, model, 400).name == "stale-read"


def test_a_lost_cas_is_a_lost_write() -> None:
    text = "0 write 1; 0 cas [1, 2]; 1 read -> 1; 2 read -> 1"
    found = broken(text, "cas-register")
    assert found.name == "lost-write"
    assert "cas from 1 to 2 was acknowledged and never seen" in found.explanation


def test_a_value_that_is_written_again_may_be_the_new_one() -> None:
    """Reads of 1 miss the write of 2, but then 1 may have been written anew."""
    text = """
        0 invoke write 1
        0 ok write 1
        0 invoke write 2
        0 ok write 2
        1 invoke read
        1 ok read 1
        0 invoke write 1
        2 invoke read
        2 ok read 1
        """
    result = LinearizableChecker(find_model("cas-register")).check(
        history(text), Limits()
    )
    (anomaly,) = result.anomalies
    assert anomaly.name != "lost-write"
