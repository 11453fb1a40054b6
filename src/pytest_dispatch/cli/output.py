"""Prints what commands give: in colours at a terminal, as plain text in a pipe, as JSON for programs."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import msgspec

from pytest_dispatch.cli.plain_page import plain_text

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from pytest_dispatch.cli.page import Answer


def at_terminal() -> bool:
    """Return whether somebody looks at the output who can be shown colours."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def show(answer: Answer, *, as_json: bool) -> None:
    """Print an answer."""
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(answer.value), indent=2).decode())
        return
    if answer.aside:
        print(f"dispatch: {answer.aside}", file=sys.stderr)
    if at_terminal():
        from pytest_dispatch.cli.rich_page import new_console, rendered

        console = new_console(sys.stdout)
        console.print(rendered(answer.page, console))
    else:
        print(plain_text(answer.page))


def watch(answers: Iterable[Answer], *, as_json: bool) -> None:
    """Show answers as they come: at a terminal in place of each other, in a pipe one after the other."""
    with _screen(as_json=as_json) as draw:
        for answer in answers:
            draw(answer)


def _screen(*, as_json: bool) -> AbstractContextManager[Callable[[Answer], None]]:
    if as_json:
        return nullcontext(_print_line)
    if at_terminal():
        from pytest_dispatch.cli.rich_page import redrawn

        return redrawn(sys.stdout)
    return nullcontext(_print_changed())


def _print_line(answer: Answer) -> None:
    print(msgspec.json.encode(answer.value).decode(), flush=True)


def _print_changed() -> Callable[[Answer], None]:
    """Return what prints a page unless it is the same as the one before: much of what changes is on no page."""
    last = ""

    def draw(answer: Answer) -> None:
        nonlocal last
        if (page := plain_text(answer.page)) != last:
            print(page, end="\n\n", flush=True)
            last = page

    return draw


def follow(answers: Iterable[Answer], *, as_json: bool) -> None:
    """Print answers as they come, each after the one before it."""
    for answer in answers:
        if as_json:
            _print_line(answer)
        else:
            print(plain_text(answer.page), flush=True)


def tick(given: Namespace) -> float | None:
    """Return after how many seconds to draw something anew whose age is shown; None if nobody looks at it."""
    return None if given.json or not at_terminal() else 1.0
