"""Executors, which carry out experiments, and pursuits, which ask for several in turn.

A pursuit is a generator: it yields an experiment, is sent its outcome, yields the next,
and returns a result. So a series in which each experiment depends on the last outcome
is written as a loop, and many such loops run side by side on one executor.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol, TypeVar

from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

R = TypeVar("R")

Pursuit = Generator[Experiment, Outcome | None, R]


def noted(pursuit: Pursuit[R], note: Callable[[Outcome], None]) -> Pursuit[R]:
    """The same pursuit; `note` is called with each outcome that it is sent."""
    outcome: Outcome | None = None
    while True:
        try:
            asked = pursuit.send(outcome)
        except StopIteration as done:
            result: R = done.value
            return result
        outcome = yield asked
        if outcome is not None:
            note(outcome)


class Executor(Protocol):
    """Carries out experiments, some of them at the same time.

    If a worker dies, its experiment is tried once more.
    """

    def submit(self, experiment: Experiment) -> int:
        """Queue an experiment behind those submitted before; returns its number."""
        ...

    def as_completed(self) -> Iterator[tuple[int, Outcome | None]]:
        """(number, outcome) of each experiment, in the order in which they end.

        Ends when all experiments have ended, even those that were submitted meanwhile.
        The outcome is None if `cancel` came before there was one.
        """
        ...

    def cancel(self) -> None:
        """Drop the experiments that wait, and ask those under way to end early.

        Experiments submitted later are not affected. The handler of a stop signal
        (`harness.host.interrupts`) may call this.
        """
        ...

    def kill(self) -> None:
        """As `cancel`, but end experiments under way at once, without outcomes."""
        ...


def pursue(
    executor: Executor, pursuits: Iterable[Pursuit[R]], jobs: int
) -> Iterator[tuple[int, R]]:
    """(place, result) of each pursuit, in the order in which they end.

    `jobs` of them are under way at a time; the next is taken from `pursuits` when one
    has ended.
    """
    waiting = enumerate(pursuits)
    under_way: dict[int, tuple[int, Pursuit[R]]] = {}

    def go_on(
        place: int, pursuit: Pursuit[R], outcome: Outcome | None
    ) -> Iterator[tuple[int, R]]:
        """Submit the next experiment of a pursuit; if it has ended, begin another."""
        while True:
            try:
                asked = pursuit.send(outcome)
            except StopIteration as done:
                yield place, done.value
                following = next(waiting, None)
                if following is None:
                    return
                (place, pursuit), outcome = following, None
            else:
                under_way[executor.submit(asked)] = place, pursuit
                return

    for first in itertools.islice(waiting, jobs):
        yield from go_on(*first, None)
    for number, outcome in executor.as_completed():
        yield from go_on(*under_way.pop(number), outcome)
