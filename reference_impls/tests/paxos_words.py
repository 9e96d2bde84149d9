"""How the scenarios of Paxos and Multi-Paxos are written; each has its folder.

    show NODE [KEY]         Paxos: what the server holds of that instance;
                            Multi-Paxos: role, ballot, and its slots
    advance MS              ballots may be clock readings, so this one moves them too

Ballots are written round.server, proposals ballot:value, entries origin:command. There
is no `given`: what an acceptor holds comes from messages.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from reference_impls import multi_paxos, paxos
from reference_impls.paxos import is_ballot
from reference_impls.tests.scenario import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping


class BallotWords(Vocabulary):
    """What the vocabularies of both have in common."""

    def show(self, said: Mapping[str, Any]) -> str:
        """Fields and values, without the hashes of commands."""
        return super().show({k: v for k, v in said.items() if k != "hash"})

    def value(self, value: Any) -> str:
        if is_ballot(value):
            return f"{value[0]}.{value[1]}"
        if isinstance(value, list | tuple):
            if len(value) == 2 and is_ballot(value[0]):
                return f"{self.value(value[0])}:{self.value(value[1])}"
            return "[" + " ".join(map(self.value, value)) + "]"
        return super().value(value)


class PaxosWords(BallotWords):
    """The vocabulary of single-decree Paxos."""

    def node(self, core: Any, *words: str) -> str:
        instance = core.instances[json.loads(words[0])]
        names = ("promised", "accepted", "learned")
        return self.show({name: getattr(instance, name) for name in names})


class MultiPaxosWords(BallotWords):
    """The vocabulary of Multi-Paxos."""

    def node(self, core: Any, *words: str) -> str:
        held = {
            "role": core.role,
            "ballot": core.ballot_num,
            "decided": core.decisions[1:],
            "undecided": [(s, p.entry) for s, p in core.accepted.items()],
            "beyond_a_gap": [core.chosen.get(slot) for slot in core.chosen],
        }
        return self.show(held)


PAXOS = PaxosWords(paxos)
MULTI_PAXOS = MultiPaxosWords(multi_paxos)
