"""Prints the tables of docs/reliability.md, read off the marks of the tests that inject faults; `make docs` calls it.

Tests are collected, not run: what stands in the page has a test, and the test runs say that it holds.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from faults import PARTS  # noqa: E402  (its folder is only on the path since the line above)


class _Marks:
    """Gathers the marks of what is collected."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str, str], str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for mark in item.iter_markers("fault"):
                row = (mark.kwargs["part"], mark.kwargs["what"], mark.kwargs["outcome"], mark.kwargs["told"])
                self.rows.setdefault(row, item.location[0])


def _files() -> list[str]:
    """Return the tests that may have such marks: they import `faults`, or what has imported it."""
    texts = {path: path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("*.py"))}
    support = [path.stem for path, text in texts.items() if path.parent.name == "support" and "from faults " in text]
    imports = re.compile(rf"(?m)^from ({'|'.join(['faults', *support])}) import ")
    return [str(path) for path, text in texts.items() if path.name.startswith("test_") and imports.search(text)]


def tables() -> Iterator[str]:
    """The page's lines.

    Raises:
        SystemExit: The tests cannot be collected.
    """
    marks = _Marks()
    quiet = ["--collect-only", "-qq", "-p", "no:cacheprovider"]
    with contextlib.redirect_stdout(io.StringIO()):
        code = pytest.main([*quiet, "-m", "fault", "--rootdir", str(ROOT), *_files()], plugins=[marks])
    if code != pytest.ExitCode.OK:
        sys.exit(f"the tests could not be collected ({code!r}): see pytest --collect-only -m fault")
    for part in dict.fromkeys(row[0] for row in sorted(marks.rows, key=lambda row: PARTS.index(row[0]))):
        yield f"## {part}\n"
        yield "| what goes wrong | what becomes of it | what you are told, what is tried again | test |"
        yield "| --- | --- | --- | --- |"
        for (of, what, outcome, told), file in marks.rows.items():
            if of == part:
                yield f"| {what} | {outcome} | {told} | [{Path(file).name}](../{file}) |"
        yield ""


if __name__ == "__main__":
    sys.stdout.write("\n".join(tables()).rstrip() + "\n")
