"""Foreign nodes with a bug planted: those of examples/, changed in one place.

They observe nothing of themselves and are known by no checker: all that a search can
learn of them is what clients and logs tell.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bench.mutants import OS_RUN_S
from harness.errors import HarnessError
from harness.run.completing import complete
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

FOREIGN = "foreign"
"""What stands in the place of a protocol's name."""
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Bug:
    """A bug in a node of examples/.

    Attributes:
        file: The node's file.
        nemesis: Kinds of fault that expose it.
        flag: An argument that has the node make the mistake; or else
        changes: texts that stand in the file once, each with what it is replaced by.
    """

    file: str
    nemesis: tuple[str, ...]
    flag: str = ""
    changes: tuple[tuple[str, str], ...] = ()


BUGS: Mapping[str, Bug] = {
    "cached-reads": Bug("pytest/node.py", ("partition",), flag="--cached-reads"),
    "journal-not-flushed": Bug(
        "python_register.py",
        ("kill",),
        changes=(
            (
                'b"\\n")\n            self.journal.flush()\n'
                "            os.fsync(self.journal.fileno())\n",
                'b"\\n")\n',
            ),
        ),
    ),
    "unknown-called-failed": Bug(
        "python_register.py",
        ("partition", "pause"),
        changes=(('ErrorReply(0, f"{OWNER} did', 'ErrorReply(11, f"{OWNER} did'),),
    ),
    "retried-after-silence": Bug(
        "python_register.py",
        ("partition", "pause"),
        changes=(
            (
                'raise ErrorReply(0, f"{OWNER} did not answer")',
                "return await self.answer(message)",
            ),
        ),
    ),
}
"""Name -> the bug. Each breaks one of the rules that examples/README.md names."""


def set_up(name: str, scratch: Path) -> TestSpec:
    """The run of a node with that bug; a changed one is written below `scratch`.

    Raises:
        HarnessError: The example is not there, or does not read as it did.
    """
    bug = BUGS[name]
    path = EXAMPLES / bug.file
    words = [sys.executable, str(path)]
    if bug.flag:
        words.append(bug.flag)
    else:
        words[1] = str(broken(bug, path, scratch / f"{name}.py"))
    spec = TestSpec(
        system="launch:" + shlex.join(words),
        workload="register",
        nemesis=list(bug.nemesis),
        time_limit_s=OS_RUN_S,
        until_invalid=True,
    )
    complete(spec)
    return spec


def broken(bug: Bug, path: Path, place: Path) -> Path:
    """A copy of the node in which its bug is planted.

    Raises:
        HarnessError: The example is not there, or does not read as it did.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as absent:
        raise HarnessError(f"examples/{bug.file} is not there: {absent}") from absent
    for before, after in bug.changes:
        if text.count(before) != 1:
            raise HarnessError(f"examples/{bug.file} does not have {before!r:.60} once")
        text = text.replace(before, after)
    place.write_text(text, encoding="utf-8")
    return place
