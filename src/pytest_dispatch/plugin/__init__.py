"""The pytest plugin: its entry point, and everything that runs in the pytest process.

This file is the entry point. It imports only pytest and modules of this package that import only pytest. The rest is
loaded when a run uses the plugin.
"""

from __future__ import annotations

from functools import partial

import pytest

from pytest_dispatch.plugin.fixtures import dispatch_lab, dispatch_workload
from pytest_dispatch.plugin.masking import SECRET, Secrets
from pytest_dispatch.plugin.options import FOR_DEBUGGING, MARKS, OPTIONS, SOURCES, add_options

__all__ = ["dispatch_lab", "dispatch_workload"]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Options and ini keys."""
    secrets = Secrets()
    pluginmanager.register(secrets, Secrets.NAME)
    add_options(parser, {dest: partial(secrets.keep, dest) for dest in SECRET})


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks that users may implement."""
    from pytest_dispatch.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before anybody else looks at the command line: no secret is to be seen in it."""
    Secrets.of(early_config).hide(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spawn the lab; register our report hooks before other plugins, such as allure-pytest, register theirs.

    This is the first moment at which it is known for sure that a lab is wanted: it loads its modules while pytest loads
    its own, and is told only when the session starts what to build.
    """
    if asked_for(config):
        if wants_process(config):
            _spawn(config)
        from pytest_dispatch.plugin.items import DispatchReports

        config.pluginmanager.register(DispatchReports(), "dispatch-reports")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks; activate the plugin if a repository or a folder is given."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    if asked_for(config):
        from pytest_dispatch.plugin.session import activate

        activate(config)
    elif not config.getoption("help", False):
        _refuse_unused(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make each test with the `dispatch` mark use the fixture, so that it cannot pass unless its workload booted.

    Raises:
        pytest.UsageError: A marked item does not support fixtures.
    """
    for item in items:
        if item.get_closest_marker("dispatch") is not None:
            from pytest_dispatch.plugin.items import use_fixture

            use_fixture(item)


def asked_for(config: pytest.Config) -> bool:
    """Return whether this run uses the plugin at all."""
    return (any(_named(config, dest) for dest in SOURCES) or _runs_templates(config)) and not config.getoption(
        "help", False
    )


def _named(config: pytest.Config, dest: str) -> str:
    return str(config.getoption(dest) or config.getini(dest))


def _runs_templates(config: pytest.Config) -> bool:
    """Return whether a group of a lab that others use too is named: then its templates are what is run."""
    return "://" in _named(config, "dispatch_lab") and bool(_named(config, "dispatch_group"))


def wants_process(config: pytest.Config) -> bool:
    """Return whether this process runs tests and starts a lab for them in a process of its own."""
    is_worker = hasattr(config, "workerinput")  # of pytest-xdist
    where = _named(config, "dispatch_lab")
    elsewhere = where == "thread" or "://" in where  # the URL of a lab that others use too
    if is_worker or elsewhere:
        return False
    from pytest_dispatch.plugin.command_line import only_looks

    return not only_looks(config)


def _spawn(config: pytest.Config) -> None:
    from pytest_dispatch.core.errors import LabError
    from pytest_dispatch.plugin.lab_child import LAB_CHILD, LabChild

    try:
        child = config.stash[LAB_CHILD] = LabChild()
    except LabError as error:
        raise pytest.UsageError(str(error)) from error
    config.add_cleanup(child.close)


def _refuse_unused(config: pytest.Config) -> None:
    """Refuse options on the command line if there is no source; accept those in an ini file, meant for other runs."""
    given = [option for option in OPTIONS if config.getoption(option.dest) is not None]
    if not given:
        return
    from pytest_dispatch.plugin.command_line import is_typed

    for option in given:
        if is_typed(config, option.name) and option.name != FOR_DEBUGGING:
            raise pytest.UsageError(
                f"{option.name}: expected a source of workloads for it, got none; add --dispatch-dir DIR,"
                " --dispatch-repo OWNER/REPO, --dispatch-actions FILE or --dispatch-rack RACK, or leave it out"
            )
