"""Loading whatever file there is: detection, gzip, run folders, Plume's text."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.history import HistoryError, Op, formats
from harness.history.formats import FORMATS, dump, load
from harness.history.formats import source as source_module

OPS = [Op(0, 5, 0, "invoke", "write", 3), Op(1, 9, 0, "ok", "write", 3)]
JSONL = (
    b'{"index":0,"time":5,"process":0,"type":"invoke","f":"write","value":3}\n'
    b'{"index":1,"time":9,"process":0,"type":"ok","f":"write","value":3}\n'
)
CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"


def test_plumes_text_becomes_one_completion_for_each_transaction(
    tmp_path: Path,
) -> None:
    path = tmp_path / "plume.txt"
    path.write_text("r(0,0,1,3)\nw(0,5,1,3)\nw(1,7,2,4)\nw(1,8,2,-1)\nw(1,9,2,-1)\n")
    history = load(path, "plume")
    assert history.ops == [
        Op(0, -1, 1, "ok", "txn", [["r", 0, None], ["w", 0, 5]]),
        Op(1, -1, 2, "ok", "txn", [["w", 1, 7]]),
        Op(2, -1, 2, "fail", "txn", [["w", 1, 8]]),
        Op(3, -1, 2, "fail", "txn", [["w", 1, 9]]),
    ]
    assert history.completions_only


@pytest.mark.parametrize(
    "text",
    [
        "w(7,0,0,0)\nw(8,0,0,0)\nw(7,1,1,1)\nr(8,0,1,2)\nr(7,1,0,3)\n",
        "w(7,1,1,1)\nr(8,0,1,2)\nr(7,1,0,3)\nw(7,0,9,0)\nw(8,0,9,0)\n",
    ],
    ids=["first", "in a session of its own"],
)
def test_the_transaction_that_writes_plumes_initial_values_is_left_out(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "plume.txt"
    path.write_text(text)
    history = load(path)
    assert [op.value for op in history] == [
        [["w", 7, 1]],
        [["r", 8, None]],
        [["r", 7, 1]],
    ]
    assert "initial 0s" in history.remark


def test_who_writes_plumes_initial_value_later_writes_none(tmp_path: Path) -> None:
    path = tmp_path / "plume.txt"
    path.write_text("w(7,1,0,0)\nw(7,0,0,1)\nr(7,0,0,2)\n")
    history = load(path)
    assert [op.value for op in history][1:] == [[["w", 7, None]], [["r", 7, None]]]
    assert not history.remark


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("r(0,1,2)", "neither r(KEY"),
        ("x(0,1,2,3)", "neither r(KEY"),
        ("r(0,1.5,2,3)", "neither r(KEY"),
        ("r(0," + "9" * 5000 + ",2,3)", "neither r(KEY"),
        ("r(0,1,1,-1)", "read of an aborted"),
        ("r(0,1,7,3)", "goes on with a transaction of session 1"),
    ],
)
def test_a_plume_line_that_makes_no_sense_is_refused(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / "plume.txt"
    path.write_text(f"w(0,1,1,3)\n\n{line}\n")
    with pytest.raises(HistoryError) as caught:
        load(path, "plume")
    assert str(caught.value).startswith(f"{path}:3: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (JSONL, 2),
        (b' {"index" :0,"time":5,"process":0,"type":"invoke","f":"write"}', 1),
        (b"\xef\xbb\xbf; all\n[{:type :invoke :process 0 :f :read}]", 1),
        (b'{"type" "invoke" "process" 0 "f" "read"}', 1),
        (b"#jepsen.history.Op{:type :invoke :process 0}", 1),
        (b"INFO  jepsen.util - 0\t:invoke\t:read\tnil\n", 1),
        (b"\n\nw(1,2,3,4)\n", 1),
        (b"", 0),
        (b"\n \n", 0),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_the_format_shows_in_the_content(
    tmp_path: Path, content: bytes, count: int, *, packed: bool
) -> None:
    path = tmp_path / "some history"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert len(load(path)) == count


@pytest.mark.parametrize("content", [b"\x7fELF\x02", b"hello", b"<htm", b"\xff\xff"])
def test_what_is_no_history_says_what_it_begins_with(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "some history"
    path.write_bytes(content)
    with pytest.raises(HistoryError, match="not a history in any format known here"):
        load(path)


def test_a_run_folder_is_its_history(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_bytes(JSONL)
    assert load(tmp_path).ops == OPS


def test_only_the_history_of_a_run_folder_has_to_be_as_we_write_it(
    tmp_path: Path,
) -> None:
    history = tmp_path / "history.jsonl"
    history.write_bytes(JSONL.replace(b'"index":1,', b'"index":7,'))
    assert load(history).ops == OPS
    (tmp_path / "test.yaml").write_text("seed: 1\n")
    for path in (history, tmp_path):
        with pytest.raises(HistoryError, match=":2: index 7 is out of sequence"):
            load(path)
    assert load(history, strict=False).ops == OPS


def test_jepsens_store_is_its_history(tmp_path: Path) -> None:
    dump(OPS, tmp_path / "history.edn", "edn")
    assert load(tmp_path).ops == OPS


def test_any_other_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="a folder without a history"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["absent", "absent/too", "nul\0byte", "x" * 300])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(HistoryError) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(JSONL)
    path.chmod(0)
    with pytest.raises(HistoryError, match="Permission denied"):
        load(path)


@pytest.mark.parametrize("keep", [3, 12, 40, -9, -4, -1])
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_gzip_file_cut_short_is_refused(
    tmp_path: Path, keep: int, format_name: str
) -> None:
    path = tmp_path / "history.gz"
    path.write_bytes(gzip.compress(JSONL)[:keep])
    with pytest.raises(HistoryError, match="damaged or cut short"):
        load(path, format_name)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(JSONL * 100))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "history.gz"
    path.write_bytes(packed)
    with pytest.raises(HistoryError, match="damaged or cut short"):
        load(path)


def test_a_gzip_bomb_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "UNPACKED_BYTES_MAX", 8 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress((b";" * 1023 + b"\n") * (16 << 10), 1))
    with pytest.raises(HistoryError, match="unpacks to more than"):
        load(path, "edn")
    path.write_bytes(gzip.compress(b"\0" * (32 << 20), 1))
    monkeypatch.undo()
    with pytest.raises(HistoryError, match="not a history"):
        load(path)
    with pytest.raises(HistoryError, match="longer than 16 MiB"):
        load(path, "edn")


@pytest.mark.parametrize("format_name", ["jsonl", "edn"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_is_dumped_loads(tmp_path: Path, format_name: str, suffix: str) -> None:
    path = tmp_path / f"history{suffix}"
    dump(OPS, path, format_name)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == bool(suffix)
    assert load(path).ops == OPS


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean jsonl"):
        load(tmp_path, "json")
    with pytest.raises(UsageError, match="only as: jsonl, edn"):
        dump(OPS, tmp_path / "x", "plume")


def test_a_dump_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="No such file or directory"):
        dump(OPS, tmp_path / "absent" / "x")
    with pytest.raises(HistoryError, match="op 0 can't be written"):
        dump([Op(0, 0, 0, "invoke", "write", object())], tmp_path / "x")


def manifest() -> dict[str, str]:
    """File -> format, of every labelled history in the corpus."""
    path = CORPUS / "dev" / "manifest.tsv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {
            row["file"]: row["args"].partition("--format ")[2].split()[0]
            for row in rows
        }


@pytest.mark.skipif(
    not manifest(),
    reason="the corpus of labelled histories is not beside this checkout",
)
def test_every_history_of_the_corpus_loads_and_shows_its_format() -> None:
    for file, format_name in manifest().items():
        path = CORPUS / "dev" / file
        history = load(path, format_name)
        with source_module.Source(path) as source:
            if source.head.strip():
                assert formats._detect(source) == format_name, file
        # Each client completion but those of a few fragments has its invocation.
        if format_name == "jepsen-log":
            assert not history.completions_only, file
        if format_name == "plume":
            assert history.completions_only, file
