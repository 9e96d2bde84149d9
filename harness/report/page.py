"""Writes report.html: one file, no external resource, readable without scripts.

Theory of operation. `folder.load` reads the run folder, `story.tell` puts the run into
words, `columns.run_columns` packs the data that the scripts draw, and the template lays
all of it out. Every string passes through jinja2's autoescape or `columns.inline_json`.
As a second wall the page carries a content security policy that allows exactly one
script, by its hash, and no network at all; a tag that slipped through would be inert.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from harness.faults.states import Effect
from harness.report import (
    chances,
    columns,
    figures,
    glossary,
    lastwords,
    loglines,
    points,
    reasons,
    sentences,
    spacetime,
    story,
    tally,
    witness,
)
from harness.report.folder import (
    SHRUNK,
    load,
    mapping,
    sequence,
    string,
    strings,
    whole,
)
from harness.run.records import WHOLE
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.report.folder import Recording
    from harness.report.story import Story

SCRIPTS = (
    # pure
    "axis.js",
    "placing.js",
    "query.js",
    "address.js",
    # the data, and what all plots do alike
    "core.js",
    # what is shown, chosen and looked for
    "filters.js",
    "pins.js",
    "cursors.js",
    # pictures
    "roles.js",
    "messages.js",
    "timeline.js",
    "points.js",
    "plots.js",
    "logs.js",
    "lines.js",
    "minimap.js",
    # doors
    "search.js",
    "keys.js",
    "link.js",
    "main.js",
)
STYLES = ("palette.css", "style.css", "witness.css")
ANOMALIES_OPEN = 3
TABLE_CALLS_MAX = 40
FAULTS_LISTED_MAX = 200
REASONS_SHOWN_MAX = 50
LINKS_MAX = 32

RAW_FILES = (
    "test.yaml",
    "plan.yaml",
    "history.jsonl",
    "faults.jsonl",
    "clocks.jsonl",
    "errors.jsonl",
    "resources.jsonl",
    "logtimes.jsonl",
    "run.json",
    "verdict.json",
    "why.json",
    "messages.jsonl",
    "network.pcap",
    "shrunk/plan.yaml",
    SHRUNK,
)


def write_report(run_dir: Path, asked: str | None = None) -> Path:
    """Write `run_dir`/report.html and return its path.

    Args:
        run_dir: The run folder.
        asked: What linearization points are wanted of, as for `points.of_run`.
    """
    folder = load(run_dir)
    told = story.tell(folder)
    shown = points.of_run(folder, told.anomalies, asked)
    data, packed = columns.run_columns(told, shown)
    page = render(
        "report.html",
        story=told,
        sentences=sentences.told(told),
        folder=folder,
        points=shown,
        far=shown.far,
        script=script(),
        data=trusted(columns.inline_json(data)),
        packed=trusted(packed),
        facts=facts(told),
        checkers=story.checkers(folder.verdict),
        crashes=story.crashes(folder),
        last_words=lastwords.last_words(folder),
        reasons=reasons.reasons(folder),
        network=network_matrix(folder),
        latencies=columns.latency_table(folder.calls),
        options=options(folder),
        why=chances.read(run_dir),
        shrunk=SHRUNK if (run_dir / SHRUNK).is_file() else "",
        raw_files=[name for name in RAW_FILES if (run_dir / name).exists()],
    )
    return write_page(run_dir / "report.html", page)


def write_page(path: Path, page: str) -> Path:
    """Replace the file at `path` in one step, so that nobody reads half a page."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    with scratch.open("xb") as file:  # and not through a link that was there
        file.write(visible(page).encode())
    scratch.replace(path)
    return path


# Templates


def render(template: str, **context: Any) -> str:
    """The template of that name with the styles and the policy inlined."""
    return _environment().get_template(template).render(style=styles(), **context)


@cache
def styles() -> Markup:
    """All style sheets as one."""
    return trusted("".join(map(asset, STYLES)))


@cache
def _environment() -> jinja2.Environment:
    return environment(asset)


def environment(find: Callable[[str], str]) -> jinja2.Environment:
    """What templates are rendered with; `find` gives a template's text by its name."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(find),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": figures.count,
        "duration": figures.duration,
        "moment": figures.moment,
        "plain": figures.plain,
        "value": figures.value,
        "clip": figures.clip,
        "visible": visible,
        "mapping": mapping,
        "sequence": sequence,
        "string": string,
        "log_lines": log_lines,
        "trouble_count": lastwords.trouble_count,
        "busy": busy,
        "idle": idle,
        "href": href,
        "plural": figures.plural,
        "tally": tally.of_json,
        "fault_class": spacetime.fault_class,
        "edge_class": spacetime.edge_class,
    }
    environment.globals |= {
        "lasted": story.lasted,
        "struck_nodes": story.struck_nodes,
        "evidence_pairs": story.evidence_pairs,
        "picture": spacetime.picture,
        "chart_of_chances": chances.chart,
        "edge_text": witness.edge_text,
        "who": witness.who,
        "meaning": glossary.entry,
        "script_hash": script_hash,
        "ANOMALIES_OPEN": ANOMALIES_OPEN,
        "TABLE_CALLS_MAX": TABLE_CALLS_MAX,
        "EFFECTS": get_args(Effect),
        "FAULTS_LISTED_MAX": FAULTS_LISTED_MAX,
        "REASONS_SHOWN_MAX": REASONS_SHOWN_MAX,
    }
    return environment


@cache
def asset(name: str) -> str:
    """The text of a file of `harness.report.assets`."""
    return (resources.files("harness.report.assets") / name).read_text("utf-8")


@cache
def script() -> Markup:
    """All scripts as one, in a scope of their own; they are ours, so trusted."""
    return trusted(
        "(async () => {\n'use strict';\n" + "\n".join(map(asset, SCRIPTS)) + "\n})();"
    )


def trusted(text: str) -> Markup:
    """`text` unescaped, for our own files, and JSON made safe by `inline_json`."""
    return Markup(text)  # noqa: S704 (the callers are few and all of them here)


def script_hash(text: str) -> str:
    """`text` as a source of a content security policy."""
    digest = hashlib.sha256(str(text).encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def href(path: str) -> str:
    """A relative link to a file: never a scheme, never another host."""
    return "./" + quote(path.lstrip("/"))


# Data in the shapes that the template needs


def facts(told: Story) -> list[tuple[str, str]]:
    """The figures beside the verdict, as (name, value)."""
    test = told.folder.test
    kinds = [kind.kind for kind in told.fault_kinds]
    ended = string(told.folder.run.get("ended"), "not recorded")
    rows = [
        ("System", told.system),
        ("Workload", string(test.get("workload"))),
        ("Faults", ", ".join(strings(test.get("nemesis")) or kinds) or "none"),
        ("Nodes", str(len(told.folder.nodes) or "")),
        ("Clients", string(test.get("concurrency"))),
        ("Seed", told.seed),
        ("Duration", figures.duration(told.seconds * 1e9)),
        (
            "World",
            " / ".join(
                filter(None, map(string, (test.get("world"), test.get("rung"))))
            ),
        ),
        ("In doubt", told.in_doubt),
        ("Started", _utc(test.get("started_utc"))),
        ("Ended", "" if ended in WHOLE else ended),
        ("Convicted", told.convicted),
    ]
    return [(name, figures.clip(text, 80)) for name, text in rows if text]


def _utc(started: Any) -> str:
    """2025-11-23T02:31:07Z -> "2025-11-23 02:31:07 UTC"."""
    text = string(started).replace("T", " ", 1)
    return re.sub(r"(\.\d+)?(Z|\+00:00)$", " UTC", text)


def options(folder: Recording) -> list[tuple[str, str]]:
    """test.yaml flattened to (name, value), nested names joined by dots.

    `spec` is left out, as it repeats the rest for programs, and so is the command,
    which stands at the top of the page.
    """
    test = {k: v for k, v in folder.test.items() if k not in {"spec", "repro"}}
    return [
        (visible(".".join(path)), figures.plain(leaf, 500))
        for path, leaf in figures.leaves(test)
    ][:200]


def network_matrix(folder: Recording) -> dict[str, Any]:
    """Counters per link as a matrix: nodes, and cells by (source, target)."""
    cells: dict[tuple[str, str], dict[str, int]] = {}
    for link, counters in mapping(folder.run.get("network")).items():
        source, arrow, target = string(link).partition("->")
        if arrow:
            cells[source.strip(), target.strip()] = {
                string(name).replace("_", " "): whole(amount)
                for name, amount in mapping(counters).items()
            }
    ends = {end for link in cells for end in link}
    nodes = [node for node in folder.nodes if node in ends]
    nodes += sorted(ends - set(nodes))
    most = max((cell.get("forwarded", 0) for cell in cells.values()), default=0)
    return {"nodes": nodes[:LINKS_MAX], "cells": cells, "most": max(most, 1)}


def busy(counters: dict[str, Any]) -> dict[str, Any]:
    """The counters that are not zero."""
    return {name: amount for name, amount in counters.items() if amount != 0}


def idle(counters: dict[str, Any]) -> list[str]:
    """The names of the counters that are zero."""
    return [name for name, amount in counters.items() if amount == 0]


def log_lines(text: str) -> Markup:
    """A log's lines, escaped, with errors and warnings marked."""
    return Markup("\n").join(map(_log_line, text.splitlines()))


def _log_line(line: str) -> Markup | str:
    text = figures.clip(visible(line), 1000)
    mark = ("", "warning", "trouble")[loglines.level(text)]
    return Markup('<mark class="{}">{}</mark>').format(mark, text) if mark else text
