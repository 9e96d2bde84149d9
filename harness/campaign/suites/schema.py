"""The JSON schema of suite files, made from the types that read them.

Editors complete and check a file whose first line is

    # yaml-language-server: $schema=schema.json

with the schema beside it (`splitbrain suite --schema > schema.json`). What a schema
can't say, such as which options a system has, `reading` says.
"""

from __future__ import annotations

import inspect
import json
import re

import msgspec

from harness.campaign.suites.reading import (
    INCLUDE_KEYS,
    PROFILE_KEYS,
    ROW_KEYS,
    SUITE_KEYS,
    Keep,
)
from harness.campaign.suites.rows import Row
from harness.run.spec import TestSpec

ID = "https://json-schema.org/draft/2020-12/schema"
TIME = {
    "anyOf": [
        {"type": "number", "minimum": 1, "maximum": 604800},
        {"type": "string", "pattern": "^[0-9]+(\\.[0-9]*)?([eE][-+]?[0-9]+)?[smh]?$"},
    ]
}


def text() -> str:
    """The schema as JSON."""
    return json.dumps(schema(), indent=2)


def schema() -> dict[str, object]:
    """The schema."""
    (row, keep), parts = msgspec.json.schema_components(
        (Row, Keep), ref_template="#/$defs/{name}"
    )
    assert row
    assert keep
    told = parts["Row"]
    fields = dict(told["properties"])
    for name, meaning in {**_meanings(TestSpec), **_meanings(Row), **ROW}.items():
        if name in fields:
            fields[name] = {**fields[name], "description": meaning}
    meaning = fields["budget"]["description"]
    fields["budget"] = {
        "anyOf": [*TIME["anyOf"], {"type": "null"}],
        "description": meaning,
    }
    meaning = fields["expect"]["description"]
    words = ["valid", "invalid"]
    fields["expect"] = {"enum": words, "default": "valid", "description": meaning}
    plain = {**fields}
    fields |= {
        "faults": {"type": "string", "description": ROW["faults"]},
        "matrix": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": f"^({'|'.join(plain)}|set\\..+)$"},
            "additionalProperties": {"type": "array", "minItems": 1},
            "description": ROW["matrix"],
        },
        "exclude": {
            "type": "array",
            "items": {"type": "object"},
            "description": ROW["exclude"],
        },
    }
    assert set(fields) == set(ROW_KEYS)
    some = {"type": "object", "additionalProperties": False, "properties": fields}
    rows = {"type": "array", "items": {"$ref": "#/$defs/Row"}, "minItems": 1}
    include = {
        "type": "object",
        "additionalProperties": False,
        "required": ["suite"],
        "properties": {
            "suite": {"type": "string"},
            "only": {"type": "string"},
            "defaults": {"$ref": "#/$defs/Row"},
        },
    }
    assert set(INCLUDE_KEYS) == {"suite", "only", "defaults"}
    one = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Include"}]}
    suite = {
        "name": {"type": "string", "description": SUITE["name"]},
        "rows": {**rows, "minItems": 0, "description": SUITE["rows"]},
        "defaults": {"$ref": "#/$defs/Row", "description": SUITE["defaults"]},
        "profiles": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {name: plain[name] for name in PROFILE_KEYS},
            },
            "description": SUITE["profiles"],
        },
        "include": {
            "anyOf": [one, {"type": "array", "items": one}],
            "description": SUITE["include"],
        },
        "budget": {**TIME, "description": SUITE["budget"]},
        "keep": {"$ref": "#/$defs/Keep", "description": SUITE["keep"]},
    }
    assert set(suite) == set(SUITE_KEYS)
    return {
        "$schema": ID,
        "title": "a suite of splitbrain",
        "anyOf": [
            rows,
            {
                "type": "object",
                "additionalProperties": False,
                "properties": suite,
            },
        ],
        "$defs": {"Row": some, "Keep": parts["Keep"], "Include": include},
    }


SUITE = {
    "name": "What the suite is called; by default as its file.",
    "rows": "What is run.",
    "defaults": "Fields of every row that does not say otherwise.",
    "profiles": "Faults by name, for rows' `faults`: nemesis, set and plan.",
    "include": "Other suites whose rows are run, too.",
    "budget": "How long a night takes: seconds, or 20m, 8h.",
    "keep": "What is kept of runs, beside every failure.",
}
ROW = {
    "name": "What the row is called; of a matrix, {field} stands for a value.",
    "expect": "The verdict that must come out.",
    "workload": "What clients do.",
    "nodes": "How many nodes; by default what the system usually has.",
    "concurrency": "Client threads.",
    "time_limit_s": "Seconds after which a run ends; in the simulator of virtual time.",
    "ops": "Client operations after which a run ends.",
    "set": "Options: of the system, or PLUGIN.option.",
    "plan": "The faults, step by step, in place of drawn ones.",
    "faults": "The profile that its faults come from.",
    "matrix": "Fields, or set.OPTION, with lists of values: a row for each choice.",
    "exclude": "Combinations of the matrix that are left out.",
}


def _meanings(kind: type) -> dict[str, str]:
    """Field -> what the `Attributes` of a docstring say about it."""
    _, _, told = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", told, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in found}
