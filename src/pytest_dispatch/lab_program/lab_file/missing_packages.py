"""Says how to install what a lab file needs, where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

from pytest_dispatch.core.errors import ConfigError

#: Modules of the extra `serve` that reading a lab file needs, with the names of their packages.
NEEDED = {"pydantic": "pydantic", "ruamel.yaml": "ruamel.yaml"}


def require_serve() -> None:
    """Check that the packages of the extra `serve` are installed.

    Raises:
        ConfigError: One of them is missing.
    """
    missing = [package for module, package in NEEDED.items() if not _is_there(module)]
    if missing:
        raise ConfigError(
            f"a lab's configuration file needs {' and '.join(missing)}, which this Python does not have; install with"
            " pip install 'pytest-dispatch[serve]'"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that should contain it is missing
        return False
