"""What the documentation says is true: its names exist, its links lead somewhere, and nothing is left out."""

from __future__ import annotations

import ast
import configparser
import importlib
import json
import re
import runpy
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from docs_examples import PACKAGE, PAGES, ROOT, Block, anchors, blocks, prose

import pytest_dispatch.plugin
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.machines.base import Factory, Spec
from pytest_dispatch.machines.maas import driver as maas
from pytest_dispatch.machines.qemu import driver as qemu
from pytest_dispatch.machines.sim import driver as sim
from pytest_dispatch.machines.sim.scenarios import SCENARIOS
from pytest_dispatch.plugin import hookspecs, options
from pytest_dispatch.results.report_body import read_report
from pytest_dispatch.results.timeline import sign_of
from pytest_dispatch.server.api import dispatchoor_routes as dispatchoor
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.api.routes import all_routes
from pytest_dispatch.server.web.page_routes import PAGE_ROUTES
from pytest_dispatch.sources.folder import list_folder
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES, Event, Expect

BLOCKS = [block for page in PAGES for block in blocks(page) if block.language]
TEXTS = {page: page.read_text("utf-8") for page in PAGES}
ALL_TEXT = "\n".join(TEXTS.values())
SOURCES = {path: path.read_text("utf-8") for path in sorted(PACKAGE.glob("**/*.py"))}

OPTIONS = {option.name: option for option in options.OPTIONS}
INI = {option.dest for option in options.OPTIONS} | {name for name, _ in options.INI}
HOOKS = {name for name in vars(hookspecs) if name.startswith("pytest_dispatch_")}
MARKS = {re.split(r"[(:]", mark)[0] for mark in options.MARKS}
FIXTURES = set(pytest_dispatch.plugin.__all__)


def page(name: str) -> str:
    return TEXTS[ROOT / name]


# Blocks


def read_ini(text: str) -> None:
    configparser.ConfigParser().read_string(text)


def read_yaml(text: str) -> None:
    importlib.import_module("yaml").safe_load(text)


def read_shell(text: str) -> None:
    """Prompts mark the commands of a console; a shell block is all commands."""
    console = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith(("$ ", "  "))]
    commands = "\n".join(console) if "$ " in text else text
    subprocess.run(["bash", "-n"], input=commands, text=True, check=True, capture_output=True)


READERS: dict[str, Callable[[str], object]] = {
    "toml": tomllib.loads,
    "json": json.loads,
    "ini": read_ini,
    "yaml": read_yaml,
    "sh": read_shell,
}
READABLE = [block for block in BLOCKS if block.language in READERS]


@pytest.mark.parametrize("block", READABLE, ids=[block.where for block in READABLE])
def test_a_block_is_well_formed(block: Block) -> None:
    READERS[block.language](block.text)


def test_every_block_says_its_language() -> None:
    known = {*READERS, "python", "console", "text", "mermaid"}
    plain = [block for page in PAGES for block in blocks(page) if block.text and block.language not in known]
    assert [block.where for block in plain if not block.where.startswith("examples/")] == []


def test_reports_in_the_protocol_are_accepted() -> None:
    shown = [block for block in BLOCKS if block.directive == "report"]
    assert shown
    for block in shown:
        assert read_report(block.text.encode()).title


# Names


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_name_of_ours_exists(path: Path) -> None:
    text = TEXTS[path]
    options = set(re.findall(r"(?<![\w-])--dispatch-[a-z-]+[a-z]", text))
    assert options <= set(OPTIONS)
    assert set(re.findall(r"pytest_dispatch_[a-z]+", text)) <= HOOKS
    names = set(re.findall(r"(?<![\w./-])dispatch_[a-z_]*[a-z]", text))
    added = {f"dispatch_{kind}" for kind in re.findall(r'\bkind="(\w+)"', text)}  # the page's own example
    known = INI | MARKS | FIXTURES | added
    names = {re.sub("_(total|info)$", "", name) for name in names}  # which Prometheus adds to metrics
    assert {name for name in names - known if not any(f'"{name}' in source for source in SOURCES.values())} == set()
    variables = set(re.findall(r"\bDISPATCH_[A-Z_]+\b", text))
    tests = [file.read_text("utf-8") for file in (*ROOT.glob("tests/*.py"), *ROOT.glob("tests/support/*.py"))]
    assert {name for name in variables if not any(name in source for source in [*SOURCES.values(), *tests])} == set()


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8")))
    mentioned = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", ALL_TEXT))
    assert mentioned <= targets


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if there.is_relative_to(ROOT / "src" / "pytest_dispatch"):
            there = PACKAGE / there.relative_to(ROOT / "src" / "pytest_dispatch")
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_can_be_found_from_the_readme() -> None:
    linked = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", page("README.md"))}
    missing = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")} - linked
    assert not missing


# Completeness


@pytest.mark.parametrize("option", options.OPTIONS, ids=lambda option: option.name)
def test_every_option_is_documented(option: options.Option) -> None:
    shown = f"| `{option.name}{' ' if option.metavar else ''}{option.metavar}` | `{option.dest}` |"
    row = next((line for line in page("docs/options.md").splitlines() if line.startswith(shown)), "")
    assert row, shown
    for choice in option.choices:
        assert f"`{choice}`" in row
    if given := re.search(r"\(default: ([^ ;)]+)", option.help):
        assert given[1].rstrip(",") in row


def test_help_shows_the_same_options(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest("--help", "-p", "no:asyncio").stdout.str()
    shown = set(re.findall(r"--dispatch-[a-z-]+[a-z]", text))
    documented = set(re.findall(r"(?m)^\| `(--dispatch-[a-z-]+)", page("docs/options.md")))
    assert documented == shown == set(OPTIONS)


def test_every_ini_key_mark_fixture_and_hook_is_documented() -> None:
    options = page("docs/options.md")
    for name in INI:
        assert f"| `{name}` |" in options
    for name in MARKS | FIXTURES | HOOKS:
        assert re.search(rf"\| .*`{name}[`(]", options), name
    for name in HOOKS:
        assert f"\n## {name}\n" in page("docs/hooks.md")


def test_every_environment_variable_is_documented() -> None:
    read = {name for source in SOURCES.values() for name in re.findall(r"\"((?:DISPATCH|GITHUB|GH)_[A-Z_]+)\"", source)}
    missing = {name for name in read if f"`{name}`" not in page("docs/options.md")}
    assert not missing


def test_every_junit_property_is_documented() -> None:
    items = SOURCES[PACKAGE / "results" / "run_cases.py"]
    written = set(re.findall(r"\(f?\"(dispatch_[a-z]+(?:_[a-z]+)?)", items))
    documented = set(re.findall(r"(?m)^\| `(dispatch_[a-z_]+)", page("docs/options.md").partition("## Facts")[2]))
    assert len(written) > 5
    assert {name.rstrip("_") for name in documented} == written


def test_every_key_of_the_manifest_is_documented(tmp_path: Path) -> None:
    (tmp_path / "dispatch.toml").write_text('[[workload]]\nnothing = ""\n')
    with pytest.raises(ConfigError) as refused:
        list_folder(tmp_path, "here")
    expected = str(refused.value).partition(", expected ")[2].replace(" or ", ", ").split(", ")
    section = page("docs/options.md").partition("## dispatch.toml")[2].partition("\n## ")[0]
    assert len(expected) > 5
    assert not [key for key in expected if f"`{key}`" not in section]


def test_every_scenario_is_documented() -> None:
    section = page("docs/machines.md").partition("## Simulated machines")[2].partition("\n## ")[0]
    assert re.findall(r"(?m)^\| `([\w-]+)` \| .* \| .* \|$", section)[: len(SCENARIOS)] == list(SCENARIOS)


@pytest.mark.parametrize(
    ("factory", "scheme", "heading"),
    [
        (sim.create, "sim", "## Simulated machines"),
        (qemu.create, "qemu", "## Real firmware under QEMU"),
        (maas.create, "maas", "## Machines of MAAS"),
    ],
)
def test_every_option_of_a_machine_is_documented(factory: Factory, scheme: str, heading: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        factory(Spec(scheme=scheme, options=(("nothing", "1"),), text=scheme), tmp_path)
    known = str(refused.value).partition(f"{scheme} knows ")[2].split(", ")
    options = page("docs/machines.md").partition(heading)[2].partition("| option |")[2].partition("\n\n")[0]
    assert len(known) > 2
    assert [name for name in known if f"`{name}`" not in options] == []


@pytest.mark.parametrize("name", ["running", "ended"])
def test_the_pictures_show_the_demo_and_need_nothing_from_elsewhere(name: str) -> None:
    picture = (ROOT / "docs" / f"{name}.svg").read_text("utf-8")
    shown = " ".join(ET.fromstring(picture).itertext())
    demo = tomllib.loads((ROOT / "examples" / "demo" / "dispatch.toml").read_text("utf-8"))
    assert [workload["name"] for workload in demo["workload"] if workload["name"] not in shown] == []
    assert not re.search(r"href|url\(|<image|<style|<script", picture)


def test_the_picture_of_a_rack_shows_each_fault_and_needs_nothing_else() -> None:
    picture = (ROOT / "docs" / "rack.svg").read_text("utf-8")
    shown = " ".join(" ".join(ET.fromstring(picture).itertext()).split())
    for part in (
        "with 503 Service Unavailabl",
        "left out: node-8",
        "provision failed with exit status 1",
        "does not know the job any more",
        "recovery failed in provision",
        "busy with job",
        "is offline: a new disk",
        "failed 21 times in a row",
    ):
        assert part in shown
    assert not re.search(r"href|url\(|<image|<style|<script", picture)


def test_the_picture_of_runners_shows_all_that_was_run_there_and_needs_nothing_else() -> None:
    picture = (ROOT / "docs" / "actions.svg").read_text("utf-8")
    shown = " ".join(ET.fromstring(picture).itertext())
    for part in (
        "--dispatch-actions",
        "templates.yaml",
        "running",
        "queued",
        "concluded",
        "rpi-01@my-org",
        "rpi-02@my-org",
    ):
        assert part in shown
    assert not re.search(r"href|url\(|<image|<style|<script", picture)


# States and protocol


def test_the_faults_page_lists_the_faults_that_tests_inject() -> None:
    module = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert module["rendered"]("docs/reliability.md") == page("docs/reliability.md"), "run `make docs`"


def test_the_generated_parts_of_the_states_page_are_up_to_date() -> None:
    module = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert "stateDiagram-v2" in page("docs/states.md")
    assert module["rendered"]("docs/states.md") == page("docs/states.md"), "run `make docs`"


def test_every_state_and_event_is_explained() -> None:
    text = page("docs/states.md")
    for state, rule in LIFECYCLES[Expect.REPORT].states.items():
        sign = sign_of(rule.phase, Outcome.FAILED if state == "failed" else None)
        assert f"\n| {state} | {sign} {rule.phase} |" in text
    for event in Event:
        assert f"\n| {event} | " in text


def test_every_route_of_the_api_is_in_the_protocol() -> None:
    shown = set(re.findall(r"(?m)^\| `(\w+) (/api[^`]*)` \|", page("docs/protocol.md")))
    known = (*all_routes(), *dispatchoor.OWN_PATHS)
    assert {(route.method, PREFIX + route.path) for route in known} == shown


def test_every_page_of_a_lab_is_in_the_documentation() -> None:
    shown = re.findall(r"(?m)^\| `((?:GET|POST) /[^`]*)` \|", page("docs/dashboard.md"))
    known = [f"{route.method} {re.sub(r':[^}]*', '', route.path)}" for route in PAGE_ROUTES]
    assert sorted(shown) == sorted(known)


def test_every_operation_of_dispatchoor_is_in_its_page() -> None:
    rows = re.findall(r"(?m)^\| (`[A-Z]+ /[^|]*) \|", page("docs/from-dispatchoor.md").split("## The rest")[0])
    shown = {re.sub(r"\{\w+\}", "{}", each) for row in rows for each in re.findall(r"`([A-Z]+ /[^`]+)`", row)}
    known = {f"{route.method} {PREFIX}{route.path}" for route in (*dispatchoor.OWN_PATHS, *dispatchoor.SAME_PATHS)}
    known |= {"GET /metrics", f"{dispatchoor.HEALTH.method} {dispatchoor.HEALTH.path}"}
    assert {re.sub(r"\{\w+\}", "{}", each) for each in known} == shown


# Messages

EXPLAINED = {
    "ConfigError",
    "SourceError",
    "FetchError",
    "MachineError",
    "JournalError",
    "LabError",
    "UsageError",
    "fail",
}


def messages() -> Iterator[tuple[str, list[str]]]:
    """Where the package raises what a person may meet, and those words of it that never change, clause by clause.

    "Expected …, got …" explains itself and is left out.
    """
    for path, source in SOURCES.items():
        if path.parent.name == "testing":
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and name_of(node.func) in EXPLAINED and node.args:
                words = constants(node.args[0])
                clauses = [clause.strip() for part in words for clause in re.split(r"[:;(),]", part)]
                if any(len(clause) > 10 for clause in clauses) and "expected" not in "".join(words).split():
                    yield (
                        f"{path.relative_to(PACKAGE)}:{node.lineno}",
                        [clause for clause in clauses if len(clause) > 10],
                    )


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def constants(text: ast.expr) -> list[str]:
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def test_every_message_can_be_looked_up() -> None:
    text = page("docs/troubleshooting.md")
    found = list(messages())
    assert len(found) > 20
    assert [(where, clauses) for where, clauses in found if not any(clause in text for clause in clauses)] == []
