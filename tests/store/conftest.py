"""A journal in each kind of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from databases import Place

from pytest_dispatch.store.journal import Journal


@pytest.fixture
def open_journal(where: Place) -> Iterator[Callable[[], Journal]]:
    opened: list[Journal] = []

    def open_one() -> Journal:
        if opened:
            opened[-1].close()
        opened.append(Journal(where.where))
        opened[-1].open()
        return opened[-1]

    yield open_one
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[[], Journal]) -> Journal:
    return open_journal()
