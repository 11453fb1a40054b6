"""Reads the JUnit file that pytest wrote for a round of a cycle."""

from __future__ import annotations

from junitparser import Error, Failure, JUnitXml, JUnitXmlError, Skipped, TestCase

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.results.junit_reader import CasesError, checked_xml

#: What makes a case what, the worst first; a case without any of them has passed.
_RESULTS = ((Failure, Outcome.FAILED), (Error, Outcome.ERROR), (Skipped, Outcome.SKIPPED))
_ORDER = (Outcome.FAILED, Outcome.ERROR, Outcome.PASSED, Outcome.SKIPPED)


def read_results(text: str) -> dict[str, Outcome]:
    """Return the outcome of each case, by its class name and name; of one that is there twice, the worse one.

    Raises:
        CasesError: It is no JUnit file, or one that cannot be read; the message says in one line what came.
    """
    data = checked_xml(text)
    try:
        found = JUnitXml.fromstring(data)
    except JUnitXmlError as error:
        raise CasesError(f"expected JUnit XML, got {str(error)[:200]}") from None
    results: dict[str, Outcome] = {}
    for suite in found:
        for case in suite:
            name = f"{case.classname}::{case.name}" if case.classname else str(case.name)
            results[name] = _worse(results.get(name), _outcome(case))
    return results


def _outcome(case: TestCase) -> Outcome:
    kinds = {type(each) for each in case.result}
    return next((outcome for kind, outcome in _RESULTS if kind in kinds), Outcome.PASSED)


def _worse(one: Outcome | None, other: Outcome) -> Outcome:
    return other if one is None else min(one, other, key=_ORDER.index)
