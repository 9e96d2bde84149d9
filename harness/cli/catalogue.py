"""The tables of `splitbrain list`, made from the registry."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import UsageError
from harness.report import glossary
from harness.run import asking
from harness.systems import mutants, services

if TYPE_CHECKING:
    from harness.systems.system import System

OURS = ("raft", "two_phase_commit", "paxos", "zab")
"""Reference systems, for examples: they need nothing that has to be installed."""
TITLES = {
    "system": "systems",
    "workload": "workloads",
    "nemesis": "nemeses",
    "checker": "checkers",
}


def broken() -> list[registry.Broken]:
    """Plug-ins of others that can't be used, of every kind."""
    return [flaw for kind in TITLES for flaw in registry.survey(kind)[1]]


def as_json() -> dict[str, Any]:
    """Every plug-in by kind, with its options."""
    out: dict[str, Any] = {}
    for kind, title in TITLES.items():
        out[title] = [
            {
                "name": plugin.title,
                "summary": plugin.summary,
                **_services(kind, plugin),
                "aliases": list(plugin.aliases),
                "options": [
                    {
                        "name": option.name,
                        "default": option.default,
                        "meaning": option.meaning,
                        "takes": option.kind.told,
                        "choices": list(getattr(option.kind, "choices", ())),
                    }
                    for option in plugin.options
                ],
            }
            for plugin in registry.plugins(kind).values()
        ]
    out["profiles"] = [
        {"name": word, "summary": f"--nemesis {word}: {meaning}"}
        for word, meaning in asking.WORDS.items()
    ]
    out["services"] = [
        {"name": name, "summary": meaning}
        for name, meaning in services.SERVICES.items()
    ]
    models = importlib.import_module("checkers.linearizability.models").MODELS
    out["models"] = [
        {"name": name, "summary": model.summary} for name, model in models.items()
    ]
    out["mutants"] = [
        {
            "name": mutant.name,
            "protocol": protocol,
            "summary": f"{protocol}: {mutant.rule} ({mutant.source})",
            "anomalies": list(mutant.anomalies),
            "workload": mutant.workload,
            "nemesis": list(mutant.nemesis),
        }
        for protocol, known in mutants.every().items()
        for mutant in known.values()
    ]
    return out


def _services(kind: str, plugin: registry.Plugin[Any]) -> dict[str, Any]:
    """The services that a system speaks or a workload needs; null without options."""
    if kind == "system":
        spoken = services.spoken_by(plugin)
        return {"speaks": None if spoken is None else sorted(spoken)}
    if kind == "workload":
        needed = services.needed_by(plugin)
        return {"needs": None if needed is None else sorted(needed)}
    if kind == "nemesis":
        nemesis = registry.by_default(plugin, {})
        asks = isinstance(nemesis, services.Asking)
        return {"needs": sorted(nemesis.requires)} if asks else {}
    return {}


def about(name: str) -> dict[str, Any]:
    """All that is called `name`, by kind: plug-ins, models, mutants, an anomaly.

    Raises:
        UsageError: Nothing is.
    """
    tables = as_json()
    found = {
        title: same
        for title, entries in tables.items()
        if (same := [e for e in entries if name in _names_of(e)])
    }
    for title, entries in found.items():
        for entry in entries:
            entry.update(_beside(title, entry["name"]))
    if told := glossary.entry(name):
        found["anomalies"] = [
            {"name": name, "summary": told.meaning, "source": told.source}
        ]
    if not found:
        known = {
            n for entries in tables.values() for e in entries for n in _names_of(e)
        }
        near = registry.nearest(name, [*sorted(known), *glossary.names()])
        raise UsageError(
            f"there is nothing called {name!r}{near}; splitbrain list has all plug-ins"
        )
    return found


def _beside(title: str, name: str) -> dict[str, Any]:
    """What a plug-in runs with, and a command to begin with."""
    plain = name.partition(":")[0]
    if title == "systems":
        plugin = registry.find("system", plain)
        system: System | None = registry.by_default(
            plugin, "true" if plugin.adapter else "", {}
        )
        first = f"splitbrain run {name.replace('...', 'COMMAND')} --nemesis all"
        if system is None:
            return {"try": first}
        nemeses = {
            kind: registry.by_default(one, {})
            for kind, one in registry.plugins("nemesis").items()
        }
        return {
            "workloads": services.served(system),
            "faults": [
                kind
                for kind, nemesis in sorted(nemeses.items())
                if nemesis is not None and not services.why_spared(system, nemesis)
            ],
            "try": first,
        }
    if title == "workloads":
        needed = services.needed_by(registry.find("workload", plain)) or frozenset()
        systems = [
            plugin.title
            for plugin in registry.plugins("system").values()
            if (spoken := services.spoken_by(plugin)) is not None
            and not services.unspoken(spoken, needed)
        ]
        example = next((one for one in OURS if one in systems), "SYSTEM")
        return {
            "systems": systems,
            "try": f"splitbrain run {example} --workload {name}",
        }
    if title == "nemeses":
        return {"try": f"splitbrain run raft --nemesis {name}"}
    if title == "checkers":
        return {"try": f"splitbrain check HISTORY --checker {name}"}
    if title == "models":
        return {"try": f"splitbrain check HISTORY --model {name}"}
    if title == "mutants":
        return {"try": f"splitbrain explore PROTOCOL --mutant {name} --world sim"}
    return {}


def _names_of(entry: dict[str, Any]) -> set[str]:
    name = entry["name"]
    return {name, name.removesuffix(":..."), *entry.get("aliases", ())}


def as_text(tables: dict[str, Any]) -> str:
    """Tables for people: a line per plug-in, its options indented below."""
    lines = []
    for title, entries in tables.items():
        lines.append(title)
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            lines.append(f"  {entry['name'].ljust(width)}  {entry['summary']}")
            if source := entry.get("source"):
                lines.append(f"  {' ' * width}  Source: {source}")
            for verb in ("speaks", "needs"):
                if named := entry.get(verb):
                    told = ", ".join(named)
                    if named == [services.EVERY]:
                        told = "whatever its nodes serve"
                    lines.append(f"  {' ' * width}    {verb} {told}")
            if aliases := entry.get("aliases"):
                lines.append(f"  {' ' * width}    also called {', '.join(aliases)}")
            lines += [
                f"  {' ' * width}    {what}: {', '.join(entry[what])}"
                for what in ("workloads", "systems", "faults")
                if entry.get(what)
            ]
            if command := entry.get("try"):
                lines.append(f"  {' ' * width}    try: {command}")
            for option in entry.get("options", ()):
                default = option["default"] or "none"
                lines.append(
                    f"  {' ' * width}    {option['name']}={default}: "
                    f"{option['meaning']} ({option['takes']})"
                )
        lines.append("")
    return "\n".join(lines).rstrip()
