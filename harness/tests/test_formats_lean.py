"""Histories left in their files: the same ops, the same values, the same complaints."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from harness.bench import transactions
from harness.history import HistoryError, Op, formats
from harness.history.formats.lean import NOBODY, LeanOps

if TYPE_CHECKING:
    from pathlib import Path

    from harness.history import OpType


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A history of several chunks, with crashes and failures in it."""
    path = tmp_path / "history.jsonl"
    shape = transactions.TransactionShape("list-append", 15_000, crash=0.01)
    formats.dump(transactions.generate(shape), path)
    assert path.stat().st_size > 5 << 20
    return path


def packed(path: Path) -> Path:
    target = path.with_suffix(".jsonl.gz")
    target.write_bytes(gzip.compress(path.read_bytes(), 1))
    return target


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_history_left_in_its_file_is_the_same(file: Path, is_packed: bool) -> None:
    eager = formats.load(file)
    lean = formats.load(packed(file) if is_packed else file, lean=True)
    assert isinstance(lean.ops, LeanOps)
    assert list(lean.ops) == list(eager.ops)
    assert list(lean.completion) == list(eager.completion)
    assert lean.ops.functions == {"txn"}
    for i in (0, 1, 7_000, len(eager) - 1, -1):
        assert lean.ops[i] == eager.ops[i]
    assert lean.ops[3:5] == list(eager.ops[3:5])
    with pytest.raises(IndexError):
        lean.ops[len(eager)]


def test_clients_that_have_names_are_the_same_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    events = [("watcher", "info"), ("c0", "invoke"), ("c1", "invoke"), ("c1", "ok"),
              ("nemesis", "info"), ("watcher", "info"), ("c0", "info")]  # fmt: skip
    ops = [
        Op(i, i, process, cast("OpType", kind), "txn", [["r", 1, None]])
        for i, (process, kind) in enumerate(events)
    ]
    formats.dump(ops, path)
    eager, lean = formats.load(path), formats.load(path, lean=True)
    assert isinstance(lean.ops, LeanOps)
    assert list(lean.completion) == list(eager.completion)
    clients = [op.is_client for op in eager]
    assert [op.is_client for op in lean] == clients
    assert [lean[i].is_client for i in range(len(lean))] == clients
    assert [number != NOBODY for number in lean.ops.process] == clients
    # A client's completion without invocation takes the history out of the file.
    formats.dump([*ops, Op(7, 7, "c0", "info", "txn")], path)
    whole = formats.load(path, lean=True)
    assert whole.completions_only
    assert [op.is_client for op in whole] == [*clients, True]


def test_values_come_in_order_and_only_those_wanted(file: Path) -> None:
    eager = formats.load(file)
    lean = formats.load(file, lean=True)
    assert isinstance(lean.ops, LeanOps)
    wanted = np.arange(len(eager)) % 7 == 3
    expected = [(i, eager[i].value) for i in range(3, len(eager), 7)]
    assert list(lean.ops.values(wanted)) == expected


def test_a_last_line_without_its_newline_counts(file: Path) -> None:
    whole = formats.load(file)
    file.write_bytes(file.read_bytes().removesuffix(b"\n"))
    assert list(formats.load(file, lean=True).ops) == list(whole.ops)


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        (11_000, b"{"),
        (2, b""),
        (5, b'{"index":4,"time":0,"process":0,"type":"done","f":"txn"}'),
        (5, b'{"index":9,"time":0,"process":0,"type":"ok","f":"txn"}'),
        (5, b'{"index":4,"time":0,"process":777,"type":"ok","f":"txn"}'),
    ],
)
def test_what_is_wrong_is_told_in_the_same_words(
    file: Path, line: int, bad: bytes
) -> None:
    lines = file.read_bytes().split(b"\n")
    lines[line - 1] = bad
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(HistoryError) as eager:
        formats.load(file, strict=True)
    with pytest.raises(HistoryError) as lean:
        formats.load(file, strict=True, lean=True)
    assert str(lean.value) == str(eager.value)
    assert str(lean.value).startswith(f"{file}:{line}: ")


def test_a_process_with_too_large_a_number_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    huge = '{"index":0,"time":0,"process":99999999999999999999,"type":"invoke","f":"x"}'
    path.write_text(huge + "\n")
    assert formats.load(path, lean=True)[0].process == 99999999999999999999


def test_a_file_that_changes_under_our_hands_is_an_error(file: Path) -> None:
    lean = formats.load(file, lean=True)
    with file.open("r+b") as f:
        f.seek(file.stat().st_size // 2)
        f.write(b"{{{{")
    with pytest.raises(HistoryError, match="not an operation"):
        list(lean.ops)
