"""Reads the documentation: its code blocks, and the examples that are made of them.

An HTML comment right before a code block says what the block is; readers of the page do not see it:

    <!-- workloads: memory.efi=fail smoke.efi -->   a new example; its folder `workloads`, and the scenario of each
    <!-- file: conftest.py -->                      the block is this file of the example
    <!-- run: passed=1 failed=1 -->                 the block is a command with its output; how its tests end
    <!-- service: lab.yaml -->                      the block is this file of somebody who starts a lab for many
    <!-- service -->                                the block is what they type there, with lines of its output
    <!-- explanations -->                           the block is what is said of a run that waits, one after the other
    <!-- report -->                                 the block is what a workload may PUT
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest_dispatch

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pytest_dispatch.__file__).parent  # as installed: `src` may be away, where a wheel is tested
FOLDERS = (".", "docs", "examples", "examples/*", "benchmarks")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/*.md"))

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)$")
_DIRECTIVE = re.compile(r"^<!-- (?P<name>workloads|file|run|report|service|explanations)(?:: (?P<text>.*))? -->$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A code block, or a `workloads` comment that stands alone."""

    page: Path
    line: int
    language: str = ""
    text: str = ""
    directive: str = ""
    argument: str = ""

    @property
    def where(self) -> str:
        """The block as a test id, and for people."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Files, a command, and what is to come of it."""

    where: str
    workloads: dict[str, str]
    files: dict[str, str]
    command: tuple[str, ...]
    outcomes: dict[str, int]
    output: tuple[str, ...]


@dataclass(slots=True)
class _Bench:
    workloads: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page, each with the comment before it."""
    lines = iter(enumerate(page.read_text("utf-8").splitlines(), start=1))
    directive, argument = "", ""
    for number, line in lines:
        if fence := _FENCE.match(line):
            inside = []
            for _, text in lines:
                if text.strip() == "```":
                    break
                inside.append(text.removeprefix(fence["indent"]))
            yield Block(
                page=page,
                line=number,
                language=fence["language"],
                text="\n".join(inside) + "\n",
                directive=directive,
                argument=argument,
            )
            directive = argument = ""
        elif found := _DIRECTIVE.match(line):
            directive, argument = found["name"], found["text"] or ""
            if directive == "workloads":
                yield Block(page=page, line=number, directive=directive, argument=argument)
                directive = argument = ""


def examples(page: Path) -> Iterator[Example]:
    """The examples of a page; a further command runs with the files of those before it."""
    bench = _Bench()
    for block in blocks(page):
        if block.directive == "workloads":
            bench = _Bench(workloads=_pairs(block.argument, "pass"))
        elif block.directive == "file":
            bench.files[block.argument] = block.text
        elif block.directive == "run":
            command, *output = block.text.splitlines()
            yield Example(
                where=block.where,
                workloads=dict(bench.workloads),
                files=dict(bench.files),
                command=tuple(shlex.split(command.removeprefix("$ "))),
                outcomes={name: int(count) for name, count in _pairs(block.argument, "0").items()},
                output=tuple(line for line in output if line.strip() not in ("", "...")),
            )


def _pairs(text: str, default: str) -> dict[str, str]:
    found = (word.partition("=") for word in text.split())
    return {name: value or default for name, _, value in found}


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """What links may point to on a page, as GitHub makes it of headings."""
    titles = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
