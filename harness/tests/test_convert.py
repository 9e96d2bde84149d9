"""`splitbrain convert`: a history from one format into another, and back the same."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness import cli
from harness.errors import EXIT_USAGE
from harness.formats import dump, load
from harness.history import Op

if TYPE_CHECKING:
    from pathlib import Path

OPS = [
    Op(0, 1_000, 0, "invoke", "txn", [["append", "x", 1], ["r", 2, None]], node="n1"),
    Op(1, 2_000, "nemesis", "info", "start", {"cut": ["n1->n2"]}),
    Op(2, 3_000, 0, "ok", "txn", [["append", "x", 1], ["r", 2, [3]]], node="n1"),
    Op(3, 4_000, 1, "invoke", "write", 5, key=7),
    Op(4, 5_000, 1, "info", "write", 5, key=7, error="timeout"),
]


def status(*arguments: object) -> int:
    def run() -> object:
        return cli.cli.main(["convert", *map(str, arguments)], standalone_mode=False)

    return cli.status_of(run)


def test_a_history_survives_the_way_to_edn_and_back(tmp_path: Path) -> None:
    first, edn, last = (tmp_path / n for n in ("a.jsonl", "b.edn.gz", "c.jsonl"))
    register = [
        Op(0, 1, 0, "invoke", "write", 5, key=7),
        Op(1, 2, 0, "ok", "write", 5, key=7),
        Op(2, 3, 1, "invoke", "read", key=7),
        Op(3, 4, 1, "ok", "read", 5, key=7),
    ]
    for ops in (OPS[:3], register):
        dump(ops, first)
        assert status(first, edn) == 0
        assert status(edn, last) == 0
        assert load(last).ops == ops
        assert last.read_bytes() == first.read_bytes()


def test_a_run_folder_becomes_what_jepsen_reads(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    dump(OPS, tmp_path / "run" / "history.jsonl")
    assert status(tmp_path / "run", tmp_path / "run.edn") == 0
    text = (tmp_path / "run.edn").read_text()
    assert ':f :txn :value [[:append "x" 1] [:r 2 nil]] :node "n1"' in text
    assert ":process :nemesis" in text
    assert ":value 5 :key 7" in text


def test_keys_are_written_as_jepsen_independent_does_where_reading_shows_it(
    tmp_path: Path,
) -> None:
    history = tmp_path / "a.jsonl"
    dump(
        [Op(0, 0, 0, "invoke", "read", key=7), Op(1, 1, 0, "ok", "read", 5, 7)], history
    )
    assert status(history, tmp_path / "b.edn") == 0
    assert ":value [7 nil]}\n" in (tmp_path / "b.edn").read_text()
    assert ":value [7 5]}\n" in (tmp_path / "b.edn").read_text()


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("good.jsonl", "x.xml", "ends in .jsonl or .edn"),
        ("good.jsonl", "absent/x.edn", "No such file or directory"),
        ("absent.jsonl", "x.edn", "absent.jsonl: No such file or directory"),
        ("junk", "x.edn", "not a history in any format known here"),
    ],
)
def test_what_cannot_be_converted_is_bad_input_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    target: str,
    said: str,
) -> None:
    dump(OPS, tmp_path / "good.jsonl")
    (tmp_path / "junk").write_bytes(b"\xff\x00junk")
    assert status(tmp_path / source, tmp_path / target) == EXIT_USAGE
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_standard_input_is_read_where_it_stands(tmp_path: Path) -> None:
    plain, packed, out = (tmp_path / n for n in ("a.jsonl", "a.jsonl.gz", "b.jsonl"))
    dump(OPS, plain)
    dump(OPS, packed)
    convert = [sys.executable, "-m", "harness", "convert", "-", str(out)]
    for file in (plain, packed):
        with file.open("rb") as stdin:
            subprocess.run(convert, stdin=stdin, check=True)
        assert list(load(out)) == OPS
        out.unlink()
        subprocess.run(convert, input=file.read_bytes(), check=True)
        assert list(load(out)) == OPS


@pytest.mark.parametrize("as_pipe", [True, False])
def test_a_history_from_standard_input_is_judged_by_a_checker_that_reads_it_twice(
    *, as_pipe: bool, tmp_path: Path
) -> None:
    (file := tmp_path / "-").write_text(
        '{"index":0,"time":0,"process":0,"type":"invoke","f":"txn","value":[["r",1,null]]}\n'
        '{"index":1,"time":1,"process":0,"type":"ok","f":"txn","value":[["r",1,[7]]]}\n'
    )
    check = [sys.executable, "-m", "harness", "check", "--checker", "list-append"]
    with file.open("rb") as stdin:
        given: dict[str, Any] = {"input": stdin.read()} if as_pipe else {"stdin": stdin}
        done = subprocess.run([*check, "-"], **given, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.startswith(b"invalid  -: 1 x garbage-read")
    done = subprocess.run([*check, "-", "-"], capture_output=True, check=False)
    assert done.returncode == 254
    named = subprocess.run(
        [*check, "./-"], cwd=tmp_path, capture_output=True, check=False
    )
    assert named.stdout.startswith(b"invalid  ./-: 1 x garbage-read")
