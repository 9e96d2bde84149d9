"""Profiles: how hard a run is on its system, in a word; and swarms, drawn from them.

A profile decides which kinds of fault there are, the rhythm in which plans have them
strike, and which nodes they are for. The kinds themselves know nothing of profiles:
those that draw from sets of words (`targets`, `shapes`, `modes`) are given the
profile's words as options.

A swarm is a profile that is drawn anew for each seed: a part of the kinds, a part of
the words of each kind, a rhythm and bounds of amounts. One run with everything in it
masks what shows only in the absence of something: a system that is killed all the time
never fills its queues. Many runs that each leave something out find more (Groce et al.,
"Swarm Testing", ISSTA 2012).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.targets import BREAK, KEEP, LEADER
from harness.options import Words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.faults.nemesis import NemesisFactory
    from harness.registry import Plugin

Bounds = tuple[float, float]
"""The least and the largest of a number that is drawn."""


@dataclass(frozen=True)
class Rhythm:
    """When the faults of a drawn plan come, and how long they last.

    Of seconds, every order of magnitude between the bounds is equally likely.

    Attributes:
        duration_s: How long a fault lasts. A node that is killed and back in a moment
            takes part in the election that it forgot; one that is away for seconds
            comes back to another leader and a longer log. Different bugs hide behind
            each.
        background_s: How long a fault lasts that only makes others worse. Others come
            and go meanwhile, and the shorter it is, the more pairs there are.
        quiet_s: How long nothing is broken before the next fault, unless they overlap:
            a system must get going again.
        overlap_chance: How often a fault begins while the one before is in force, as
            the bugs worth finding need two things to go wrong.
        background_overlap_chance: The same, if the one before only makes others worse.
        moment_chance: Part of the faults that wait for an event, if the system names
            events worth that. In answer to a fault most of them come soon.
        relay_chance: How often the next fault is of the same kind, and begins before
            the one before it ends.
    """

    duration_s: Bounds = (0.1, 4.5)
    quiet_s: Bounds = (0.2, 2.0)
    overlap_chance: float = 0.35
    background_overlap_chance: float = 0.8
    moment_chance: float = 0.4
    relay_chance: float = 0.0
    background_s: Bounds = (0.5, 3.0)

    @property
    def overlaps(self) -> bool:
        """Whether more than one fault is ever in force."""
        return bool(self.overlap_chance or self.background_overlap_chance)


@dataclass(frozen=True)
class Profile:
    """How hard a run is on its system.

    Attributes:
        name: The word for it.
        summary: What it means, in a clause.
        rhythm: When its faults come.
        kinds: Its kinds of fault, unless a run names others; empty for every kind that
            is to be had.
        words: Option -> the words that kinds with such an option draw from; those that
            a kind does not know are left out, and `break-majority` for kinds that only
            make others worse: they can't break one, and would wait in vain for one to
            break. A word that comes twice is drawn twice as often. Kinds have their own
            words for all other options.
    """

    name: str
    summary: str
    rhythm: Rhythm
    kinds: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def options(self, plugin: Plugin[NemesisFactory]) -> dict[str, str]:
        """The options of a kind of fault that the profile sets."""
        out: dict[str, str] = {}
        harmless = {BREAK} if plugin.factory({}).background else set()
        for option in plugin.options:
            if isinstance(option.kind, Words):
                admitted = set(option.kind.known) - harmless
                words = [w for w in self.words.get(option.name, ()) if w in admitted]
                if words:
                    out[option.name] = "+".join(words)
        return out


GENTLE = Profile(
    "gentle",
    "a few short faults, one at a time, and always a majority left: what every system "
    "should bear",
    Rhythm((0.1, 1.5), (1.5, 6.0), 0.0, 0.0, background_s=(0.5, 1.5)),
    ("partition", "kill", "pause", "delay", "loss"),
    {"targets": (KEEP,), "shapes": (KEEP,), "modes": ("calm",)},
)
STANDARD = Profile(
    "standard",
    "the classic faults, of which some overlap, for one node, a minority, a majority, "
    "all, or the leader",
    Rhythm(),
    ("partition", "kill", "pause", "clock"),
)
HARD = Profile(
    "hard",
    "everything, most of it at once and with hardly a pause; the majority is broken on "
    "purpose and often",
    Rhythm((0.1, 6.0), (0.1, 0.6), 0.75, 0.95, 0.5),
    words={
        "targets": (BREAK, BREAK, "majority", "all", "minority", LEADER),
        "shapes": (BREAK, BREAK, "halves", "ring", "bridge", "one-way", LEADER),
    },
)

BRISK = Profile(
    "brisk",
    "short faults with hardly a pause, so that even a short run has many elections and "
    "recoveries",
    Rhythm((0.1, 1.0), (0.1, 0.5), 0.5, 0.9, 0.4, background_s=(1.0, 4.0)),
    STANDARD.kinds,
)

PROFILES = {profile.name: profile for profile in (GENTLE, STANDARD, BRISK, HARD)}

SWARM = "swarm"
SWARM_SUMMARY = (
    "each seed draws a part of the kinds, of their words and amounts, and a rhythm; "
    "alone, or beside a profile or kinds to draw from"
)

SPREAD = 3.0
"""How far a swarm's seconds lie from those of its profile at most, as a factor."""
LEAST_AMOUNT = 0.1
"""The smallest bound of an amount that a swarm draws, as a part of the usual one."""
DRAWS_MAX = 10
"""How often options of a kind are drawn anew that contradict each other."""


@dataclass(frozen=True)
class Regime:
    """What a run's words for faults mean for this run.

    Attributes:
        kinds: The kinds of fault that plans are drawn from.
        rhythm: When they strike.
        options: Kind -> options that the profile, the swarm or the user has set.
    """

    kinds: tuple[str, ...]
    rhythm: Rhythm
    options: Mapping[str, Mapping[str, str]]


def named(words: Sequence[str]) -> Profile:
    """The profile that these words name, `swarm` apart; the standard one if none does.

    Raises:
        UsageError: They name two.
    """
    profiles = [PROFILES[word] for word in dict.fromkeys(words) if word in PROFILES]
    if len(profiles) > 1:
        both = " and ".join(profile.name for profile in profiles[:2])
        raise UsageError(f"--nemesis names the profiles {both}: a run has one")
    return profiles[0] if profiles else STANDARD


def regime(
    profile: Profile,
    plugins: Mapping[str, Plugin[NemesisFactory]],
    given: Mapping[str, Mapping[str, str]],
    swarm: Random | None = None,
) -> Regime:
    """What `profile` means for these kinds of fault.

    Args:
        profile: The profile.
        plugins: The kinds, which need not be the profile's own.
        given: Kind -> options that the user has set, which stay as they are.
        swarm: Draws a swarm; None if the profile is meant as it is.
    """
    rhythm, kinds = profile.rhythm, list(plugins)
    if swarm is not None:
        kinds = [kind for kind in plugins if swarm.random() < 0.5]
        kinds = kinds or [swarm.choice(list(plugins))]
        rhythm = _drawn_rhythm(swarm, rhythm)
    options: dict[str, Mapping[str, str]] = {}
    for kind in kinds:
        plugin = plugins[kind]
        fixed = {**profile.options(plugin), **given.get(kind, {})}
        if swarm is not None:
            fixed |= drawn_options(swarm, plugin, fixed, given.get(kind, {}))
        if fixed:
            options[kind] = fixed
    return Regime(tuple(kinds), rhythm, options)


def drawn_options(
    random: Random,
    plugin: Plugin[NemesisFactory],
    fixed: Mapping[str, str],
    given: Mapping[str, str],
) -> dict[str, str]:
    """Options of a kind in a swarm: a part of the words, and smaller amounts.

    Empty if the kind refuses all that were tried: some options contradict each other.
    """
    for _ in range(DRAWS_MAX):
        out: dict[str, str] = {}
        for option in plugin.options:
            if option.name in given:
                continue
            if isinstance(option.kind, Words):
                text = fixed.get(option.name, option.default)
                words = list(dict.fromkeys(option.kind.parse(text)))
                some = [word for word in words if random.random() < 0.5]
                out[option.name] = "+".join(some or [random.choice(words)])
            elif option.amount is not None:
                amount = option.amount * LEAST_AMOUNT ** random.random()
                out[option.name] = f"{amount:.3g}"
        with suppress(UsageError):
            plugin.factory({**fixed, **out})
            return out
    return {}


def _drawn_rhythm(random: Random, around: Rhythm) -> Rhythm:
    """A rhythm near another one; where nothing overlaps, nothing ever does."""

    def near(bounds: Bounds) -> Bounds:
        factor = SPREAD ** random.uniform(-1, 1)
        return round(bounds[0] * factor, 3), round(bounds[1] * factor, 3)

    def chance(most: float) -> float:
        return round(random.random() if most else 0.0, 3)

    return replace(
        around,
        duration_s=near(around.duration_s),
        background_s=near(around.background_s),
        quiet_s=near(around.quiet_s),
        overlap_chance=chance(around.overlap_chance),
        background_overlap_chance=chance(around.background_overlap_chance),
        moment_chance=chance(around.moment_chance),
    )
