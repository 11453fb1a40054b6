"""Compiled modules that pytest has dropped: a trap for all tests that come after in the same process.

pytest drops what is imported for the first time within a run inside its process (`pytester`). What was compiled cannot
be loaded a second time: the next import gets what is left of the first one, and it goes on raising the errors of Python
modules that are gone, which nobody catches any more.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

#: What runs within this process import, and nothing before them does.
FIRST = ("hypothesis._native", "_cffi_backend", "cryptography.hazmat.bindings._rust")

for module in FIRST:
    with suppress(ImportError):  # older ones are not compiled
        import_module(module)


def dropped() -> list[str]:
    """Return compiled modules of packages that this process has loaded and Python has forgotten."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    loaded = {line.partition("/")[2] for line in maps.read_text().splitlines()}
    known = {str(getattr(module, "__file__", None)) for module in list(sys.modules.values())}
    compiled = {f"/{path}" for path in loaded if path.endswith(tuple(EXTENSION_SUFFIXES)) and "site-packages" in path}
    return sorted(path for path in compiled - known if ".libs/" not in path)
