"""Run folders, brought from a worker's scratch folder to where they belong.

A folder travels as a packed parcel, or is written to a store: a folder or bucket that
fsspec has a URL for. Its files tell how to repeat the run, with the path of the plan,
so paths below the scratch folder are rewritten.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import fsspec
import msgspec

from harness.errors import HarnessError, UsageError
from harness.host import program
from harness.host.documents import making_room
from harness.run.store import point

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.campaign.outcome import Outcome

TELLS_PATHS = ("test.yaml", "verdict.json", "report.html")
"""Files of a run folder that may hold its path."""


class Parcel(msgspec.Struct, frozen=True):
    """A run folder, packed.

    Attributes:
        scratch: The path of the folder that it was made in, in its spellings.
        path: Where it was in there: name/stamp.
        tar: Its files.
    """

    scratch: tuple[str, ...]
    path: str
    tar: bytes


def pack(folder: Path, scratch: Path) -> Parcel:
    """The run folder `folder`, which is below `scratch`.

    Files that are neither plain, nor folders, nor links are left out.
    """
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, ".", filter=_plain)
    path = str(folder.relative_to(scratch))
    return Parcel(spellings(scratch), path, data.getvalue())


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    is_plain = member.isreg() or member.isdir() or member.issym() or member.islnk()
    return member if is_plain else None


def unpack(parcel: Parcel, results: Path) -> Path:
    """Unpack a run folder below `results`; returns its path.

    Raises:
        UsageError: There can be no such folder.
        HarnessError: The disk is full, say.
    """
    results = results.absolute()
    with making_room(f"results to {results}"):
        path = _unused(results / parcel.path)
        path.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(parcel.tar), mode="r:gz") as tar:
            tar.extractall(path, filter=_harmless)  # noqa: S202  # filtered
        readdress(path, parcel.scratch, program.near(results))
        point(results / "latest", path)
    except (OSError, tarfile.TarError) as problem:
        raise HarnessError(f"cannot write {path}: {problem}") from problem
    return path


def _unused(path: Path) -> Path:
    """The path, or one beside it if two machines began runs at the same moment."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _harmless(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """What may be unpacked; links that lead out are left out."""
    try:
        return tarfile.data_filter(member, path)
    except tarfile.FilterError:
        return None


def spellings(scratch: Path) -> tuple[str, ...]:
    """How the path of a scratch folder is written in what was made below it."""
    return str(scratch), program.near(scratch)


def readdress(folder: Path, scratch: Sequence[str], home: str) -> None:
    """Rewrite the paths in a run folder that was made below a scratch folder."""
    for name in TELLS_PATHS:
        file = folder / name
        if file.is_file():
            text = file.read_bytes()
            for written in scratch:
                text = text.replace(written.encode(), home.encode())
            file.write_bytes(text)


def told_at_home(
    outcome: Outcome, scratch: Sequence[str], home: str, folder: str
) -> Outcome:
    """The outcome of a run that was made below a scratch folder.

    Args:
        outcome: As it was told there.
        scratch: The path of the scratch folder, in its spellings.
        home: The folder in its place.
        folder: The run folder there.
    """
    plan_file, repro = outcome.experiment.plan_file, outcome.repro
    for written in scratch:
        plan_file = plan_file.replace(written, home)
        repro = repro.replace(written, home)
    experiment = replace(outcome.experiment, plan_file=plan_file)
    return msgspec.structs.replace(
        outcome, experiment=experiment, repro=repro, folder=folder
    )


# Stores.


def store(folder: Path, url: str) -> None:
    """Write all that is in `folder` to a place in a store.

    Raises:
        HarnessError: It can't be written there.
    """
    try:
        system, path = fsspec.core.url_to_fs(url)
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink():
                below = f"{path}/{file.relative_to(folder)}"
                system.makedirs(below.rpartition("/")[0], exist_ok=True)
                system.put_file(str(file), below)
    except Exception as problem:  # each store has errors of its own
        raise HarnessError(f"cannot write to {url}: {problem}") from problem


def fetch(url: str, folder: Path) -> None:
    """Copy a place of a store to `folder`.

    Raises:
        HarnessError: It can't be read.
    """
    try:
        system, path = fsspec.core.url_to_fs(url)
        system.get(f"{path}/", f"{folder}/", recursive=True)
    except Exception as problem:  # each store has errors of its own
        raise HarnessError(f"cannot read {url}: {problem}") from problem


def refuse_store(url: str) -> None:
    """See that there is such a store, and that it can be written to.

    Raises:
        UsageError: There is not, or fsspec is missing.
    """
    try:
        system, path = fsspec.core.url_to_fs(url)
        system.makedirs(path, exist_ok=True)
    except Exception as problem:  # each store has errors of its own
        raise UsageError(f"--results {url}: {problem}") from None
