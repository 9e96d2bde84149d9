"""Fuzzes readers of histories: valid documents of each format, then damaged.

Whatever the bytes are, reading ends in a `History` that every checker can judge, or in
one line that names the file, and never in another exception. Time and memory are in
proportion to the file.

Documents are histories of what clients really do, so that much of a damaged one still
makes sense and gets far. Accidents are of two kinds: to bytes (splices, cuts, zeros,
half a gzip) and to tokens (a number where a name was, a key twice, nesting).
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import re
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from harness import registry
from harness.cli import group
from harness.errors import EXIT_HARNESS, EXIT_USAGE, UsageError
from harness.history import NO_COMPLETION, History, Op
from harness.history.formats import FORMATS, dump, edn, jepsen_edn, jsonl, load
from harness.history.formats.jepsen_lines import JepsenLines
from harness.history.ops import MESSAGE_CHARS_MAX
from harness.tests.checking import LIMITS, assert_sane, check_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Documents

Word = tuple[str, Any, Any]

WORDS: dict[str, list[Word]] = {
    "register": [("read", None, 1), ("write", 1, 1), ("cas", [1, 2], 0)],
    "append": [
        ("txn", [["append", 1, 1]], [["append", 1, 1]]),
        ("txn", [["r", 1, None]], [["r", 1, [1]]]),
        ("txn", [["r", 2, None], ["append", 2, 3]], [["r", 2, []], ["append", 2, 3]]),
    ],
    "rw": [
        ("txn", [["w", 1, 1]], [["w", 1, 1]]),
        ("txn", [["r", 1, None], ["w", 2, 3]], [["r", 1, 1], ["w", 2, 3]]),
    ],
    "set": [("add", 1, 1), ("read", None, [1]), ("add", 2, 2), ("contains", 1, True)],
    "queue": [("enqueue", 1, 1), ("dequeue", None, 1), ("drain", None, [1])],
    "lock": [("acquire", None, 1), ("release", 1, 1), ("use", 1, 1)],
    "log": [
        ("send", [["send", "k", 1]], [["send", "k", [0, 1]]]),
        ("poll", [["poll"]], [["poll", {"k": [[0, 1]]}]]),
        ("assign", ["k"], ["k"]),
    ],
    "bank": [
        ("transfer", {"from": 0, "to": 1, "amount": 2}, None),
        ("read", None, {"0": 8, "1": 12}),
    ],
    "consensus": [("propose", 1, 1), ("learn", None, 1)],
    "broadcast": [
        ("broadcast", 1, 1),
        ("delivered", [0, 9], {"from": 0, "messages": [1], "more": False}),
    ],
    "ids": [("generate", None, 7), ("echo", "a", "a"), ("status", None, {"term": 1})],
}  # fmt: skip
"""What clients invoke, and what they are answered."""


@st.composite
def events(draw: st.DrawFn) -> list[Op]:
    """Calls of a few processes, in any order that pairs up."""
    words = WORDS[draw(st.sampled_from(sorted(WORDS)))]
    keys: list[Any] = draw(st.sampled_from([[None], [None], [1, 2], ["x"]]))
    is_open: dict[int, tuple[Word, Op]] = {}
    ops: list[Op] = []
    for number in draw(st.lists(st.integers(0, 3 * 4 * 4 * 2 - 1), max_size=14)):
        rest, process = divmod(number, 3)
        rest, choice = divmod(rest, 4)
        odd, kind = divmod(rest, 4)
        word = words[choice % len(words)]
        if process in is_open:
            own, call = is_open.pop(process)
            told = word[2] if odd else own[2]
            ends = (call.ok(told), call.ok(told), call.fail("no"), call.info("late"))
            op = ends[kind]
        elif odd and kind == 3:
            op = Op(0, 0, "nemesis", "info", "kill", {"n1": "killed"})
        else:
            key = keys[kind % len(keys)]
            op = Op(0, 0, process, "invoke", word[0], word[1], key, node="n1")
            is_open[process] = word, op
        op.index, op.time = len(ops), len(ops) * 1000
        ops.append(op)
    return ops


def called(op: Op) -> str:
    """An operation as Jepsen prints it for people, without its error."""
    who = op.process if op.is_client else f":{op.process}"
    return f"{who}\t:{op.type}\t:{op.f}\t{edn.dumps(op.value)}"


def printed(op: Op) -> str:
    """An operation in its line, with its error."""
    why = f"\t{op.error}" if op.error else ""
    return f"{called(op)}{why}\n"


def log_text(ops: list[Op]) -> bytes:
    """A history as Jepsen's log."""
    return "".join(f"INFO  jepsen.util - {called(op)}\n" for op in ops).encode()


def plume_text(ops: list[Op]) -> bytes:
    """Something of the size of a history, as Plume's text."""
    return "".join(
        f"{'rw'[op.index % 2]}({op.index % 3},{op.index % 2 * op.index},"
        f"{op.index // 2 % 3},{op.index // 2})\n"
        for op in ops
    ).encode()


def bracketed_log(ops: list[Op]) -> bytes:
    """Jepsen's log on a console since 2017, with other lines between."""
    return "".join(
        f"INFO [2026-01-02 10:00:00,{op.index:03}] jepsen worker 0 - jepsen.util "
        f"{printed(op)}java.lang.Exception: no\n\tat user$f.invoke(f.clj:1)\n"
        for op in ops
    ).encode()


def zoned_log(ops: list[Op]) -> bytes:
    """Jepsen's log in its file since 2018."""
    return "".join(
        f"2026-01-02 10:00:00,{op.index:03}{{GMT}}\tINFO\t[jepsen worker 0] "
        f"jepsen.util: {printed(op)}"
        for op in ops
    ).encode()


def foreign_json(op: Op) -> dict[str, Any]:
    """An operation as others write it."""
    return {
        "client": op.process,
        "time": op.time / 1e9,
        "type": f":{op.type}",
        "f": op.f,
        "value": op.value,
        "op_id": op.index + 1,
    }


def one_vector(ops: list[Op]) -> bytes:
    """A history in one line of EDN."""
    return b"[" + b" ".join(b"".join(jepsen_edn.write(ops)).splitlines()) + b"]"


def json_array(ops: list[Op], indent: int | None = None) -> bytes:
    return json.dumps([foreign_json(op) for op in ops], indent=indent).encode()


WRITERS: dict[str, Callable[[list[Op]], bytes]] = {
    "jsonl": lambda ops: b"".join(jsonl.write(ops)),
    "edn": lambda ops: b"".join(jepsen_edn.write(ops)),
    "jepsen-log": log_text,
    "plume": plume_text,
}
"""For each format, how its histories look."""

DIALECTS: dict[str, list[Callable[[list[Op]], bytes]]] = {
    "jsonl": [
        json_array,
        lambda ops: json_array(ops, 2),
        lambda ops: json_array(ops, 2)[1:-1],
        lambda ops: b"\n\n".join(json.dumps(foreign_json(op)).encode() for op in ops),
    ],
    "edn": [
        one_vector,
        lambda ops: one_vector(ops).replace(b" ", b"\n"),
    ],
    "jepsen-log": [
        bracketed_log,
        zoned_log,
        lambda ops: "".join(map(printed, ops)).encode(),
    ],
    "plume": [lambda ops: b"w(0,0,9,9)\nw(1,0,9,9)\n" + plume_text(ops)],
}
"""How they look in other people's hands."""

# Accidents

NASTY = [
    *(b"NaN", b"-Infinity", b"##NaN", b"##Inf", b"1e400", b"1e-400", b"-0", b"-0.0"),
    *(b"18446744073709551616", b"9223372036854775808", b"-9223372036854775809"),
    *(b"9" * 40, b"9" * 5_000, b"1.5", b"1N", b"1.5M", b"1E+999999999M", b"1/3"),
    *(b"1/0", b"null", b"nil", b"true", b"false", b'""', b'"x"', b":x", b"x", b"\\a"),
    *(
        b"[]",
        b"{}",
        b"#{}",
        b"()",
        b"[1 2]",
        b"[1,2]",
        b'{"a":1}',
        b"{:a 1}",
        b"#{1 2}",
    ),
    *(b"[null]", b"[nil]", b"[[:r 1 null]]", b"[[:r 1 [null]]]", b"[1 . 2]", b"[- 1]"),
    *(b'#inst "2026-01-01"', b"#_", b"#_1", b"#", b"^", b"@", b"#a.B{:x 1}", b"#a 1"),
    *(b"{1 2 1 3}", b"#{1 1}", b"#{1 1.0}", b"{[1] 2}", b"{{} 1}", b"#{[] {}}"),
    *(b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"),
    *(b"\0", b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\\n"', b"\xc2\x85"),
    *(b"\r", b"\r\n", b"\n", b"\n\n", b" ", b",", b"\t", b"\x0b", b"\x0c", b"\x1b[31m"),
    *(b"\xe2\x80\xa8", b"[" * 100 + b"]" * 100, b"[" * 127 + b"]" * 127, b"\\u0000"),
    *(b"[" * 900 + b"]" * 900, b"[" * 5_000, b'{"a":' * 3_000, b"{:a " * 3_000),
    *(b"#{" * 500, b"#a " * 500, b"#{" * 7 + b"1 2" + b"}" * 7, b"\\u"),
    *(b"(" * 129 + b")" * 129, b"]", b"}", b'"', b";", b"{", b"(", b":", b'"a\\nb":1,'),
    *(b'"value":1,', b'"index":0,', b'"zzz":1,', b":value 2, ", b":type :ok "),
    *(b"##-Inf", b"NaN", b"Infinity", b"#:a{:b 1}", b'#object[a.b 0x7f "x"]', b"#<a>"),
    *(
        b'#error {:cause "x"\n :via [1]}',
        b'"a\n\nb"',
        b'#"a"',
        b"#'a/b",
        b'{"#edn":"1M"}',
    ),
    *(b'{"#edn":"{"}', b'{"#edn":1}', b'"#edn"', b"\x1e", b"{GMT}", b"jepsen.util: "),
    *(b":process nil ", b':process "" ', b":key [1] ", b":f nil ", b'"type":"a\\nb",'),
    *(b"invoke", b"txn", b"append", b"r(1,2,3,-1)", b"w(1,0,3,4)", b"INFO"),
    b":timed-out",
]
PIECES = st.sampled_from(NASTY) | st.binary(max_size=6)
TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|:?[A-Za-z_]+|-?[0-9]+|[\[\]{}()]')


@st.composite
def accidents(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` after up to four accidents."""
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 12)))
        tokens = [match.span() for match in TOKEN.finditer(data)]
        match draw(st.integers(0, 9)):
            case 0 | 1 | 2 | 3 if tokens:
                begin, end = draw(st.sampled_from(tokens))
                data = data[:begin] + draw(PIECES) + data[end:]
            case 4 if tokens:
                begin, end = draw(st.sampled_from(tokens))
                data = data[:begin] + data[begin:end] + b" " + data[begin:]
            case 5:
                data = data[:begin] + draw(PIECES) + data[begin:]
            case 6:
                data = data[:begin] + data[end:]
            case 7:
                data = data[:begin]
            case 8:
                rows = data.splitlines(keepends=True)
                data = b"".join(
                    draw(st.permutations(rows)) if len(rows) < 9 else rows * 2
                )
            case _:
                data = draw(
                    st.sampled_from(
                        [
                            b"\xef\xbb\xbf" + data,
                            data.replace(b"\n", b"\r\n"),
                            b"[" + data + b"]",
                            data.replace(b"\n", b" "),
                            data.decode("latin-1").encode("utf-16"),
                            data + data,
                        ]
                    )
                )
    return data


@st.composite
def packed(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` in a gzip, sound or not; or as it is."""
    how = draw(st.integers(0, 9))
    if how < 6:
        return data
    whole = gzip.compress(data, 1, mtime=0)
    at = draw(st.integers(0, len(whole)))
    damaged = whole[:at] + draw(st.binary(max_size=2)) + whole[at + 1 :]
    return {6: whole, 7: whole[:at], 8: damaged}.get(how, whole + damaged)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name of a format, and a document that began as one of it."""
    name = draw(st.sampled_from(sorted(WRITERS)))
    if draw(st.integers(0, 9)) == 0:
        return name, draw(st.binary(max_size=200))
    write = draw(st.sampled_from([WRITERS[name], *DIALECTS[name]]))
    return name, draw(packed(draw(accidents(write(draw(events()))))))


@given(events(), st.data())
def test_every_dialect_says_the_same(
    scratch: Path, ops: list[Op], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["jsonl", "edn", "jepsen-log"]))
    for op in ops:
        op.key = None  # not every dialect has a place for it
    path = scratch / "history"
    expected = [(op.process, op.type, op.f, op.value) for op in ops]
    for write in (WRITERS[name], *DIALECTS[name]):
        path.write_bytes(write(ops))
        history = load(path, independent=False)
        found = [(op.process, op.type, op.f, op.value) for op in history]
        assert found == expected
        assert list(history.completion) == list(History(ops).completion)


WAYS = st.fixed_dictionaries(
    {
        "independent": st.sampled_from([None, None, True, False]),
        "strict": st.sampled_from([None, None, True, False]),
    }
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


def assert_one_line(problem: UsageError, path: Path) -> None:
    text = str(problem)
    assert re.match(re.escape(str(path)) + r"(:\d+)?: .", text), text
    assert text.isprintable(), ascii(text)
    assert len(text) < 5 * MESSAGE_CHARS_MAX, len(text)  # much is spelled out, at worst


@example(
    ("jsonl", b'{"index":7,"time":0,"process":0,"type":"ok","f":"read"}\n'),
    None,
    {"strict": False},
)
@example(
    ("jsonl", b'{"index":0,"time":0,"process":0,"type":"ok","f":"r","a\\nb":1}'),
    None,
    {},
)
@example(("jsonl", b""), None, {})
@example(("jsonl", b'{"' + b"[" * 50_000 + b'":1}'), None, {})
@given(documents(), st.sampled_from([None, None, *FORMATS]), WAYS)
def test_any_bytes_are_a_history_or_are_refused_in_one_line_with_their_place(
    scratch: Path,
    document: tuple[str, bytes],
    format_name: str | None,
    ways: dict[str, Any],
) -> None:
    made, data = document
    path = scratch / "history"
    path.write_bytes(data)
    told: list[list[Op] | None] = []
    for lean, torn in itertools.product([False, True], repeat=2):
        try:
            history = load(
                path,
                format_name or made,
                lean=lean,
                tolerate_torn_tail=torn,
                **ways,
            )
        except UsageError as problem:
            assert_one_line(problem, path)
            told.append(None)
            continue
        assert_whole(history)
        told.append(list(history))
        assert_writable(history, scratch)
    event(f"{made}: {'read' if told[0] is not None else 'refused'}")
    assert repr(told[0]) == repr(told[2])
    assert told[1] is None or told[0] is None or repr(told[0]) == repr(told[1])


def assert_whole(history: History) -> None:
    """What `History` promises of itself."""
    ops = list(history)
    assert [op.index for op in ops] == list(range(len(ops)))
    assert history.lines is not None
    assert len(history.lines) == len(history.completion) == len(ops)
    assert list(history.lines) == sorted(history.lines)
    for i, j in enumerate(history.completion):
        if j != NO_COMPLETION:
            assert history.completion[j] == i
            assert {ops[i].type == "invoke", ops[j].type == "invoke"} == {True, False}
            assert ops[i].process == ops[j].process
            assert ops[i].f == ops[j].f
    assert len(history.columns.type) == len(ops)
    for call, end in history.calls():
        assert call.type == "invoke"
        assert end is None or end.index > call.index


def assert_writable(history: History, folder: Path) -> None:
    """Written as what can be written, it reads the same; or it can't be, in a line."""
    for name in ("jsonl", "edn"):
        path = folder / f"written.{name}"
        try:
            dump(history, path, name)
        except UsageError:
            continue
        again = load(path, name, strict=False, independent=False)
        assert [(op.process, op.type, op.f) for op in again] == [
            (op.process, op.type, op.f) for op in history
        ]


@example(b"{:type :ok, :process 1, :f :read, :value [null]}\n" * 2, None)
@given(events().map(WRITERS["edn"]).flatmap(accidents), st.sampled_from([None, True]))
def test_tidy_lines_and_tokens_are_read_the_same(
    scratch: Path, data: bytes, independent: bool | None
) -> None:
    path = scratch / "history.edn"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        found = what_it_says(path, independent)
        patch.setattr(JepsenLines, "op", lambda *_: None)
        expected = what_it_says(path, independent)
    assert found == expected


def what_it_says(path: Path, independent: bool | None) -> object:
    """All of what is read, with the classes; or that it can't be."""
    try:
        history = load(path, "edn", independent=independent)
    except UsageError as problem:
        return re.sub('[:"]', "", str(problem).partition(": ")[0])
    return [(repr(op), *jepsen_edn.write([op])) for op in history]


# Judging

CHECKERS = sorted({p.name for p in registry.plugins("checker").values()})
OPTIONS = {"log-file-pattern": {"pattern": "x"}}


@settings(max_examples=max(150, settings().max_examples))
@given(documents(), st.sampled_from(CHECKERS), WAYS)
def test_any_bytes_are_judged_or_refused_by_every_checker(
    scratch: Path, document: tuple[str, bytes], checker: str, ways: dict[str, Any]
) -> None:
    path = scratch / "history"
    path.write_bytes(document[1])
    (result,) = check_files(
        [path], checker, OPTIONS.get(checker, {}), limits=LIMITS, **ways
    )
    assert_sane(result)
    event(f"{checker}: {result.exit_status}")
    assert result.exit_status != EXIT_HARNESS


@given(documents(), st.sampled_from(["jsonl", "edn", "edn.gz"]))
def test_any_bytes_are_converted_or_refused(
    scratch: Path, document: tuple[str, bytes], target: str
) -> None:
    path, made = scratch / "history", scratch / f"converted.{target}"
    path.write_bytes(document[1])
    made.unlink(missing_ok=True)

    def run() -> object:
        arguments = ["convert", str(path), str(made)]
        return group.cli.main(arguments, standalone_mode=False)

    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        status = group.status_of(run)
    assert status in {0, EXIT_USAGE}
    if status == 0:
        load(made, strict=False)


# In proportion


def numbers(size_bytes: int) -> bytes:
    """Numbers that no set can sort but by their texts."""
    return b" ".join(b"%d.5" % i for i in range(size_bytes // 8))


HEAD = b'{"index":0,"time":0,"process":0,"type":"ok","f":"read","value":'

OK = b"{:type :ok :process 0 :value "
LARGE: dict[str, Callable[[int], bytes]] = {
    "blank lines": lambda n: b"\n" * n,
    "blanks": lambda n: b" " * n,
    "commas": lambda n: b"," * n,
    "comments": lambda n: b";\n" * (n // 2),
    "open vectors": lambda n: b"[" * n,
    "open objects": lambda n: b'{"a":' * (n // 5),
    "open sets": lambda n: b"#{" * (n // 2),
    "tags": lambda n: b"#a " * (n // 3),
    "discards": lambda n: b"#_" * (n // 2),
    "closers": lambda n: b"]" * n,
    "quotes": lambda n: b'"' * n,
    "backslashes": lambda n: b'"' + b"\\" * n,
    "digits": lambda n: OK + b"9" * n + b"}",
    "numbers": lambda n: OK + b"[" + b"99999999 " * (n // 9) + b"]}",
    "keywords": lambda n: OK + b"[" + b":abcdefgh " * (n // 10) + b"]}",
    "sets in sets": lambda n: OK + b"#{" * 60 + numbers(n) + b"}" * 60 + b"}",
    "a few sets in sets": lambda n: OK + b"#{" * 8 + numbers(n) + b"}" * 8 + b"}",
    "keys of keys": lambda n: OK + b"{[" * 60 + numbers(n) + b"] 1}" * 60 + b"}",
    "a string": lambda n: HEAD + b'"' + b"x" * n + b'"}',
    "a list": lambda n: HEAD + b"[" + b"1," * (n // 2) + b"1]}",
    "an unknown field": lambda n: b'{"index":0,"' + b"x" * n + b'":1}',
    "a long type": lambda n: b'{"index":0,"type":"' + b"x" * n + b'"}',
    "ones": lambda n: b"1 " * (n // 2),
    "empty maps": lambda n: b"{}\n" * (n // 3),
    "an array": lambda n: b"[" + b"{}," * (n // 3),
    "an array of numbers": lambda n: b"[" + b"1," * (n // 2) + b"]",
    "an object": lambda n: b'{"a":[' + b"1," * (n // 2),
    "brackets": lambda n: b'[{"a":' + b"[" * n,
    "a string over lines": lambda n: OK + b'"' + b"\\n\n" * (n // 3),
    "strings over lines": lambda n: b'"\n' * (n // 2),
    "objects of old": lambda n: OK + b"#<" * (n // 2),
    "objects in objects": lambda n: OK + b"#<" + b"<>" * (n // 2),
    "comments in a line": lambda n: OK + b"; " * (n // 2),
    "log heads": lambda n: b"1 :ok :f [\n" * (n // 11),
    "log words": lambda n: b"a jepsen.util " * (n // 14),
    "log lines": lambda n: b"INFO jepsen.util: 1 :ok :read [1\n" * (n // 33),
    "errors": lambda n: b"1 :ok :f 1 2\n" + b"e\n" * (n // 2),
    "log types": lambda n: b"INFO  jepsen.util - 1 " + b":ok " * (n // 4),
    "log blanks": lambda n: b"INFO " + b" \t" * (n // 2) + b"jepsen.util",
    "a write": lambda n: b"w(1,2,3," + b"4" * n,
    "writes": lambda n: b"".join(
        b"w(1,%d,3,%d)\n" % (i + 1, i) for i in range(n // 15)
    ),
    "zeros": lambda n: b"\0" * n,
    "noise": lambda n: bytes(range(256)) * (n // 256),
}
"""What might cost more than its length; by how many bytes are wanted."""

SIZE_BYTES = 1 << 15

TIME_S_MAX = 5.0
"""In processor time. Nothing takes half a second, and what is quadratic takes ten."""

MEMORY_BYTES_MAX = 300 * SIZE_BYTES + (16 << 20)
"""An operation of `{}` is an object, too; and a buffer is 4 MiB, whatever is in it."""


@pytest.mark.parametrize("name", LARGE)
def test_reading_takes_time_and_memory_in_proportion_to_the_file(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "history"
    path.write_bytes(LARGE[name](SIZE_BYTES))
    tracemalloc.start()
    start_s = time.process_time()
    for format_name in FORMATS:
        with contextlib.suppress(UsageError):
            load(path, format_name)
    took_s = time.process_time() - start_s
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took_s < TIME_S_MAX
    assert peak_bytes < MEMORY_BYTES_MAX


def test_a_gzip_bomb_costs_no_more_than_a_long_line(tmp_path: Path) -> None:
    """Four gibibytes of zeros in four megabytes, or so it would be at the end."""
    block = gzip.compress(b"x" * (1 << 24), 9, mtime=0)
    path = tmp_path / "bomb.gz"
    path.write_bytes(block * 256)
    for format_name in FORMATS:
        with pytest.raises(UsageError) as caught:
            load(path, format_name)
        assert_one_line(caught.value, path)
