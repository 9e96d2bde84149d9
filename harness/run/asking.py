"""What `--nemesis` asks for: kinds of fault by name, and words about them.

kill,pause  these kinds
none, all   no kind; every kind that the system bears and that is to be had
gentle, standard, brisk, hard
            a profile: how often and for how long faults strike, and whom; without
            kinds it brings its own
swarm       each seed draws a part of all that
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness import registry
from harness.errors import UsageError
from harness.faults import profiles
from harness.faults.profiles import PROFILES, SWARM, Profile

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_FAULTS = "none"
ALL_FAULTS = "all"

WORDS = {
    NO_FAULTS: "no faults",
    ALL_FAULTS: "every kind of fault that the system bears and that is to be had here",
    **{profile.name: profile.summary for profile in PROFILES.values()},
    SWARM: profiles.SWARM_SUMMARY,
}
"""Words for `--nemesis` beside the kinds of fault, and what each means."""


class Asked(NamedTuple):
    """What a run's words for faults ask for.

    Attributes:
        kinds: Kinds of fault by name.
        words: The words that name a profile or a swarm.
        all_kinds: Whether every kind is asked for.
    """

    kinds: list[str]
    words: list[str]
    all_kinds: bool

    @property
    def is_open(self) -> bool:
        """Whether system, world and machine decide which kinds are meant."""
        return self.all_kinds or (bool(self.words) and not self.kinds)

    @property
    def profile(self) -> Profile:
        """The profile."""
        return profiles.named(self.words)

    @property
    def wanted(self) -> Sequence[str]:
        """The kinds to choose from if they are open; empty for all there are."""
        alone = self.all_kinds or self.words == [SWARM]
        return () if alone else self.profile.kinds


def asked(words: Sequence[str]) -> Asked:
    """Sort the words of `--nemesis`.

    Raises:
        UsageError: They contradict each other, or name nothing that there is.
    """
    kinds = [word for word in words if word not in WORDS]
    for kind in kinds:
        require_known(kind)
    if NO_FAULTS in words and len(words) > 1:
        raise UsageError("--nemesis none means just that: name nothing else")
    if ALL_FAULTS in words and kinds:
        raise UsageError("--nemesis all means every kind: name no other kinds")
    how = [word for word in words if word in PROFILES or word == SWARM]
    profiles.named(how)  # refuses two
    return Asked(kinds, list(dict.fromkeys(how)), ALL_FAULTS in words)


def require_known(kind: str) -> None:
    """Refuse what is neither a kind of fault nor a word about faults.

    Raises:
        UsageError: There is no such kind; the words are told beside the kinds.
    """
    try:
        registry.find("nemesis", kind)
    except UsageError as problem:
        raise UsageError(
            f"{problem}{registry.nearest(kind, WORDS)} (words about faults: "
            f"{', '.join(WORDS)})"
        ) from problem
