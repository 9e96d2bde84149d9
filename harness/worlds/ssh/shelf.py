"""The folder on a host: our code, uploads, folders of runs, and ledgers.

code/HASH/          our code, once for each version
store/HASH/NAME     what was uploaded for nodes, by its content
runs/RUN/nodes/n1/  data, log and the rest of a node, while its run lasts
ledgers/RUN.jsonl   what a run began and has not undone
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shelf:
    """The folder at `root`."""

    root: Path

    @classmethod
    def at(cls, text: str) -> Shelf:
        """The shelf at a path that may begin with `~`."""
        return cls(Path(os.path.expanduser(text)).absolute())

    def run(self, run: str) -> Path:
        """The folder of a run."""
        return self.root / "runs" / run

    def node(self, run: str, node: str) -> Path:
        """The folder of a node in a run."""
        return self.run(run) / "nodes" / node

    def stored(self, digest: str) -> Path:
        """The folder of what was uploaded with this content."""
        return self.root / "store" / digest

    @property
    def ledgers(self) -> Path:
        """The folder of ledgers."""
        return self.root / "ledgers"

    def remove_run(self, run: str) -> None:
        """Remove a run's folder and its unfinished uploads, as far as that goes."""
        for path in (self.run(run), *(self.root / "store").glob(f"*.{run}")):
            shutil.rmtree(path, ignore_errors=True)
