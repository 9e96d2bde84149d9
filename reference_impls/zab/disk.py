"""The state that survives a crash, under the names of the paper (section V).

`accepted_epoch` is f.p, the last NEWEPOCH acknowledged; `current_epoch` is f.a, the
last NEWLEADER acknowledged; `history` is h_f. Each is on disk before any message that
depends on it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_impls.zab.history import History

if TYPE_CHECKING:
    from reference_impls.actor import Record
    from reference_impls.core import Outbox
    from reference_impls.zab.messages import Txn, Zxid


@dataclass(eq=False)
class Disk:
    """Both epochs and the history."""

    out: Outbox

    accepted_epoch: int = 0
    current_epoch: int = 0
    history: History = field(default_factory=History)

    def end(self) -> tuple[int, Zxid]:
        """How recent the history is: the current epoch and the last zxid."""
        return self.current_epoch, self.history.last_zxid

    def persist_txns(self, txns: list[Txn]) -> None:
        """Make durable what was just added to the history (f.3.1)."""
        self.out.persist({"txns": txns})

    def persist_epochs(self, *, replaces: bool = False, **history: Any) -> None:
        """Make durable both epochs, and what changes of the history with them.

        Args:
            replaces: Whether `history` is the whole history.
            history: Parts of a record: `snapshot` and `parts`, `truncate`, `txns`.
        """
        epochs = {
            "accepted_epoch": self.accepted_epoch,
            "current_epoch": self.current_epoch,
        }
        self.out.persist({**epochs, **history}, replaces=replaces)

    def recover_epochs(self, record: Record) -> None:
        """Take back the epochs, if the record holds them."""
        self.accepted_epoch = record.get("accepted_epoch", self.accepted_epoch)
        self.current_epoch = record.get("current_epoch", self.current_epoch)
