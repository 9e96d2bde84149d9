"""The public names: all that plug-ins of others need, on one page.

A plug-in imports from here and from the standard library, and from nothing else of the
harness. The table in CONTRIBUTING.md has a sentence for each name.

    every plug-in   Plugin, Option, settings, the kinds of option, and find
    a system        System, Client, NodePlace, Launch; WireSystem or TranslatedClient to
                    build on; Software and Recipe for programs that it needs; abilities:
                    Led, Prepared, Simulated, ...
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
    Attuned,
    Cast,
    Clocked,
    Counted,
    Custom,
    Customary,
    Inspected,
    Installable,
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
from harness.systems.software import (
    ANY,
    BINARY,
    VERSION,
    Debian,
    Go,
    Install,
    Maven,
    Npm,
    PyPI,
    Recipe,
    Rust,
    Software,
)
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
from harness.workload import (
    Opening,
    Patient,
    Settling,
    WireCodec,
    Workload,
    WorkloadFactory,
)
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
    "ANY",
    "BINARY",
    "VERSION",
    "Actor",
    "Administered",
    "Anomaly",
    "Attuned",
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
    "Custom",
    "Customary",
    "Debian",
    "Endpoint",
    "Fault",
    "Flag",
    "Go",
    "Grip",
    "HarnessError",
    "History",
    "HistoryError",
    "Inspected",
    "Install",
    "Installable",
    "Installed",
    "Joining",
    "Launch",
    "Led",
    "Limits",
    "Maven",
    "Momentous",
    "Mutable",
    "Names",
    "Nemesis",
    "NemesisFactory",
    "NodePlace",
    "NodeReply",
    "NotInstalledError",
    "Now",
    "Npm",
    "Number",
    "Observe",
    "OneOf",
    "Op",
    "Opening",
    "Option",
    "OrNone",
    "Patient",
    "Persist",
    "Plugin",
    "Prepared",
    "PyPI",
    "Received",
    "Recipe",
    "Reply",
    "Rust",
    "Scaled",
    "Send",
    "SetTimer",
    "Settling",
    "Simulated",
    "Sized",
    "Skip",
    "Software",
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
