"""Histories of weak stores, as they are written for AWDIT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.bench import awdit
from harness.bench.children import BenchError
from harness.bench.isolation import of_weak_store
from harness.bench.transactions import TransactionShape, generate
from harness.history import History, formats
from harness.verdict import Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.history import Op


def values(ops: Iterable[Op]) -> list[Any]:
    return [op.value for op in ops]


@pytest.mark.parametrize("level", awdit.LEVELS)
def test_what_awdit_reads_is_the_same_history(level: str, tmp_path: Path) -> None:
    ops = list(generate(of_weak_store(level, 300)))  # type: ignore[arg-type]  # a store
    path = tmp_path / "history.txt"
    awdit.write(ops, path)
    read = formats.load(path)
    committed = [op for op in ops if op.type == "ok"]
    assert sorted(map(str, values(read))) == sorted(map(str, values(committed)))
    checker = registry.find("checker", "rw-register").factory({"consistency": level})
    for history in (read, History(ops)):
        assert checker.check(history, Limits()).verdict is Verdict.VALID


def test_awdit_is_spared_what_it_does_not_know(tmp_path: Path) -> None:
    shape = TransactionShape("rw-register", 100, crash=0.3)
    with pytest.raises(BenchError, match="crashed"):
        awdit.write(generate(shape), tmp_path / "history.txt")


def test_awdit_takes_part_only_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="not installed"):
        awdit.command("causal", "history.txt")
    program = tmp_path / "awdit"
    program.write_text("#!/bin/sh\n", encoding="ascii")
    program.chmod(0o755)
    command = awdit.command("causal", "history.txt")
    assert command == [str(program), "check", "--isolation", "causal", "history.txt"]
