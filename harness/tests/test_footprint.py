"""What a node leaves on the disk is measured, whatever it does to be missed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.worlds.os.footprint import ENTRY_BYTES_MIN, measure

if TYPE_CHECKING:
    from pathlib import Path

MB = 10**6


def test_files_at_any_depth_count_by_what_they_take_up(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").write_bytes(b"x" * MB)
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert not measure(str(tmp_path), [], 2 * MB).excess
    told = measure(str(tmp_path), [], MB // 2).excess
    assert told == "its data takes up more than 0 MB"


def test_a_file_of_many_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * MB)
    for number in range(5):
        os.link(tmp_path / "file", tmp_path / str(number))
    assert not measure(str(tmp_path), [], 2 * MB).excess


def test_an_unlinked_file_counts_while_somebody_holds_it(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"x" * MB)
        file.flush()
        (tmp_path / "file").unlink()
        twin = os.dup(file.fileno())
        assert measure(str(tmp_path), [os.getpid()], MB // 2).excess
        assert not measure(str(tmp_path), [os.getpid()], 2 * MB).excess, (
            "once, not by holder"
        )
        assert not measure(str(tmp_path), [], MB // 2).excess
        os.close(twin)


def test_empty_files_and_links_count_too(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}").touch()
        (tmp_path / f"link-{number}").symlink_to("nowhere")
    assert measure(str(tmp_path), [], 199 * ENTRY_BYTES_MIN).excess
    assert not measure(str(tmp_path), [], 200 * ENTRY_BYTES_MIN).excess


def test_folders_too_deep_for_a_path_are_an_excess(tmp_path: Path) -> None:
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        told = measure(str(tmp_path), [], 1000 * MB).excess
        assert told == "its data folder is nested too deeply to be measured"
        for _ in range(3000):  # rmtree can't
            os.chdir("..")
            os.rmdir("d")
    finally:
        os.fchdir(before)
        os.close(before)


def test_a_folder_that_is_gone_is_no_excess(tmp_path: Path) -> None:
    assert not measure(str(tmp_path / "gone"), [os.getpid(), 2**30], 1).excess
