"""The sessions between a leader and its followers, as each side sees them.

Messages of a session arrive in order and exactly once, or the session ends
(`channel.py`). Every frame is a sign of life.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reference_impls.actor import Now
from reference_impls.zab.channel import UNKNOWN, Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reference_impls.actor import Body
    from reference_impls.core import Outbox
    from reference_impls.zab.messages import Zxid
    from reference_impls.zab.options import Settings
    from reference_impls.zab.standing import Standing


@dataclass(eq=False)
class Learner:
    """A follower as the leader knows it, for as long as their session lasts.

    Attributes:
        name: The follower.
        channel: This end of the session.
        silent_ticks: How many ticks ago it was last heard. A clock would be misleading,
            as it may jump.
        accepted_epoch: Its last promise, from its CEPOCH.
        end: How recent its history is, from its ACK-E: current epoch and last zxid.
        promised: Whether its ACK-E says that it accepted the new epoch from this
            leader.
        acked: The last zxid it acknowledged since it acknowledged NEWLEADER.
        is_fed: Whether it was sent the history, and is sent all that follows.
        is_up_to_date: Whether it was told to serve.
    """

    name: str
    channel: Channel
    silent_ticks: int = 0
    accepted_epoch: int | None = None
    end: tuple[int, Zxid] | None = None
    promised: bool = False
    acked: Zxid | None = None
    is_fed: bool = False
    is_up_to_date: bool = False


@dataclass(eq=False)
class Sessions:
    """A follower's session with its leader; a leader's with its followers."""

    out: Outbox
    settings: Settings  # how long silence may last
    standing: Standing  # whose end this is

    now: Now = field(default_factory=lambda: Now(0, 0))  # when this step began
    last_session: int = UNKNOWN
    channel: Channel = field(default_factory=lambda: Channel(UNKNOWN))  # follower only
    learners: dict[str, Learner] = field(default_factory=dict)  # leader only

    def new_number(self) -> int:
        """A number that was never used before, not in earlier lives either."""
        self.last_session = max(self.last_session + 1, self.now.mono_ns)
        return self.last_session

    def open_to_leader(self) -> None:
        """Begin a session with a leader that was just found."""
        self.channel = Channel(self.new_number())

    # --- saying ------------------------------------------------------------------

    def tell_leader(self, body: Body) -> None:
        """Send a message in the session with the leader."""
        assert self.standing.leader is not None
        self.out.send(self.standing.leader, self.channel.frame(body))

    def tell(self, learner: Learner, body: Body) -> None:
        """Send a message in the session with a follower."""
        self.out.send(learner.name, learner.channel.frame(body))

    def tick(self) -> None:
        """Show signs of life, send again what seems lost, and drop silent followers."""
        self.out.set_timer("tick", self.settings.tick_ms)
        if self.standing.follows:
            assert self.standing.leader is not None
            for frame in self.channel.tick():
                self.out.send(self.standing.leader, frame)
            return
        for name, learner in list(self.learners.items()):
            learner.silent_ticks += 1
            if learner.silent_ticks * self.settings.tick_ms > (
                self.settings.silence_ms_max
            ):
                del self.learners[name]
            else:
                for frame in learner.channel.tick():
                    self.out.send(name, frame)

    # --- hearing -----------------------------------------------------------------

    def hear_leader(self, frame: Body) -> Iterator[Body]:
        """The leader's messages, in order, for as long as the session lasts."""
        channel, settings = self.channel, self.settings
        if not channel.fits(frame):
            return
        self.out.set_timer("silence", settings.silence_ms_min, settings.silence_ms_max)
        for body in channel.receive(frame):
            if self.channel is channel and self.standing.follows:
                yield body

    def hear_follower(self, src: str, frame: Body) -> Iterator[tuple[Learner, Body]]:
        """A follower's messages, in order, for as long as the session lasts.

        The frame may open a session; it ends an older one with that follower.
        """
        learner = self.learners.get(src)
        if learner is None or not learner.channel.fits(frame):
            known = learner.channel.theirs if learner else UNKNOWN
            if frame["receiver"] != UNKNOWN or frame["sender"] <= known:
                return
            channel = Channel(self.new_number(), frame["sender"])
            learner = self.learners[src] = Learner(src, channel)
        learner.silent_ticks = 0
        for body in learner.channel.receive(frame):
            if self.learners.get(src) is learner:
                yield learner, body

    # --- quorums -----------------------------------------------------------------

    def has_quorum(self, sign: Callable[[Learner], bool]) -> bool:
        """True when this node and the followers with that sign are a majority."""
        signed = 1 + sum(map(sign, self.learners.values()))
        return 2 * signed > len(self.out.servers)
