"""Histories as other people have them: read, or named with what to take instead."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from harness.history import HistoryError, Op
from harness.history.formats import edn, json_values, load
from harness.history.formats import source as source_module
from harness.history.formats.edn import Symbol, Tagged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.history import History

CALL = {"type": "invoke", "process": 0, "f": "read"}
DONE = {"type": "ok", "process": 0, "f": "read", "value": 3}
OPS = [Op(0, -1, 0, "invoke", "read"), Op(1, -1, 0, "ok", "read", 3)]


def read(tmp_path: Path, text: str | bytes, **how: Any) -> History:
    path = tmp_path / "some file"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, **how)


# JSON


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([CALL, DONE]),
        json.dumps([CALL, DONE], indent=2),
        "[\n" + json.dumps(CALL) + ",\n" + json.dumps(DONE) + "\n]\n\n",
        json.dumps(CALL) + "\n\n  " + json.dumps(DONE),
        json.dumps(CALL) + json.dumps(DONE),
        json.dumps(CALL, indent=2) + "\n" + json.dumps(DONE, indent=2),
        "\x1e" + json.dumps(CALL) + "\n\x1e" + json.dumps(DONE) + "\n",
        json.dumps({"name": "x", "history": [CALL, DONE]}),
        json.dumps({"operations": [CALL, DONE]}, indent=2),
    ],
)
def test_json_is_read_however_its_operations_are_strung_together(
    tmp_path: Path, text: str
) -> None:
    for lean in (False, True):
        assert list(read(tmp_path, text, lean=lean)) == OPS


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"index": 1}, {}),
        ({"index": None, "time": None}, {}),
        ({"time": 0.5}, {"time": 500_000_000}),
        ({"time": 12}, {"time": 12}),
        ({"time": "noon"}, {"extra": {"time": "noon"}}),
        ({"type": ":ok", "f": ":read"}, {}),
        ({"type": "OK"}, {}),
        ({"process": 0.0}, {}),
        ({"process": None, "client": 0}, {}),
        ({"process": None, "client_id": 0}, {}),
        ({"op_id": 7, "extra": {"x": 1}}, {"extra": {"op_id": 7, "x": 1}}),
        ({"extra": 5}, {"extra": {"extra": 5}}),
        ({"node": 3}, {"extra": {"node": 3}}),
        ({"value": float("nan")}, {"value": Symbol("##NaN")}),
        ({"value": [float("-inf")]}, {"value": [Symbol("##-Inf")]}),
        ({"value": 2**80}, {"value": 2**80}),
        ({"value": {"#edn": "5.00M"}}, {"value": Decimal("5.00")}),
        ({"value": {"#edn": 5}}, {"value": {"#edn": 5}}),
        ({"f": None}, {"f": "txn"}),
    ],
)
def test_operations_of_others_lack_fields_and_have_more(
    tmp_path: Path, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    entry = {name: v for name, v in {**DONE, **fields}.items() if v is not None}
    (op,) = read(tmp_path, json.dumps(entry))
    wanted = Op(0, -1, 0, "ok", "read", 3)
    for name, value in expected.items():
        setattr(wanted, name, value)
    assert op == wanted


def test_an_array_of_any_length_in_one_line_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(source_module, "LINE_BYTES_MAX", 1 << 12)
    ops = [CALL, DONE] * 2_000
    assert [op.type for op in read(tmp_path, json.dumps(ops))] == [
        "invoke",
        "ok",
    ] * 2_000
    assert [op.value for op in read(tmp_path, json.dumps({"ops": ops}))][1::2] == [
        3
    ] * 2_000


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("[" + json.dumps(CALL), 1, "the array doesn't end"),
        (json.dumps([CALL]) + "\n1", 2, "after the array's end"),
        ("[\n1]", 2, "an operation is an object"),
        (json.dumps(CALL) + '\n{"type": "o', 2, "cut short"),
        (json.dumps(CALL) + "\n{'type': 1}" + " " * 99, 2, "not JSON"),
        ('{"type": "begin"}\n', 1, ":type is"),
        (b'[{"type": "\xff"}]', 1, "not UTF-8"),
        (b'[{"type":"ok"},\n"\xc3', 2, "not UTF-8"),
        ('[{"a":' + "[" * 100_000, 1, "nested too deep"),
        ('{"type":"ok","process":0,"value":{"#edn":"["}}', 1, "ends inside of a value"),
    ],
)
def test_json_that_is_no_history_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, place: int, reason: str
) -> None:
    with pytest.raises(HistoryError) as caught:
        read(tmp_path, text, format="jsonl")
    assert str(caught.value).startswith(f"{tmp_path / 'some file'}:{place}: ")
    assert reason in str(caught.value)


def test_a_value_that_never_ends_is_not_decoded_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_values, "VALUE_CHARS_MAX", 1 << 20)
    tries = 0

    class Decoder:
        def raw_decode(self, text: str, at: int) -> Any:
            nonlocal tries
            tries += 1
            return decoder.raw_decode(text, at)

    decoder = json_values._DECODER
    monkeypatch.setattr(json_values, "_DECODER", Decoder())
    with pytest.raises(HistoryError, match="longer than 1 Mi characters"):
        list(json_values.values("x", [b'{"a":['] + [b"1," * 512] * 2_000))
    assert tries < 20


# Jepsen's text

WHEN = "2024-08-10 07:24:27,635"


def zoned(logger: str, message: str) -> str:
    """A line of Jepsen's log in its file since 2018."""
    return f"{WHEN}{{GMT}}\tINFO\t[a thread] jepsen.{logger}: {message}\n"


def bracketed(logger: str, message: str) -> str:
    """A line of Jepsen's log on a console since 2017."""
    return f"INFO [{WHEN}] a thread - jepsen.{logger} {message}\n"


HISTORY_TXT = """\
0\t:invoke\t:read\tnil
0\t:info\t:read\tnil\t:timeout
:nemesis\t:info\t:start\t#<odd
5\t:invoke\t:cas\t[1 2]
5\t:fail\t:cas\t[1 2]
"""


def logged(line: Callable[[str, str], str]) -> str:
    """A log with all that stands in one beside operations."""
    return (
        "07:24:27.636 [main] INFO  jepsen.cli - Test options:\n {:concurrency 5}\n"
        + line("os.debian", ":n5 setting up debian")
        + "".join(
            line("util", text) + "java.net.SocketException: no\n\tat a.b(c.clj:1)\n"
            for text in HISTORY_TXT.splitlines()
        )
        + line("core", "{:valid? true}")
    )


@pytest.mark.parametrize("text", [logged(zoned), logged(bracketed), HISTORY_TXT])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_jepsens_text_is_read_in_all_its_forms(
    tmp_path: Path, text: str, newline: str
) -> None:
    assert list(read(tmp_path, text.replace("\n", newline))) == [
        Op(0, -1, 0, "invoke", "read"),
        Op(1, -1, 0, "info", "read", error=":timeout"),
        Op(2, -1, "nemesis", "info", "start", "#<odd"),
        Op(3, -1, 5, "invoke", "cas", [1, 2]),
        Op(4, -1, 5, "fail", "cas", [1, 2]),
    ]


def test_values_and_errors_of_jepsens_text_may_span_lines(
    tmp_path: Path,
) -> None:
    text = (
        "0\t:invoke\t:write\t1\n"
        '0\t:ok\t:write\t#error {\n :cause "x"\n :via\n [{:type Foo}]}\t:why\n'
        "1\t:invoke\t:read\tnil\n"
        "1\t:info\t:read\tnil\tjava.lang.Exception: no\n  at f.clj\n"
    )
    history = read(tmp_path, text)
    assert history[1].value == Tagged("error", {"cause": "x", "via": [{"type": "Foo"}]})
    assert history[1].error == ":why"
    assert history[3].error == "java.lang.Exception: no\n  at f.clj"
    assert history.lines is not None
    assert list(history.lines) == [1, 2, 6, 7]


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("0\t:invoke\t:read\tnil\nwhat?\n", 2, "no operation as Jepsen prints it"),
        ("0\t:ok\t:read\t[1\n0\t:ok\t:read\t1\n", 1, "doesn't end"),
        ("0\t:ok\t:read\t1\n0\t:ok\t:read\t{1\n", 2, "doesn't end"),
        ("0\t:ok\t:read\t]\n", 1, "closes nothing"),
    ],
)
def test_jepsens_text_that_is_damaged_is_refused_with_its_line(
    tmp_path: Path, text: str, place: int, reason: str
) -> None:
    with pytest.raises(HistoryError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'some file'}:{place}: ")
    assert reason in str(caught.value)


# EDN


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[##Inf ##-Inf ##NaN 1e999 -1e999]",
         ["##Inf", "##-Inf", "##NaN", "##Inf", "##-Inf"]),
        ("#:a.b{:x 1 :c/y 2 :_/z 3 4 5}", {"a.b/x": 1, "c/y": 2, "z": 3, 4: 5}),
        ("#::a{x 1}", {"a/x": 1}),
        ('#object[a.b$f 0x7fE "x"]', Tagged("object", ["a.b$f", 0x7FE, "x"])),
        ('#"a\\d"', Tagged("regex", "a\\d")),
        ("[#'user/x #<Foo <b> c> -0x10N]", ["#'user/x", "#<Foo <b> c>", -16]),
        ('["a\nb" "c\n\n\\"d"]', ["a\nb", 'c\n\n"d']),
    ],
)  # fmt: skip
def test_what_clojure_prints_beyond_edn_is_read(text: str, value: Any) -> None:
    assert edn.loads(text) == value
    pieces = enumerate(text.split("\n"), start=1)
    assert [found for _, found in edn.Reader("x").values(pieces)] == [value]


def test_nan_is_equal_to_itself_and_to_nothing_else() -> None:
    nan, again = edn.loads("##NaN"), edn.loads("##NaN")
    assert nan == again
    assert nan != 0
    assert edn.dumps(float("nan")) == edn.dumps(nan) == "##NaN"
    assert edn.dumps(float("-inf")) == edn.dumps(edn.loads("##-Inf")) == "##-Inf"


def test_a_vector_of_any_length_in_one_line_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pieces end in strings, in comments, and after blanks that mean something."""
    monkeypatch.setattr(source_module, "_CHUNK_BYTES", 700)
    monkeypatch.setattr(source_module, "PIECE_BYTES", 50)
    monkeypatch.setattr(source_module, "LINE_BYTES_MAX", 1_000)
    text = "words, and more  words; " * 4
    op = f'{{:type :ok, :process 0, :f :read, :value ["{text}" \\, 1]}} '
    history = read(tmp_path, "[" + op * 300 + "]")
    assert [op.value for op in history] == [[text, ",", 1]] * 300
    history = read(tmp_path, "[" + op + "; " + op * 20 + "\n" + op + "]")
    assert [op.value for op in history] == [[text, ",", 1]] * 2
    with pytest.raises(HistoryError, match="longer than"):
        read(tmp_path, "[" + "1" * 2_000)


def test_a_string_that_never_ends_is_named_by_the_line_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HistoryError, match=":2: a string that doesn't end"):
        read(tmp_path, '{:type :ok}\n{:type :ok :value "a}\n{:type :ok}\n')
    monkeypatch.setattr(edn, "STRING_CHARS_MAX", 100)
    with pytest.raises(HistoryError, match=":1: a string that is longer than"):
        read(tmp_path, '["' + "{:type :ok}\n" * 100)


@pytest.mark.parametrize("form", ['["a" 1 2]', '["a" [1 2]]'])
def test_the_key_of_a_cas_stands_before_its_values_or_before_their_pair(
    tmp_path: Path, form: str
) -> None:
    text = (
        f"{{:process 0 :type :invoke :f :cas :value {form}}}"
        f"{{:process 0 :type :ok :f :cas :value {form}}}"
        '{:process 0 :type :invoke :f :read :value ["a" nil]}'
    )
    for independent in (None, True):
        history = read(tmp_path, text, independent=independent)
        assert [(op.key, op.value) for op in history] == [
            ("a", [1, 2]),
            ("a", [1, 2]),
            ("a", None),
        ]


# Transactions of other tools


def test_awdits_ruled_text_is_read(tmp_path: Path) -> None:
    history = read(tmp_path, "w 0 0\nw 1 0\n===\nw 0 1\n---\nr 1 0\n=\nr 0 1\nr 1 0\n")
    assert [(op.process, op.value) for op in history] == [
        (1, [["w", 0, 1]]),
        (1, [["r", 1, None]]),
        (2, [["r", 0, 1], ["r", 1, None]]),
    ]
    assert history.completions_only


SESSIONS = [
    [{"events": [{"Write": {"variable": 0, "version": 1}}], "committed": True}],
    [
        {"events": [{"Read": {"variable": 0, "version": 1}}, ["r", 1, None]]},
        {"events": [["w", 0, 2]], "committed": False},
    ],
    [
        {
            "events": [
                {"write": False, "variable": 1, "value": 0, "success": True},
                {"write": True, "variable": 1, "value": 3, "success": True},
            ],
            "success": True,
        }
    ],
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(SESSIONS),
        json.dumps(SESSIONS, indent=1),
        json.dumps({"params": {"id": 0}, "info": "x", "data": SESSIONS}),
    ],
)
def test_dbcops_json_is_read(tmp_path: Path, text: str) -> None:
    history = read(tmp_path, text)
    assert [(op.process, op.type, op.value) for op in history] == [
        (0, "ok", [["w", 0, 1]]),
        (1, "ok", [["r", 0, 1], ["r", 1, None]]),
        (1, "fail", [["w", 0, 2]]),
        (2, "ok", [["r", 1, None], ["w", 1, 3]]),
    ]
    assert history.completions_only


@pytest.mark.parametrize(
    "transaction",
    [{"events": [{"Read": 1}]}, {"events": [["x", 1, 2]]}, {"events": [["r"]]},
     {"events": 1}, {"events": [{"write": 7, "variable": 1, "value": 1}]}],
)  # fmt: skip
def test_a_transaction_that_dbcop_does_not_write_is_refused(
    tmp_path: Path, transaction: Any
) -> None:
    with pytest.raises(HistoryError, match="is no transaction as DBCop writes"):
        read(tmp_path, json.dumps([[transaction]]))


# What can't be read


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"JEPSEN\x00\x00\x00\x01", "Jepsen's binary store; take history.edn"),
        (b"\xff\xfe{\x00", "UTF-16; try: iconv"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd -dc FILE"),
        (b"<!DOCTYPE html><html>", "take history.edn"),
        (b"{:valid? true}", ":1: these are a checker's results"),
        (b'{"valid?": true}', ":1: these are a checker's results"),
        (
            b'{"ClientId":0,"Input":{},"Call":1,"Output":{},"Return":2}\n',
            ":1: these are operations of Porcupine",
        ),
        (
            b'{"event":{"Start":"Read"},"client_id":2,"op_id":4}\n',
            ":1: this is a log of s2-verification",
        ),
    ],
)
def test_files_that_are_no_histories_say_what_they_are_and_what_to_take(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(HistoryError, match=said) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_folders_of_other_tools_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "history.bincode").write_bytes(b"\x01")
    for path in (tmp_path, tmp_path / "history.bincode"):
        with pytest.raises(HistoryError, match="awdit convert -f dbcop"):
            load(path)
