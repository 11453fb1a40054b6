"""Checks of a lab file that concern several of its values at once; each says at which of them something is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.groups import LAB
from pytest_dispatch.core.nearest import meant
from pytest_dispatch.lab_program.lab_file.document import Document, Path, Problem
from pytest_dispatch.lab_program.machine_making import mistake_in
from pytest_dispatch.lab_program.option_values import read_bind, read_spec

#: Lists whose items have a key that no two of them share.
_UNIQUE = (
    ("auth", "users", "name"),
    ("machines", "", "id"),
    ("groups", "", "id"),
    ("groups", "", "name"),
    ("cycles", "", "name"),
    ("notifications", "targets", "name"),
)

_ARTICLES = {"id": "an", "name": "a"}


def cross_checks(document: Document) -> Iterator[Problem]:
    """Yield what is wrong with values together; values that are wrong by themselves are passed over."""
    for section, inside, key in _UNIQUE:
        path: Path = (section, inside) if inside else (section,)
        yield from _repeated(document, path, key)
    yield from _shared_identities(document)
    yield from _drivers(document)
    yield from _open_api(document)
    yield from _owners(document)
    yield from _testflinger(document)
    yield from _targets(document)
    yield from _cycles(document)


def repeated_templates(seen: Mapping[str, Sequence[tuple[Document, Path]]]) -> Iterator[Problem]:
    """Yield a problem for each template whose id an earlier one has.

    Args:
        seen: Where the id of each template stands.
    """
    for name, places in seen.items():
        first, at = places[0]
        for document, path in places[1:]:
            yield document.problem(path, f"expected an id of its own, got {name!r} as at {_place(first, at)}")


def _items(document: Document, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    found = document.at(path)
    for index, item in enumerate(found if isinstance(found, list) else ()):
        if isinstance(item, dict):
            yield (*path, index), item


def _repeated(document: Document, path: Path, key: str) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    for place, item in _items(document, path):
        if isinstance(value := item.get(key), str):
            known = first.setdefault(value, (*place, key))
            if known != (*place, key):
                got = f"{document.got((*place, key))} as at {_place(document, known)}"
                yield document.problem((*place, key), f"expected {_ARTICLES[key]} {key} of its own, got {got}")


def _shared_identities(document: Document) -> Iterator[Problem]:
    first: dict[tuple[str, str], Path] = {}
    for place, item in _items(document, ("machines",)):
        identities = item.get("identities")
        for kind, index, value in _flat(identities if isinstance(identities, dict) else {}):
            here = (*place, "identities", kind, index)
            known = first.setdefault((kind, value.lower()), here)
            if known != here:
                what = f"expected an identity of one machine, got {document.got(here)} as at {_place(document, known)}"
                yield document.problem(here, what)


def _flat(identities: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    for kind, values in identities.items():
        for index, value in enumerate(values if isinstance(values, list) else ()):
            if isinstance(value, str):
                yield kind, index, value


def _drivers(document: Document) -> Iterator[Problem]:
    """Refuse drivers that are not installed or that refuse their options, and entries for several machines."""
    told: dict[str, str] = {}
    for place, item in _items(document, ("machines",)):
        if not isinstance(driver := item.get("driver"), str):
            continue
        if driver not in told:
            told[driver] = _mistake(driver)
        if told[driver]:
            yield document.problem((*place, "driver"), told[driver])


def _mistake(driver: str) -> str:
    """Return what is wrong with a driver; empty if nothing is, and for what is no SPEC, which is said elsewhere."""
    try:
        spec = read_spec(driver)
    except ConfigError:
        return ""
    if spec.count != 1:
        return f"expected the SPEC of one machine, got one of {spec.count}; write an entry of `machines` for each"
    return mistake_in(spec)


def _cycles(document: Document) -> Iterator[Problem]:
    """Refuse cycles in groups and folders that are none."""
    groups = [item["id"] for _, item in _items(document, ("groups",)) if isinstance(item.get("id"), str)]
    for place, item in _items(document, ("cycles",)):
        group, folder = item.get("group"), item.get("folder")
        if isinstance(group, str) and group not in (*groups, LAB):
            yield document.problem(
                (*place, "group"), f"expected a group of the lab, got {group!r}; {meant(group, groups)}"
            )
        if isinstance(folder, str) and not (FilePath(document.name).parent / folder).is_dir():
            yield document.problem((*place, "folder"), f"expected a folder, got {document.got((*place, 'folder'))}")


def _open_api(document: Document) -> Iterator[Problem]:
    """Refuse an API beyond loopback whose tokens could be read on the way."""
    server = document.at(("server",))
    if not isinstance(server, dict) or not isinstance(server.get("api"), str):
        return
    if any(server.get(key) for key in ("tls", "trusted_proxies", "insecure")) or _is_loopback(server["api"]):
        return
    what = "expected a loopback address such as 127.0.0.1:8081, or one of tls, trusted_proxies and insecure: true"
    yield document.problem(("server", "api"), f"{what}, got {document.got(('server', 'api'))}")


def _is_loopback(text: str) -> bool:
    """Return whether an address is of this computer only; True for what is no address, which is said elsewhere."""
    try:
        host, _ = read_bind(text)
    except ConfigError:
        return True
    return host == "localhost" or ip_address(host).is_loopback


def _owners(document: Document) -> Iterator[Problem]:
    tokens, apps = (document.at(("github", key)) for key in ("tokens", "apps"))
    if isinstance(tokens, dict) and isinstance(apps, dict):
        both: Iterable[str] = sorted(tokens.keys() & apps.keys())
        for owner in both:
            what = f"expected a token or an App for {owner}, got both"
            yield document.problem(("github", "apps", owner), what, at_key=True)


def _testflinger(document: Document) -> Iterator[Problem]:
    """Refuse a client without a secret, or the other way round, and webhooks without an address that they come to."""
    given, server = document.at(("testflinger",)), document.at(("server",))
    if not isinstance(given, dict) or given.get("url") is None:
        return
    if (given.get("client_id") is None) != (given.get("client_secret") is None):
        what = "expected client_id and client_secret or neither, got one; add the other one"
        yield document.problem(("testflinger",), what)
    if given.get("webhook_secret") is not None and not (isinstance(server, dict) and server.get("public_url")):
        what = "expected server.public_url with it, by which Testflinger reaches the lab, got none; add it"
        yield document.problem(("testflinger", "webhook_secret"), what)


def _targets(document: Document) -> Iterator[Problem]:
    """Refuse targets of notifications that would never be told, and those of groups that there are not."""
    known = {LAB, *(item["id"] for _, item in _items(document, ("groups",)) if isinstance(item.get("id"), str))}
    for place, target in _items(document, ("notifications", "targets")):
        quiet = target.get("quiet")
        if isinstance(quiet, dict) and quiet.get("begin") == quiet.get("end") is not None:
            here = (*place, "quiet", "end")
            yield document.problem(here, f"expected another time than `begin`, got {document.got(here)}")
        groups = target.get("groups")
        for index, name in enumerate(groups if isinstance(groups, list) else ()):
            if isinstance(name, str) and name not in known:
                here = (*place, "groups", index)
                yield document.problem(here, f"expected one of {', '.join(sorted(known))}, got {document.got(here)}")


def _place(document: Document, path: Path) -> str:
    line, column = document.values.get(path, (1, 1))
    return f"{document.name}:{line}:{column}"
