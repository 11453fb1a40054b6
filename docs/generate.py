"""Writes anew what the documentation takes from the code: `make docs`, or `python docs/generate.py`.

Such parts stand between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; a test compares them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_dispatch
from pytest_dispatch.core.lifecycle import Ending
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES, Expect

if TYPE_CHECKING:
    from pytest_dispatch.cli.command_table import Argument, Verb

ROOT = Path(__file__).parent.parent
PACKAGE = Path(pytest_dispatch.__file__).parent

_FAULT = {Outcome.ERROR: "error (the lab's)", Outcome.FAILED: "failure (the workload's)"}
_WORDS = {
    "machine": "MACHINE",
    "assign": "ASSIGN-TIMEOUT",
    "boot": "BOOT-TIMEOUT",
    "report": "REPORT-TIMEOUT",
    "sent": "N",
    "detail": "WHAT",
    "state": "STATE",
    "by": " by NAME",
}


def diagram() -> str:
    """The states of boot workloads as a diagram that GitHub draws."""
    return f"```mermaid\n{LIFECYCLES[Expect.REPORT].diagram()}\n```"


def endings() -> str:
    """A row for each way in which an attempt ends otherwise than by its reports."""
    rows, usual = [], _endings(Expect.REPORT)
    for expect in (Expect.REPORT, Expect.BOOT, Expect.RETURN):
        note = "" if expect is Expect.REPORT else f", expected to {expect}"
        for (state, event), ending in _endings(expect).items():
            if ending.outcome is not None and (expect is Expect.REPORT or usual[state, event] != ending):
                text = ending.text.format(**_WORDS)
                rows.append(f"| {state}{note} | {event} | {_FAULT[ending.outcome]} | {text} |")
    return "\n".join(["| in state | event | outcome | what the message says |", "| --- | --- | --- | --- |", *rows])


def _endings(expect: Expect) -> dict[tuple[str, str], Ending]:
    states = LIFECYCLES[expect].states.items()
    return {(state, event): ending for state, rule in states for event, ending in rule.endings.items()}


def layers() -> str:
    """What may import what: the linter's layers, each with what lives there."""
    lines = ["| | may import all that is below |", "| --- | --- |"]
    for layer in _layers("pytest_dispatch"):
        lines += [f"| `{name}` | {_purpose(PACKAGE / name)} |" for name in layer]
        lines.append("| | |")
    return "\n".join(lines[:-1])


def _layers(container: str) -> list[list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    contract = next(each for each in contracts if each.get("containers") == [container])
    return [layer.split(" | ") for layer in contract["layers"]]


def _purpose(place: Path) -> str:
    """The first sentence of a module's or folder's docstring."""
    file = place.with_suffix(".py")
    text = (file if file.exists() else place / "__init__.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].rstrip(".")


def faults() -> str:
    """The faults that tests inject, in tables; in a process of its own, because pytest collects them."""
    script = str(ROOT / "docs" / "faults.py")
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.rstrip()


def outcomes() -> str:
    """Which fault in which state becomes which verdict: the rows that a test injects."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from outcome_table import as_markdown

    return as_markdown()


def lab_file() -> str:
    """A row for each key of a lab file."""
    from pytest_dispatch.lab_program.lab_file.json_schema import keys

    rows = [f"| `{key.path}` | {key.meaning} | {key.default and f'`{key.default}`'} |" for key in keys()]
    return "\n".join(["| key | meaning | default |", "| --- | --- | --- |", *rows])


def commands() -> str:
    """A row for each command that asks a lab: what it does, and the shape of its JSON."""
    from pytest_dispatch.cli.command_table import Noun
    from pytest_dispatch.cli.commands import COMMANDS

    nouns = [noun for command in COMMANDS.values() if isinstance(noun := command.load(), Noun)]
    rows = [
        f"| `{_typed(noun.name, verb)}` | {verb.help or noun.help} | {_shape(verb)} |"
        for noun in nouns
        for verb in noun.verbs
    ]
    return "\n".join(["| command | what it does | `--json` |", "| --- | --- | --- |", *rows])


def _typed(noun: str, verb: Verb) -> str:
    """A command as it is typed, with its options."""
    words = [
        argument.settings.get("metavar", argument.names[0])
        for argument in verb.arguments
        if argument.names[0][0] != "-"
    ]
    options = [_option(argument) for argument in verb.arguments if argument.names[0][0] == "-"]
    options += [f"[--{name}]" for name in ("watch", "follow") if getattr(verb, name) is not None]
    return " ".join(["dispatch", noun, *filter(None, [verb.name]), *words, *options])


def _option(argument: Argument) -> str:
    value = argument.settings.get("metavar") or "\\|".join(argument.settings.get("choices", ()))
    return f"[{' '.join(filter(None, (argument.names[-1], value)))}]"


def _shape(verb: Verb) -> str:
    if verb.gives is None:
        return "`null`"
    name = getattr(verb.gives, "__name__", "")
    return f"list of `{verb.gives.__args__[0].__name__}`" if name == "list" else f"`{name}`"


PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/cli.md": {"commands": commands},
    "docs/options.md": {"lab-file": lab_file},
    "docs/states.md": {"diagram": diagram, "endings": endings},
    "ARCHITECTURE.md": {"layers": layers},
    "docs/reliability.md": {"outcomes": outcomes, "faults": faults},
}


def rendered(name: str) -> str:
    """A page with its generated parts as they ought to be."""
    page = (ROOT / name).read_text("utf-8")
    for part, make in PARTS[name].items():
        begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{make()}\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    for name in PARTS:
        (ROOT / name).write_text(rendered(name), "utf-8")
