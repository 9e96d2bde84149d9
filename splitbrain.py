"""splitbrain in a test suite of yours: a plug-in of pytest, and strategies.

    import splitbrain

    @splitbrain.torture("launch:python3 node.py", nemesis=["partition", "kill"])
    def test_registers_are_linearizable(outcome):
        assert outcome.ops["ok"] > 100

A test so decorated runs a cluster of the system under the faults, and fails if the
system broke a promise, with the sentence that says how, the plan of faults, the seed,
and the command that runs it again. The same is asked for by the fixture `torture`,
in the middle of a test, and by `run`, anywhere, as under Hypothesis' `@given`.

pytest imports this module whenever it starts, so it imports nothing but pytest; all
else comes with the first test that asks for it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Unpack

    from harness.campaign import strategies as strategies
    from harness.campaign.outcome import Outcome as Outcome
    from harness.campaign.torture import Ask, Attempt, Torturer

__all__ = ["Outcome", "Undecided", "Violation", "run", "strategies", "torture"]

Unknown = Literal["fail", "skip", "allow"]
Test = TypeVar("Test", bound="Callable[..., object] | type")

DATABASE = ".splitbrain"
RESULTS = "results"
MARKER = "splitbrain"


class _Unmet(AssertionError):
    """A run did not show what its test asserts.

    Attributes:
        outcome: The outcome of the run, whose `folder` has all of it.
    """

    def __init__(self, told: str, outcome: Outcome) -> None:
        super().__init__(told)
        self.outcome = outcome


class Violation(_Unmet):
    """The system broke a promise; the message tells which, and how to see it again."""


class Undecided(_Unmet):
    """The verdict is unknown, and the message says why; nothing was proven wrong."""


def torture(
    system: str, *, seeds: int = 1, unknown: Unknown = "fail", **ask: Unpack[Ask]
) -> Callable[[Test], Test]:
    """Decorate a test: run `system` under faults, and fail if it breaks a promise.

    If the run is valid, the test's own code comes after it; it may take the fixture
    `outcome`, for expectations of its own. Failures are kept in a database, and
    replayed first in the next run.

    Args:
        system: As on the command line: a name, or "launch:COMMAND".
        seeds: How many runs, from `seed` on, until one is not valid.
        unknown: What becomes of the test if the verdict is unknown; "allow" goes on.
        ask: Workload, faults and all else (`harness.campaign.torture.Ask`).
    """

    def decorate(test: Test) -> Test:
        asked = pytest.mark.splitbrain(system, seeds=seeds, unknown=unknown, **ask)
        decorated: Test = pytest.mark.usefixtures("outcome")(asked(test))
        return decorated

    return decorate


def run(system: str, *, unknown: Unknown = "fail", **ask: Unpack[Ask]) -> Outcome:
    """Run `system` once under faults, and judge it; no failure is kept or replayed.

    That is for properties: Hypothesis draws the plan, and keeps and replays what fails.
    The seed is 0 unless one is given, so in the simulator equal arguments have equal
    outcomes. A run takes longer than the deadline that Hypothesis sets by default:
    `@settings(deadline=None)`.

    Raises:
        Violation: The verdict is invalid.
        Undecided: It is unknown, and `unknown` is "fail".
        UsageError, HarnessError: Of `harness.errors`: the run is impossible; the
            harness failed.
    """
    ask.setdefault("seed", 0)
    return _suites[-1].run(system, ask, unknown)


class Torture(Protocol):
    """The fixture `torture`: as the decorator, but runs at once."""

    def __call__(
        self,
        system: str,
        *,
        seeds: int = 1,
        unknown: Unknown = "fail",
        **ask: Unpack[Ask],
    ) -> Outcome:
        """Run it; returns the outcome of the last run.

        Raises:
            Violation, Undecided, UsageError, HarnessError: As for `run`.
        """
        ...


def __getattr__(name: str) -> object:
    """What isn't imported before somebody asks for it."""
    if name == "Outcome":
        from harness.campaign.outcome import Outcome

        return Outcome
    if name == "strategies":
        from harness.campaign import strategies

        return strategies
    raise AttributeError(f"module 'splitbrain' has no attribute {name!r}")


# The plug-in: options, fixtures, reports.


class Suite:
    """A run of pytest: its options, and what carries out its tortures.

    Args:
        config: Of pytest; None outside of it, where all options have their defaults.
    """

    def __init__(self, config: pytest.Config | None) -> None:
        self._config = config
        self._torturer: Torturer | None = None
        self._remarks: dict[str, None] = {}  # each once, in order
        self._last_of_property: tuple[str, Outcome] | None = None

    def torture(
        self, test: str, system: str, seeds: int, unknown: Unknown, ask: Ask
    ) -> tuple[Attempt, BaseException | None]:
        """Torture for a test: (attempt, what to raise for its verdict).

        Raises:
            pytest.skip.Exception: This machine lacks a program.
            UsageError, HarnessError: As for `run`.
        """
        from harness.campaign.torture import experiment

        with _ours():
            _check(seeds, unknown)
            asked = experiment(
                system,
                ask,
                seed=self._option("seed"),
                time_limit_s=self._option("time_limit"),
            )
            attempt = self.torturer.torture(test, asked, seeds)
        return attempt, _problem(attempt.outcome, attempt.told, unknown)

    def run(self, system: str, ask: Ask, unknown: Unknown) -> Outcome:
        """A single run, for `splitbrain.run`."""
        import msgspec

        from harness.campaign.torture import experiment, tell

        with _ours():
            _check(1, unknown)
            outcome = self.torturer.run(experiment(system, ask))
        told = tell(outcome) if outcome.verdict != "valid" else ""
        problem = _problem(outcome, told, unknown)
        if problem is None:
            self.torturer.forget(outcome)
            return msgspec.structs.replace(outcome, folder="")
        self._keep_last(outcome)
        raise problem

    @property
    def torturer(self) -> Torturer:
        """Carries out the tortures; made when it is first asked for."""
        if self._torturer is None:
            from harness.campaign.failures import Database
            from harness.campaign.torture import Torturer

            others = [self._place(name) for name in self._option("readonly") or ()]
            if self._config is not None:
                others += self._config.getini("splitbrain_readonly_databases")
            database = Database(self._place(self._option("database"), DATABASE), others)
            results = self._place(self._option("results"), RESULTS)
            self._torturer = Torturer(results, database, self._option("shrink"))
        return self._torturer

    def _keep_last(self, outcome: Outcome) -> None:
        """Of the failures that Hypothesis sees while it shrinks, leave the last."""
        hypothesis = sys.modules.get("hypothesis")
        if hypothesis is None or not hypothesis.currently_in_test_context():
            return
        test = os.environ.get("PYTEST_CURRENT_TEST", "")
        if self._last_of_property is not None and self._last_of_property[0] == test:
            self.torturer.forget(self._last_of_property[1])
        self._last_of_property = test, outcome

    def _option(self, name: str) -> Any:
        config = self._config
        return None if config is None else config.getoption(f"splitbrain_{name}")

    def _place(self, given: str | None, default: str = "") -> Path:
        """A folder: as given on the command line, or else below pytest's root."""
        if self._config is None:
            return Path.cwd() / (given or default)
        if given is not None:
            return self._config.invocation_params.dir / given
        return self._config.rootpath / default

    # Hooks.

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of remarks; under xdist they come from the workers."""
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == REMARK:
                    self._remarks[f"{report.nodeid}: {value}"] = None

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Tell what came of earlier failures."""
        if self._remarks:
            terminalreporter.section("splitbrain: earlier failures")
            for remark in self._remarks:
                terminalreporter.write_line(remark)

    def pytest_unconfigure(self) -> None:
        """End whatever runs."""
        _suites.remove(self)
        if self._torturer is not None:
            self._torturer.close()


_suites = [Suite(None)]
"""The runs of pytest in this process, the innermost last; the first is for none."""

REMARK = "splitbrain"
"""The name of the property of a test report that holds a remark."""

OURS = "splitbrain_failed"
"""The attribute of errors that are no verdict, and of the reports on them."""

_PROBLEM = pytest.StashKey[BaseException | None]()
"""What the decorated test fails with, before its own code begins."""

_FAILED = pytest.StashKey[bool]()
"""Whether the test failed, so that its runs' folders stay."""


def _check(seeds: int, unknown: str) -> None:
    """Raises UsageError if one of the two is impossible."""
    from harness.errors import UsageError

    if type(seeds) is not int or seeds < 1:
        raise UsageError(f"torture: seeds={seeds!r:.60}: it takes a number from 1 on")
    if unknown not in {"fail", "skip", "allow"}:
        raise UsageError(
            f"torture: unknown={unknown!r:.60}: it takes fail, skip or allow"
        )


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Mark errors of the harness; skip the test if this machine lacks a program."""
    from harness.errors import NotInstalledError, SplitbrainError

    try:
        yield
    except NotInstalledError as lack:
        pytest.skip(str(lack))
    except SplitbrainError as error:
        vars(error)[OURS] = True
        raise


def _problem(outcome: Outcome, told: str, unknown: Unknown) -> BaseException | None:
    """What to raise for an outcome, if anything."""
    if outcome.verdict == "invalid":
        return Violation(told, outcome)
    if outcome.verdict == "valid" or unknown == "allow":
        return None
    if unknown == "skip":
        return pytest.skip.Exception(told)
    return Undecided(told, outcome)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, and the key of the configuration file."""
    group = parser.getgroup("splitbrain", "splitbrain: systems under faults")
    group.addoption(
        "--splitbrain-seed",
        type=int,
        metavar="N",
        help="Seed of tests that name none (default: random).",
    )
    group.addoption(
        "--splitbrain-time-limit",
        type=_seconds,
        metavar="SECONDS",
        help="How long each run lasts, whatever the test says.",
    )
    group.addoption(
        "--splitbrain-shrink",
        type=_seconds,
        metavar="SECONDS",
        help="How long each failure is made smaller before it is told; 0 for not at "
        "all (default: 30 in the simulator, 0 with real processes).",
    )
    group.addoption(
        "--splitbrain-results",
        metavar="DIR",
        help=f"Where runs that fail leave their folders (default: {RESULTS}).",
    )
    group.addoption(
        "--splitbrain-database",
        metavar="DIR",
        help="Failures are kept here, and replayed first in the next run "
        f"(default: {DATABASE}).",
    )
    group.addoption(
        "--splitbrain-database-readonly",
        dest="splitbrain_readonly",
        action="append",
        metavar="DIR",
        help="Replay the failures kept here, too, such as the artefact of a CI job; "
        "may be given several times.",
    )
    parser.addini(
        "splitbrain_readonly_databases",
        "Folders as for --splitbrain-database-readonly.",
        type="paths",
        default=[],
    )


def _seconds(text: str) -> float:
    """A number of seconds; ArgumentTypeError if it is none."""
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(text)) <= 604_800:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what lives as long as this run of pytest."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(system, **ask): runs a system under faults; tests get it by "
        "@splitbrain.torture, and by the fixture torture.",
    )
    suite = Suite(config)
    _suites.append(suite)
    config.pluginmanager.register(suite, "splitbrain-suite")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that use the fixture, so that `-m splitbrain` finds all."""
    if "torture" in getattr(item, "fixturenames", ()):
        item.add_marker(MARKER)


class Tortures:
    """The tortures of one test."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._count = 0
        self._passed: list[Outcome] = []

    def __call__(
        self,
        system: str,
        *,
        seeds: int = 1,
        unknown: Unknown = "fail",
        **ask: Unpack[Ask],
    ) -> Outcome:
        """Torture the system now; returns the outcome of the last run."""
        outcome, problem = self.attempt(system, seeds, unknown, ask)
        if problem is not None:
            raise problem
        return outcome

    def attempt(
        self, system: str, seeds: int, unknown: Unknown, ask: Ask
    ) -> tuple[Outcome, BaseException | None]:
        """(outcome of the last run, what to raise for its verdict)."""
        self._count += 1
        test = self._item.nodeid
        if self._count > 1:
            test += f" (torture {self._count})"
        attempt, problem = _suites[-1].torture(test, system, seeds, unknown, ask)
        outcome = attempt.outcome
        self._item.user_properties += [
            *((REMARK, remark) for remark in attempt.remarks),
            ("splitbrain_verdict", outcome.verdict),
            ("splitbrain_seed", outcome.experiment.spec.seed),
        ]
        if problem is None:
            self._passed.append(outcome)
        else:
            self._item.user_properties.append(("splitbrain_run", outcome.folder))
        return outcome, problem

    def end(self) -> None:
        """Remove the folders of runs that passed, if the whole test did."""
        if not self._item.stash.get(_FAILED, False):
            for outcome in self._passed:
                _suites[-1].torturer.forget(outcome)


@pytest.fixture(name="torture")
def _torture(request: pytest.FixtureRequest) -> Iterator[Torture]:
    """Run a system under faults: `torture("raft", nemesis="kill")` -> its outcome."""
    tortures = Tortures(request.node)
    yield tortures
    tortures.end()


@pytest.fixture(name="outcome")
def _outcome(request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """The outcome of the run that `@splitbrain.torture` asks for."""
    marker = request.node.get_closest_marker(MARKER)
    if marker is None or not marker.args:
        raise pytest.UsageError(
            "the fixture outcome is for tests that @splitbrain.torture decorates"
        )
    ask: Any = dict(marker.kwargs)
    seeds, unknown = ask.pop("seeds", 1), ask.pop("unknown", "fail")
    tortures = Tortures(request.node)
    outcome, problem = tortures.attempt(marker.args[0], seeds, unknown, ask)
    request.node.stash[_PROBLEM] = problem
    yield outcome
    tortures.end()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail a decorated test here: in its setup, a violation would count as an error."""
    problem = item.stash.get(_PROBLEM, None)
    if problem is not None:
        raise problem
    marker = item.get_closest_marker(MARKER)
    if marker is not None and marker.args and _PROBLEM not in item.stash:
        raise pytest.UsageError(
            "nothing was run: use @splitbrain.torture, which marks the test, too, and "
            "call no other fixture outcome"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell our errors by their message alone: where we raised them helps nobody."""
    report = yield
    if not report.failed:
        return report
    item.stash[_FAILED] = True
    if call.excinfo is None:
        return report
    is_verdict = call.excinfo.errisinstance((Violation, Undecided))
    if is_verdict or hasattr(call.excinfo.value, OURS):
        told = call.excinfo.getrepr(style="value", chain=False)
        for note in getattr(call.excinfo.value, "__notes__", ()):
            told.reprtraceback.reprentries[0].lines += note.split("\n")
        report.longrepr = told
        vars(report)[OURS] = not is_verdict
    return report


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """Count a failure of ours, in the middle of a test, as an error and no failure."""
    if report.when == "call" and getattr(report, OURS, False):
        return "error", "E", "ERROR"
    return None
