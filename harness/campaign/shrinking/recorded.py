"""Makes the failure of a recorded run smaller, with the help of all that it tells.

The record gives more than the experiment: the events that came just before its strikes,
the scenes in which it went wrong, and where an earlier search stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.campaign.shrinking.lab import Notes
from harness.campaign.shrinking.scenes import scenes
from harness.campaign.shrinking.search import shrink

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.campaign.outcome import Fingerprint
    from harness.campaign.replay import Recorded
    from harness.campaign.shrinking.search import Shrunk, World
    from harness.campaign.shrinking.shelf import Shelf


def shrink_recorded(
    recorded: Recorded,
    wanted: frozenset[Fingerprint],
    shelf: Shelf,
    *,
    budget_s: float,
    jobs: int = 1,
    world: World | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Shrunk:
    """The smallest experiment that fails as the run did; `shelf` keeps what is tried.

    A stop signal that raises KeyboardInterrupt ends the search; what it has found so
    far is the result.

    Args:
        recorded: The run, which failed.
        wanted: The fingerprints of the failure, of which one is enough.
        shelf: That of the run's folder.
        budget_s: Real seconds.
        jobs: Runs side by side.
        world: Search in this world alone; see `search.shrink`.
        tell: Hears in a clause what is being tried.

    Raises:
        UsageError: The experiment can't be run here, or not in `world`.
        HarnessError: A run failed, or the folder can't be written.
    """
    return shrink(
        recorded.variants["time"],
        wanted,
        budget_s=budget_s,
        jobs=jobs,
        world=world,
        notes=Notes(shelf.tried, shelf.adopted, tell),
        start=shelf.start(),
        by_event=recorded.variants.get("event"),
        scenes=scenes(recorded, wanted),
    )
