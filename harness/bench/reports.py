"""The rows of reports: what they cost to build, and what a reader in a browser feels.

The page that a browser opens is a copy without its content security policy, with a
script of ours at its end, which drags the timeline about and counts frames. It tells
what it saw on the console; Chromium prints that to its standard error.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.bench import children
from harness.bench.figures import Budget
from harness.bench.rows import Lab, Row, SkippedError, column, scratch

if TYPE_CHECKING:
    from harness.bench.figures import Figure

LIMIT_S = 120.0
PAN_S = 3.0

_SAID = re.compile(r'"seen (\{.*?\})"')
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
_ASKS = """
<script>
const frame = () => new Promise(requestAnimationFrame);
(async () => {
  // The last script's last deed is to let the plots draw.
  while (document.getElementById('legend').children.length === 0) await frame();
  await frame(); await frame();
  const opened_s = performance.now() / 1000;
  const canvas = document.getElementById('lanes'), box = canvas.getBoundingClientRect();
  const at = (type, x) => canvas.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, bubbles: true, clientX: box.x + x, clientY: box.y + 200, buttons: 1,
  }));
  canvas.setPointerCapture = () => {};
  document.querySelector('[data-do=in]').click();
  document.querySelector('[data-do=in]').click();
  at('pointerdown', 600);
  let frames = 0, longest_ms = 0, last = performance.now();
  const begun = last;
  while (last - begun < PAN_MS) {
    at('pointermove', 600 + 150 * Math.sin(frames / 10));
    await frame();
    const now = performance.now();
    longest_ms = Math.max(longest_ms, now - last);
    last = now;
    frames++;
  }
  at('pointerup', 600);
  const frames_per_s = frames / (last - begun) * 1000;
  console.log('seen ' + JSON.stringify({opened_s, frames_per_s, longest_ms}));
})();
</script>
"""


@dataclass(frozen=True)
class ReportRow:
    """Measures the report of a run of so many operations that was judged before.

    Attributes:
        calls: How many operations.
        build_s: The budget for building it, in seconds.
        opened_s: The budget for opening it.
        size_mib: The budget for its size.
    """

    calls: int
    build_s: float
    opened_s: float
    size_mib: float

    def __call__(self, lab: Lab, row: Row) -> list[Figure]:
        """The figures of the row; without a browser, those of building it only."""
        with scratch(lab) as folder:
            made = children.measure("make_run", folder=folder, calls=self.calls)
            answers = [
                children.measure("report", run=made["run"]) for _ in range(lab.repeat)
            ]
            report = Path(made["run"]) / "report.html"
            build = row.figure("build", "s", column(answers, "seconds"))
            size = row.figure("size", "MiB", column(answers, "size_mib"))
            memory = row.figure("peak memory", "MiB", column(answers, "peak_mib"))
            figures = [
                replace(build, budget=Budget(self.build_s)),
                replace(size, budget=Budget(self.size_mib)),
                replace(memory, detail=True),
            ]
            try:
                seen = [look(report, Path(folder)) for _ in range(lab.repeat)]
            except SkippedError as why:
                return [replace(figures[0], remark=str(why)), *figures[1:]]
        opened = row.figure("open", "s", [each.opened_s for each in seen])
        panned = row.figure("pan", "frames/s", [each.frames_per_s for each in seen])
        return [
            *figures,
            replace(opened, budget=Budget(self.opened_s)),
            replace(panned, budget=Budget(30, "at_least")),
        ]


def rows() -> list[Row]:
    """A large report and a huge one."""
    return [
        Row(
            "report/100k",
            "report of 100k operations",
            ReportRow(100_000, build_s=3, opened_s=1, size_mib=10),
        ),
        Row(
            "report/1m",
            "report of 1M operations",
            ReportRow(1_000_000, build_s=30, opened_s=3, size_mib=60),
            full_only=True,
        ),
    ]


class Seen(NamedTuple):
    """What a reader feels.

    Attributes:
        opened_s: From the start of loading until the plots are drawn.
        frames_per_s: Frames a second while the timeline is dragged about.
        longest_ms: The longest time between two frames meanwhile.
    """

    opened_s: float
    frames_per_s: float
    longest_ms: float


def look(report: Path, folder: Path) -> Seen:
    """Open a report in headless Chromium, and pan; scratch files go into `folder`.

    Raises:
        SkippedError: There is no Chromium here, or it does not work.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SkippedError("no chromium here")
    page = folder / "measured.html"
    text = _POLICY.sub("", report.read_text("utf-8"), count=1)
    asks = _ASKS.replace("PAN_MS", str(PAN_S * 1000))
    page.write_text(text.replace("</body>", f"{asks}</body>"), "utf-8")
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += ["--no-first-run", "--disable-background-networking"]
    command += ["--disable-component-update", "--disable-sync"]
    command += ["--enable-logging=stderr", "--window-size=1400,1000"]
    command += [f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    browser = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        return _said_by(browser)
    finally:
        os.killpg(browser.pid, signal.SIGKILL)  # it is the leader of its group
        browser.wait()
        page.unlink()


def _said_by(browser: subprocess.Popen[bytes]) -> Seen:
    assert browser.stderr is not None
    deadline_s = time.monotonic() + LIMIT_S
    log = ""
    with selectors.DefaultSelector() as selector:
        selector.register(browser.stderr, selectors.EVENT_READ)
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not selector.select(left_s):
                break
            chunk = os.read(browser.stderr.fileno(), 1 << 16)
            log += chunk.decode(errors="replace")
            if found := _SAID.search(log):
                return Seen(**json.loads(found[1].replace('\\"', '"')))
            if not chunk:
                break
    last = [line for line in log.splitlines() if line.strip()][-1:]
    raise SkippedError(f"chromium does not run here: {''.join(last)[:200]}")
