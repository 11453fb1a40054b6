"""Loads apprise with its plugins, which it would else do at the first target: once for all forks of a process."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # some plugins import what will be gone from Python
    import apprise

    apprise.Apprise().add("json://127.0.0.1")
