"""Reports say which node had which role when, from what nodes observed."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.report import roles
from harness.report.folder import load
from harness.run import execution
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from pathlib import Path

START_NS = 5_000_000_000
NODES = ("n1", "n2", "n3")

Life = list[tuple[int, str, dict[str, Any]]]


class Run:
    """A run folder in the making; times are milliseconds of the run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("test.yaml", json.dumps({"system": "x", "nodes": NODES}))
        self.write("run.json", json.dumps({"seconds": 1, "start_mono_ns": START_NS}))
        for name in ("history.jsonl", "clocks.jsonl", "faults.jsonl"):
            self.write(name, "")

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def lives(self, node: str, *lives: Life) -> None:
        for life in lives:
            for seq, (ms, kind, fields) in enumerate(life):
                mono_ns = START_NS + ms * 1_000_000
                line = {"seq": seq, "mono_ns": mono_ns, "node": node, "kind": kind}
                text = json.dumps({**line, **fields}, separators=(",", ":"))
                self.write(f"nodes/{node}/observe.jsonl", text + "\n")

    def killed(self, ms: int, *nodes: str) -> None:
        line = {
            "time": ms * 1e6, "id": ms, "event": "start", "kind": "kill",
            "title": "kill", "nodes": nodes,
            "evidence": {"killed": dict.fromkeys(nodes, 9)},
        }  # fmt: skip
        self.write("faults.jsonl", json.dumps(line) + "\n")

    def spans(self) -> list[tuple[str, int, int | None, str, int | None]]:
        """The spans, in ms."""
        return [
            (
                span["node"],
                span["t"] // 1000,
                None if span["to"] is None else span["to"] // 1000,
                span["role"],
                span["term"],
            )
            for span in roles.columns(load(self.path))
        ]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_raft_server_follows_stands_and_leads(run: Run) -> None:
    run.lives("n1", [
        (10, "voted", {"term": 1, "candidate": "n2"}),
        (12, "became_follower", {"term": 1, "leader": "n2"}),
        (13, "appended", {"first": 1, "entries": [[1, {"kind": "became_leader"}]]}),
        (50, "became_pre_candidate", {"term": 1}),
        (60, "became_candidate", {"term": 2}),
        (70, "became_leader", {"term": 2, "last_log_index": 1}),
        (90, "lost_quorum", {"term": 2}),
    ])  # fmt: skip
    assert run.spans() == [
        ("n1", 10, 50, "follower", 1),
        ("n1", 50, 60, "pre-candidate", 1),
        ("n1", 60, 70, "candidate", 2),
        ("n1", 70, 90, "leader", 2),
        ("n1", 90, None, "follower", 2),
    ]


def test_a_node_that_was_killed_has_no_role_until_it_is_back(run: Run) -> None:
    run.lives(
        "n1",
        [(10, "became_leader", {"term": 1}), (35, "committed", {"first": 1})],
        [(80, "recovered", {"term": 1, "voted_for": "n1"})],
    )
    run.lives("n2", [(10, "became_follower", {"term": 1})])
    run.killed(40, "n1", "n2")
    assert run.spans() == [
        ("n1", 10, 40, "leader", 1),
        ("n1", 80, None, "follower", 1),
        ("n2", 10, 40, "follower", 1),
    ]


def test_a_fault_that_starts_its_node_again_at_once_ends_no_second_life(
    run: Run,
) -> None:
    run.lives(
        "n1",
        [(10, "became_leader", {"term": 1}), (35, "committed", {"first": 1})],
        [(38, "recovered", {"term": 1}), (90, "committed", {"first": 2})],
    )
    run.killed(40, "n1")  # as `clock` with mode restart records it, once both are done
    assert run.spans() == [
        ("n1", 10, 38, "leader", 1),
        ("n1", 38, None, "follower", 1),
    ]


def test_times_of_a_skewed_clock_are_those_of_the_run(run: Run) -> None:
    sample = {"time": 0, "node": "n1", "wall_offset_ms": 0, "mono_offset_ms": 250}
    run.write("clocks.jsonl", json.dumps(sample) + "\n")
    run.lives("n1", [(260, "became_leader", {"term": 1})])
    assert run.spans() == [("n1", 10, None, "leader", 1)]


def test_a_zab_node_looks_synchronizes_and_follows(run: Run) -> None:
    run.lives("n1", [
        (10, "recovered", {"accepted_epoch": 0, "current_epoch": 0}),
        (20, "new_epoch", {"epoch": 1, "leader": "n2"}),
        (30, "became_follower", {"term": 1, "leader": "n2"}),
        (60, "gave_up", {"state": "FOLLOWING", "epoch": 1, "why": "silence"}),
    ])  # fmt: skip
    assert run.spans() == [
        ("n1", 10, 20, "looking", None),
        ("n1", 20, 30, "synchronizing", 1),
        ("n1", 30, 60, "follower", 1),
        ("n1", 60, None, "looking", 1),
    ]


def test_a_paxos_node_proposes_until_a_value_is_chosen_or_it_is_outbid(
    run: Run,
) -> None:
    run.lives("n1", [
        (10, "promised", {"key": 1, "ballot": [1, "n1"]}),
        (15, "proposed", {"key": 1, "ballot": [1, "n1"], "value": 7}),
        (20, "chosen", {"key": 1, "ballot": [1, "n1"], "value": 7}),
        (30, "promised", {"key": 2, "ballot": [3, "n1"]}),
        (40, "promised", {"key": 2, "ballot": [4, "n2"]}),
        (50, "learned", {"key": 2, "value": 8}),
    ])  # fmt: skip
    assert run.spans() == [
        ("n1", 10, 20, "proposer", 1),
        ("n1", 30, 40, "proposer", 3),
    ]


def test_participants_are_in_doubt_while_their_coordinator_is_down(run: Run) -> None:
    for node in ("n1", "n2"):
        run.lives(node, [
            (10, "voted", {"id": "t1", "vote": "yes"}),
            (30, "in_doubt", {"id": "t1", "coordinator": "n3"}),
            (80, "resolved", {"id": "t1", "waited_ms": 50}),
            (80, "decided", {"id": "t1", "by": "n3", "role": "participant"}),
        ])  # fmt: skip
    run.lives(
        "n3",
        [(5, "voted", {"id": "t0", "vote": "yes"}),
         (6, "decided", {"id": "t0", "by": "n3", "role": "coordinator"}),
         (7, "decided", {"id": "t0", "by": "n3", "role": "participant"})],
        [(75, "decided", {"id": "t1", "by": "n3", "role": "coordinator"})],
    )  # fmt: skip
    run.killed(20, "n3")
    doubtful = [(10, 30, "participant", None), (30, 80, "in doubt", None)]
    assert run.spans() == [
        *(("n1", *span) for span in doubtful),
        *(("n2", *span) for span in doubtful),
        ("n3", 5, 6, "coordinator", None),
        ("n3", 6, 7, "participant", None),
        ("n3", 10, 20, "coordinator", None),
    ]


def test_whatever_nodes_wrote_has_spans_or_none(run: Run) -> None:
    run.lives("n1", [
        (10, "became_leader", {"term": "a"}),
        (20, "became_leader", {"term": 2**60}),
        (30, "promised", {"key": [1], "ballot": "n1"}),
        (40, "voted", {"id": {"x": 1}, "vote": []}),
        (50, "in_doubt", {"id": {"x": 1}, "coordinator": "../n9"}),
        (60, "decided", {}),
    ])  # fmt: skip
    run.write("nodes/n1/observe.jsonl", '{"kind":7}\n{"kind":"became_leader"\n\xff[')
    run.write("nodes/n2/observe.jsonl", '{"kind":"became_leader","mono_ns":-1e99}\n')
    (run.path / "nodes/n3/observe.jsonl").mkdir(parents=True)
    folder = load(run.path)
    assert {span.node for span in roles.spans(folder)} == {"n1"}
    assert [p for p in folder.problems if "observe" in p] == [
        "nodes/n3/observe.jsonl: Is a directory."
    ]


def test_only_the_longest_spans_are_kept_of_too_many(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "SPANS_MAX", 2)
    run.lives("n1", [
        (10, "became_leader", {"term": 1}),
        (20, "became_follower", {"term": 2}),
        (21, "became_leader", {"term": 3}),
    ])  # fmt: skip
    assert [span[3:] for span in run.spans()] == [("leader", 1), ("leader", 3)]


def test_lines_that_tell_no_role_are_left_out_unless_a_life_ends_with_them() -> None:
    lines = [
        b'{"seq":0,"kind":"appended"}\n',
        b'{"seq":1,"kind":"appended"}\n',
        b'{"seq":2,"kind":"became_leader"}\n',
        b'{"seq":3,"kind":"committed"}\n',
        b'{"seq":4,"kind":"committed"}\n',
        b'{"seq":0,"kind":"appended"}\n',
        b'{"seq":1,"kind":"appended"}\n',
        b'{"seq":2,"kind":"comm',
    ]
    kept = roles.telling(b"".join(lines))
    assert kept.splitlines(keepends=True) == [lines[i] for i in (2, 4, 5, 7)]
    assert roles.telling(b"") == b""


@pytest.mark.parametrize(
    ("system", "workload", "shown"),
    [
        ("raft", "register", {"follower", "candidate", "leader"}),
        ("multi_paxos", "register", {"follower", "candidate", "leader"}),
        ("zab", "register", {"looking", "synchronizing", "follower", "leader"}),
        ("paxos", "consensus", {"proposer"}),
        ("2pc", "commit", {"coordinator", "participant"}),
        ("3pc", "commit", {"coordinator", "participant"}),
    ],
)
def test_each_protocol_shows_its_roles(
    system: str, workload: str, shown: set[str], tmp_path: Path
) -> None:
    spec = TestSpec(
        system=system,
        workload=workload,
        world="sim",
        rate=20.0,
        time_limit_s=2.0,
        seed=3,
    )
    folder = load(execution.run(spec, tmp_path).path)
    spans = roles.spans(folder)
    assert shown <= {span.role for span in spans}
    for node in folder.nodes:
        own = [span for span in spans if span.node == node]
        for one, following in itertools.pairwise(own):
            assert one.end_ns is not None
            assert one.start_ns < one.end_ns <= following.start_ns
