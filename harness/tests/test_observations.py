"""Observations as a history: each node's events in order, its lives told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.history import observations

if TYPE_CHECKING:
    from pathlib import Path


def line(node: str, seq: int, kind: str, **fields: int) -> str:
    more = "".join(f',"{name}":{value}' for name, value in fields.items())
    return (
        f'{{"seq":{seq},"mono_ns":{seq * 100},"wall_ns":1,"node":"{node}",'
        f'"kind":"{kind}"{more}}}\n'
    )


def write(path: Path, node: str, *lines: str) -> None:
    folder = path / "nodes" / node
    folder.mkdir(parents=True)
    (folder / "observe.jsonl").write_text("".join(lines), encoding="utf-8")


def test_every_line_becomes_an_event_of_its_node(tmp_path: Path) -> None:
    write(tmp_path, "n1", line("n1", 0, "voted", term=1))
    write(tmp_path, "n2", line("n2", 0, "voted", term=2), '{"seq":1,"kin')
    history = observations.load(tmp_path, ["n1", "n2", "n3"])
    told = [(op.process, op.f, op.value, op.type, op.index) for op in history]
    assert told == [
        ("n1", "voted", {"term": 1}, "info", 0),
        ("n2", "voted", {"term": 2}, "info", 1),
    ]


def test_a_count_that_begins_anew_is_another_life(tmp_path: Path) -> None:
    lives = [line("n1", 0, "a"), line("n1", 1, "b"), line("n1", 0, "c")]
    write(tmp_path, "n1", *lives, line("n1", 0, "d"))
    history = observations.load(tmp_path, ["n1"])
    kinds = [op.f for op in history]
    assert kinds == ["a", "b", "restarted", "c", "restarted", "d"]
