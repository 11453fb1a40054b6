"""Errors that are expected and that somebody can act on.

    DispatchError
    ├── ConfigError             an option, a folder, a dispatch.toml or a lab file has a value that cannot be used
    │   └── CycleError          a person asks for something that a cycle cannot do, or not now
    │       └── NoCycleError    the lab has no cycle of that name
    ├── SourceError             the release or folder cannot be read
    ├── FetchError              a workload's bytes cannot be fetched, or differ from what the source announced
    ├── MachineError            a machine cannot be started (the message names what is missing, and its package)
    ├── JournalError            the journal cannot be read or written
    │   └── AwayError           its database server does not answer; the lab tries again
    ├── LabError                the lab cannot be started or reached
    └── StaleLeaseError         a request from a holder whose session was taken over

A message says what was expected, what came, and what to do. Outcomes of workloads are values, never exceptions.
"""

from __future__ import annotations


class DispatchError(Exception):
    """Base class of all errors raised on purpose."""


class ConfigError(DispatchError):
    """An option, a folder, a dispatch.toml or a lab file has a value that cannot be used.

    Attributes:
        problems: What is wrong, where that is several lines which name their file themselves; else empty.
    """

    problems: tuple[str, ...] = ()


class CycleError(ConfigError):
    """A person asked for something that a cycle cannot do, or not now."""


class NoCycleError(CycleError):
    """The lab has no cycle of that name."""


class SourceError(DispatchError):
    """The release or folder that workloads come from cannot be read."""


class FetchError(DispatchError):
    """A workload's bytes cannot be fetched, or differ from what the source announced."""


class MachineError(DispatchError):
    """A machine cannot be started."""


class JournalError(DispatchError):
    """The journal cannot be read or written."""


class AwayError(JournalError):
    """The journal's database server does not answer; what was to be written is tried again.

    Attributes:
        why: What is wrong, without what is done about it.
    """

    why = ""


class LabError(DispatchError):
    """The lab cannot be started or reached."""


class StaleLeaseError(DispatchError):
    """A session was taken over by another holder."""
