"""How Raft's scenarios are written; its files stand in `scenarios` itself.

    given NODE term=T [vote=NAME] [log=1,1,4]
                            restart with such a log, of a no-op for each term given
    show NODE               role, term, leader, commit_index, and the terms in the log

Entries are written term:command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls import raft
from reference_impls.raft.snapshot import Snapshot
from reference_impls.tests.scenario import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reference_impls.actor import Record


class RaftWords(Vocabulary):
    """The vocabulary of Raft."""

    def disk(self, given: Mapping[str, str]) -> list[Record]:
        entries = [(int(term), raft.NOOP) for term in given.get("log", "").split(",")]
        term = {"term": int(given["term"]), "voted_for": given.get("vote")}
        return [term, {"first": 1, "entries": entries}]

    def node(self, core: Any, *words: str) -> str:
        terms = " ".join(str(entry.term) for entry in core.log.since(core.log.base + 1))
        return (
            f"{core.role} term={core.current_term} leader={core.leader} "
            f"commit_index={core.commit_index} log=[{terms}]"
        )

    def value(self, value: Any) -> str:
        match value:
            case Snapshot(index, term, text):
                return f"({index}:{term} {text})"
            case [[int(), dict()], *_] | []:
                return "[" + ", ".join(f"{t}:{self.value(c)}" for t, c in value) + "]"
            case _:
                return super().value(value)


RAFT = RaftWords(raft)
