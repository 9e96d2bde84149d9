"""The failures of a test suite: experiments that failed, kept to be replayed first.

A folder for each test holds a JSON file for each failure:

    .splitbrain/test_register.py-test_reads-1f2e3d4c5b6a7988/0123456789abcdef.json

Names of tests that are too long are cut; the digest tells them apart. A database writes
one such folder of folders and may read others, such as the artefact of a CI job.

Choices: what is read may come from anybody, so nothing in it can name a program. What
is replayed is the test's own request; only the seed, the plan, sizes and limits are
taken from the file, and of options the workload's numbers, and which of the test's own
are left. So a failure survives a move to another machine, too, where paths differ.

A failure is forgotten when it no longer happens. In the simulator that takes one
replay. Real processes may pass by luck: a failure that comes back half of the time
passes five times in a row once in 32 tries.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from harness.campaign.experiment import Experiment
from harness.errors import UsageError
from harness.host import program
from harness.host.documents import writing
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.run.spec import TestSpec

VERSION: Literal[1] = 1
"""The version of the files."""

PASSES_ENOUGH = {"os": 5, "sim": 1}
"""World -> after how many replays in a row that don't fail a failure is forgotten."""

FAILURES_MAX = 4
"""The failures kept for one test, as each costs a run."""

BYTES_MAX = 1 << 20
"""Larger files are passed over; a plan of a thousand steps takes a fifth of this."""

TIME_LIMIT_S_MAX = 3600.0
"""Longer runs are not replayed."""

NAME_CHARS_MAX = 80
SHRUNK = ("seed", "nodes", "concurrency", "rate", "op_timeout_s", "time_limit_s", "ops")
"""The numbers of a spec that are taken from a failure."""

_UNFIT = re.compile(r"[^A-Za-z0-9._]+")


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An experiment that failed, as its file tells it.

    Attributes:
        test: The test, for people; the folder's name is what tells tests apart.
        found_utc: When it failed last.
        anomalies: Names of the anomalies found then.
        passes: How often it was replayed since, and did not fail.
    """

    version: Literal[1] = VERSION
    test: str
    found_utc: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    anomalies: list[str]
    passes: Annotated[int, msgspec.Meta(ge=0)] = 0
    experiment: Experiment


@dataclass(frozen=True)
class Kept:
    """A failure to replay.

    Attributes:
        experiment: The request of the test, with what the file says.
        is_ours: Whether its file may be written.
    """

    file: Path
    failure: Failure
    experiment: Experiment
    is_ours: bool

    @property
    def told(self) -> str:
        """What it is, for people: anomalies, day, file."""
        names = ", ".join(map(visible_line, self.failure.anomalies)) or "a failure"
        return (
            f"{names} of {self.failure.found_utc:%Y-%m-%d} ({program.near(self.file)})"
        )


class Database:
    """The failures of a test suite.

    Args:
        folder: Failures are kept and looked up here. It is made with the first one.
        others: More folders of this form, which are only read.
    """

    def __init__(self, folder: Path, others: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._others = others

    def load(self, test: str, asked: Experiment) -> tuple[list[Kept], list[str]]:
        """The failures to replay, the latest first; and which files were passed over.

        The files' sentences say why. Each experiment comes once, ours before others.
        """
        found: dict[bytes, Kept] = {}
        remarks = []
        for folder in (self._folder, *self._others):
            for file in _files(folder / key(test, asked)):
                try:
                    failure = read(file)
                    again = replay_of(failure, asked)
                except UsageError as problem:
                    remarks.append(f"passed over {program.near(file)}: {problem}")
                    continue
                kept = Kept(file, failure, again, folder == self._folder)
                found.setdefault(again.encode(), kept)
        kept_all = list(found.values())[: 2 * FAILURES_MAX]
        latest = sorted(kept_all, key=lambda one: one.failure.found_utc, reverse=True)
        return latest, remarks

    def keep(
        self, test: str, asked: Experiment, failed: Experiment, anomalies: Sequence[str]
    ) -> Path:
        """Keep a failure, which starts again from no passes; returns its file.

        Beyond `FAILURES_MAX` those go that have passed most often, then the oldest.

        Raises:
            HarnessError: The folder can't be written.
        """
        failed = replace(failed, plan_file="")
        folder = self._folder / key(test, asked)
        name = hashlib.sha256(failed.encode()).hexdigest()[:16]
        now = datetime.datetime.now(datetime.UTC)
        failure = Failure(
            test=test, found_utc=now, anomalies=list(anomalies), experiment=failed
        )
        file = folder / f"{name}.json"
        with writing(file):
            if not self._folder.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / ".gitignore").write_text("*\n")
            folder.mkdir(exist_ok=True)
            write(file, failure)
        self._forget_beyond(folder)
        return file

    def remove(self, file: Path) -> None:
        """Forget a failure of ours.

        Raises:
            HarnessError: Its file can't be removed.
        """
        with writing(file):
            file.unlink(missing_ok=True)

    def failed_again(
        self, test: str, asked: Experiment, kept: Kept, anomalies: Sequence[str]
    ) -> Path:
        """Note that a replay failed; returns its file, which is one of ours from now.

        Raises:
            HarnessError: The folder can't be written.
        """
        if not kept.is_ours:
            return self.keep(test, asked, kept.experiment, anomalies)
        now = datetime.datetime.now(datetime.UTC)
        _renew(kept, passes=0, found_utc=now, anomalies=list(anomalies))
        return kept.file

    def passed(self, kept: Kept) -> str:
        """Note that a replay did not fail; returns a sentence that says what follows.

        Raises:
            HarnessError: The folder can't be written.
        """
        passes = kept.failure.passes + 1
        enough = PASSES_ENOUGH[kept.experiment.spec.world]
        if not kept.is_ours:
            return "passed; it is replayed as long as its file is there"
        if passes >= enough:
            self.remove(kept.file)
            times = "" if enough == 1 else f" {passes} times in a row"
            return f"passed{times}, and is forgotten"
        _renew(kept, passes=passes)
        return f"passed, {passes} of the {enough} times after which it is forgotten"

    def _forget_beyond(self, folder: Path) -> None:
        """Remove the failures of a test that are too many."""
        read_ones = []
        for file in _files(folder):
            with contextlib.suppress(UsageError):
                failure = read(file)
                read_ones.append((failure.passes, -failure.found_utc.timestamp(), file))
        for _, _, file in sorted(read_ones)[FAILURES_MAX:]:
            with contextlib.suppress(OSError):
                file.unlink()


def key(test: str, asked: Experiment) -> str:
    """The name of a test's folder.

    It changes with what makes failures of before pointless: system (not its command),
    workload, world, mutant, number of nodes.
    """
    spec = asked.spec
    kind = spec.system.partition(":")[0]
    same = [test, kind, spec.workload, spec.world, spec.mutant, spec.nodes]
    digest = hashlib.sha256(msgspec.json.encode(same)).hexdigest()[:16]
    name = _UNFIT.sub("-", test)[-NAME_CHARS_MAX:].strip("-.")
    return f"{name}-{digest}"


def replay_of(failure: Failure, asked: Experiment) -> Experiment:
    """The test's own request with the seed, plan and sizes of a failure.

    Raises:
        UsageError: The failure asks for more than the test does.
    """
    spec, was = asked.spec, failure.experiment.spec
    if failure.experiment.plan is None:
        raise UsageError("it has no plan")
    if not 0 < was.time_limit_s <= TIME_LIMIT_S_MAX:
        raise UsageError(f"its time limit is {was.time_limit_s:g} s")
    for name in ("nodes", "concurrency"):
        if not 0 < getattr(was, name) <= getattr(spec, name):
            raise UsageError(f"it needs {getattr(was, name)} for {name}")
    own = {name: text for name, text in spec.options.items() if name in was.options}
    # A workload's numbers, such as that of its keys, may have been made smaller.
    own |= {
        name: text
        for name, text in was.options.items()
        if name.startswith(f"{spec.workload}.") and text.isdecimal()
    }
    again: TestSpec = msgspec.structs.replace(
        spec,
        **{name: getattr(was, name) for name in SHRUNK},
        nemesis=was.nemesis,
        profile=was.profile,
        options=own,
    )
    return Experiment(again, failure.experiment.plan)


def read(file: Path) -> Failure:
    """The failure in a file.

    Raises:
        UsageError: It is none, of another version, too large, or can't be read.
    """
    try:
        # A link or a pipe in an artefact must not lead elsewhere, nor hold us up.
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(opened, "rb") as stream:
            data = stream.read(BYTES_MAX + 1)
    except OSError as problem:
        raise UsageError(f"can't be read: {problem.strerror}") from problem
    if len(data) > BYTES_MAX:
        raise UsageError(f"it is larger than {BYTES_MAX:,} bytes")
    try:
        return msgspec.json.decode(data, type=Failure)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise UsageError(f"it is no failure of version {VERSION}: {problem}") from None


def write(file: Path, failure: Failure) -> None:
    """Put a failure in its file, of which readers see the old or the new content."""
    data = msgspec.json.format(msgspec.json.encode(failure), indent=1)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_bytes(data + b"\n")
    part.replace(file)


def _renew(kept: Kept, **fields: object) -> None:
    """Change fields in the file of a failure."""
    with writing(kept.file):
        write(kept.file, msgspec.structs.replace(kept.failure, **fields))


def _files(folder: Path) -> Iterator[Path]:
    """The files of one test, in the order of their names; a folder may be missing."""
    found: Iterable[Path] = ()
    with contextlib.suppress(OSError):
        found = sorted(folder.iterdir())
    yield from (file for file in found if file.suffix == ".json")
