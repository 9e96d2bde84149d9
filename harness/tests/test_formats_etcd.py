"""Operations of etcd's robustness tests: what was done is read and judged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history import History, HistoryError
from harness.history.formats import dump, etcd, load
from harness.tests.checking import check_files
from harness.verdict import Verdict

EMPTY_PUT = {"Key": "", "Value": {}, "LeaseID": 0}
LONG = "a value of more than twenty characters"


def operation(kind: str, key: str, value: str = "", lease: int = 0) -> dict[str, Any]:
    """A part of a transaction, as Go writes it: all fields, those unused empty."""
    put = {"Key": key, "Value": {"Value": value}, "LeaseID": lease}
    return {
        "Type": f"{kind}-operation",
        "Range": {"Start": key if kind == "range" else "", "End": "", "Limit": 0},
        "Put": put if kind == "put" else EMPTY_PUT,
        "Delete": {"Key": key if kind == "delete" else ""},
    }


def txn(*done: dict[str, Any], otherwise: Any = None, when: Any = None) -> Any:
    return {
        "Type": "txn",
        "Txn": {
            "Conditions": when,
            "OperationsOnSuccess": list(done),
            "OperationsOnFailure": otherwise,
        },
    }


def get(start: str, end: str = "", **more: Any) -> Any:
    asked = {"Start": start, "End": end, "Limit": 0, "Revision": 0, **more}
    return {"Type": "range", "Range": asked}


def kvs(**values: str) -> dict[str, Any]:
    """What a range shows."""
    shown = [
        {"Key": key, "Value": {"Value": value}, "ModRevision": 3}
        for key, value in values.items()
    ]
    return {"KVs": shown, "Count": len(shown)}


def did(*results: Any, failure: bool = False) -> Any:
    told = [result or {"KVs": None, "Count": 0, "Deleted": 0} for result in results]
    return {"Txn": {"Failure": failure, "Results": told}, "Revision": 4, "Error": ""}


def line(asked: Any, told: Any, call: int, returned: int, client: int = 1) -> str:
    fields = {"ClientId": client, "Input": asked, "Call": call, "Output": told}
    return json.dumps({**fields, "Return": returned}) + "\n"


def read(tmp_path: Path, *lines: str) -> History:
    path = tmp_path / "operations.json"
    path.write_text("".join(lines))
    return load(path)


def told(history: History) -> list[tuple[str, str, Any, Any]]:
    return [(op.type, op.f, op.key, op.value) for op in history]


PUT = line(txn(operation("put", "x", "1")), did(None), 10, 20)


def test_puts_gets_and_deletes_are_writes_and_reads(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        PUT,
        line(get("x"), {"Range": kvs(x="1"), "Revision": 2}, 30, 40),
        line(txn(operation("delete", "x")), did(None), 50, 60),
        line(get("x"), {"Range": kvs(), "Revision": 2}, 70, 80, client=2),
    )
    assert told(history) == [
        ("invoke", "write", "x", "1"),
        ("ok", "write", "x", "1"),
        ("invoke", "read", "x", None),
        ("ok", "read", "x", "1"),
        ("invoke", "write", "x", None),
        ("ok", "write", "x", None),
        ("invoke", "read", "x", None),
        ("ok", "read", "x", None),
    ]
    assert [op.time for op in history] == [10, 20, 30, 40, 50, 60, 70, 80]
    assert list(history.lines or ()) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert history.remark == ""


def test_a_range_reads_all_keys_in_it_and_a_cut_one_those_that_it_shows(
    tmp_path: Path,
) -> None:
    both = line(
        txn(operation("put", "x", "1"), operation("put", "y", "2")),
        did(None, None),
        10,
        20,
    )
    whole = line(get("x", "z"), {"Range": kvs(y="2"), "Revision": 2}, 30, 40)
    cut = {"KVs": kvs(y="2")["KVs"], "Count": 2}
    limited = line(get("x", "z", Limit=1), {"Range": cut, "Revision": 2}, 50, 60)
    reads = [
        (op.key, op.value)
        for op in read(tmp_path, both, whole, limited)
        if op.type == "ok" and op.f == "read"
    ]
    assert reads == [("x", None), ("y", "2"), ("y", "2")]


def test_what_nobody_was_told_may_have_been_done(tmp_path: Path) -> None:
    asked = txn(
        operation("put", "x", "1"),
        otherwise=[operation("put", "x", "2"), operation("range", "x")],
        when=[{"Key": "x", "ExpectedRevision": 3}],
    )
    history = read(tmp_path, line(asked, {"Error": "timeout"}, 10, 20), PUT)
    assert told(history) == [
        ("invoke", "write", "x", "1"),
        ("invoke", "write", "x", "2"),
        ("invoke", "write", "x", "1"),
        ("ok", "write", "x", "1"),
    ]
    assert len({op.process for op in history}) == 3
    assert history.remark == "no part of the history: 1 conditions of transactions"


def test_a_transaction_that_failed_did_what_it_was_to_do_then(tmp_path: Path) -> None:
    asked = txn(operation("put", "x", "1"), otherwise=[operation("range", "x")])
    history = read(tmp_path, line(asked, did(kvs(x="7"), failure=True), 10, 20))
    assert told(history)[1:] == [("ok", "read", "x", "7")]


@pytest.mark.parametrize(
    ("asked", "answer", "what"),
    [
        (get("x", Revision=7), {"Range": kvs(x="1")}, "1 reads of old revisions"),
        (get("x", KeysOnly=True), {"Range": kvs(x="")}, "1 reads of keys without"),
        (get("x"), {"Range": kvs(x="1"), "Revision": -1}, "1 answers that need not"),
        ({"Type": "compact"}, {"ClientError": "future rev"}, "1 refused requests"),
        ({"Type": "defragment"}, {}, "1 defragment requests"),
        (
            txn(operation("put", "x", "5", lease=9)),
            did(None),
            "2 operations on keys with a lease",
        ),
    ],
)
def test_what_is_left_out_is_said(
    tmp_path: Path, asked: Any, answer: Any, what: str
) -> None:
    history = read(tmp_path, PUT, line(asked, answer, 30, 40))
    assert len(history) == (0 if "lease" in what else 2)
    assert what in history.remark
    path = tmp_path / "operations.json"
    (result,) = check_files([path], "linearizable", {"model": "register"})
    assert what in result.as_json().get("remarks", [history.remark])[0]


def test_a_long_value_is_what_its_hash_says(tmp_path: Path) -> None:
    digest = {"Hash": 0}
    digest["Hash"] = etcd._fnv1a(LONG.encode())
    shown = {"KVs": [{"Key": "x", "Value": digest}], "Count": 1}
    history = read(
        tmp_path,
        line(txn(operation("put", "x", LONG)), did(None), 10, 20),
        line(get("x"), {"Range": shown}, 30, 40),
    )
    assert history[0].value == history[3].value
    assert etcd._fnv1a(b"a") == 0xE40C292C  # of FNV's own test vectors


def test_one_client_of_many_is_refused_and_their_folder_read(tmp_path: Path) -> None:
    for client in (1, 2):
        folder = tmp_path / f"client-{client}"
        folder.mkdir()
        (folder / "operations.json").write_text(PUT)
    assert len(load(tmp_path)) == 4
    with pytest.raises(HistoryError, match=r"of one client .*; take the folder"):
        load(tmp_path / "client-1" / "operations.json")


@pytest.mark.parametrize(
    "entry",
    [
        {"Input": {"Type": "range", "Range": {}}},
        {"Input": {"Type": "txn", "Txn": {"OperationsOnSuccess": [{"Type": "x"}]}}},
        {"Input": {"Type": "range"}, "Call": "now"},
        {"Output": None},
        {"Output": {"Range": {"KVs": [{"Key": 1}]}}},
    ],
)
def test_what_etcds_tests_do_not_write_is_refused_with_its_line(
    tmp_path: Path, entry: Any
) -> None:
    whole = {**json.loads(line(get("x"), {"Range": kvs()}, 30, 40)), **entry}
    with pytest.raises(HistoryError, match=r"operations\.json:2: .*is no operation as"):
        read(tmp_path, PUT, json.dumps(whole))


def simulated(seed: int, count: int) -> list[str]:
    """Requests that overlap, of a store that does each at a moment of its own."""
    rng = random.Random(seed)
    store: dict[str, str] = {}
    lines = []
    now = 0
    for number in range(count):
        now += rng.randrange(2, 10)
        call, returned = now - rng.randrange(1, 15), now + rng.randrange(1, 15)
        keys = rng.sample("xyz", 2)
        unknown = rng.random() < 0.1
        match rng.choice(["get", "list", "put", "delete", "both", "cas"]):
            case "get":
                found = {k: v for k, v in store.items() if k == keys[0]}
                asked, answer = get(keys[0]), {"Range": kvs(**found), "Revision": 2}
            case "list":
                asked, answer = get("x", "~"), {"Range": kvs(**store), "Revision": 2}
            case "put":
                store[keys[0]] = str(number)
                asked = txn(operation("put", keys[0], str(number)))
                answer = did(None)
            case "delete":
                store.pop(keys[0], None)
                asked, answer = txn(operation("delete", keys[0])), did(None)
            case "both":
                found = {k: v for k, v in store.items() if k == keys[0]}
                store[keys[1]] = str(number)
                put = operation("put", keys[1], str(number))
                asked = txn(operation("range", keys[0]), put)
                answer = did(kvs(**found), None)
            case _:
                fails = rng.random() < 0.5
                found = {k: v for k, v in store.items() if k == keys[0]}
                put = operation("put", keys[0], str(number))
                asked = txn(
                    put,
                    otherwise=[operation("range", keys[0])],
                    when=[{"Key": keys[0], "ExpectedRevision": number}],
                )
                if not fails:
                    store[keys[0]] = str(number)
                answer = did(kvs(**found) if fails else None, failure=fails)
        lines.append(
            line(asked, {"Error": "timeout"} if unknown else answer, call, returned)
        )
    return lines


@given(st.integers(0, 10**9))
def test_a_store_that_does_all_at_moments_is_linearizable_and_survives_conversion(
    seed: int,
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        history = read(folder, *simulated(seed, 25))
        paths = [folder / "operations.json"]
        for form in ("jsonl", "edn"):
            paths.append(folder / f"converted.{form}")
            dump(history, paths[-1], form)
            assert told(load(paths[-1])) == told(history)
        if not any(op.type == "ok" and op.f == "read" for op in history):
            return
        for result in check_files(paths, "linearizable", {"model": "register"}):
            assert result.verdict is Verdict.VALID, result


@given(st.integers(0, 10**9))
def test_a_store_that_shows_a_value_of_nobodys_is_convicted(seed: int) -> None:
    with TemporaryDirectory() as name:
        wrong = line(get("x"), {"Range": kvs(x="never"), "Revision": 2}, 5, 6000)
        read(Path(name), *simulated(seed, 8), wrong)
        path = Path(name) / "operations.json"
        (result,) = check_files([path], "linearizable", {"model": "register"})
        assert result.verdict is Verdict.INVALID
