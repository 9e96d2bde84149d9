"""A test for a user's own suite: runs a shrunk experiment, and wants it valid.

It stands on its own: pytest and splitbrain in the same environment are all it needs,
and the plan is in its text.
"""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from harness.campaign.experiment import steps_of
from harness.faults import plan as plans
from harness.host import program

if TYPE_CHECKING:
    from harness.campaign.experiment import Experiment
    from harness.report.rates import Rate

LUCK = 0.05
"""Chance at which the failure may stay unseen though it is there."""
RUNS_MAX = 30

PLACE = "PLAN_FILE"

TEMPLATE = '''\
"""{title}

Made by `splitbrain shrink`. {times}
{sentence}
"""

import subprocess
import sys
from pathlib import Path

import pytest

RUNS = {runs}

COMMAND = [
{words}
]

PLAN = """\\
{plan}"""


@pytest.mark.parametrize("attempt", range(RUNS))
def {name}(tmp_path: Path, attempt: int) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    program = [sys.executable, "-m", "harness"]
    words = [str(plan) if word == "{place}" else word for word in COMMAND]
    done = subprocess.run(
        [*program, *words, "--results", str(tmp_path / "results")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 2:
        pytest.skip(f"nothing could be judged:\\n{{done.stdout}}{{done.stderr}}")
    assert done.returncode == 0, f"{{done.stdout}}{{done.stderr}}"
'''


def function_name(best: Experiment, anomaly: str) -> str:
    """The name of the test, and of its module: test_raft_register_stale_read."""
    system = best.spec.system.partition(":")[0]
    text = f"test {system} {best.spec.workload} {anomaly}"
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def source(best: Experiment, rate: Rate, sentence: str, anomaly: str) -> str:
    """The test's text.

    Args:
        best: The experiment.
        rate: How often it failed with real processes; in the simulator it always does.
        sentence: What is wrong if it fails.
        anomaly: The anomaly's name.
    """
    spec = best.spec
    plain = msgspec.structs.replace(spec, expect=None)
    asked = replace(best, spec=plain, plan_file="")
    words = [*asked.command()[len(program.words()) :], "--plan", PLACE]
    runs, times = 1, "In the simulator one run tells."
    if spec.world == "os":
        runs = runs_needed(rate)
        times = (
            f"It failed in {rate.hits} of {rate.runs} runs, so it is run {runs} times."
        )
    system = spec.system.partition(":")[0]
    return TEMPLATE.format(
        title=f"{system} under {spec.workload}: no {anomaly}.",
        times=times,
        sentence=_for_docstring(sentence),
        runs=runs,
        words="\n".join(f"    {word!r}," for word in words),
        plan=plans.dump(steps_of(best)).replace("\\", "\\\\").replace('"""', '\\"""'),
        name=function_name(best, anomaly),
        place=PLACE,
    )


def runs_needed(rate: Rate) -> int:
    """How often to run what fails at that rate, so that it hardly stays unseen."""
    least = max(rate.lower(), LUCK)
    if least >= 1.0:
        return 1
    return min(RUNS_MAX, max(1, math.ceil(math.log(LUCK) / math.log(1 - least))))


def _for_docstring(sentence: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in sentence)
    lines = textwrap.wrap(plain.replace("\\", "\\\\").replace('"', "'"), 88)
    return "\n".join(lines)
