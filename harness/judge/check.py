"""Checks history files of any origin: the work of `splitbrain check`.

Each file is judged by itself and has one result, under the file's name as it was given.
A file that can't be read has an error instead of a verdict.

Limits hold for each file. Checkers stop by themselves when their time is up and then
say what they proved; an alarm a little later stops a checker that doesn't. Memory is
limited by the kernel: allocations past the limit fail, the check unwinds, and the
answer is UNKNOWN; without the limit the machine would begin to swap or kill. Code
written in C may crash instead, so `splitbrain check` judges in a child
(`harness.host.apart`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import resource
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import (
    EXIT_HARNESS,
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    EXIT_VALID,
)
from harness.history import Bystander, HistoryError
from harness.history.formats import load, path_of
from harness.host.scarcity import limits as limits_of_process
from harness.judge.advice import advice
from harness.report import listing, tally
from harness.verdict import (
    CheckResult,
    Limits,
    Observing,
    Streaming,
    Verdict,
    check_safe,
    nothing_to_judge,
    where_vacuous,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from harness.history import History
    from harness.verdict import Checker

ALARM_GRACE_S = 0.5
"""How long after its time limit an alarm stops a check."""

_EXIT_STATUSES = {
    Verdict.VALID: EXIT_VALID,
    Verdict.UNKNOWN: EXIT_UNKNOWN,
    Verdict.INVALID: EXIT_INVALID,
}


@dataclass
class FileResult:
    """The result of the check of one file.

    Attributes:
        file: The path, as given.
        result: The checker's answer; UNKNOWN if the file couldn't be read.
        ops: Events in the history.
        seconds: Wall-clock time for reading and checking.
        error: Why the file couldn't be read, or empty.
        history: The history, for `judge.text`; None if it couldn't be read, or is no
            longer kept.
        checker: The checker, for explanations; as long as the history is kept.
    """

    file: str
    result: CheckResult
    ops: int = 0
    seconds: float = 0.0
    error: str = ""
    history: History | None = None
    checker: Checker | None = None

    @property
    def verdict(self) -> Verdict:
        """The checker's verdict."""
        return self.result.verdict

    @property
    def has_crashed(self) -> bool:
        """Whether the checker crashed, which is our failure and no verdict."""
        return bool(self.result.stats.get("crashed"))

    @property
    def exit_status(self) -> int:
        """The exit status of a check of this file alone."""
        if self.has_crashed:
            return EXIT_HARNESS
        return EXIT_USAGE if self.error else _EXIT_STATUSES[self.verdict]

    def as_json(self) -> dict[str, Any]:
        """The line of `check --json`; it tells no lines if `history` is gone."""
        out: dict[str, Any] = {
            "file": self.file,
            # Bad input and our own failures are no verdicts.
            "verdict": None if self.error or self.has_crashed else str(self.verdict),
            "anomalies": dict(tally.of_result(self.result).names),
            **listing.anomalies(self.result, self.history),
            "not": list(self.result.not_models),
            "stats": listing.stats(self.result),
            "ops": self.ops,
            "seconds": round(self.seconds, 6),
        }
        if self.error:
            out["error"] = self.error
        elif self.result.reason:
            out["reason"] = self.result.reason
        own = [] if self.history is None else [self.history.remark]
        if remarks := [*filter(None, own), *self.result.remarks]:
            out["remarks"] = remarks
        if "plan" in self.result.stats:
            out["plan"] = self.result.stats["plan"]
        return out


def judge_of(
    checker_name: str,
    options: Mapping[str, str],
    format: str = "auto",  # noqa: A002  # the word on the command line
    limits: Limits = Limits(),  # noqa: B008  # frozen
    *,
    independent: bool | None = None,
    strict: bool | None = None,
    vacuous: Verdict = Verdict.UNKNOWN,
) -> Callable[[str | os.PathLike[str]], FileResult]:
    """A function that judges a file, or a run folder, with the checker of that name.

    Args:
        checker_name: The checker's name, as in `splitbrain list`.
        options: The checker's options, its model and consistency among them.
        format: One of `harness.history.formats.FORMATS`.
        limits: The limits for each file, reading included.
        independent: Split `[key value]` of Jepsen's independent keys; None does so if
            the values can be nothing else.
        strict: Refuse events that don't pair up; None does so for our own run folders.
        vacuous: The verdict on a history with nothing to judge.

    Raises:
        UsageError: There is no such checker, or not with these options. It is raised
            before any file is read.
    """
    plugin = registry.find("checker", checker_name)
    checker: Checker = plugin.factory(dict(options))
    defaults = {option.name: option.default for option in plugin.options}
    model = options.get("model") or defaults.get("model") or ""

    def judge(path: str | os.PathLike[str]) -> FileResult:
        return _check_file(
            os.fspath(path),
            checker,
            lambda history: advice(history, plugin.name, model),
            limits,
            vacuous,
            format=format,
            independent=independent,
            strict=strict,
        )

    return judge


def died(path: str, how: str, limits: Limits) -> FileResult:
    """The result for a file if the process that judged it has died.

    If memory is limited, that is nearly always the cause: code written in C crashes or
    ends the process where Python raises MemoryError.
    """
    if limits.memory_mb is None:
        reason = f"the process that judged it {how}{limits_of_process()}"
        result = CheckResult(Verdict.UNKNOWN, reason=reason, stats={"crashed": True})
    else:
        reason = (
            f"it seems to need more than {limits.memory_mb} MB: the process that "
            f"judged it {how}"
        )
        result = CheckResult(Verdict.UNKNOWN, reason=reason)
    return FileResult(path, result)


def exit_status(statuses: Iterable[int]) -> int:
    """The exit status for several files: that of the gravest one.

    Our own failure is graver than bad input, bad input than an invalid history, and an
    invalid one than an unknown one. No file at all is bad input.
    """
    given = set(statuses)
    ranking = (EXIT_HARNESS, EXIT_USAGE, EXIT_INVALID, EXIT_UNKNOWN, EXIT_VALID)
    return next((status for status in ranking if status in given), EXIT_USAGE)


# One file, within limits


class _TimeIsUpError(BaseException):
    """The alarm that stops a check which doesn't watch the time.

    It is no Exception, so that a checker that handles all exceptions of its user's
    model does not catch it.
    """


def _check_file(
    path: str,
    checker: Checker,
    advise: Callable[[History], str],
    limits: Limits,
    vacuous: Verdict,
    **how_to_load: Any,
) -> FileResult:
    start_s = time.monotonic()
    history: History | None = None
    error = ""
    try:
        with _memory_limited(limits.memory_mb), _alarm(limits.time_s):
            lean = isinstance(checker, Streaming) and checker.streams
            history = load(path_of(path), lean=lean, **how_to_load)
            left = _what_is_left(limits, start_s)
            if len(history):
                result = check_safe(_Guarded(checker), history, left)
            else:
                result = _empty(path, **how_to_load)
            result = _beside_bystanders(result, history, checker)
            if result.vacuous:
                # The cause may be that the wrong checker was asked.
                said = result.reason + advise(history)
                result = dataclasses.replace(result, reason=said)
                result = where_vacuous(result, vacuous)
    except HistoryError as problem:
        error = str(problem)
        if history is not None:
            error = _placed(error, history) + advise(history)
        result = CheckResult(Verdict.UNKNOWN)
    except (MemoryError, _TimeIsUpError) as problem:
        result = _out_of(problem, limits, "checking" if history else "reading the file")
    return FileResult(
        file=path,
        result=result,
        ops=0 if history is None else len(history),
        seconds=time.monotonic() - start_s,
        error=error,
        history=history,
        checker=checker,
    )


def _beside_bystanders(
    result: CheckResult, history: History, checker: Checker
) -> CheckResult:
    """`result` with a remark about the events of bystanders, which were passed over.

    If they are more than those of clients, a valid history becomes unknown: the program
    that recorded it may have meant them for clients.
    """
    observes = isinstance(checker, Observing) and checker.observes
    if not history.bystanders or observes:
        return result
    passed_over = sum(type(op.process) is Bystander for op in history)
    names = sorted(history.bystanders)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    told = ", ".join(f"{name!r:.60}" for name in names[:5]) + more
    remark = (
        f"{passed_over} of {len(history)} events were passed over: those of {told}, "
        "who never invoke anything"
    )
    result = dataclasses.replace(result, remarks=(*result.remarks, remark))
    clients = sum(op.is_client for op in history)
    if result.verdict is Verdict.VALID and passed_over > clients:
        reason = "most of the history was passed over"
        return dataclasses.replace(result, verdict=Verdict.UNKNOWN, reason=reason)
    return result


def _empty(path: str, *, format: str, **_: Any) -> CheckResult:  # noqa: A002  # as above
    """The result of any checker for a file without operations.

    Raises:
        HistoryError: The file is said to be JSON lines, and has none.
    """
    if format == "jsonl":
        raise HistoryError(
            f"{path}: an empty file, not JSON lines: there is nothing to judge"
        )
    reason = nothing_to_judge("the file holds no operation")
    return CheckResult(Verdict.UNKNOWN, reason=reason)


def _placed(error: str, history: History) -> str:
    """A checker's complaint about `op 7`, with the line of that op."""
    match = re.match(r"(.*?): op (\d+): ", error)
    if match is None or match[1] != history.source or int(match[2]) >= len(history):
        return error
    index = int(match[2])
    return f"{history.place(index)}: op {index}: {error[match.end() :]}"


@dataclass(frozen=True)
class _Guarded:
    """A checker for which running out of memory or time is UNKNOWN, and no crash.

    So is running out of stack: values may be nested deeper than a checker can recurse.
    """

    checker: Checker

    def check(self, history: History, limits: Limits) -> CheckResult:
        try:
            return self.checker.check(history, limits)
        except RecursionError:
            raise HistoryError(
                f"{history.source}: a value is nested too deep for this checker"
            ) from None
        except (MemoryError, _TimeIsUpError) as problem:
            return _out_of(problem, limits, "checking")


def _out_of(problem: BaseException, limits: Limits, doing: str) -> CheckResult:
    if isinstance(problem, _TimeIsUpError):
        reason = f"the time limit passed while {doing}"
    elif limits.memory_mb is None:
        reason = f"memory ran out while {doing}"
    else:
        reason = f"the memory limit of {limits.memory_mb} MB was reached while {doing}"
    return CheckResult(Verdict.UNKNOWN, reason=reason)


def _what_is_left(limits: Limits, start_s: float) -> Limits:
    if limits.time_s is None:
        return limits
    left_s = max(0.0, limits.time_s - (time.monotonic() - start_s))
    return dataclasses.replace(limits, time_s=left_s)


@contextlib.contextmanager
def _memory_limited(memory_mb: int | None) -> Iterator[None]:
    """Let this process allocate at most `memory_mb` more; MemoryError past that.

    RLIMIT_DATA counts private writable pages that are mapped, which is close to the
    resident ones. RLIMIT_AS would also count memory that threads and libraries reserve
    and never touch. Without /proc the memory in use is not known, so there is no limit.
    """
    used = _data_bytes()
    if memory_mb is None or used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + (memory_mb << 20)
    ceilings = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *ceilings]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text().split()[5]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()


@contextlib.contextmanager
def _alarm(time_s: float | None) -> Iterator[None]:
    """Raise _TimeIsUpError a little after `time_s`; in the main thread only."""
    if time_s is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise _TimeIsUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, time_s + ALARM_GRACE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
