"""Packed run folders: smaller, whole at every moment, and read as plain ones."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign import carrying
from harness.campaign.suites import keeping, nights
from harness.campaign.suites.reading import Keep
from harness.campaign.suites.rows import Row
from harness.cli import cli
from harness.errors import UsageError
from harness.host import packing, thinning
from harness.run.store import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run with its report."""
    row = Row(name="r", system="raft", world="sim", ops=200, nemesis=["kill"])
    outcome = carrying.keep(tmp_path_factory.mktemp("results"), row.experiment(1))
    return Path(outcome.folder)


def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, with what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_what_was_packed_is_put_back_to_the_byte(run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    packing.pack(folder)
    assert packing.is_packed(folder)
    assert {path.name for path in folder.iterdir()} <= packing.STAYS
    packing.pack(folder)  # does nothing
    RunFolder.open(folder)
    assert contents(folder) == contents(run)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8
).filter(lambda name: name not in {".", ".."} and name not in packing.STAYS)


@given(
    st.dictionaries(
        st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=40)
    )
)
def test_any_tree_is_put_back(
    tmp_path_factory: pytest.TempPathFactory, files: dict[tuple[str, ...], bytes]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    for parts, data in files.items():
        path = folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError:  # a file where a folder should be
            continue
    before = contents(folder)
    packing.pack(folder)
    packing.unpack(folder)
    assert contents(folder) == before


def test_a_packed_run_is_judged_reported_and_checked_as_a_plain_one(
    run: Path, tmp_path: Path
) -> None:
    folder = copy(run, tmp_path)
    plain = [line for line in said("check", folder).splitlines() if " s" not in line]
    packing.pack(folder)
    again = [line for line in said("check", folder).splitlines() if " s" not in line]
    assert again == plain
    packing.pack(folder)
    assert "valid" in said("report", folder)
    assert (folder / "history.jsonl").exists()


def test_the_verdict_and_the_page_of_a_packed_run_are_those_of_a_plain_one(
    run: Path, tmp_path: Path
) -> None:
    left = []
    for name in ("plain", "packed"):
        folder = copy(run, tmp_path / name)
        if name == "packed":
            packing.pack(folder)
        said("report", folder)
        data = contents(folder)
        left.append(
            [
                timeless(data[file], folder)
                for file in ("verdict.json", "report.html", "history.jsonl")
            ]
        )
    assert left[0] == left[1]


def timeless(data: bytes | None, folder: Path) -> str:
    """A file's text without the folder's place, and how long judging it took."""
    text = (data or b"").decode().replace(str(folder), "")
    took = r'(seconds(?:": |</dt><dd[^>]*>))[\d.]+'
    return re.sub(took, r"\1", text)


def said(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_links_and_pipes_of_a_node_are_not_followed_and_go(
    run: Path, tmp_path: Path
) -> None:
    folder = copy(run, tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    node = folder / "nodes" / "n1"
    (node / "link").symlink_to(secret)
    os.mkfifo(node / "pipe")
    os.link(node / "log", node / "again")
    packing.pack(folder)
    with tarfile.open(folder / packing.BULK) as packed:
        names = packed.getnames()
    assert "nodes/n1/link" not in names
    assert "nodes/n1/pipe" not in names
    packing.unpack(folder)
    assert (node / "again").read_bytes() == (node / "log").read_bytes()
    assert secret.read_text() == "of somebody else"


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from harness.host import packing, thinning
STEPS = {"replace", "fsync", "unlink", "open", "rmdir", "mkdir", "write"}
begun, scratch = Path(sys.argv[1]), Path(sys.argv[2])
ways = {
    "pack": packing.pack,
    "unpack": packing.unpack,
    "thin": lambda folder: thinning.thin(folder, "a test"),
}
def killed(folder, at):
    calls = 0
    def step(frame, event, argument):
        nonlocal calls
        if event == "c_call" and argument.__name__ in STEPS:
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(step)
    ways[sys.argv[3]](folder)
    sys.setprofile(None)
    os._exit(0)
at = 1
while True:
    folder = scratch / f"at-{at}"
    shutil.copytree(begun, folder)
    child = os.fork()
    if not child:
        killed(folder, at)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert status == signal.SIGKILL, status
    at += 1 if at < 12 else 7
"""
"""Leaves a folder for each step at which it was killed; the last one was not."""


def killed(begun: Path, tmp_path: Path, way: str) -> list[Path]:
    """Folders that are left by being killed at one step after the other."""
    scratch = tmp_path / way
    scratch.mkdir()
    words = [sys.executable, "-c", KILLED, str(begun), str(scratch), way]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folders = sorted(scratch.iterdir())
    assert len(folders) > 3
    return folders


@pytest.mark.parametrize("way", ["pack", "unpack"])
def test_nothing_is_lost_wherever_it_is_killed(
    run: Path, tmp_path: Path, way: str
) -> None:
    begun = copy(run, tmp_path)
    if way == "unpack":
        packing.pack(begun)
    whole = contents(run)
    for folder in killed(begun, tmp_path, way):
        packing.unpack(folder)
        left = contents(folder)
        left.pop(f".{packing.BULK}.tmp", None)
        assert left == whole, f"killed at {folder.name}"


def member(name: str, data: bytes = b"", **how: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in how.items():
        setattr(info, field, value)
    return info, data


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside", b"x"),
        member("/outside", b"x"),
        member("nodes/../../outside", b"x"),
        member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard", type=tarfile.LNKTYPE, linkname="verdict.json"),
        member("pipe", type=tarfile.FIFOTYPE),
        member("verdict.json", b"{}"),
    ],
    ids=lambda one: one[0].name,
)
def test_a_packed_file_of_somebody_else_does_no_harm(
    tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with tarfile.open(folder / packing.BULK, "w:gz") as packed:
        packed.addfile(bad[0], io.BytesIO(bad[1]))
    with pytest.raises(UsageError, match=r"bulk\.tar\.gz holds "):
        packing.unpack(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [path.name for path in folder.iterdir()] == [packing.BULK]


def test_nothing_is_unpacked_through_a_link(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "nodes").symlink_to(outside)
    with tarfile.open(folder / packing.BULK, "w:gz") as packed:
        packed.addfile(member("nodes/x")[0], io.BytesIO())
    with pytest.raises(UsageError, match="is a link"):
        packing.unpack(folder)
    assert list(outside.iterdir()) == []


def test_a_torn_packed_file_is_refused_and_stays(run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    packing.pack(folder)
    bulk = folder / packing.BULK
    bulk.write_bytes(bulk.read_bytes()[: bulk.stat().st_size // 2])
    before = contents(folder)
    with pytest.raises(UsageError, match="is damaged"):
        packing.unpack(folder)
    assert contents(folder) == before


@pytest.fixture(scope="module")
def bulk(run: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What is bulky in a run, packed."""
    folder = copy(run, tmp_path_factory.mktemp("bulk"))
    packing.pack(folder)
    return (folder / packing.BULK).read_bytes()


@given(st.data())
def test_a_flipped_bit_never_becomes_another_history(
    bulk: bytes,
    run: Path,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    flipped = bytearray(bulk)
    at = data.draw(st.integers(0, len(bulk) * 8 - 1))
    flipped[at // 8] ^= 1 << at % 8
    folder = tmp_path_factory.mktemp("flipped")
    (folder / packing.BULK).write_bytes(flipped)
    history = folder / "history.jsonl"
    try:
        packing.unpack(folder)
    except UsageError:
        assert not history.exists()
    else:  # a bit of gzip's own header that says nothing
        assert history.read_bytes() == (run / history.name).read_bytes()


def test_more_than_the_disk_has_room_for_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / packing.BULK, "w:gz") as packed:
        packed.addfile(member("nodes/a")[0], io.BytesIO())
        packed.addfile(member("nodes/b", bytes(4 << 20))[0], io.BytesIO(bytes(4 << 20)))
    free = packing.ROOM_BYTES + (2 << 20)
    full = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(UsageError, match="more than the disk has room for"):
        packing.unpack(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [packing.BULK]


def test_a_header_that_goes_on_for_ever_takes_no_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 3 << 30
    with gzip.open(tmp_path / packing.BULK, "wb") as packed:
        packed.write(header.tobuf())
    with pytest.raises(UsageError, match="a header is 3,221,225,472 bytes long"):
        packing.unpack(tmp_path)


def test_who_reads_while_another_unpacks_waits_for_it(
    run: Path, tmp_path: Path
) -> None:
    folder = copy(run, tmp_path)
    packing.pack(folder)
    whole = contents(run)
    reads = (
        "import sys; from pathlib import Path; from harness.host import packing; "
        "folder = Path(sys.argv[1]); packing.unpack(folder); "
        "sys.stdout.buffer.write((folder / 'history.jsonl').read_bytes())"
    )
    words = [sys.executable, "-c", reads, str(folder)]
    with contextlib.ExitStack() as stack:
        readers = [
            stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE))
            for _ in range(4)
        ]
        said = [reader.communicate()[0] for reader in readers]
    assert said == [whole["history.jsonl"]] * 4
    assert contents(folder) == whole


# folders that are thinned


def test_a_thinned_run_keeps_its_verdict_and_is_not_judged_again(
    run: Path, tmp_path: Path
) -> None:
    folder = copy(run, tmp_path)
    would = thinning.would_free_bytes(folder)
    assert thinning.thin(folder, "a test") == would > 0
    assert thinning.thin(folder, "another") == thinning.would_free_bytes(folder) == 0
    left = contents(folder)
    assert left.keys() <= packing.STAYS
    for words in (("report",), ("check",), ("replay",), ("explain",), ("shrink",)):
        with pytest.raises(UsageError, match=r"was thinned on \d{4}-.* by a test: "):
            said(*words, folder)
    assert contents(folder) == left


def test_a_packed_run_is_thinned(run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    packing.pack(folder)
    thinning.thin(folder, "a test")
    assert not packing.is_packed(folder)
    assert (folder / "verdict.json").read_bytes() == contents(run)["verdict.json"]


def test_a_thinning_that_is_cut_off_is_told_of_and_goes_on(
    run: Path, tmp_path: Path
) -> None:
    whole = contents(run)
    for folder in killed(copy(run, tmp_path), tmp_path, "thin"):
        if contents(folder) != whole:
            with pytest.raises(UsageError, match="only verdict and report are left"):
                RunFolder.open(folder)
        thinning.thin(folder, "a second")
        assert {path.name for path in folder.iterdir()} <= packing.STAYS | {
            f".{thinning.NOTE}.tmp"
        }
        assert thinning.told(folder).startswith("was thinned on ")


# what a suite keeps


def a_night(results: Path, stamp: str, *runs: tuple[str, bool]) -> list[Path]:
    """A night of the suite `s` with runs of the row `r`; their folders."""
    folder = results / "suites" / f"2026120{stamp}T000000.000Z-s"
    folder.mkdir(parents=True)
    paths = [results / "raft-register" / name for name, _ in runs]
    for path in paths:
        (path / "nodes").mkdir(parents=True)
        for name in ("test.yaml", "verdict.json", "report.html", "history.jsonl"):
            (path / name).write_text("x" * 100)
    seeds = [
        {"seed": n, "run": str(path), "as_expected": good}
        for n, (path, (_, good)) in enumerate(zip(paths, runs, strict=True))
    ]
    told = {"rows": [{"name": "r", "seeds": seeds}]}
    (folder / nights.FILE).write_text(json.dumps(told))
    return paths


def test_failures_are_kept_and_of_other_runs_the_newest(tmp_path: Path) -> None:
    a, b = a_night(tmp_path, "1", ("a", True), ("b", False))
    c, d = a_night(tmp_path, "2", ("c", True), ("d", True))
    pruned = keeping.prune(tmp_path, "s", Keep(valid_runs=1))
    assert (pruned.thinned, pruned.removed, pruned.freed_bytes) == (2, 0, 200)
    assert {path.name for path in a.iterdir()} == {
        "test.yaml",
        "verdict.json",
        "report.html",
        "thinned.json",
    }
    note = json.loads((a / "thinned.json").read_text())
    assert note["why"] == "keep.valid_runs of the suite s"
    assert note["gone"] == ["history.jsonl", "nodes"]
    assert contents(c).keys() == contents(a).keys()
    assert (b / "history.jsonl").exists()
    assert (d / "history.jsonl").exists()
    pruned = keeping.prune(tmp_path, "s", Keep(nights=1))
    assert (pruned.removed, a.exists(), b.exists(), c.exists()) == (
        1,
        False,
        True,
        True,
    )
    assert keeping.prune(tmp_path, "s", Keep()).told == ""


def test_nothing_outside_of_the_results_is_touched(tmp_path: Path) -> None:
    results, other = tmp_path / "results", tmp_path / "other"
    (run,) = a_night(other, "1", ("a", True))
    night = next((other / "suites").iterdir())
    shutil.copytree(night, results / "suites" / night.name)
    assert not keeping.prune(results, "s", Keep(nights=0, valid_runs=0)).told
    assert (run / "history.jsonl").exists()


def test_a_suite_packs_what_is_as_expected_and_leaves_failures_plain(
    tmp_path: Path,
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "- {name: good, system: raft, world: sim, ops: 50}\n"
        "- {name: bad, system: raft, world: sim, ops: 50, expect: invalid}\n"
    )
    done = CliRunner().invoke(
        cli, ["suite", str(file), "--results", str(tmp_path)], standalone_mode=False
    )
    assert done.return_value == 1
    night = nights.former(tmp_path, "s")[0]
    good, bad = (Path(str(night.rows[name]["run"])) for name in ("good", "bad"))
    assert packing.is_packed(good)
    assert not packing.is_packed(bad)
    assert (bad / "history.jsonl").exists()
