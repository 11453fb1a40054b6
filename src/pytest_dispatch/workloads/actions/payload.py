"""What a workload of the kind `actions` runs: a workflow of a repository, at a ref, with inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.nearest import first_unknown
from pytest_dispatch.core.requirements import Operator, Requirement, Requirements

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_dispatch.core.model import Workload

ACTIONS = "actions"
MOST_INPUTS = 25  # as GitHub takes at most
MOST_TEXT = 65_535  # characters of all inputs together, as GitHub takes at most

_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})")
_REPO = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_WORKFLOW = re.compile(r"(?:\d+|[^/\s?#%]+\.ya?ml)")
_REF = re.compile(r"(?!.*(?:\.\.|//|@\{|\\))[^\s~^:?*\[\x00-\x1f\x7f]{1,250}")
_INPUT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_FOLDER = ".github/workflows/"
_KEYS = ("owner", "repo", "workflow", "ref", "inputs", "correlation", "rerun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A run at GitHub of which the failed jobs are run again.

    Attributes:
        run: Its id.
        attempt: The number of its attempt that is repeated.
        link: Its address for people; empty if GitHub gave none.
    """

    run: int
    attempt: int
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionsPayload:
    """A workflow and how it is started.

    Attributes:
        owner: The owner of the repository.
        repo: The name of the repository.
        workflow: The name of the workflow's file, or its id.
        ref: The branch or tag at which it is started.
        inputs: Its inputs, as texts.
        correlation: Name of an input that the workflow declares and shows in its `run-name`, by which a run is found
            again whose answer was lost; empty if there is none.
        rerun: The run of which the failed jobs are run again, in place of a new one; None for a new one.
    """

    owner: str
    repo: str
    workflow: str
    ref: str = "main"
    inputs: Mapping[str, str] = field(default_factory=dict)
    correlation: str = ""
    rerun: Rerun | None = None

    @property
    def is_recognised(self) -> bool:
        """Return whether its run at GitHub can be told from all others, if the answer to its start is lost."""
        return bool(self.correlation) or self.rerun is not None

    @classmethod
    def of(cls, workload: Workload) -> ActionsPayload:
        """Read the payload of a workload.

        Raises:
            ConfigError: It cannot be used; names what was expected and what came.
        """
        try:
            return _read(workload.payload)
        except ConfigError as error:
            raise ConfigError(f"{workload.name}: payload: {error}") from None

    @property
    def repository(self) -> str:
        """Return OWNER/REPO, in lower case, as GitHub compares them."""
        return f"{self.owner}/{self.repo}".lower()

    @property
    def path(self) -> str:
        """Return where the API has the Actions of the repository."""
        return f"/repos/{self.owner}/{self.repo}/actions"


def serves(repository: str) -> str:
    """Return the label of machines that serve a repository."""
    return f"github:{repository.lower()}"


def requires(workload: Workload) -> Requirements:
    """Return that a runner must serve the repository.

    Raises:
        ConfigError: The payload cannot be used.
    """
    return (Requirement(serves(ActionsPayload.of(workload).repository), Operator.PRESENT),)


def check_payload(workload: Workload, _readable: Callable[[str], None]) -> None:
    """Refuse a payload that cannot be used.

    Raises:
        ConfigError: Names what was expected and what came.
    """
    ActionsPayload.of(workload)


def _read(payload: Mapping[str, Any]) -> ActionsPayload:
    if wrong := first_unknown(payload, _KEYS):
        raise ConfigError(wrong)
    workflow = payload.get("workflow")
    workflow = str(workflow) if isinstance(workflow, int) and not isinstance(workflow, bool) else workflow
    workflow = workflow.removeprefix(_FOLDER) if isinstance(workflow, str) else workflow
    read = ActionsPayload(
        owner=_text(payload.get("owner"), "owner", _OWNER, "the owner of a repository, such as my-org"),
        repo=_text(payload.get("repo"), "repo", _REPO, "the name of a repository, such as firmware"),
        workflow=_text(workflow, "workflow", _WORKFLOW, "a workflow's file, such as test.yml, or its id"),
        ref=_text(payload.get("ref", "main"), "ref", _REF, "a branch or a tag"),
        inputs=_inputs(payload.get("inputs", {})),
        correlation=_correlation(payload.get("correlation", "")),
        rerun=_rerun(payload.get("rerun")),
    )
    if read.correlation in read.inputs:
        raise ConfigError(f"correlation: expected an input that the lab sets, got {read.correlation!r} of inputs")
    if len(read.inputs) + bool(read.correlation) > MOST_INPUTS:
        what = f"inputs: expected at most {MOST_INPUTS} with that of correlation"
        raise ConfigError(f"{what}, got {len(read.inputs) + bool(read.correlation)}")
    return read


def _text(given: object, key: str, form: re.Pattern[str], expected: str) -> str:
    if given is None:
        raise ConfigError(f"{key}: expected {expected}, got nothing")
    if not isinstance(given, str) or not form.fullmatch(given):
        raise ConfigError(f"{key}: expected {expected}, got {str(given)[:80]!r}")
    return given


def _rerun(given: object) -> Rerun | None:
    if given is None:
        return None
    run, attempt, link = (
        map(given.get, ("run", "attempt", "link")) if isinstance(given, Mapping) else (None, None, None)
    )
    if not isinstance(run, int) or not isinstance(attempt, int) or min(run, attempt) < 1:
        raise ConfigError(f"rerun: expected run and attempt, the numbers of a run at GitHub, got {str(given)[:80]!r}")
    return Rerun(run=run, attempt=attempt, link=link if isinstance(link, str) else "")


def _correlation(given: object) -> str:
    return given if given == "" else _text(given, "correlation", _INPUT, "the name of an input")


def _inputs(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"inputs: expected a mapping of texts, got {str(given)[:80]!r}")
    inputs = {}
    for name, value in given.items():
        if not isinstance(name, str) or not _INPUT.fullmatch(name):
            raise ConfigError(f"inputs: expected names of letters, digits, - and _, got {str(name)[:80]!r}")
        if not isinstance(value, str | int | float):
            raise ConfigError(f"inputs: {name}: expected a text, a number, true or false, got {str(value)[:80]!r}")
        inputs[name] = str(value).lower() if isinstance(value, bool) else str(value)
    if (length := sum(map(len, inputs.values()))) > MOST_TEXT:
        raise ConfigError(f"inputs: expected at most {MOST_TEXT} characters together, got {length}")
    return inputs
