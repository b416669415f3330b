"""Sandboxes: the only place where code of strangers runs. `choose()` picks the one this machine can offer."""

from workers.sandbox.choose import Nowhere, Probe, choose, probe, stack_name
from workers.sandbox.spec import Callbacks, Limits, Sandbox, SandboxResult, SandboxSpec, Stop, Verdict

__all__ = [
    "Callbacks",
    "Limits",
    "Nowhere",
    "Probe",
    "Sandbox",
    "SandboxResult",
    "SandboxSpec",
    "Stop",
    "Verdict",
    "choose",
    "probe",
    "stack_name",
]
