"""What a hostile node leaves in the places of its files neither blocks nor fools us."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.history import HistoryError, observations
from harness.host import nodefiles
from harness.run.store import RunFolder, Salvage
from harness.worlds.events import Logged, Observed
from harness.worlds.os import keeper
from harness.worlds.os import watch as watches
from harness.worlds.os.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENT = b'{"seq":0,"mono_ns":5,"wall_ns":1,"node":"n1","kind":"voted","term":1}\n'


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def another(path: Path) -> None:
    path.with_name("secret").write_bytes(EVENT * 3)
    path.symlink_to("secret")


def folder(path: Path) -> None:
    (path / "deeper").mkdir(parents=True)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def terabyte(path: Path) -> None:
    """Zeros that take up no space."""
    path.touch()
    os.truncate(path, 1 << 40)


PRANKS = [pipe, endless, another, folder, loop]


def place(run: Path, name: str, prank: Callable[[Path], None]) -> Path:
    path = run / "nodes" / "n1" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    prank(path)
    return path


@pytest.mark.parametrize("prank", [*PRANKS, terabyte])
@pytest.mark.parametrize("name", ["observe.jsonl", "on_disk.jsonl"])
def test_what_stands_in_the_place_of_observations_is_refused_and_not_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    prank: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(nodefiles, "FILE_BYTES_MAX", 64 << 20)
    path = place(tmp_path, name, prank)
    with pytest.raises(HistoryError) as caught:
        observations.load(tmp_path, ["n1"])
    assert str(caught.value).startswith(f"{path}: ")
    assert RunFolder(tmp_path).read_lines(f"nodes/n1/{name}") == []


def total(watch: Watch, kind: str, node: str | None = None) -> int:
    return sum(watch.sightings(Observed(kind, node)).values())


@pytest.mark.parametrize("prank", [*PRANKS, terabyte])
def test_a_watch_goes_on_whatever_stands_in_the_place_of_its_file(
    tmp_path: Path, prank: Callable[[Path], None]
) -> None:
    place(tmp_path, "observe.jsonl", prank)
    other = tmp_path / "nodes" / "n2"
    other.mkdir()
    (other / "observe.jsonl").write_bytes(EVENT)
    watch = Watch(["n1", "n2", "absent"], tmp_path)
    assert total(watch, "voted") == 1
    assert total(watch, "voted", "n1") == 0
    descriptors = os.listdir("/proc/self/fd")
    for _ in range(20):
        watch._read_all()
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


@pytest.mark.parametrize("prank", [*PRANKS, terabyte])
def test_a_log_that_is_none_is_told_and_nothing_of_it(
    tmp_path: Path, prank: Callable[[Path], None]
) -> None:
    place(tmp_path, "log", prank)
    tail = RunFolder(tmp_path).tail_of_log("n1")
    assert tail.strip("\0") == ""
    left = Salvage(tmp_path)
    tails = left.logs()
    assert all(not t.text.strip("\0") for t in tails)
    assert tails or left.problems[0].startswith("nodes/n1/log: ")


@pytest.mark.parametrize("prank", PRANKS)
def test_what_nodes_left_on_disk_is_told_by_us_alone(
    tmp_path: Path, prank: Callable[[Path], None]
) -> None:
    path = place(tmp_path, "on_disk.jsonl", prank)
    lines = RunFolder(tmp_path).lines_anew("nodes/n1/on_disk.jsonl")
    lines.append({"kind": "on_disk"})
    lines.close()
    assert path.read_bytes() == b'{"kind":"on_disk"}\n'
    assert not path.is_symlink()
    secret = path.with_name("secret")
    assert not secret.exists() or secret.read_bytes() == EVENT * 3


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, 0.5, "\x00", "\u2028"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "kind", "seq"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.sampled_from([*observations.OWN_FIELDS, "term", "entries"]), JSON
)
LINES = st.one_of(
    st.just(EVENT),
    st.binary(max_size=40),
    FIELDS.map(msgspec.json.encode),
    FIELDS.map(lambda fields: msgspec.json.encode({**fields, "kind": "voted"})),
    st.sampled_from(
        [
            *(
                b"[" * 5_000,
                b'{"kind":' * 3_000,
                b'{"kind":"\\ud800"}',
                b"\xef\xbb\xbf",
            ),
            *(b'{"kind":NaN}', b'{"kind":"\xff"}', b'{"kind":"a","seq":1e999}'),
            *(b'{"kind":"voted","kind":"voted"}', b'{"kind":"a\x85b"}', b"\r", b"\0"),
            b'{"kind":"voted","deep":' + b"[" * 900 + b"]" * 900 + b"}",
        ]
    ),
)


@example([b'{"kind":"\\ud800"}\n'], 9)
@example([b"[" * 5_000 + b"\n", EVENT], 9)
@given(
    st.lists(
        st.tuples(LINES, st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b""])).map(
            b"".join
        ),
        max_size=6,
    ),
    st.integers(1, 400),
)
def test_any_bytes_are_events_or_passed_over_however_they_come(
    scratch: Path, parts: list[bytes], piece_bytes: int
) -> None:
    """A watch counts what the observations have; and those can be kept and told."""
    path = scratch / "nodes" / "n1" / "observe.jsonl"
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(parts)
    watch = Watch(["n1"], scratch)
    for begin in range(0, len(data), piece_bytes):
        with path.open("ab") as file:
            file.write(data[begin : begin + piece_bytes])
        if begin < 20 * piece_bytes:
            watch._read_all()
    watch._read_all()
    history = observations.load(scratch, ["n1"])
    for op in history:
        assert -(2**63) <= op.time < 2**63
        assert msgspec.json.encode(op, enc_hook=str)  # a Bystander is one
        op.f.encode()
    whole = [op for op in history if op.f == "voted"]
    torn = data.rpartition(b"\n")[2]
    missing = len(whole) - total(watch, "voted", "n1")
    assert missing == 0 or (torn and missing == 1)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nodefiles")


def test_a_watch_reads_little_at_a_time_and_passes_over_a_line_without_end(
    tmp_path: Path,
) -> None:
    (tmp_path / "nodes" / "n1").mkdir(parents=True)
    path = tmp_path / "nodes" / "n1" / "observe.jsonl"
    path.write_bytes(b"x" * (5 << 20) + b"\n" + EVENT)
    watch = Watch(["n1"], tmp_path)
    for _ in range(20):
        before = watch._events["n1"].read_to
        watch._read_all()
        assert watch._events["n1"].read_to - before <= watches.LINE_BYTES_MAX
        if total(watch, "voted", "n1"):
            break
    assert total(watch, "voted", "n1") == 1


def test_a_watch_remembers_no_more_kinds_than_protocols_have(tmp_path: Path) -> None:
    (tmp_path / "nodes" / "n1").mkdir(parents=True)
    lines = b"".join(b'{"kind":"%d"}\n' % n for n in range(watches.KINDS_MAX * 2))
    (tmp_path / "nodes" / "n1" / "observe.jsonl").write_bytes(lines)
    watch = Watch(["n1"], tmp_path)
    watch._read_all()
    assert len(watch._seen["n1"]) == watches.KINDS_MAX
    assert total(watch, "7") == 1


@pytest.mark.parametrize("prank", [*PRANKS, terabyte])
def test_a_watch_of_logs_goes_on_whatever_stands_in_the_place_of_one(
    tmp_path: Path, prank: Callable[[Path], None]
) -> None:
    place(tmp_path, "log", prank)
    other = tmp_path / "nodes" / "n2"
    other.mkdir()
    (other / "log").write_bytes(b"\xff\0 n2 leads, term 7\nn2 lea")
    watch, leads = (
        Watch(["n1", "n2", "absent"], tmp_path),
        Logged("leads, term ([0-9]+)"),
    )
    watch.follow([leads])
    assert watch.sightings(leads) == {("n1",): 0, ("n2",): 1, ("absent",): 0}
    found = watch.last_logged(leads)
    assert found is not None
    assert (found.node, found.said) == ("n2", "7")


def test_a_log_that_has_lost_its_middle_is_read_on_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "nodes" / "n1").mkdir(parents=True)
    path = tmp_path / "nodes" / "n1" / "log"
    path.write_bytes(b"leads\n" * 1000)
    watch, leads = Watch(["n1"], tmp_path), Logged("leads", "n1")
    watch.follow([leads])
    watch._read_all()
    keeper.cut_back(path, 4096)
    watch._read_all()
    with path.open("ab") as log:
        log.write(b"leads\nleads\n")
    watch._read_all()
    assert watch.sightings(leads) == {("n1",): 1002}


def test_the_log_that_was_written_last_names_the_leader(tmp_path: Path) -> None:
    leads = Logged("leads")
    watch = Watch(["n1", "n2"], tmp_path)
    watch.follow([leads])
    for node, at_ns in (("n1", 2_000_000_000), ("n2", 1_000_000_000)):
        (tmp_path / "nodes" / node).mkdir(parents=True)
        path = tmp_path / "nodes" / node / "log"
        path.write_bytes(b"leads\n")
        os.utime(path, ns=(at_ns, at_ns))
    found = watch.last_logged(leads)
    assert found is not None
    assert found.node == "n1"


def one_by_one(data: bytes) -> list[dict[str, Any]]:
    """The objects of the lines that hold one, and nothing else."""
    found = []
    for line in data.split(b"\n"):
        try:
            found.append(msgspec.json.decode(line, type=dict[str, Any]))
        except (ValueError, RecursionError):
            continue
    return found


PARTS = [b'{"a":1}', b'{"a":', b"{", b"}", b"[", b"]", b"{}", b"1", b'"\\n"', b","]
BREAKS = [b"\n", b"}\n{", b"\r\n", b" ", b"\x85", b"\xff"]


@given(st.lists(st.sampled_from(PARTS + BREAKS)).map(b"".join))
@example(b'{"a":\n{}}\n{}{}\n')
@example(b"{}\n[{}\n{}]\n{}{}\n")
@example(b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"\n")
def test_lines_read_at_once_are_those_read_one_by_one(data: bytes) -> None:
    found = nodefiles.at_once(data)
    assert found is None or found == one_by_one(data)


def test_lines_that_hold_an_object_each_are_read_at_once() -> None:
    assert nodefiles.at_once(EVENT * 3) == one_by_one(EVENT) * 3
    assert nodefiles.at_once(EVENT + b"{") is None
