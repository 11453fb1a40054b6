"""A session in pytest: lists the source, starts the lab, and ends both."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_dispatch.client.run_cache import RunCache
from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.media import BUILT_IN, added, files_of, known
from pytest_dispatch.core.model import Priority, Run
from pytest_dispatch.core.plain_text import node_name, plain_line
from pytest_dispatch.plugin.collection import DispatchCollection, check_names, take_node_ids
from pytest_dispatch.plugin.command_line import only_looks
from pytest_dispatch.plugin.event_listener import EventListener, what_hook_raised
from pytest_dispatch.plugin.interrupts import heed_termination, not_interrupted
from pytest_dispatch.plugin.item_details import take_off
from pytest_dispatch.plugin.junit_collector import JunitCollector
from pytest_dispatch.plugin.lab_session import LAB_SESSION, LabSession
from pytest_dispatch.plugin.listing import as_booted, check_answers, check_chains
from pytest_dispatch.plugin.prerequisites import Told, told_broken
from pytest_dispatch.plugin.session_end import Ending
from pytest_dispatch.plugin.settings import Settings, read_settings
from pytest_dispatch.plugin.shared_lab import SharedLab, owner_of
from pytest_dispatch.plugin.template_source import list_file, list_group
from pytest_dispatch.plugin.terminal.header import header, left_out
from pytest_dispatch.plugin.terminal.progress import TerminalDisplay
from pytest_dispatch.plugin.xdist import DispatchNodes, DispatchWorker
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession
from pytest_dispatch.sources.base import EmptySourceError, Listing
from pytest_dispatch.sources.locations import Locations, places_of

if TYPE_CHECKING:
    import pluggy

    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.lab_program.child_messages import Stopped
    from pytest_dispatch.lab_program.in_process import InProcessLab
    from pytest_dispatch.plugin.explainer import Explainer
    from pytest_dispatch.plugin.issue_filing import IssueFiling
    from pytest_dispatch.plugin.lab_process import LabProcess
    from pytest_dispatch.plugin.shared_lab_settings import SharedLabSettings

    Lab = LabProcess | InProcessLab | SharedLab

_BROKEN = {pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR}


def activate(config: pytest.Config) -> None:
    """Activate the plugin: on a pytest-xdist worker as a client, else as the owner of the lab.

    Raises:
        pytest.UsageError: The value of an option or an ini key is invalid.
    """
    with _usage_errors():
        for kind in sorted({*known(), *added()} - {media.kind for media in BUILT_IN}):
            config.addinivalue_line("markers", f"dispatch_{kind}: an item whose workload is of the kind {kind}.")
    if hasattr(config, "workerinput"):
        given = config.workerinput.get("dispatch")  # absent with --setup-plan
        if given is not None:
            config.pluginmanager.register(DispatchWorker(config, given), "dispatch-session")
        return
    with _usage_errors():
        session = DispatchSession(config, read_settings(config))
    config.pluginmanager.register(session, "dispatch-session")
    config.add_cleanup(heed_termination())
    config.add_cleanup(session.stop)


class DispatchSession:
    """Owns the lab of one pytest run."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._lab_session: LabSession | None = None
        self._lab: Lab | None = None
        self._watcher: EventListener | None = None
        self._issue_filing: IssueFiling | None = None
        self._display = TerminalDisplay(config, says_why=settings.explain)
        self._explainer: Explainer | None = None
        self._damage = ""
        self._facts: list[str] = []
        self._troubles: list[str] = []
        self._resumed = False
        self._cut_off = False
        self._ended = False
        self._end: Stopped | None = None
        self._cases = JunitCollector()
        self._further: list[str] = []
        self._told = Told()
        self._broken: list[Run] = []

    # Beginning

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """List the source; start the lab unless no test will run."""
        config, display = self._config, self._display
        with _usage_errors():
            if not only_looks(config):
                self._lab = _lab(config, self._settings, display)
            lab_session = LabSession(listing=self._list(), waiting=display.waiting, submitted=self._submitted)
            lab_session.wanted = take_node_ids(config, lab_session.listing)
            check_names(lab_session)
            self._lab_session = config.stash[LAB_SESSION] = lab_session
            config.pluginmanager.register(DispatchCollection(config, lab_session), "dispatch-collection")
            if self._lab is not None:
                self._start(lab_session, self._lab)

    def _list(self) -> Listing:
        settings, empty = self._settings, None
        try:
            listing = _listing(settings)
        except EmptySourceError as error:
            listing, empty = Listing(name=_named(settings), workloads=()), error
        workloads = list(listing.workloads)
        hook = self._config.hook.pytest_dispatch_workloads
        with _hook_errors(hook):
            answers = hook(config=self._config, workloads=workloads)
        check_answers(workloads, answers)
        if empty is not None and not workloads:  # no hook has added any either
            raise empty
        listed = set(map(id, listing.workloads))
        shared = settings.shared is not None
        workloads = [each if id(each) in listed else as_booted(each, shared=shared) for each in workloads]
        check_chains(workloads)
        if settings.group:
            workloads = [replace(each, group=each.group or settings.group) for each in workloads]
        said = {Priority.NORMAL: settings.priority}  # in place of what nobody has said
        workloads = [replace(each, priority=said.get(each.priority, each.priority)) for each in workloads]
        names = {workload.name for workload in workloads}  # a hook may have added some that the source left out
        left_out = tuple((name, why) for name, why in listing.left_out if name not in names)
        name = settings.folder_name or node_name(listing.name)
        return replace(listing, name=name, workloads=tuple(workloads), left_out=left_out)

    def _start(self, lab_session: LabSession, lab: Lab) -> None:
        """Start the lab, open a session, and follow it."""
        settings, shared, token = self._settings, self._settings.shared is not None, self._settings.plan.token
        if settings.junit is not None:
            self._cases.check(settings.junit)
        request = _request(self._config, settings, lab_session.listing.name)
        locations = places_of(
            files_of(lab_session.listing.workloads), str(settings.folder or ""), settings.plan.api_url
        )
        lab_session.client = client = _started(lab, lab_session.listing.name, locations)
        self._damage = lab.damage
        client.uploader.progressed = self._display.uploading
        if shared and settings.repo and token is not None:
            from pytest_dispatch.plugin.own_assets import fetcher

            client.uploader.fetch = fetcher(settings.plan.cache, settings.plan.cache_limit, token)
        with _explained(lab):
            opened = client.open(request)
        lab_session.session, self._resumed = opened.id, opened.resumed
        if self._config.getoption("numprocesses", None):  # pytest-xdist's workers get no token
            self._bring(lab_session)
        self._follow(lab_session, client, request)
        self._begin_to_explain(lab_session, client)
        self._hand_over(lab_session, lab)

    def _follow(self, lab_session: LabSession, client: LabClient, request: OpenSession) -> None:
        """Listen to the session's events, and file the issues that the lab has no token for."""
        plan, session = self._settings.plan, lab_session.session
        lab_session.run_cache = cache = RunCache()
        self._watcher = EventListener(self._config, client, session, self._display, cache, judges=request.policy.judged)
        if request.issues_filed and plan.token is not None:
            from pytest_dispatch.plugin.issue_filing import IssueFiling

            self._issue_filing = IssueFiling(client, session, plan.issues_repo, plan.token, plan.api_url)
            self._issue_filing.start()
            self._watcher.filing = self._issue_filing.due
        self._watcher.start()

    def _hand_over(self, lab_session: LabSession, lab: Lab) -> None:
        """Have pytest-xdist's workers use this lab, also when it is back after an absence."""
        nodes = DispatchNodes(lab_session, lab.token, shared=isinstance(lab, SharedLab))
        if isinstance(lab, SharedLab):
            lab.client().came_back.append(nodes.hand_over)
        self._config.pluginmanager.register(nodes, "dispatch-nodes")
        self._config.add_cleanup(nodes.close)

    def _begin_to_explain(self, lab_session: LabSession, client: LabClient) -> None:
        """Ask from time to time why workloads wait, if that can be shown, or others run them."""
        settings = self._settings
        elsewhere = settings.from_lab or settings.templates is not None or settings.rack is not None
        if not (settings.explain or self._display.shows_explanations or elsewhere):
            return
        from pytest_dispatch.plugin.explainer import Explainer

        def runs() -> Sequence[Run]:
            return [view.run for view in client.runs(lab_session.session)]

        alone = not self._config.getoption("numprocesses", None)  # otherwise pytest-xdist's workers submit
        self._explainer = Explainer(
            client,
            self._display.runs if alone else runs,
            self._display,
            lambda: lab_session.awaited,
            each=self._settings.explain,
        )
        self._explainer.start()

    def _bring(self, lab_session: LabSession) -> None:
        """Fetch the release assets that the lab cannot read, of the workloads that may become items."""
        uploader, session, listing = lab_session.lab.uploader, lab_session.session, lab_session.listing
        workloads = [uploader.brought(session, each) if lab_session.wants(each) else each for each in listing.workloads]
        lab_session.listing = replace(listing, workloads=tuple(workloads))

    def pytest_report_header(self) -> list[str]:
        """Return the header: source, number of workloads by kind, boot URL; then what was left out, and any damage."""
        lab_session = self._lab_session
        if lab_session is None:
            return []
        shared, version = (self._lab.lines(), self._lab.version) if isinstance(self._lab, SharedLab) else ([], "")
        with _usage_errors(), _explained(self._lab):
            line = header(
                self._settings,
                lab_session.listing,
                lab_session.client,
                lab_session.session,
                resumed=self._resumed,
                version=version,
            )
        return [line, *shared, *left_out(lab_session.listing), *filter(None, [self._damage])]

    # Under way

    def _submitted(self, runs: Sequence[Run]) -> None:
        self._display.submitted(runs)
        if self._watcher is not None:
            self._watcher.submitted(runs)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the report, and collect it for the JUnit file."""
        self._told.note(report)
        rest = take_off(report)
        if rest.cases:
            self._further.append(f"{report.nodeid}: {len(rest.cases):,} further cases: see --dispatch-junit")
        if self._settings.junit:
            self._cases.add(report, rest)

    # End

    @pytest.hookimpl(wrapper=True)
    def pytest_keyboard_interrupt(
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Generator[None, object, object]:
        """Stop the lab at once on Ctrl-C; ignore further signals while pytest reports where it was interrupted.

        The exceptions with which pytest and pytest-xdist end a session early (`--stepwise`, `-n 2 -x`) come here too.
        They are not urgent: such a session ends in order.
        """
        self._cut_off = type(excinfo.value) in (KeyboardInterrupt, pytest.exit.Exception)
        if not self._cut_off:
            return (yield)
        with not_interrupted():
            self.stop()
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Power machines off, file the last issues, and stop the lab; only stop it if the session was interrupted."""
        try:
            if not self._cut_off and exitstatus not in _BROKEN:
                self._wind_up(session)
        except LabError as error:
            self._troubles.append(str(error))
        except KeyboardInterrupt:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            self._cut_off = True
            self._troubles.append("interrupted while winding up; what is left is kept in the journal")
        finally:
            self.stop()
        if self._cut_off:
            self._troubles += _undone(self._display.runs(), self._end)
        if self._settings.junit and self._watcher is not None:
            self._write_cases(self._settings.junit)

    def _write_cases(self, path: Path) -> None:
        try:
            self._facts.append(self._cases.write(path, self._display.runs(), self._broken))
        except LabError as error:
            self._troubles.append(str(error))

    def _wind_up(self, session: pytest.Session) -> None:
        lab_session, watcher = self._lab_session, self._watcher
        if lab_session is not None and lab_session.client is not None and watcher is not None:
            ending = Ending(
                lab_session.client,
                lab_session.session,
                self._display,
                watcher,
                self._issue_filing,
                stays=self._settings.shared is not None and self._settings.shared.lasts is not None,
            )
            self._facts, self._troubles = ending.facts, ending.troubles
            try:
                ending.wind_up(self._settings.drain)
                self._ended = True
            finally:
                self._broken = self._told.broken(ending.runs or self._display.runs())
                self._troubles += map(told_broken, self._broken)
                if self._broken and session.exitstatus == pytest.ExitCode.OK:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the `dispatch` section of the summary, if it has content; with `-q` only problems."""
        of_hooks = self._watcher.troubles if self._watcher else []
        troubles = [*filter(None, [self._damage]), *self._display.notices(), *self._troubles, *of_hooks]
        if self._config.get_verbosity() >= 0:
            lines = [*self._facts, *self._further, *troubles]
        else:  # with -q there was no header to list what was left out
            lines = [*(left_out(self._lab_session.listing) if self._lab_session is not None else ()), *troubles]
        if lines:
            terminalreporter.section("dispatch")
            for line in lines:
                terminalreporter.line(line)

    def stop(self) -> None:
        """Stop everything that runs, in bounded time; may be called again."""
        lab_session, lab = self._lab_session, self._lab
        self._lab = None
        with not_interrupted():
            try:
                if isinstance(lab, SharedLab) and not self._ended:
                    lab.leave()
                if lab is not None:
                    lab.stop()
            except LabError as error:
                self._troubles.append(str(error))
            if lab is not None:
                self._end = lab.end
            for thread in (self._watcher, self._issue_filing, self._explainer):
                if thread is not None:
                    thread.stop()
            if lab_session is not None:
                lab_session.close()
            self._display.close()


def _named(settings: Settings) -> str:
    """Return the name of a source that has no workloads of its own."""
    return settings.rack.rack.name if settings.rack is not None else settings.folder_given


def _listing(settings: Settings) -> Listing:
    """List the source; load only the code for its kind."""
    if settings.templates is not None:
        return list_file(settings.templates, settings.folder_name)
    if settings.from_lab and settings.shared is not None:
        return list_group(settings.shared.url, settings.shared.token, settings.group)
    if settings.folder is not None:
        from pytest_dispatch.sources.folder import list_folder

        return list_folder(settings.folder, settings.folder_given)
    if settings.rack is not None:
        from pytest_dispatch.sources.rack import list_rack

        return list_rack(settings.rack.rack)
    from pytest_dispatch.sources.release import list_release

    return list_release(settings.repo, settings.tag or None, settings.plan.token, settings.plan.api_url)


def _lab(config: pytest.Config, settings: Settings, display: TerminalDisplay) -> Lab:
    """Create the lab, in a thread or a process as configured, without starting it; load only the code for that."""
    if settings.shared is not None:
        return SharedLab(settings.shared, lambda text: display.say(f"dispatch: {text}", least=-9))
    if settings.in_thread:
        from pytest_dispatch.lab_program.in_process import InProcessLab

        return InProcessLab(settings.plan)
    from pytest_dispatch.plugin.lab_child import LAB_CHILD
    from pytest_dispatch.plugin.lab_process import LabProcess

    return LabProcess(settings.plan, config.stash.get(LAB_CHILD, None))


def _request(config: pytest.Config, settings: Settings, source: str) -> OpenSession:
    """Return the request to open a session, or to resume one of this source."""
    hook, plan, shared = config.hook, settings.plan, settings.shared is not None
    return OpenSession(
        source=source,
        policy=replace(settings.policy, judged=bool(hook.pytest_dispatch_verdict.get_hookimpls())),
        issues=settings.issues if plan.token or shared else (),
        issues_repo=plan.issues_repo,
        issues_raw=settings.issues_raw,
        issues_reviewed=bool(hook.pytest_dispatch_issue.get_hookimpls()),
        issues_mode=settings.issues_mode,
        issues_close_after=settings.issues_close_after,
        issues_api=plan.api_url if shared and settings.issues else "",
        issues_filed=bool(shared and plan.token and settings.issues),
        resume=plan.resume,
        lease=_lease(config, settings.shared),
        notify=tuple(url.reveal() for url in settings.notify),
    )


def _lease(config: pytest.Config, shared: SharedLabSettings | None) -> LeaseWanted:
    """Return the lease to ask for: in a lab that others use too, with who may resume the session, and how long."""
    if shared is None:
        return LeaseWanted()
    owner = shared.owner or owner_of(config.rootpath)
    if shared.lasts is None:
        return LeaseWanted(owner=owner)
    return LeaseWanted(kind=LeaseKind.DURABLE, owner=owner, lasts=shared.lasts)


def _started(lab: Lab, source: str, locations: Locations) -> LabClient:
    """Start the lab, and return this process's client."""
    if isinstance(lab, SharedLab):
        lab.start(source)
        return lab.client()
    from pytest_dispatch.client.lab_client import LabClient  # before the wait for the lab, which loads its own modules

    lab.start(source, locations)
    return LabClient(lab.url, lab.token, locations=locations)


def _undone(runs: Sequence[Run], end: Stopped | None) -> Iterator[str]:
    """Yield a line for each thing that an interrupted session left undone for the next one."""
    left = sum(run.outcome is None for run in runs)
    if left:
        yield f"{left} of {len(runs)} workloads have no outcome yet; --dispatch-resume goes on with them"
    if end is None:
        return
    if end.pending:
        yield f"issues not filed yet: {end.pending}; the next session files them"
    for line in end.unfiled:
        yield plain_line(f"not filed, {line}", 400)


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn errors that the user can correct into one line and exit code 4."""
    try:
        yield
    except DispatchError as error:
        raise pytest.UsageError(str(error)) from error


@contextmanager
def _explained(lab: Lab | None) -> Iterator[None]:
    """If the lab cannot be reached, stop it, and add to the error how it ended if it failed.

    Used before collection; after that, the summary shows errors of the stop.
    """
    try:
        yield
    except LabError as error:
        try:
            if lab is not None:
                with not_interrupted():
                    lab.stop()
        except LabError as trouble:
            raise LabError(f"{error}: {trouble}") from error
        raise


@contextmanager
def _hook_errors(hook: pluggy.HookCaller) -> Iterator[None]:
    """Turn an exception of a user's hook into one line with its place; let those pass that end pytest.

    Raises:
        ConfigError: The hook raised an exception.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception, pytest.UsageError, DispatchError):
        raise
    except BaseException as error:
        raise ConfigError(what_hook_raised(hook, error)) from error
