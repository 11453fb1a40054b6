"""With whose token a lab reads and files at GitHub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pytest_dispatch.core.secrets import Token
from pytest_dispatch.lab_program.config import LabConfig
from pytest_dispatch.lab_program.github_access import GitHubAccess
from pytest_dispatch.lab_program.service_config import ANY_OWNER, ServiceConfig

API = "http://127.0.0.1:9"
ONE, OTHER = Token("t0ken", "a test", API), Token("another", "a test", API)


@contextmanager
def access(service: ServiceConfig | None = None, token: Token | None = None) -> Iterator[GitHubAccess]:
    config = LabConfig(
        token=token,
        api_url=API,
        host="127.0.0.1",
        port=0,
        path="/dispatch",
        allow=(),
        announce=False,
        machines=(),
        db="",
        cache=Path("assets"),
        cache_limit=1,
    )
    with closing(GitHubAccess(config, service)) as found:
        yield found


def test_filers_need_a_token() -> None:
    """With one they speak with the GitHub that the settings name; without one what is kept stays kept."""
    with access() as without:
        assert without.filer("o/r") is None
        assert without.token_for("o") is None
    with access(token=ONE) as found:
        assert found.filer("o/r") is found.filer("o/r") is not None
        assert found.token_for("o") is ONE


def test_a_service_files_where_its_configuration_says_so() -> None:
    service = ServiceConfig(tokens={"O": ONE, ANY_OWNER: OTHER}, issue_repositories=("o/R", "p/r"))
    with access(service) as found:
        assert found.filer("O/r") is not None
        assert found.filer("p/r") is not None
        assert found.filer("o/other") is None
        assert [found.token_for(owner) for owner in ("o", "p")] == [ONE, OTHER]


def test_another_configuration_has_other_tokens() -> None:
    with access(ServiceConfig(tokens={"o": ONE, ANY_OWNER: ONE}, issue_repositories=("o/r",)), ONE) as found:
        before = found.filer("o/r")
        found.renew(ServiceConfig(tokens={"o": OTHER}, issue_repositories=("o/r", "p/r")))
        assert found.filer("o/r") not in (before, None)
        assert [found.token_for(owner) for owner in ("o", "p")] == [OTHER, None]
        assert found.filer("p/r") is None
