"""What carries experiments out, whatever it is; and pursuits, which need several.

A pursuit is a generator: it yields an experiment, is sent what came of it, yields the
next, and returns what it made of them. So what depends on the last outcome is written
as a loop, and many of these loops run side by side on one executor.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol, TypeVar

from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

R = TypeVar("R")

Pursuit = Generator[Experiment, Outcome | None, R]


class Executor(Protocol):
    """Carries experiments out, some of them at the same time.

    A worker that dies loses nothing: its experiment is tried again once.
    """

    def submit(self, experiment: Experiment) -> int:
        """Have it carried out, after those before it; returns its number."""
        ...

    def as_completed(self) -> Iterator[tuple[int, Outcome | None]]:
        """The number of each experiment and what came of it, first done first.

        Ends when there is an answer to each, those included that were submitted
        meanwhile. None is the answer where `cancel` came before there was anything to
        tell.
        """
        ...

    def cancel(self) -> None:
        """Begin none of what was submitted, and ask what is under way to end early.

        What is submitted later is not concerned. The handler of a stop signal
        (`harness.host.interrupts`) may call this.
        """
        ...


def pursue(
    executor: Executor, pursuits: Iterable[Pursuit[R]], jobs: int
) -> Iterator[tuple[int, R]]:
    """The place of each pursuit and what it returned, first done first.

    `jobs` of them are under way at a time; the next is taken from `pursuits` when one
    is done.
    """
    waiting = enumerate(pursuits)
    under_way: dict[int, tuple[int, Pursuit[R]]] = {}

    def go_on(
        place: int, pursuit: Pursuit[R], outcome: Outcome | None
    ) -> Iterator[tuple[int, R]]:
        """Submit what a pursuit asks for next; if nothing, begin the next one."""
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
