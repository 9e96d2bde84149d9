"""Scenes with the executor of this machine, in a process that has one thread.

    python -m harness.tests.executor_scenes SCRATCH

Prints what came of each scene, as JSON by name. Workers are forked here, as they are
from the command line; within pytest, which has threads, they would be spawned.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.campaign import processes
from harness.campaign.executor import pursue
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.campaign.processes import Processes
from harness.errors import HarnessError, UsageError
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.campaign.executor import Pursuit


def act(scratch: Path, experiment: Experiment) -> Outcome:
    """Does what the experiment's name says."""
    outcome = Outcome(
        experiment=experiment, verdict="valid", figures={"pid": os.getpid()}
    )
    match experiment.spec.name.split():
        case [name, "after", other]:
            while not (scratch / other).exists():
                time.sleep(0.01)
            time.sleep(0.2)
            (scratch / name).touch()
        case ["die", "once"] if (scratch / "died").exists():
            pass
        case ["die", *_]:
            (scratch / "died").touch()
            os.write(2, b"my last words\n")
            os.kill(os.getpid(), signal.SIGKILL)
        case ["leave"]:
            os._exit(7)
        case ["refuse"]:
            raise UsageError("no such thing")
        case ["fail"]:
            raise HarnessError("the disk is full")
        case ["err"]:
            raise ValueError("a bug")
        case ["wait"]:
            try:
                (scratch / "waits").touch()
                time.sleep(60)
            except KeyboardInterrupt:
                return Outcome(
                    experiment=experiment, verdict="unknown", interrupted=True
                )
        case ["wait", "silently"]:
            (scratch / "waits").touch()
            time.sleep(60)
        case _:
            (scratch / experiment.spec.name).touch()
    return outcome


def named(name: str, world: Any = "sim") -> Experiment:
    """An experiment for `act`."""
    return Experiment(TestSpec(system="raft", world=world, name=name))


def told(number: int, outcome: Outcome | None) -> dict[str, Any]:
    """What came of an experiment."""
    if outcome is None:
        return {"number": number, "verdict": None}
    return {
        "number": number,
        "verdict": outcome.verdict,
        "status": outcome.status,
        "errors": list(outcome.errors),
        "died": outcome.died,
        "interrupted": outcome.interrupted,
        "pid": outcome.figures.get("pid"),
    }


def carried_out(
    scratch: Path, *names: str, jobs: int = 1, world: str = "sim", **options: float
) -> list[dict[str, Any]]:
    """What came of experiments of these names, in the order of their answers."""
    carry_out = functools.partial(act, scratch)
    with Processes(carry_out, jobs, limit_s=options.get("limit_s")) as executor:
        for name in names:
            executor.submit(named(name, world))
        return [told(*answer) for answer in executor.as_completed()]


def out_of_time(scratch: Path) -> list[dict[str, Any]]:
    """One is under way and another waits when the time of the executor is over."""
    until_s = time.monotonic() + 0.5
    carry_out = functools.partial(act, scratch)
    with Processes(carry_out, 1, until_s=until_s) as executor:
        executor.submit(named("wait silently"))
        executor.submit(named("go"))
        return [told(*answer) for answer in executor.as_completed()]


def when_there(path: Path, call: Callable[[], None]) -> None:
    """Have the handler of a stop signal call it, once there is such a file."""

    def look(*_: object) -> None:
        if path.exists():
            signal.raise_signal(signal.SIGTERM)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0.05)

    signal.signal(signal.SIGTERM, lambda *_: call())
    signal.signal(signal.SIGALRM, look)
    look()


def cancelled(scratch: Path, name: str) -> list[dict[str, Any]]:
    """One is under way and another waits when all are cancelled; then comes a third."""
    with Processes(functools.partial(act, scratch), 1) as executor:
        executor.submit(named(name))
        executor.submit(named("go"))
        when_there(scratch / "waits", executor.cancel)
        answers = [told(*answer) for answer in executor.as_completed()]
        executor.submit(named("go"))
        return answers + [told(*answer) for answer in executor.as_completed()]


def killed(scratch: Path) -> list[dict[str, Any]]:
    """What is under way is ended by force."""
    with Processes(functools.partial(act, scratch), 2) as executor:
        executor.submit(named("wait"))
        executor.submit(named("wait silently"))
        when_there(scratch / "waits", executor.kill)
        return [told(*answer) for answer in executor.as_completed()]


def pursued(scratch: Path) -> list[Any]:
    """Pursuits of one, two and three experiments, two at a time."""

    def pursuit(length: int) -> Pursuit[list[str]]:
        seen = []
        for turn in range(length):
            outcome = yield named(f"turn {turn}")
            assert outcome is not None
            seen.append(outcome.experiment.spec.name)
        return seen

    with Processes(functools.partial(act, scratch), 2) as executor:
        return list(pursue(executor, map(pursuit, (2, 0, 3, 1)), 2))


SCENES: dict[str, Callable[[Path], list[Any]]] = {
    "order": lambda s: carried_out(
        s, "third after second", "first", "second after first", jobs=3
    ),
    "one after the other": lambda s: carried_out(s, "one", "other"),
    "real": lambda s: carried_out(s, "go", "go", world="os"),
    "die once": lambda s: carried_out(s, "die once", "go"),
    "die": lambda s: carried_out(s, "die", "go"),
    "leave": lambda s: carried_out(s, "leave"),
    "troubles": lambda s: carried_out(s, "refuse", "fail", "err", "go"),
    "overdue": lambda s: carried_out(s, "wait silently", "go", limit_s=0.3),
    "cancel": lambda s: cancelled(s, "wait"),
    "cancel in silence": lambda s: cancelled(s, "wait silently"),
    "kill": killed,
    "out of time": out_of_time,
    "pursue": pursued,
}


def main() -> None:
    """Play all scenes."""
    processes.LOOK_S = 0.1
    scratch = Path(sys.argv[1])
    found: dict[str, list[Any]] = {}
    for name, scene in SCENES.items():
        (scratch / name).mkdir()
        found[name] = scene(scratch / name)
    found["left"] = [child.pid for child in multiprocessing.active_children()]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
