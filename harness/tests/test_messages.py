"""Messages between nodes are recorded on request, and reports hold them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.report import build, columns, messages, story
from harness.report.folder import load
from harness.run import execution
from harness.run.spec import TestSpec
from harness.worlds import messages as record
from harness.worlds.messages import MessageLog, type_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def simulated(results: Path, **asked: Any) -> Path:
    spec = TestSpec(
        system="raft",
        nemesis=["partition", "loss"],
        world="sim",
        rate=20.0,
        time_limit_s=4.0,
        seed=5,
        **asked,
    )
    return execution.run(spec, results).path


def test_a_simulated_run_records_what_became_of_each_message(tmp_path: Path) -> None:
    run = simulated(tmp_path / "a", messages=True)
    lines = lines_of(run / record.MESSAGES)
    counted = json.loads((run / "run.json").read_text())["network"]
    for link, counters in counted.items():
        sender, receiver = link.split("->")
        here = [x for x in lines if (x["from"], x["to"]) == (sender, receiver)]
        arrived = sum(not x["lost"] for x in here)
        # Messages go on while the nodes are taken down, after all is counted.
        assert counters["forwarded"] <= arrived <= counters["forwarded"] + 50, link
    assert {x["type"] for x in lines} >= {"append_entries", "request_vote"}
    assert {x["lost"] for x in lines} >= {"", "lost"}
    assert all(x["took_ns"] > 0 for x in lines if not x["lost"])


def test_a_record_of_messages_changes_nothing_else(tmp_path: Path) -> None:
    plain = simulated(tmp_path / "a")
    recorded = simulated(tmp_path / "b", messages=True)
    assert not (plain / record.MESSAGES).exists()
    for name in ("history.jsonl", "faults.jsonl"):
        assert (plain / name).read_bytes() == (recorded / name).read_bytes(), name


def test_messages_between_nodes_of_maelstrom_are_recorded(tmp_path: Path) -> None:
    node = EXAMPLES / "maelstrom" / "broadcast.py"
    spec = TestSpec(
        system=f"maelstrom:{shlex.join([sys.executable, str(node)])}",
        workload="gossip",
        nodes=3,
        rate=20.0,
        time_limit_s=2.0,
        seed=3,
        messages=True,
    )
    run = execution.run(spec, tmp_path).path
    lines = lines_of(run / record.MESSAGES)
    assert lines
    assert all(line["type"] for line in lines)
    data, _ = columns.run_columns(story.tell(load(run)))
    shown = data["messages"]
    assert {data["ends"][end] for end in shown["s"]} <= {"n1", "n2", "n3"}
    assert max(shown["d"]) >= 0


def test_messages_of_nodes_that_have_none_are_refused_in_a_line(
    tmp_path: Path,
) -> None:
    spec = TestSpec(system="raft", messages=True)
    with pytest.raises(UsageError, match=r"^--messages needs --world sim or nodes of"):
        execution.run(spec, tmp_path)


def test_a_record_that_is_full_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "MESSAGES_MAX", 2)
    log = MessageLog(tmp_path / record.MESSAGES)
    for ns in range(5):
        log.note(ns, ("n1", "n2"), b"{}", 1, "")
    log.close()
    log.note(9, ("n1", "n2"), b"{}", 1, "")
    *whole, last = lines_of(tmp_path / record.MESSAGES)
    assert [line["mono_ns"] for line in whole] == [0, 1]
    assert last == {"mono_ns": 2, "full": True}


def test_a_record_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    log = MessageLog(tmp_path / "nowhere" / record.MESSAGES)
    log.note(1, ("n1", "n2"), b"{}", 1, "")
    log.close()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"type":"vote","term":3}', "vote"),
        (b'{"src":"n1","dest":"n2","body":{"type":"gossip"}}', "gossip"),
        (b'{"type":["vote"]}', ""),
        (b'{"type":"' + b"x" * 100 + b'"}', "x" * record.TYPE_CHARS_MAX),
        (b"\xff{", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_a_message_is_called_by_its_type(data: bytes, found: str) -> None:
    assert type_of(data) == found


# In reports


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "test.yaml").write_text(json.dumps({"nodes": ["n1", "n2"]}))
    (tmp_path / "run.json").write_text(json.dumps({"start_mono_ns": 1_000_000}))
    for name in ("history.jsonl", "clocks.jsonl", "faults.jsonl"):
        (tmp_path / name).write_text("")
    return tmp_path


def written(run_dir: Path, *lines: dict[str, Any]) -> dict[str, Any]:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run_dir / record.MESSAGES).write_text(text)
    return messages.columns(load(run_dir), [])


def test_a_page_has_messages_in_the_order_of_their_sending(run_dir: Path) -> None:
    ends = {"from": "n2", "to": "n1", "type": "vote"}
    assert written(
        run_dir,
        {**ends, "mono_ns": 3_000_000, "took_ns": 7_000, "lost": ""},
        {**ends, "mono_ns": 2_000_000, "took_ns": 9_000, "lost": "cut"},
        {**ends, "mono_ns": 10, "took_ns": 9_000, "lost": ""},  # before the run began
    ) == {
        "ends": ["n1", "n2"],
        "messages": {
            "t": [1000, 2000], "d": [-1, 7], "s": [1, 1], "r": [0, 0],
            "k": ["vote", "vote"], "why": ["cut", ""],
        },
    }  # fmt: skip


def test_lost_messages_stay_where_there_are_too_many(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "SHOWN_MAX", 3)
    lines = [
        {"mono_ns": 2_000_000 + i, "from": "n1", "to": "n2", "lost": "cut" * (i == 7)}
        for i in range(20)
    ]
    assert sorted(written(run_dir, *lines)["messages"]["why"]) == ["", "", "cut"]


def test_a_full_record_is_told(run_dir: Path) -> None:
    (run_dir / record.MESSAGES).write_text('{"mono_ns":2000001000000,"full":true}\n')
    page = build(run_dir).read_text("utf-8")
    assert "messages.jsonl is full: it has no messages after 2000.000 s." in page


@pytest.mark.parametrize(
    "content",
    [
        b'{"mono_ns":"a"}\n{"mono_ns":2000000,"from":"</script>","to":"n1"}\n',
        b'{"mono_ns":2000000,"from":"n1","to":"n2","took_ns":1e99}\n{"mono',
        b"\x00\xff",
    ],
)
def test_a_damaged_record_is_told(run_dir: Path, content: bytes) -> None:
    (run_dir / record.MESSAGES).write_bytes(content)
    page = build(run_dir).read_text("utf-8")
    assert "<li>messages.jsonl: " in page
