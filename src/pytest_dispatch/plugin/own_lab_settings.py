"""Reads what a lab of pytest's own is built from."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import PUBLIC_API, ways_to_sign_in
from pytest_dispatch.lab_program.config import LabConfig
from pytest_dispatch.lab_program.option_values import (
    read_bind,
    read_boot_tool,
    read_database,
    read_gigabytes,
    read_network,
    read_path,
    read_spec,
)
from pytest_dispatch.plugin.command_line import only_looks

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.lab_file.templates import TemplateFile
    from pytest_dispatch.plugin.setting_values import Values


def own_lab(values: Values, private: Values, *, shared: bool) -> LabConfig:
    """Return what a lab of pytest's own is built from, apart from GitHub, and what counts with another one too."""
    host, port = read_bind(private.text("dispatch_bind", "0.0.0.0:8080"))
    return LabConfig(
        api_url=PUBLIC_API,
        host=host,
        port=port,
        path=read_path(private.text("dispatch_path", "/dispatch")),
        allow=tuple(read_network(text) for text in private.lines("dispatch_allow")),
        boot_tools=frozenset(read_boot_tool(text) for text in private.lines("dispatch_boot_tool")),
        announce=not (shared or values.flag("dispatch_no_mdns")),
        machines=tuple(read_spec(text) for text in private.lines("dispatch_machine")),
        resume=values.flag("dispatch_resume"),
        db="" if shared else _db(values),
        cache=private.path("dispatch_cache") or user_cache_path("pytest-dispatch") / "assets",
        cache_limit=read_gigabytes(str(values.config.getini("dispatch_cache_limit") or "20")),
    )


def of_templates(plan: LabConfig, templates: TemplateFile, values: Values) -> LabConfig:
    """Return what a lab is built from that has the groups of templates, and that no machine boots from.

    Raises:
        ConfigError: There is no token, without which it can send nothing.
    """
    if plan.token is None and not only_looks(values.config):
        ways = ways_to_sign_in(plan.api_url)
        raise ConfigError(f"--dispatch-actions: expected a GitHub token, got none; set one by {ways}")
    interval = templates.interval or plan.poll_interval
    return replace(without_booting(plan, values), groups=templates.groups, poll_interval=interval)


def without_booting(plan: LabConfig, values: Values) -> LabConfig:
    """Return what a lab is built from that no machine boots from."""
    host, port = read_bind(values.text("dispatch_bind", "127.0.0.1:0"))
    return replace(plan, host=host, port=port, announce=False)


def _db(values: Values) -> str:
    """Return where the journal is: the path of a file, or the URL of a database."""
    given, config = values.text("dispatch_db"), values.config
    if "://" in given:
        return read_database(given)
    if path := values.path("dispatch_db"):
        return str(path)
    cache = getattr(config, "cache", None)  # absent with -p no:cacheprovider
    if cache is None:
        own = hashlib.sha256(os.fsencode(config.rootpath)).hexdigest()[:16]
        return str(user_cache_path("pytest-dispatch") / "journals" / f"{own}.db")
    try:
        return str(cache.mkdir("dispatch") / "journal.db")
    except OSError as error:
        raise ConfigError(
            f"--dispatch-db: pytest's cache directory cannot be written ({error.strerror}: {error.filename});"
            " name a file for the journal"
        ) from None
