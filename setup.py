"""Puts the commit into wheels and sdists, and the examples into wheels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
NAME = Path("harness", "commit.txt")


def write(folder: str) -> None:
    """Put the commit into a tree that is built; an sdist's file goes on into wheels."""
    told = (HERE / NAME).read_text() if (HERE / NAME).exists() else described()
    if told:
        (Path(folder) / NAME).write_text(told)


def described() -> str:
    """The commit of a checkout; empty for anything else."""
    if not (HERE / ".git").exists():
        return ""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.check_output(words, cwd=HERE, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class BuildPy(build_py):
    """Builds the packages, with the commit unless the tree itself is installed."""

    def run(self) -> None:
        """Build, and put in what stands beside the packages."""
        super().run()
        if not self.editable_mode:
            write(self.build_lib)
            unwanted = shutil.ignore_patterns("__pycache__", "results", ".*")
            target = Path(self.build_lib, "harness", "examples")
            shutil.copytree(
                HERE / "examples", target, dirs_exist_ok=True, ignore=unwanted
            )


class Sdist(sdist):
    """Packs the sources with the commit."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Lay out what is packed, and write the commit."""
        super().make_release_tree(base_dir, files)
        write(base_dir)


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
