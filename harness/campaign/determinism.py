"""Simulates each seed twice, and compares what the two runs recorded, byte for byte.

A failing seed is worth little if it doesn't repeat. What breaks that is a clock or a
random number that isn't the seed's, or the order of a set of texts, which differs from
process to process. So the runs of a seed are made by two processes that hash texts
differently (PYTHONHASHSEED) and that have made the runs of all seeds before, too:
nothing that a process keeps between runs may show either.

Compared are all files of the run folder: history, faults, clock samples, observations,
the plan, the nodes' logs and run.json. Cost: two simulations, side by side, without
judging.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from harness.campaign.experiment import Experiment  # noqa: TC001 - msgspec reads it
from harness.errors import HarnessError, SplitbrainError
from harness.host import interrupts, syscalls
from harness.host.scratch import scratch_folder
from harness.run import assembling, execution
from harness.run.store import RUN_NAME, RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HASH_SEEDS = ("1", "2")
SHOWN_BYTES = 160


@dataclass(frozen=True)
class Difference:
    """The first difference between two folders.

    Attributes:
        file: The file's path in either folder.
        line: The line's number, from 1; 0 if only one folder has the file.
        texts: What the two have there, cut to where they differ.
    """

    file: str
    line: int
    texts: tuple[str, str]

    def __str__(self) -> str:
        one, other = self.texts
        if not self.line:
            return f"{self.file} is {one} in one, {other} in the other"
        return f"{self.file}, line {self.line}: {one} in one, {other} in the other"


def check(experiment: Experiment, seeds: Iterable[int], results: Path) -> Iterator[int]:
    """Simulate an experiment twice with every seed; gives each seed that repeats.

    Raises:
        UsageError: The run is impossible.
        HarnessError: A seed does not repeat. Says where the first difference is, and
            which folder below `results` has both runs. Or a process died.
    """
    # Prepared here first, to refuse an impossible run in the words of any other.
    assembling.prepare(msgspec.structs.replace(experiment.spec), experiment.plan)
    with (
        scratch_folder("splitbrain-twice-") as scratch,
        contextlib.ExitStack() as stack,
    ):
        simulators = [
            stack.enter_context(Simulator(scratch / number, number))
            for number in HASH_SEEDS
        ]
        for seed in seeds:
            one_run = experiment.with_seed(seed)
            for simulator in simulators:
                simulator.begin(one_run)
            one, other = (simulator.folder_of_run() for simulator in simulators)
            if difference := first_difference(one, other):
                kept = keep(one.parent.parent, results, one_run)
                raise HarnessError(
                    f"seed {seed} does not repeat, so the simulation depends on "
                    f"something beside its seed: {difference}; see {kept}"
                )
            shutil.rmtree(one)
            shutil.rmtree(other)
            yield seed


def first_difference(one: Path, other: Path) -> Difference | None:
    """Where the files of two folders differ first, in the order of their paths."""
    files = [
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    ]
    for name in sorted(files[0] | files[1]):
        there = ["there" if name in each else "missing" for each in files]
        if there[0] != there[1]:
            return Difference(name, 0, (there[0], there[1]))
        contents = [(folder / name).read_bytes() for folder in (one, other)]
        if contents[0] != contents[1]:
            return differing_line(name, contents[0], contents[1])
    return None


def differing_line(name: str, one: bytes, other: bytes) -> Difference:
    """The first line in which two contents differ; they do differ."""
    pairs = itertools.zip_longest(one.split(b"\n"), other.split(b"\n"))
    number, first, second = next(
        (number, *pair) for number, pair in enumerate(pairs, 1) if pair[0] != pair[1]
    )
    same = zip(first or b"", second or b"", strict=False)
    at = sum(1 for _ in itertools.takewhile(lambda each: each[0] == each[1], same))
    begin = max(0, at - SHOWN_BYTES // 2)
    return Difference(name, number, (_shown(first, begin), _shown(second, begin)))


def _shown(line: bytes | None, begin: int) -> str:
    """A part of a line, from byte `begin` on; None stands for no line."""
    if line is None:
        return "nothing"
    cut = line[begin : begin + SHOWN_BYTES].decode(errors="replace")
    more = "..." if begin + SHOWN_BYTES < len(line) else ""
    return f"`{'...' if begin else ''}{cut}{more}`"


def keep(scratch: Path, results: Path, experiment: Experiment) -> Path:
    """Copy both runs of a seed below `results`; an earlier copy of that seed goes."""
    spec = experiment.spec
    name = RUN_NAME.sub("_", spec.folder_name)
    kept = results.absolute() / name / f"differs-{spec.seed}"
    try:
        shutil.rmtree(kept, ignore_errors=True)
        for number in HASH_SEEDS:
            shutil.copytree(scratch / number / str(spec.seed), kept / number)
    except OSError as problem:
        raise HarnessError(f"cannot write to {kept}: {problem.strerror}") from problem
    return kept


class Simulator:
    """A process that simulates experiments one by one; it ends with ours.

    Args:
        folder: Gets a folder for each run, named after its seed.
        hash_seed: How the process hashes texts.
    """

    def __init__(self, folder: Path, hash_seed: str) -> None:
        self._folder = folder
        self._asked: Path | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(os.getpid())],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for us, who end it
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, experiment: Experiment) -> None:
        """Have a run made."""
        assert self._process.stdin is not None
        self._asked = self._folder / str(experiment.spec.seed)
        order = Order(experiment, str(self._asked))
        with contextlib.suppress(BrokenPipeError):  # `folder_of_run` tells
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()

    def folder_of_run(self) -> Path:
        """The folder of the run that was begun, once that is over.

        Raises:
            HarnessError: The run could not be made.
        """
        assert self._process.stdout is not None
        assert self._asked is not None
        answer = self._process.stdout.readline()
        if not answer:
            status = self._process.wait()
            raise HarnessError(f"a process that simulates died with status {status}")
        if failed := msgspec.json.decode(answer, type=str):
            raise HarnessError(failed)
        return self._asked


class Order(msgspec.Struct, frozen=True):
    """What a simulator is asked to do."""

    experiment: Experiment
    folder: str


def simulate(order: Order) -> str:
    """Carry out an order; why that failed, or an empty text."""
    spec, plan = order.experiment.spec, order.experiment.plan
    try:
        parts, schedule, rung = assembling.prepare(spec, plan)
        folder = RunFolder(Path(order.folder))
        folder.path.mkdir(parents=True)
        folder.write_text("plan.yaml", schedule.yaml())
        execution.carry_out(spec, parts, schedule, folder, rung)
    except (SplitbrainError, OSError) as failure:
        return f"seed {spec.seed} could not be simulated: {failure}"
    except Exception:  # a bug of ours or of a plug-in ends this run, not the process
        return f"seed {spec.seed} could not be simulated: {traceback.format_exc()}"
    return ""


def main(parent: int) -> None:
    """Be a simulator: an order a line comes in, an answer a line goes out."""
    syscalls.die_with(parent)
    interrupts.forget()
    answers = os.dup(1)
    os.dup2(2, 1)  # what a system prints is no answer
    for line in sys.stdin.buffer:
        failed = simulate(msgspec.json.decode(line, type=Order))
        os.write(answers, msgspec.json.encode(failed) + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
