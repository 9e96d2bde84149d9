"""Java, for systems that run on it: where it is, and how small servers are started."""

from __future__ import annotations

import shutil
from typing import Final

from harness.errors import NotInstalledError

SMALL: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
"""Flags of small servers that start soon. The size of their heap is up to them."""


def java() -> str:
    """The Java on PATH.

    Raises:
        NotInstalledError: There is none.
    """
    path = shutil.which("java")
    if path is None:
        text = "java is not installed: apt-get install default-jre-headless"
        raise NotInstalledError(text)
    return path
