"""The public names: all that plug-ins of others need, on one page.

A plug-in imports from here and from the standard library, and from nothing else of the
harness. The table in CONTRIBUTING.md has a sentence for each name.

    every plug-in   Plugin, Option, settings, the kinds of option, and find
    a system        System, Client, NodePlace, Launch; WireSystem or TranslatedClient to
                    build on; abilities: Led, Prepared, Simulated, ...
    a workload      Workload, WireCodec, Op, and generators (`gen`)
    a nemesis       Nemesis, Fault, Strike, Skip, Grip, Capabilities
    a checker       Checker, History, Op, CheckResult, Anomaly, Verdict, Limits
    a core          Actor, its events and its effects (`reference_impls.actor`)
"""

from harness.errors import (
    HarnessError,
    NodeReply,
    NotInstalledError,
    Timeout,
    UsageError,
)
from harness.faults import Fault, Grip, Nemesis, NemesisFactory, Skip, Strike
from harness.history import History, HistoryError, Op
from harness.options import (
    Checked,
    Flag,
    Names,
    Number,
    OneOf,
    OrNone,
    Text,
    Whole,
    Words,
)
from harness.override import override
from harness.registry import Option, Plugin, find, settings
from harness.systems.abilities import (
    Administered,
    Cast,
    Clocked,
    Counted,
    Inspected,
    Installed,
    Joining,
    Led,
    Momentous,
    Mutable,
    Prepared,
    Scaled,
    Simulated,
    Sized,
    Worded,
)
from harness.systems.blocking import BlockingClient
from harness.systems.client import Client
from harness.systems.system import System, SystemFactory
from harness.systems.translated import TranslatedClient
from harness.systems.wire import WireClient
from harness.systems.wire_system import WireSystem
from harness.verdict import (
    Anomaly,
    Checker,
    CheckerFactory,
    CheckResult,
    Limits,
    Verdict,
)
from harness.workload import Patient, WireCodec, Workload, WorkloadFactory
from harness.workload import generator as gen
from harness.worlds.capabilities import Capabilities
from harness.worlds.places import Endpoint, Launch, NodePlace
from reference_impls.actor import (
    Actor,
    CancelTimer,
    Now,
    Observe,
    Persist,
    Received,
    Reply,
    Send,
    SetTimer,
    TimerFired,
)

__all__ = [
    "Actor",
    "Administered",
    "Anomaly",
    "BlockingClient",
    "CancelTimer",
    "Capabilities",
    "Cast",
    "CheckResult",
    "Checked",
    "Checker",
    "CheckerFactory",
    "Client",
    "Clocked",
    "Counted",
    "Endpoint",
    "Fault",
    "Flag",
    "Grip",
    "HarnessError",
    "History",
    "HistoryError",
    "Inspected",
    "Installed",
    "Joining",
    "Launch",
    "Led",
    "Limits",
    "Momentous",
    "Mutable",
    "Names",
    "Nemesis",
    "NemesisFactory",
    "NodePlace",
    "NodeReply",
    "NotInstalledError",
    "Now",
    "Number",
    "Observe",
    "OneOf",
    "Op",
    "Option",
    "OrNone",
    "Patient",
    "Persist",
    "Plugin",
    "Prepared",
    "Received",
    "Reply",
    "Scaled",
    "Send",
    "SetTimer",
    "Simulated",
    "Sized",
    "Skip",
    "Strike",
    "System",
    "SystemFactory",
    "Text",
    "Timeout",
    "TimerFired",
    "TranslatedClient",
    "UsageError",
    "Verdict",
    "Whole",
    "WireClient",
    "WireCodec",
    "WireSystem",
    "Worded",
    "Words",
    "Workload",
    "WorkloadFactory",
    "find",
    "gen",
    "override",
    "settings",
]
