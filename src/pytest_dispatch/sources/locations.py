"""Where a lab has the bytes of workloads from: folders that it may read, releases of GitHub, and what sessions upload.

Between pytest's side and a lab, a payload's `location` names them, and never by a path: `folder:NAME/FILE`, the API URL
of a release asset, or the digest of what the same session uploaded (`sha256:` and 64 hex digits).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain_text import is_name
from pytest_dispatch.core.secrets import PUBLIC_API

FOLDER = "folder:"
LONGEST = 4096  # characters of a location, as of a path
SHOWN = 80  # of one that a message shows

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: GitHub's REST API, "Get a release asset"; neither an owner nor a repository is called `.` or `..`.
_ASSET = re.compile(
    r"(https?://[^\s?#@]+)/repos/(?!\.)[\w.-]{1,100}/(?!\.{1,2}/)[\w.-]{1,100}/releases/assets/[0-9]{1,20}", re.ASCII
)


def api_of(url: str) -> str:
    """Return the address of the API that has this release asset; empty if it is the URL of none."""
    match = _ASSET.fullmatch(url) if len(url) <= LONGEST else None
    return match[1] if match else ""


@dataclass(frozen=True, kw_only=True)
class Places:
    """What a lab may read for whoever asks it to run something.

    Attributes:
        folders: Folders by name, as absolute paths without a link in them.
        apis: Addresses of the GitHub APIs whose release assets it fetches.
    """

    folders: Mapping[str, str] = field(default_factory=dict)
    apis: tuple[str, ...] = (PUBLIC_API,)

    def check(self, location: str) -> None:
        """Refuse what no location is between pytest's side and a lab, or what this lab may not read.

        What a session uploaded is its own to know: whether this has, is not asked here.

        Raises:
            ConfigError: Says what was expected, and what came.
        """
        if len(location) > LONGEST:
            raise ConfigError(f"expected at most {LONGEST} characters, got {len(location)}")
        if location.startswith(FOLDER):
            self._in_folder(location)
        elif not DIGEST.fullmatch(location) and api_of(location) not in self.apis:
            known = [f"{api}/repos/OWNER/REPO/releases/assets/ID" for api in self.apis]
            folders = ", ".join(self.folders) or "it has none"
            raise ConfigError(
                f"expected {FOLDER}NAME/FILE in one of the lab's folders ({folders}), a release asset"
                f" ({' or '.join(known)}), or the sha256:… of what was uploaded, got {location[:SHOWN]!r}"
            )

    def find(self, location: str) -> tuple[str, str]:
        """Return where the cache finds bytes, and the folder that they must not lead out of; empty if that is none.

        A path of a run that an earlier lab took is one in a folder of this lab, or is refused.

        Raises:
            ConfigError: It is nothing that this lab may read.
        """
        if location.startswith("/"):
            return location, self.folders[self._above(location)]
        self.check(location)
        if not location.startswith(FOLDER):
            return location, ""
        root, file = self._in_folder(location)
        return os.path.join(root, file), root  # noqa: PTH118 - nothing in it is to be made simpler

    def named(self, path: str) -> str:
        """Return how a lab that has these folders is told of a file; empty if the file is in none of them."""
        try:
            name = self._above(path)
        except ConfigError:
            return ""
        return f"{FOLDER}{name}/{path.removeprefix(self.folders[name]).lstrip('/')}"

    def _in_folder(self, location: str) -> tuple[str, str]:
        name, _, file = location.removeprefix(FOLDER).partition("/")
        if name not in self.folders:
            known = ", ".join(self.folders) or "none"
            raise ConfigError(f"expected a file in one of the lab's folders ({known}), got {location[:SHOWN]!r}")
        _refuse_detours(file, location)
        return self.folders[name], file

    def _above(self, path: str) -> str:
        """The name of the innermost folder that a file is in."""
        _refuse_detours(path.removeprefix("/"), path)
        above = path
        while above not in self._names and above != os.path.dirname(above):  # noqa: PTH120 - as above
            above = os.path.dirname(above)  # noqa: PTH120
        if above not in self._names or above == path:
            raise ConfigError(f"expected a file in one of the lab's folders, got {path[:SHOWN]!r}")
        return self._names[above]

    @cached_property
    def _names(self) -> dict[str, str]:
        return {folder: name for name, folder in self.folders.items()}


def _refuse_detours(file: str, location: str) -> None:
    if "\0" in file or any(part in ("", ".", "..") for part in file.split("/")):
        raise ConfigError(f"expected a file by its way down from the folder, got {location[:SHOWN]!r}")


def places_of(locations: Iterable[str], folder: str, api: str) -> Places:
    """Return what a lab has to read for workloads that are where these locations say.

    Args:
        locations: Absolute paths, and URLs of release assets.
        folder: The source; empty if that is none.
        api: Of the GitHub in use.
    """
    locations = sorted(locations)  # so that names stay the same
    roots = [os.path.realpath(folder)] if folder else []
    inside = f"{roots[0].rstrip('/')}/" if roots else "\0"
    files = (each for each in locations if each.startswith("/") and not each.startswith(inside))
    folders: dict[str, str] = {}
    for path in dict.fromkeys([*roots, *map(os.path.dirname, files)]):
        stem = os.path.basename(path)  # noqa: PTH119 - there may be ten thousand, and a Path costs more than the call
        stem = stem if is_name(stem) else "root"
        name, number = stem, 1
        while name in folders:
            number += 1
            name = f"{stem}-{number}"
        folders[name] = path
    apis = dict.fromkeys([api, PUBLIC_API, *filter(None, map(api_of, locations))])
    return Places(folders=folders, apis=tuple(apis))
