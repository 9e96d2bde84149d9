"""The nodes of examples/nodes, as commands: built when a test first asks for one."""

from __future__ import annotations

import fcntl
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

NODES = Path(__file__).resolve().parents[2] / "examples" / "nodes"


@dataclass(frozen=True)
class Language:
    """How nodes in a language are built and started.

    Attributes:
        needs: The programs that it takes.
        source: The file of a program; `{}` is the program's name.
        start: The command of a node; `{out}` is where it was built.
        build: The command that builds it, in the folder of the sources; "" if there is
            nothing to build.
        capitalised: Whether files are named `Echo` in place of `echo`.
    """

    needs: tuple[str, ...]
    source: str
    start: str
    build: str = ""
    capitalised: bool = False


LANGUAGES = {
    "python": Language(("python3",), "{}.py", sys.executable + " {source}"),
    "javascript": Language(("node",), "{}.js", "node {source}"),
    "shell": Language(("bash", "jq", "socat"), "{}.sh", "bash {source}"),
    "go": Language(
        ("go",),
        "{}.go",
        "{out}/{name}",
        "go build -o {out}/{name} {name}.go splitbrain_node.go",
    ),
    "rust": Language(
        ("rustc",),
        "{}.rs",
        "{out}/{name}",
        "rustc --edition 2021 -D warnings -o {out}/{name} {source}",
    ),
    "cpp": Language(
        ("g++",),
        "{}.cpp",
        "{out}/{name}",
        "g++ -std=c++17 -Wall -Wextra -Werror -pthread -o {out}/{name} {source}",
    ),
    "java": Language(
        ("javac", "java"),
        "{}.java",
        "java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx64m -cp {out} {name}",
        "javac -Xlint:all -Werror -d {out} {source} SplitbrainNode.java",
        capitalised=True,
    ),
}


def source(language: str, program: str) -> Path:
    """The file of a program, such as "register"."""
    how = LANGUAGES[language]
    name = program.capitalize() if how.capitalised else program
    return NODES / language / how.source.format(name)


def command(language: str, program: str, basetemp: Path) -> str:
    """The command of a node; skips the test where the language isn't installed.

    Args:
        language: A folder of examples/nodes.
        program: "echo", "register", "abd".
        basetemp: A folder of the session; what is built is kept beside it.
    """
    how = LANGUAGES[language]
    missing = [program for program in how.needs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} on PATH")
    file = source(language, program)
    values = {"source": shlex.quote(str(file)), "name": file.stem}
    if how.build:
        # Workers of pytest-xdist have folders side by side.
        out = basetemp.parent / f"nodes-{language}"
        values["out"] = shlex.quote(str(out))
        build_once(how.build.format_map(values), file.parent, out, file.stem)
    return how.start.format_map(values)


def build_once(build: str, cwd: Path, out: Path, name: str) -> None:
    """Run a command unless another test has; tests of other workers wait for it."""
    out.mkdir(exist_ok=True)
    built = out / f".{name}-is-built"
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if built.exists():
            return
        done = subprocess.run(
            shlex.split(build), cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{build}\n{done.stderr}"
        built.touch()
