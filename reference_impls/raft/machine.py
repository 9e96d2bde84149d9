"""The state machine, and how far the log drives it (paper 5.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reference_impls import kv
from reference_impls.raft.members import CHANGES

if TYPE_CHECKING:
    from reference_impls.actor import Body


@dataclass(eq=False)
class StateMachine:
    """The key-value store, and which entries are in it."""

    commit_index: int = 0  # the highest index known to be committed
    last_applied: int = 0  # the highest index applied to `state`
    state: kv.KeyValueStore = field(default_factory=kv.KeyValueStore)

    def stand_at(self, index: int, state: kv.KeyValueStore) -> None:
        """Put the state after the entry at `index` in place of this one."""
        self.state = state
        self.commit_index = self.last_applied = index

    def carry_out(self, command: kv.Command) -> Body | None:
        """Carry out a committed command and return its reply; None for a no-op."""
        if command["type"] == "noop":
            return None
        if command["type"] in CHANGES:
            return {"type": f"{command['type']}_ok"}
        return self.apply_to_state(command)

    def apply_to_state(self, command: kv.Command) -> Body:
        """Carry out a client's command, but a retried one only once (thesis 6.3)."""
        return self.state.apply(command)
