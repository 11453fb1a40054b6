"""Reads which lab `--dispatch-lab` names: one that pytest starts, or one that others use too."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.client.lab_tokens import find_lab_token, read_lab_url
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.moments import LONGEST
from pytest_dispatch.plugin.options import ONLY_PRIVATE
from pytest_dispatch.plugin.setting_values import option_name

if TYPE_CHECKING:
    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.plugin.setting_values import Values

_LABS = ("process", "thread")
_ONLY_SHARED = ("dispatch_lab_token", "dispatch_owner", "dispatch_lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLabSettings:
    """A lab that pytest does not start.

    Attributes:
        url: Its address.
        token: For its API.
        unused: Ini keys that only a lab of pytest's own needs.
        owner: Name of who resumes the session; empty for this user, on this computer, in this folder.
        lasts: Seconds that the session stays without pytest, also after its end; None if it ends with pytest.
    """

    url: str
    token: Token
    unused: tuple[str, ...] = ()
    owner: str = ""
    lasts: float | None = None


def read_shared_lab(values: Values) -> SharedLabSettings | None:
    """Return the lab that `--dispatch-lab` names by its URL; None if it names none.

    What the command line says is meant for this run, so an option that would have no effect is refused. What an ini
    file says may be meant for runs with a lab of their own, so it is left out, and the header says so.
    """
    given = values.text("dispatch_lab")
    if "://" not in given:
        if given and given not in _LABS:
            expected = f"{', '.join(_LABS)} or a lab's address such as https://lab.example:8080"
            raise ConfigError(f"--dispatch-lab: expected {expected}, got {given!r}")
        for name in filter(values.typed, _ONLY_SHARED):
            raise ConfigError(
                f"{option_name(name)}: expected it with --dispatch-lab URL, got it with a lab of pytest's own; leave it"
                " out, or name the lab"
            )
        return None
    try:
        url = read_lab_url(given)
    except ConfigError as error:
        raise ConfigError(f"--dispatch-lab: {error}") from None
    names = [option.removeprefix("--").replace("-", "_") for option in ONLY_PRIVATE]
    for name in filter(values.typed, names):
        raise ConfigError(
            f"{option_name(name)}: expected it with a lab of pytest's own, got it with --dispatch-lab {url}, whose"
            " configuration says that; leave it out, or start a lab of your own with --dispatch-lab process"
        )
    token = find_lab_token(url, values.text("dispatch_lab_token"), os.environ)
    unused = [name for name in names if values.config.getoption(name) or values.config.getini(name)]
    return SharedLabSettings(
        url=url,
        token=token,
        unused=tuple(unused),
        owner=values.text("dispatch_owner"),
        lasts=_lease(values) if values.text("dispatch_lease") else None,
    )


def _lease(values: Values) -> float:
    """Return how long the session stays without pytest.

    Raises:
        ConfigError: It is no duration, 0, or longer than a lab allows.
    """
    seconds = values.deadline("dispatch_lease")
    if seconds > LONGEST:
        given = values.text("dispatch_lease")
        raise ConfigError(f"--dispatch-lease: expected at most {LONGEST / 3600:.0f}h (100 years), got {given!r}")
    return seconds
