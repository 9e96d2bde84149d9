"""The network between nodes, as faults see it: directed links with rules.

Three rungs implement `Network`: `harness.worlds.os.switch` (namespaces and a userspace
Ethernet switch: every frame is ours), `harness.worlds.os.proxy` (a TCP proxy per
directed link, for machines where namespaces can't be had) and
`harness.worlds.os.router` (whole messages, of nodes that have no sockets).
"""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

from harness.errors import HarnessError
from harness.worlds.logs import checked
from harness.worlds.searches import SEARCH_S_MAX, WHY, in_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.worlds.capabilities import LinkField
    from harness.worlds.events import Passed, Where
    from harness.worlds.places import NodePlace

Link = tuple[str, str]
"""(from node, to node)"""


@dataclass(frozen=True)
class MessageRule:
    """The treatment of messages of one type, which a pattern tells from others.

    On the switch rung a message is known by a frame that has the pattern in its TCP or
    UDP payload. A pattern whose bytes lie in two frames is not seen.

    Attributes:
        pattern: A regular expression over bytes, as `compiled` reads it.
        loss: The chance that the message is lost. TCP sends the frame again, which is
            lost as likely; until it passes, all that follows on the connection waits.
        delay_ms: How much later the message arrives. Others may overtake it.
        reset: The chance that the connection is reset in place of the message, so that
            this message is lost and later ones are not.
        cut: The chance that the message is the last one to pass: behind it the link is
            cut, in both directions, until the rule ends.
    """

    pattern: str
    loss: float = 0.0
    delay_ms: float = 0.0
    reset: float = 0.0
    cut: float = 0.0


@functools.lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[bytes]:
    r"""The pattern of a message as a regular expression over bytes.

    Characters stand for their UTF-8 bytes, and a dot for any byte; `\x0a` is one byte.
    The process that carries the traffic looks for it (`count_in`).

    Raises:
        UsageError: `logs.checked` refuses it.
    """
    return checked(pattern, b"", "message", re.DOTALL)


def count_in(data: bytes, pattern: str) -> int:
    """How often a message that the pattern names is in `data`.

    Raises:
        HarnessError: The pattern takes so long that the traffic would stand still.
    """
    regex = compiled(pattern)
    try:
        return in_time(lambda: sum(1 for _ in regex.finditer(data)))
    except TimeoutError:
        raise HarnessError(
            f"the pattern {pattern!r} can't be used: to look for it in {len(data)} "
            f"bytes of a message took more than {SEARCH_S_MAX:g} s; {WHY}"
        ) from None


@dataclass(frozen=True)
class LinkRule:
    """The treatment of the traffic of a directed link; the default is a healthy link.

    Probabilities are per frame on the switch rung, per message on the router rung and
    in the simulator. Only the switch rung knows all fields (`Network.capabilities`).

    Attributes:
        cut: Nothing passes.
        delay_ms: How much later traffic arrives.
        jitter_ms: The most by which that differs from frame to frame.
        loss: The chance that a frame is lost.
        duplicate: The chance that it arrives twice.
        reorder: The chance that it is held back while later ones pass.
        corrupt: The chance that one of its bits flips.
        bandwidth_kbit_s: How much traffic passes; None for no limit.
        mtu_bytes: The longest IP packet that passes; longer ones vanish, and nobody is
            told. None for no limit.
        reset: The chance that a frame with data resets its TCP connection at both ends.
            The data are lost.
        half_open: The chance that it does so at the sender's end only. The receiver's
            end stays open and hears nothing more.
        messages: What happens to messages of some types.
    """

    cut: bool = False
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    bandwidth_kbit_s: float | None = None
    mtu_bytes: int | None = None
    reset: float = 0.0
    half_open: float = 0.0
    messages: tuple[MessageRule, ...] = ()

    def overlaps(self, other: LinkRule) -> bool:
        """Whether both rules change the same field of a link."""
        return any(
            field.default not in (getattr(self, field.name), getattr(other, field.name))
            for field in fields(LinkRule)
        )


def merge(rules: Iterable[LinkRule]) -> LinkRule:
    """The rule of a link that several faults act on at once.

    Any cut counts, and the lowest bandwidth and MTU; delays add up, and probabilities
    combine as independent chances. Rules of messages stand side by side: a message that
    several of them name suffers all.
    """
    rules = list(rules)
    limits = (rule.bandwidth_kbit_s for rule in rules)
    mtus = (rule.mtu_bytes for rule in rules)
    return LinkRule(
        cut=any(rule.cut for rule in rules),
        delay_ms=sum(rule.delay_ms for rule in rules),
        jitter_ms=sum(rule.jitter_ms for rule in rules),
        loss=either(rule.loss for rule in rules),
        duplicate=either(rule.duplicate for rule in rules),
        reorder=either(rule.reorder for rule in rules),
        corrupt=either(rule.corrupt for rule in rules),
        bandwidth_kbit_s=min((x for x in limits if x is not None), default=None),
        mtu_bytes=min((x for x in mtus if x is not None), default=None),
        reset=either(rule.reset for rule in rules),
        half_open=either(rule.half_open for rule in rules),
        messages=tuple(itertools.chain(*(rule.messages for rule in rules))),
    )


def either(chances: Iterable[float]) -> float:
    """The chance that at least one of several independent events happens."""
    any_of_them = 0.0
    for chance in chances:
        any_of_them = 1 - (1 - any_of_them) * (1 - chance)
    return any_of_them


@dataclass(frozen=True)
class LinkCounters:
    """Counts of what a link did since the run began.

    They count frames on the switch rung, chunks of bytes and connects on the proxy
    rung, messages on the router rung and in the simulator.

    Attributes:
        oversized: Lost because they were longer than the MTU.
        resets: Connections that were reset, at one end or both; in the simulator the
            messages that met a reset.
        connects: Connections begun while a rule with resets was in force: each took the
            place of one that had gone.
        matched: Lost, late, reset or the last to pass by a rule of messages.
        commands: Of nodes that somebody else runs: commands of the operator's that cut
            the link, as nobody counts what dies on it.
    """

    forwarded: int = 0
    cut: int = 0
    lost: int = 0
    delayed: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    oversized: int = 0
    resets: int = 0
    connects: int = 0
    matched: int = 0
    commands: int = 0


class Network(Protocol):
    """Nodes' addresses, and the rules of the links between them.

    Each method raises HarnessError if the process that carries the traffic has died;
    `close` does so if nobody had noticed yet.
    """

    rung: str
    capabilities: frozenset[LinkField]
    """The fields of LinkRule that this rung can put in force."""
    places: Mapping[str, NodePlace]

    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Replace all rules at once; a link that isn't named is healthy.

        Returns once the rules are in force. Traffic between the controller and the
        nodes is never subject to rules.
        """
        ...

    async def counters(self) -> Mapping[Link, LinkCounters]:
        """Counts of what each directed link did since the run began."""
        ...

    def passed(self, message: Passed) -> Mapping[Where, int]:
        """How often a message that is followed has been sent, by the link that it took.

        What TCP sends again counts once. Messages that a rule then loses count, too.
        """
        ...

    async def close(self) -> None:
        """Stop carrying traffic and release everything."""
        ...
