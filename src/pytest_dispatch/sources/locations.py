"""Locations of workloads' bytes that a lab may read: folders, releases of GitHub, and uploads of sessions.

Between pytest and a lab, a payload's `location` is never a path, but `folder:NAME/FILE`, the API URL of a release
asset, or the digest of what the same session uploaded (`sha256:` and 64 hex digits).
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
LONGEST = 4096  # most characters of a location, as of a path
SHOWN = 80  # most characters of a location in a message

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: GitHub's REST API, "Get a release asset"; neither an owner nor a repository is called `.` or `..`.
_ASSET = re.compile(
    r"(https?://[^\s?#@]+)/repos/((?!\.)[\w.-]{1,100})/(?!\.{1,2}/)[\w.-]{1,100}/releases/assets/[0-9]{1,20}", re.ASCII
)


def api_of(url: str) -> str:
    """Return the address of the API that has this release asset; empty if the URL is not of a release asset."""
    match = _ASSET.fullmatch(url) if len(url) <= LONGEST else None
    return match[1] if match else ""


def owner_of(url: str) -> str:
    """Return the owner of the repository that has this release asset; empty if the URL is not of a release asset."""
    match = _ASSET.fullmatch(url) if len(url) <= LONGEST else None
    return match[2] if match else ""


@dataclass(frozen=True, kw_only=True)
class Locations:
    """What a lab may read for its clients.

    Attributes:
        folders: Folders by name, as absolute paths without links.
        apis: Addresses of the GitHub APIs whose release assets it fetches.
    """

    folders: Mapping[str, str] = field(default_factory=dict)
    apis: tuple[str, ...] = (PUBLIC_API,)

    def check(self, location: str) -> None:
        """Refuse a location that is invalid between pytest and a lab, or that this lab may not read.

        Whether the session has uploaded a digest is not checked here.

        Raises:
            ConfigError: Names what was expected and what came.
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
        """Return a location for the cache, and the folder that it must not lead out of; empty for none.

        A path from a run of an earlier lab must be in a folder of this lab.

        Raises:
            ConfigError: This lab may not read it.
        """
        if location.startswith("/"):
            return location, self.folders[self._above(location)]
        self.check(location)
        if not location.startswith(FOLDER):
            return location, ""
        root, file = self._in_folder(location)
        return os.path.join(root, file), root  # noqa: PTH118 - nothing in it is to be made simpler

    def named(self, path: str) -> str:
        """Return the location of a file for a lab that has these folders; empty if the file is in none of them."""
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
        """Return the name of the innermost folder that contains a file."""
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


def places_of(locations: Iterable[str], folder: str, api: str) -> Locations:
    """Return what a lab must be able to read for workloads at these locations.

    Args:
        locations: Absolute paths, and URLs of release assets.
        folder: The source, if it is a folder; else empty.
        api: Address of the GitHub API in use.
    """
    locations = sorted(locations)  # so that the names do not depend on their order
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
    return Locations(folders=folders, apis=tuple(apis))
