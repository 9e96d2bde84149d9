"""Cobra's logs: what was encoded is read, and what is no log is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.history import History, HistoryError, Op
from harness.history.formats import dump, load
from harness.tests.checking import check_files
from harness.verdict import Verdict

if TYPE_CHECKING:
    from harness.history import OpType

INITIAL, NULL, DELETED, COLLECTS = 0xBEBEEBEE, 0xDEADBEEF, 0xABCDEFAB, 0x23332333

Mop = tuple[str, int, int, int]
"""r or w, key, write, and the transaction that wrote it."""

Session = list[tuple[int, list[Mop]]]


def record(letter: str, *numbers: int) -> bytes:
    return struct.pack(f">c{len(numbers)}q", letter.encode(), *numbers)


def log(transactions: Session, *, is_torn: bool = False) -> bytes:
    """A session's file; the last transaction may lack its end."""
    out = b""
    for txn, mops in transactions:
        out += record("S", txn)
        for kind, key, write, writer in mops:
            is_read = kind == "r"
            named = (writer, write) if is_read else (write,)
            out += record(kind.upper(), *named, key, 77)
        out += record("C", txn)
    return out[:-9] if is_torn else out


def is_free(number: int) -> bool:
    """Whether Cobra means nothing else by a number."""
    return number not in {INITIAL, NULL, DELETED, COLLECTS, 0x66666666}


@st.composite
def sessions(draw: st.DrawFn) -> list[Session]:
    """Transactions that write each write once, and read any of them, or nothing."""
    count = draw(st.integers(1, 6))
    written: list[Mop] = []
    txns: Session = []
    number = st.integers(-(2**63), 2**63 - 1).filter(is_free)
    writes = draw(st.lists(number, min_size=20, max_size=20, unique=True))
    counted = st.integers(0, 2**55).filter(is_free)
    ids = draw(st.lists(counted, min_size=count, max_size=count, unique=True))
    for txn in ids:
        mops: list[Mop] = []
        for _ in range(draw(st.integers(0, 3))):
            key = draw(st.integers(-1, 1))
            if draw(st.booleans()):
                mops.append(("w", key, writes[len(written)], txn))
                written.append(mops[-1])
            elif draw(st.booleans()) and written:
                mops.append(("r", *draw(st.sampled_from(written))[1:]))
            else:
                unwritten = draw(st.sampled_from([INITIAL, NULL]))
                mops.append(("r", key, unwritten, unwritten))
        txns.append((txn, mops))
    cut = draw(st.integers(0, count))
    return [txns[:cut], txns[cut:]]


def expected(told: list[Session]) -> list[tuple[int, list[Any]]]:
    """The session and the value of each transaction."""
    return [
        (
            session,
            [
                [kind, key, None if write in {INITIAL, NULL} else write]
                for kind, key, write, _ in mops
            ],
        )
        for session, txns in enumerate(told)
        for _, mops in txns
    ]


def found(history: History) -> list[tuple[Any, Any]]:
    assert all((op.f, op.time) == ("txn", -1) for op in history)
    return [(op.process, op.value) for op in history]


@example([[(0, [])], [(1, [])]], True)
@given(sessions(), st.booleans())
def test_what_was_logged_is_read_and_survives_conversion(
    told: list[Session], is_torn: bool
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name) / "logs"
        folder.mkdir()
        for number, txns in zip((2, 10), told, strict=True):
            torn = is_torn and number == 10 and bool(txns)
            (folder / f"T{number}.log").write_bytes(log(txns, is_torn=torn))
        history = load(folder)
        assert found(history) == expected(told)
        kinds: list[OpType] = ["ok"] * len(history)
        if is_torn and told[1]:
            kinds[-1] = "info"
        assert [op.type for op in history] == kinds
        for form in ("jsonl", "edn"):
            dump(history, Path(name) / form, form)
            assert found(load(Path(name) / form, form)) == expected(told)


def test_a_lone_session_is_read_packed_or_not(tmp_path: Path) -> None:
    path = tmp_path / "T1.log"
    path.write_bytes(log([(5, [("w", 1, 9, 5), ("r", 1, 9, 5)])]))
    assert load(path).ops == [Op(0, -1, 0, "ok", "txn", [["w", 1, 9], ["r", 1, 9]])]


def test_a_read_of_what_another_transaction_wrote_is_garbage(tmp_path: Path) -> None:
    wrote, lied = (5, [("w", 1, 9, 5)]), (6, [("r", 1, 9, 7)])
    (tmp_path / "T1.log").write_bytes(log([wrote]))
    (tmp_path / "T2.log").write_bytes(log([lied]))
    assert load(tmp_path)[1].value == [["r", 1, "write 9 of transaction 7"]]
    (result,) = check_files(
        [tmp_path], "rw-register", {"consistency": "read-committed"}
    )
    assert result.verdict is Verdict.INVALID


def test_what_cobras_own_collection_reads_is_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "T1.log"
    path.write_bytes(log([(5, [("r", 1, COLLECTS, INITIAL), ("w", 2, 3, 5)])]))
    history = load(path)
    assert history[0].value == [["w", 2, 3]]
    assert history.remark.startswith("1 reads by Cobra's garbage collection")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (record("S", 1) + record("S", 2), "byte 9 .*b'S' inside of one"),
        (record("S", 1) + record("C", 2), "byte 9 .*an end of 2 in transaction 1"),
        (record("S", 1) + b"W\0\0", "byte 9 .*cut short"),
        (record("S", 1) + record("C", 1) + b"x", "byte 18 .*begins with b'x'"),
        (record("C", 1), "byte 0 .*outside of a transaction"),
        (log([(1, [("r", 4, DELETED, DELETED)])]), "byte 9 .*key 4, which was deleted"),
        (log([(1, [("w", 4, 2, 1)]), (2, [("w", 4, 2, 2)])]),
         "byte 52 .*a second transaction with write 2 of key 4"),
    ],
)  # fmt: skip
def test_what_is_no_log_is_refused_with_its_place(
    tmp_path: Path, data: bytes, complaint: str
) -> None:
    path = tmp_path / "T1.log"
    path.write_bytes(data)
    with pytest.raises(HistoryError, match=complaint) as caught:
        load(path, "cobra")
    assert str(caught.value).startswith(f"{path}: ")
