"""`splitbrain convert`: a history from one format into another, and back the same."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.cli import group
from harness.cli.group import run_command
from harness.errors import EXIT_USAGE
from harness.history import Op
from harness.history.formats import dump, edn, load
from harness.history.formats.edn import Char, Keyword, Symbol, Tagged
from harness.tests.checking import LIMITS, check_files

if TYPE_CHECKING:
    from collections.abc import Iterable
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
        return group.cli.main(["convert", *map(str, arguments)], standalone_mode=False)

    return group.status_of(run)


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


def test_history_txt_has_the_columns_of_jepsen(tmp_path: Path) -> None:
    first, text, last = (tmp_path / n for n in ("a.jsonl", "history.txt", "c.jsonl"))
    failed = Op(5, 6_000, 1, "invoke", "read", key=7)
    told = Op(6, 7_000, 1, "fail", "read", key=7, error="not\ton\x1b[2J\nthis node")
    dump([*OPS[:3], *OPS[3:], failed, told], first)
    assert status(first, text) == 0
    assert text.read_text() == (
        '0\t:invoke\t:txn\t[[:append "x" 1] [:r 2 nil]]\n'
        ':nemesis\t:info\t:start\t{"cut" ["n1->n2"]}\n'
        '0\t:ok\t:txn\t[[:append "x" 1] [:r 2 [3]]]\n'
        "1\t:invoke\t:write\t[7 5]\n"
        "1\t:info\t:write\t[7 5]\ttimeout\n"
        "1\t:invoke\t:read\t[7 nil]\n"
        "1\t:fail\t:read\t[7 nil]\tnot\\ton\\x1b[2J\\nthis node\n"
    )
    assert status(text, last, "--independent") == 0
    assert [(op.process, op.type, op.f, op.key) for op in load(last).ops[3:5]] == [
        (1, "invoke", "write", 7),
        (1, "info", "write", 7),
    ]


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
    if as_pipe:
        named = [*check, "./-"]
        done = subprocess.run(named, cwd=tmp_path, capture_output=True, check=False)
        assert done.stdout.startswith(b"invalid  ./-: 1 x garbage-read")


def test_standard_input_can_be_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", "-", "-"]) == EXIT_USAGE
    assert "- is standard input, which can be read once" in capsys.readouterr().err


NUMBERS: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, 5, -7, 2**63, 2**64 + 1, -(2**70), 5.0, 0.1, 1e300, Decimal(5),
     Decimal("5.00"), Decimal("0.1"), Fraction(1, 2), Fraction(1, 10)]
)  # fmt: skip
NO_NUMBERS: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, "", "5", "1/2", "##NaN", "a", Keyword("a"), Symbol("a"),
     Char("a"), Symbol("##Inf"), Symbol("##-Inf"), Symbol("##NaN"), Tagged("inst", "a")]
)  # fmt: skip
ANY_VALUES = st.recursive(
    NUMBERS | NO_NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([1, "1", "x", None, "#edn"]), inner, max_size=3
        )
        | st.sets(st.sampled_from([1, 2, "a", Fraction(1, 2)]), max_size=3).map(
            lambda found: edn.loads(edn.dumps(found))
        )
        | inner.map(lambda value: {"#edn": value})
        | inner.map(lambda value: Tagged("a/b", value))
    ),
    max_leaves=5,
)
FEW_VALUES = NUMBERS | NO_NUMBERS | st.lists(NUMBERS | NO_NUMBERS, max_size=2)


def kinds(value: Any) -> Any:
    """What makes values differ: whether they are a truth, a number or a text, too."""
    match value:
        case None | bool():
            return str(value)
        case str():
            return "text", str(value)
        case int() | float() | Decimal() | Fraction():
            return "number", value
        case list() | tuple():
            return [kinds(item) for item in value]
        case dict():
            return {(type(k) is int, k): kinds(v) for k, v in value.items()}
        case Tagged():
            return value.tag, kinds(value.value)
        case _:
            raise AssertionError(value)


@st.composite
def calls(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> list[Op]:
    """Calls of every kind of checker's, with any values, keys and outcomes."""
    names = draw(
        st.sampled_from(
            [["write", "read", "cas"], ["add", "read"], ["enqueue", "dequeue"],
             ["transfer", "read"], ["txn"], ["generate"], ["acquire", "release"]]
        )
    )  # fmt: skip
    keys: list[Any] = draw(
        st.sampled_from([[None], [None], [1, 2], ["1", 1, None], [[1], 2]])
    )
    ops: list[Op] = []
    for number in range(draw(st.integers(1, 6))):
        f = draw(st.sampled_from(names))
        key = draw(st.sampled_from(keys))
        value = None if f in {"read", "dequeue", "generate"} else draw(values)
        if f == "txn":
            value = [[draw(st.sampled_from("rw")), 1, draw(values)]]
        process = draw(st.sampled_from([0, 1, 2]))
        ops.append(Op(2 * number, -1, process, "invoke", f, value, key))
        kind: Any = draw(st.sampled_from(["ok", "ok", "ok", "fail", "info"]))
        if value is None and kind == "ok":
            value = draw(values)
        ops.append(Op(2 * number + 1, -1, process, kind, f, value, key))
    return ops


WAYS = st.lists(
    st.sampled_from(["jsonl", "edn", "jsonl.gz", "edn.gz"]), min_size=1, max_size=4
)


def assert_same_ops(found: Iterable[Op], expected: Iterable[Op]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.index, one.process, one.type, one.f) == (
            other.index, other.process, other.type, other.f,
        )  # fmt: skip
        for field in ("value", "key", "error", "extra"):
            assert kinds(getattr(one, field)) == kinds(getattr(other, field)), field


@given(ops=calls(ANY_VALUES), ways=WAYS)
def test_every_value_survives_every_conversion(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op], ways: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("convert")
    dump(ops, folder / "0.edn", "edn")
    path = folder / "0.edn"
    before = load(path)
    for number, way in enumerate(ways, start=1):
        target = folder / f"{number}.{way}"
        assert status(path, target) == 0
        assert_same_ops(load(target), before)
        path = target


CHECKERS = sorted(
    {p.name for p in registry.plugins("checker").values()} - {"log-file-pattern"}
)


@settings(max_examples=2 * settings().max_examples)
@given(ops=calls(FEW_VALUES), ways=WAYS, checker=st.sampled_from(CHECKERS))
def test_every_conversion_keeps_the_verdict(
    tmp_path_factory: pytest.TempPathFactory,
    ops: list[Op],
    ways: list[str],
    checker: str,
) -> None:
    folder = tmp_path_factory.mktemp("verdict")
    dump(ops, folder / "0.edn", "edn")
    paths = [folder / "0.edn"]
    for number, way in enumerate(ways, start=1):
        paths.append(folder / f"{number}.{way}")
        assert status(paths[-2], paths[-1]) == 0
    before, *after = check_files(paths, checker, {}, limits=LIMITS)
    for found in after:
        assert not before.has_crashed, before.result.reason
        assert (found.verdict, found.exit_status) == (
            before.verdict,
            before.exit_status,
        ), (found.error or found.result.reason, before.error or before.result.reason)
