"""What nodes observed tells an anomaly's story: who, in which order, and what got lost.

The run is a three-phase commit that a partition splits (Skeen 1981): n2's answer to
preCommit is lost, so n1 turns back, and its preAbort is lost as well.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.report import build, summary, witness
from harness.report.folder import load
from harness.report.story import tell
from harness.tests.test_report import Page, assert_harmless

if TYPE_CHECKING:
    from pathlib import Path

    from harness.report.witness import Witness

START_NS = 5_000_000_000
"""Where the nodes' clocks stood when the run began."""

STEPS: list[tuple[int, str, str, dict[str, Any]]] = [
    (10, "n1", "voted", {"vote": "yes"}),
    (11, "n2", "voted", {"vote": "yes"}),
    (12, "n3", "voted", {"vote": "yes"}),
    (20, "n1", "precommitting", {}),
    (20, "n1", "precommitted", {}),
    (21, "n3", "precommitted", {}),
    (22, "n2", "precommitted", {}),
    (60, "n1", "turning_back", {}),
    (90, "n1", "decided", {"decision": "abort", "by": "n1", "role": "coordinator"}),
    (90, "n1", "decided", {"decision": "abort", "by": "n1", "role": "participant"}),
    (120, "n2", "terminating", {"round": 1}),
    (150, "n2", "decided", {"decision": "commit", "by": "n2", "role": "participant"}),
    (160, "n3", "decided", {"decision": "commit", "by": "n2", "role": "participant"}),
]
CUT = ["n1->n2", "n2->n1", "n1->n3", "n3->n1"]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A run folder; n3's clock is a quarter of a second ahead, and was sampled."""
    test = {"system": "3pc", "workload": "commit", "nodes": ["n1", "n2", "n3"]}
    (tmp_path / "test.yaml").write_text(json.dumps(test))
    (tmp_path / "run.json").write_text(
        json.dumps({"ended": "complete", "seconds": 1, "start_mono_ns": START_NS})
    )
    write_lines(tmp_path / "clocks.jsonl", [
        {"time": 0, "node": "n3", "wall_offset_ms": 0.0, "mono_offset_ms": 250.0}
    ])  # fmt: skip
    write_lines(tmp_path / "faults.jsonl", [
        {"time": 23.5e6, "id": 0, "event": "start", "kind": "partition",
         "title": "isolate n1", "nodes": ["n1"], "evidence": {"cut": CUT}},
        {"time": 200e6, "id": 0, "event": "end", "kind": "partition", "bit": True,
         "title": "isolate n1", "nodes": ["n1"], "evidence": {"cut": CUT}},
    ])  # fmt: skip
    reads: list[dict[str, Any]] = [
        {"index": 2 + i, "time": 10**9 + i, "process": 9, "type": kind, "f": "read",
         "value": 7} for i, kind in enumerate(("invoke", "ok") * 20)
    ]  # fmt: skip
    write_lines(tmp_path / "history.jsonl", [
        {"index": 0, "time": 5_000_000, "process": 0, "type": "invoke", "f": "txn",
         "value": {"id": "t1", "txn": [["w", "x", 1]]}, "node": "n1"},
        {"index": 1, "time": 91_000_000, "process": 0, "type": "fail", "f": "txn",
         "value": {"id": "t1", "txn": [["w", "x", 1]]}, "node": "n1"},
        *reads,
    ])  # fmt: skip
    lives: dict[str, list[dict[str, Any]]] = {"n1": [], "n2": [], "n3": []}
    for ms, node, kind, fields in STEPS:
        ahead_ms = 250 if node == "n3" else 0
        lives[node].append(
            {
                "seq": len(lives[node]),
                "mono_ns": START_NS + (ms + ahead_ms) * 1_000_000,
                "node": node,
                "kind": kind,
                "id": "t1",
                **fields,
            }
        )
    for node, lines in lives.items():
        (tmp_path / "nodes" / node).mkdir(parents=True)
        write_lines(tmp_path / "nodes" / node / "observe.jsonl", lines)
    # n1's decisions are observations 4 and 5, n2's is 9: one node after the other.
    write_verdict(tmp_path, over="observations", ops=[4, 9])
    return tmp_path


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_verdict(run_dir: Path, *, over: str, ops: list[int]) -> None:
    anomaly = {
        "name": "split-decision",
        "ops": ops,
        "explanation": "t1 was committed by n2 but aborted by n1.",
        "details": {"transaction": "t1"},
        "witness": {
            "nodes": ops,
            "edges": [
                {"source": ops[-1], "target": ops[0], "kind": "contradicts",
                 "reason": "n2 committed, n1 aborted"}
            ],
        },
    }  # fmt: skip
    checker = {"verdict": "invalid", "anomalies": [anomaly], "over": over}
    verdict = {"verdict": "invalid", "checkers": {"atomic_commit_observed": checker}}
    (run_dir / "verdict.json").write_text(json.dumps(verdict))


def told(run_dir: Path) -> Witness:
    return tell(load(run_dir)).anomalies[0]


def steps(story: Witness) -> list[tuple[str, str]]:
    return [(witness.who(c, story.roles), story.text_of(c)) for c in story.calls]


def test_observations_are_shown_and_not_the_operations_of_the_same_numbers(
    split: Path,
) -> None:
    """Operations 4 and 9 of the history are reads of process 9."""
    blamed = told(split).blamed
    assert [(c.node, c.invoke.f) for c in blamed] == [
        ("n1", "decided"),
        ("n2", "decided"),
    ]
    text = summary(split)
    assert "n1 (coordinator)  decides abort" in text
    assert "process 9" not in text


def test_operations_are_shown_where_the_verdict_is_over_operations(split: Path) -> None:
    write_verdict(split, over="operations", ops=[1, 5])
    blamed = told(split).blamed
    assert [(c.number, c.invoke.process) for c in blamed] == [(1, 0), (5, 9)]


def test_the_events_of_the_transaction_surround_it_in_the_order_of_true_time(
    split: Path,
) -> None:
    """n3's clock is ahead of the others, and yet its steps stand where they belong."""
    assert steps(told(split)) == [
        ("n1 (coordinator)", "votes yes"),
        ("n2 (participant)", "votes yes"),
        ("n3 (participant)", "votes yes"),
        ("n1 (coordinator)", "sends preCommit"),
        ("n3 (participant)", "preCommit"),
        ("n2 (participant)", "preCommit"),
        ("n1 (coordinator)", "sends preAbort"),
        ("n1 (coordinator)", "decides abort"),
        ("n2 (participant)", "starts termination"),
        ("n2 (participant)", "decides commit"),
        ("n3 (participant)", "decides commit"),
    ]


def test_messages_that_must_have_arrived_are_drawn(split: Path) -> None:
    reasons = [e.reason for e in told(split).edges if e.kind == witness.MESSAGE]
    assert reasons == [
        "vote from n2 to n1",
        "vote from n3 to n1",
        "preCommit from n1 to n3",
        "preCommit from n1 to n2",
        "decision from n2 to n3",
    ]


def test_messages_that_the_partition_kept_are_told_with_their_cut(split: Path) -> None:
    reasons = [e.reason for e in told(split).reasons if e.kind == witness.LOST]
    assert reasons == [
        "no acknowledgement from n2 reached n1: partition isolate n1",
        "preAbort from n1 to n2 met a cut link: partition isolate n1",
        "preAbort from n1 to n3 met a cut link: partition isolate n1",
    ]


def test_without_a_cut_link_nothing_is_claimed_to_be_lost(split: Path) -> None:
    (split / "faults.jsonl").write_text("")
    assert not [e for e in told(split).edges if e.kind == witness.LOST]


def test_without_the_start_of_the_run_only_the_anomalys_own_events_are_shown(
    split: Path,
) -> None:
    (split / "run.json").write_text('{"ended": "complete"}')
    story = told(split)
    assert len(story.calls) == 2
    assert "spacetime" in build(split).read_text()


def test_the_page_draws_the_story_and_survives_observations_that_are_junk(
    split: Path,
) -> None:
    evil = "</title><script>boom()</script>"
    with (split / "nodes" / "n2" / "observe.jsonl").open("ab") as file:
        file.write(b"\xff\x00 torn\n[1]\n{}\n")
        for fields in ({evil: evil}, {"by": [evil]}, {"decision": {"a": evil}}):
            line: dict[str, Any] = {
                "mono_ns": "x",
                "seq": evil,
                "kind": evil,
                "id": "t1",
                **fields,
            }
            file.write(json.dumps(line).encode() + b"\n")
            line |= {"mono_ns": 2**70, "kind": "decided"}
            file.write(json.dumps(line).encode() + b"\n")
    page = Page(build(split).read_text("utf-8"))
    assert_harmless(page)
    assert "decides commit" in page.text
    assert ("class", "edge edge-lost") in page.attributes
    assert ("class", "edge edge-message") in page.attributes
