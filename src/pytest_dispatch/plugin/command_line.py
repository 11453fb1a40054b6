"""What somebody typed for this one run, as against what an ini file or the environment says for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def is_typed(config: pytest.Config, option: str) -> bool:
    """Whether the command line itself has this option, and not `addopts`, `PYTEST_ADDOPTS` or a file of arguments."""
    return any(str(arg).partition("=")[0] == option for arg in config.invocation_params.args)
