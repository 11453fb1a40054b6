"""What filing an issue means to whoever wants one filed, wherever it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_dispatch.core.errors import DispatchError

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Issue


class FilingError(DispatchError):
    """An issue could not be filed, or not all of it.

    Attributes:
        retry_after: Seconds after which the other side wants to be asked again, where it said so.
        permanent: Asking again will not help until somebody has changed something; so not in this session.
        refused: Asking again will never help: it is what is filed that is not taken. This is permanent too.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, permanent: bool = False, refused: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.permanent = permanent or refused
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Filed:
    """An issue that was filed.

    Attributes:
        url: Where a browser finds it.
        lacks: What it should have had and was taken without, although nobody refused it; empty if nothing.
        why: The reason, if it lacks something, as a clause.
    """

    url: str
    lacks: tuple[str, ...] = ()
    why: str = ""


class Filer(Protocol):
    """Whatever can file an issue; called from a worker thread, by one at a time."""

    def file(self, issue: Issue, may_exist: bool) -> Filed:
        """File it.

        Args:
            issue: What to file.
            may_exist: An earlier try may have got through: look for the marker first.

        Raises:
            FilingError: It was not filed, or nobody knows.
        """
        ...
