"""How Hypothesis searches, for all tests.

A busy machine is no failure: examples have no deadline, and may take long to draw.
`make test` gives every property fifty examples, and a hundred where a
checker is compared with the definition (`checkers/tests/histories.py`). `make nightly`
gives twenty thousand; tests that want more or fewer say so as a share of the profile's,
so that they grow with it, as do the seeds of sweeps
(`reference_impls/tests/seeds.py`). Tests marked `nightly` run there alone.

Where it sees a CI machine, Hypothesis draws the same examples in every run. That suits
a change under review; a night that finds what the last one found is wasted, so each
draws its own, and prints what it takes to try a failure again.

A run that is given no seed draws one, and a test over it would pass or fail by luck:
within a test that draw is always the same.

Tests start hundreds of processes of ours. Where bytecode must not be written beside the
sources, each of them would compile a hundred modules anew, for a third of a second. So
it is kept in pytest's own cache then. In a fresh checkout, each worker of xdist would
rewrite the assertions of all tests; the others wait for the first one.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator

CACHE = Path(__file__).parent / ".pytest_cache"

if sys.dont_write_bytecode and sys.pycache_prefix is None:
    sys.pycache_prefix = str(CACHE / "bytecode")
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile(
    "everyday",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "nightly",
    settings.get_profile("everyday"),
    max_examples=20_000,
    derandomize=False,
    print_blob=True,
)
settings.load_profile("everyday")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect one worker after the other, if none has done so before."""
    collected = CACHE / "collected"
    if not hasattr(session.config, "workerinput") or collected.exists():
        return (yield)
    try:
        CACHE.mkdir(exist_ok=True)
        lock = (CACHE / "collecting").open("w")
    except OSError:  # a checkout that is not ours to write to
        return (yield)
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if collected.exists():
            fcntl.flock(lock, fcntl.LOCK_UN)
        result = yield
        collected.touch()
        return result


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed what a run without `--seed` draws from."""
    random.seed(item.nodeid)
