"""The pages of a service, with who may see them, and what their forms do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.server.api.route import ApiContext, Route
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web import (
    account_deeds,
    account_pages,
    add_page,
    assets,
    audit_page,
    build_deeds,
    builds_page,
    charts_page,
    compare_page,
    cycle_deeds,
    cycle_pages,
    edit_page,
    find_page,
    health_page,
    history_file,
    history_page,
    look,
    machine_pages,
    now_page,
    queue_page,
    round_page,
    run_console,
    run_page,
    session_pages,
    sign_in_page,
    steering,
    template_queueing,
    templates_page,
)
from pytest_dispatch.server.web.page import SIGN_IN, shown

if TYPE_CHECKING:
    from pytest_dispatch.server.api.route import Handler


def _page(path: str, handler: Handler, summary: str, *, saved: bool = False, needs: Role = Role.READER) -> Route:
    return Route(method="GET", path=path, handler=handler, needs=needs, summary=summary, saved=saved)


def _form(path: str, handler: Handler, needs: Role, summary: str) -> Route:
    return Route(method="POST", path=path, handler=handler, needs=needs, summary=summary, bare=True)


PAGE_ROUTES = (
    _page("/", now_page.show_now, "Now: how the lab stands", saved=True),
    _page("/queue", queue_page.show_queue, "Queue: what waits, why, and when it should start"),
    Route(
        method="POST",
        path="/queue",
        handler=steering.steer,
        needs=Role.OPERATOR,
        summary="Steer the queue: move, hold, release and cancel runs, pause groups",
        bare=True,
    ),
    _page(
        add_page.ADDRESS, add_page.show_add, "Add a run: what each kind of workload takes by hand", needs=Role.OPERATOR
    ),
    _form(add_page.ADDRESS, add_page.add_run, Role.OPERATOR, "Queue a run by hand"),
    _page(
        f"{edit_page.ADDRESS}/{{run}}",
        edit_page.show_edit,
        "Edit a run that waits, and see what is not as its template has it",
        needs=Role.OPERATOR,
    ),
    _form(edit_page.ADDRESS, edit_page.edit_run, Role.OPERATOR, "Change what a run that waits is to run"),
    _page("/templates", templates_page.show_templates, "Templates: what can be queued, and how it ended last"),
    Route(
        method="POST",
        path="/templates",
        handler=template_queueing.queue_templates,
        needs=Role.OPERATOR,
        summary="Queue templates",
        bare=True,
    ),
    _page("/builds", builds_page.show_builds, "Builds: how workloads ended in the releases of a project"),
    _form("/builds", build_deeds.run_failed_again, Role.OPERATOR, "Run again what failed last in a release"),
    _page(compare_page.ADDRESS, compare_page.show_comparison, "Two releases of a project beside each other"),
    _page("/history", history_page.show_history, "History: what a search finds of the runs that have ended"),
    _page("/history/charts", charts_page.show_charts, "Charts: outcomes, waits, machines, states and flaky workloads"),
    _page("/history.csv", history_file.send_history, "What a search of history finds, as a CSV file"),
    _page("/machines", machine_pages.show_machines, "Machines: how each stands, and what it runs"),
    _page("/machines/{machine}", machine_pages.show_one_machine, "A machine"),
    Route(
        method="POST",
        path="/machines",
        handler=machine_pages.steer_machine,
        needs=Role.OPERATOR,
        summary="Hold, return, check, approve or remove a machine",
        bare=True,
    ),
    Route(
        method="GET",
        path="/runs/{run}",
        handler=run_page.show_run_page,
        needs=Role.READER,
        summary="A run: how it stands and why, its attempts, reports and console",
        kept=True,
    ),
    Route(
        method="GET",
        path="/runs/{run}/console.txt",
        handler=run_console.send_console,
        needs=Role.READER,
        summary="The console of an attempt of a run, as a text file without colours",
        kept=True,
    ),
    Route(
        method="POST",
        path="/runs",
        handler=run_page.steer_run,
        needs=Role.OPERATOR,
        summary="Steer a run, have it run again, count it otherwise, write a note on it",
        bare=True,
    ),
    _page(cycle_pages.ADDRESS, cycle_pages.show_cycles, "Cycles: how each stands, and how its last rounds ended"),
    _form(
        cycle_pages.ADDRESS, cycle_deeds.steer_cycle, Role.OPERATOR, "Start, pause, resume or stop a cycle; a round now"
    ),
    _page(f"{cycle_pages.ADDRESS}/{{cycle}}", cycle_pages.show_one_cycle, "A cycle with its rounds"),
    _page(
        f"{cycle_pages.ADDRESS}/{{cycle}}/rounds/{{number}}",
        round_page.show_one_round,
        "A round of a cycle: what changed, what did not pass, what its pytest showed",
    ),
    _page(
        f"{cycle_pages.ADDRESS}/{{cycle}}/rounds/{{number}}/output.txt",
        round_page.send_output,
        "What the pytest of a round showed, as a file",
    ),
    _page(
        f"{cycle_pages.ADDRESS}/{{cycle}}/rounds/{{number}}/junit.xml",
        round_page.send_junit,
        "The JUnit file of a round",
    ),
    _page("/sessions", session_pages.show_sessions, "Sessions: who asks for runs, and what is left to do"),
    _form("/sessions", session_pages.end_session, Role.OPERATOR, "End a session"),
    _page(find_page.ADDRESS, find_page.show_found, "Find: what has a name, by a part of it"),
    _page("/lab", health_page.show_health, "Health: how the lab itself stands", saved=True),
    _form("/lab", health_page.steer_lab, Role.OPERATOR, "Have the lab ask at once the systems that it depends on"),
    _page("/account", account_pages.show_account, "The account of who looks, with its tokens"),
    _form("/account", account_deeds.change_own_account, Role.READER, "Change one's password, make or revoke a token"),
    _page("/users", account_pages.show_users, "Users and tokens", needs=Role.ADMIN),
    _form("/users", account_deeds.change_accounts, Role.ADMIN, "Add, change and remove users, make and revoke tokens"),
    _page("/audit", audit_page.show_audit, "Audit: who changed what, from where", needs=Role.ADMIN),
    Route(
        method="GET",
        path=f"{assets.PATH}/{{build}}/{{name:[a-z_./]+}}",
        handler=assets.send_asset,
        needs=None,
        summary="Styles and scripts of the pages",
        saved=True,
    ),
    Route(
        method="GET",
        path=SIGN_IN,
        handler=sign_in_page.show_sign_in,
        needs=None,
        summary="Where people sign in",
        saved=True,
    ),
    Route(method="POST", path=SIGN_IN, handler=sign_in_page.sign_in, needs=None, summary="Sign in", bare=True),
    Route(
        method="POST",
        path="/sign-out",
        handler=sign_in_page.leave,
        needs=Role.READER,
        audit="sign-out",
        summary="Sign out",
        bare=True,
    ),
    Route(
        method="POST",
        path="/look",
        handler=look.choose_look,
        needs=Role.READER,
        summary="Keep how pages look for a viewer: light, dark, or as the system has it",
        saved=True,
        bare=True,
    ),
)


def page_routes(context: ApiContext) -> list[web.RouteDef]:
    """Return the pages as aiohttp routes."""
    return [web.route(route.method, route.path, shown(context, route)) for route in PAGE_ROUTES]
