"""A snapshot, and how it travels: as text, in chunks (paper 7, Figure 13).

The text is JSON of what the entries up to `last_index` amount to: the state, client
sessions included, and the members. It is made once, when the snapshot is taken, and
never altered, so it may be read at leisure while the state goes on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls.kv import KeyValueStore
from reference_impls.raft.members import Members

if TYPE_CHECKING:
    from collections.abc import Mapping

encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Contents(NamedTuple):
    """The contents of a snapshot's text."""

    state: KeyValueStore
    members: Members


class Snapshot(NamedTuple):
    """The state after the entry at `last_index`, which is of `last_term`."""

    last_index: int
    last_term: int
    text: str

    @classmethod
    def of(
        cls, last_index: int, last_term: int, state: Mapping[str, Any], members: Members
    ) -> Snapshot:
        """A snapshot of a state's data. Cost: linear in the state."""
        since, names, incarnations = members.as_of(last_index)
        text = {
            "members": names,
            "members_index": since,
            "incarnations": incarnations,
            "state": state,
        }
        return cls(last_index, last_term, encode(text))

    def contents(self) -> Contents | None:
        """The contents of the text; None if it isn't a snapshot's."""
        try:
            said = json.loads(self.text)
            members = Members(
                said["members"], said["members_index"], said["incarnations"]
            )
            return Contents(KeyValueStore.from_data(said["state"]), members)
        except (ValueError, KeyError, TypeError):
            return None


class Outgoing:
    """A snapshot on its way to a follower, which has it up to `offset`."""

    __slots__ = ("offset", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.offset = 0

    def chunk(self, chars: int) -> dict[str, Any]:
        """InstallSnapshot's arguments for the next chunk, but for term and round."""
        end = self.offset + chars
        return {
            "last_included_index": self.snapshot.last_index,
            "last_included_term": self.snapshot.last_term,
            "offset": self.offset,
            "data": self.snapshot.text[self.offset : end],
            "done": end >= len(self.snapshot.text),
        }


class Incoming:
    """A snapshot that comes in, chunk by chunk, from the leader of `term`."""

    __slots__ = ("chunks", "index", "size", "term")

    def __init__(self, term: int, index: int) -> None:
        self.term = term
        self.index = index
        self.chunks: list[str] = []
        self.size = 0

    def take(self, offset: int, data: str) -> bool:
        """Add a chunk; False for one that came before, or too early."""
        if offset != self.size:
            return False
        self.chunks.append(data)
        self.size += len(data)
        return True

    def text(self) -> str:
        """The chunks so far, put together."""
        return "".join(self.chunks)
