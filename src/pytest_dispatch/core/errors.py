"""Everything that can go wrong and that somebody can do something about.

    DispatchError
    ├── ConfigError             an option, a folder or a dispatch.toml says something we cannot use
    ├── SourceError             the release or folder cannot be read
    ├── FetchError              a workload's bytes cannot be had, or are not what was promised
    ├── MachineError            a machine cannot be brought up (what is missing, which package has it)
    ├── JournalError            the journal cannot be read or written
    ├── LabError                the lab cannot be started or reached
    └── StaleLeaseError         a session was taken over, and its earlier holder still asks

A message says what was expected, what came, and what to do. Outcomes of workloads are values, never exceptions.
"""

from __future__ import annotations


class DispatchError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(DispatchError):
    """An option, a folder or a dispatch.toml says something that cannot be used."""


class SourceError(DispatchError):
    """The release or folder that workloads come from cannot be read."""


class FetchError(DispatchError):
    """A workload's bytes cannot be had, or are not what the source promised."""


class MachineError(DispatchError):
    """A machine cannot be brought up."""


class JournalError(DispatchError):
    """The journal cannot be read or written."""


class LabError(DispatchError):
    """The lab cannot be started or reached."""


class StaleLeaseError(DispatchError):
    """A session was taken over by another holder."""
