"""A producer of Kafka's transactions: what it tells their coordinator, and when.

(Kafka's documentation, "Message Delivery Semantics"; KIP-98, KIP-890.) A producer has
an id and an epoch. It names each topic to the coordinator of its transactions before it
sends there, and asks the coordinator to commit, or to abort. The coordinator writes
that down, answers, and only then tells the leaders of the topics, by marks in the logs.

Before Kafka 4 a producer keeps its epoch from one transaction to the next, so a request
that comes late may take effect in a transaction that it does not belong to (Jepsen,
Bufstream 0.1.0, 2024). Our producer never causes that: after a request without an
answer, and after a failure in a transaction, it has the coordinator give it a new
epoch, which fences all requests of the old one. From Kafka 4 on, the end of each
transaction gives it one.

Errors: a commit is definite if the first answer to it refuses it (REFUSED). All other
errors leave the outcome open, as the coordinator may have written it down. As long as
answers say nothing of the outcome, the commit is asked for again, which is safe. What
fails before the commit is definite: nothing is committed unless its producer asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from harness.errors import NodeReply
from harness.systems import kafka_protocol
from harness.systems.kafka_protocol import KafkaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from harness.systems.kafka_protocol import Broker
    from harness.systems.kafka_records import Producer

REFUSED: Final = frozenset(
    {
        47,  # invalid producer epoch
        48,  # invalid transaction state
        49,  # invalid producer id mapping
        90,  # producer fenced
        120,  # transaction abortable
    }
)
"""Codes of errors that a coordinator answers in the place of committing."""

NOT_YET: Final = 51
"""The transaction before is not over in all topics."""

OPEN_MS: Final = 3000
"""After how long the coordinator aborts a transaction that is left open."""

END_S: Final = 3.0
"""For how long the end of a transaction is asked for again."""
ATTEMPT_S: Final = 0.7
RETRY_S: Final = 0.05


class Transactions:
    """The transactions of one client, one after the other.

    Args:
        name: The transactional id; no other client's.
        find: Finds their coordinator; raises KafkaError or NodeReply.
        patiently: Repeats an attempt without effects; raises NodeReply in the end.
    """

    def __init__(
        self,
        name: str,
        find: Callable[[], Awaitable[Broker]],
        patiently: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
    ) -> None:
        self.name = name
        self._find = find
        self._patiently = patiently
        self._coordinator: Broker | None = None
        self._bumps = False
        self._producer: Producer | None = None
        """None: the next transaction needs a new epoch."""
        self._sequences: dict[str, int] = {}
        # Of the transaction that is open:
        self._topics: set[str] = set()
        self._is_sure = True

    async def begin(self) -> None:
        """Have a producer for a transaction; raises NodeReply, definite, if not."""
        self._topics.clear()
        self._is_sure = True
        if self._producer is None:
            await self._patiently(self._renew)

    async def _renew(self) -> None:
        """Get a new epoch; aborts what the producer left open."""
        with self._asking() as coordinator:
            broker = await coordinator()
            self._bumps = await kafka_protocol.bumps_epochs(broker)
            self._producer = await kafka_protocol.init_producer(
                broker, self.name, OPEN_MS
            )
            self._sequences.clear()

    async def add(self, topic: str) -> tuple[Producer, int]:
        """Let the transaction have a topic.

        Returns:
            Who sends the next message there, and the number of the message.

        Raises:
            NodeReply: The coordinator didn't; a definite failure.
        """
        if topic not in self._topics:

            async def added() -> None:
                with self._asking() as coordinator:
                    await kafka_protocol.add_to_transaction(
                        await coordinator(), self.name, self._held(), topic
                    )

            await self._patiently(added)
            self._topics.add(topic)
        sequence = self._sequences.get(topic, 0)
        self._sequences[topic] = sequence + 1
        return self._held(), sequence

    async def abort(self) -> None:
        """End the transaction without effects, as far as that can be had.

        What can't be told to the coordinator is aborted by it after OPEN_MS.
        """
        with contextlib.suppress(NodeReply):
            await self._end(commits=False)

    async def give_up(self) -> None:
        """The same after a failure: what was sent may come late, and is fenced."""
        if not self._topics and self._is_sure:
            return
        self._producer = None
        with contextlib.suppress(NodeReply):
            await self._patiently(self._renew)

    async def commit(self) -> None:
        """Commit the transaction.

        Raises:
            NodeReply: It is refused (definite), or nobody knows.
        """
        await self._end(commits=True)

    async def _end(self, *, commits: bool) -> None:
        if not self._topics:
            return
        producer, self._producer = self._held(), None
        error: KafkaError | NodeReply | TimeoutError
        begun = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    with self._asking() as coordinator:
                        following = await kafka_protocol.end_transaction(
                            await coordinator(),
                            self.name,
                            producer,
                            commits=commits,
                            bumps=self._bumps,
                        )
                break
            except (KafkaError, NodeReply, TimeoutError) as caught:
                error = caught
            is_refused = isinstance(error, KafkaError) and error.code in REFUSED
            if is_refused or time.monotonic() - begun > END_S:
                definite = is_refused and self._is_sure
                text = str(error) or "no answer"
                raise NodeReply(definite=definite, text=text) from error
            if not (isinstance(error, KafkaError) and error.code == NOT_YET):
                self._is_sure = False
            await asyncio.sleep(RETRY_S)
        if self._bumps and following.epoch != producer.epoch:
            self._sequences.clear()
        if self._is_sure:
            self._producer = following

    def _held(self) -> Producer:
        assert self._producer is not None, "a transaction has begun"
        return self._producer

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Callable[[], Awaitable[Broker]]]:
        """How to find the coordinator, which is looked for again after a failure.

        Without an answer, what was asked may still take effect.
        """

        async def coordinator() -> Broker:
            if self._coordinator is None:
                self._coordinator = await self._find()
            return self._coordinator

        is_answered = is_done = False
        try:
            yield coordinator
            is_answered = is_done = True
        except KafkaError as error:
            is_answered = True
            is_done = error.code == NOT_YET
            raise
        finally:
            self._is_sure &= is_answered
            if not is_done:
                self._coordinator = None
